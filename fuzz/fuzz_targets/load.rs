//! Any text loads without a panic, and what was read writes back to text that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman::Resources;

fuzz_target!(|text: &str| {
    let Ok(resources) = Resources::from_yaml(text) else { return };
    let written = resources.to_yaml();
    let again = Resources::from_yaml(&written).expect("what was written can be read");
    assert_eq!(resources.virtual_services, again.virtual_services);
    assert_eq!(resources.destination_rules, again.destination_rules);
});
