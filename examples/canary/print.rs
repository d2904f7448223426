//! How the tour speaks.

/// What a scene promised, and whether it held.
#[derive(Default)]
pub struct Check {
    broken: usize,
}

impl Check {
    pub fn that(&mut self, holds: bool, claim: &str) {
        println!("    {} {claim}", if holds { "✓" } else { "✗" });
        self.broken += usize::from(!holds);
    }

    pub fn holds(&self) -> bool {
        self.broken == 0
    }
}

pub fn heading(name: &str, about: &str) {
    println!("\n── {name} {}", "─".repeat(74_usize.saturating_sub(name.len())));
    println!("   {about}");
}

pub fn say(line: &str) {
    println!("\n  {line}");
}

/// One bar: its name, its length of 40, a count and a share.
pub fn bar(name: &str, count: usize, total: usize, note: &str) {
    let share = count as f64 / total.max(1) as f64;
    let full = (share * 40.0).round() as usize;
    let line = format!("{}{}", "█".repeat(full), "░".repeat(40 - full.min(40)));
    println!("    {name:<12} {line} {count:>5} {:>5.1} %{note}", share * 100.0);
}
