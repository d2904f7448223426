//! Shares of requests.
//!
//! The API's `Percent` is a message with one `double`, from 0 to 100. Istio turns it into whole parts per million by
//! dropping what is smaller; all decisions are taken on that integer. The double is kept for writing back.

use crate::resource::decode::message;

message! {
    /// A percentage, as the API writes it: `{value: 12.5}`.
    ///
    /// ```
    /// use pointsman::resource::Percent;
    ///
    /// assert_eq!(Percent::new(12.5).parts_per_million(), 125_000);
    /// assert_eq!(Percent::default().parts_per_million(), 0);
    /// ```
    pub struct Percent {
        /// The percentage, 0 to 100.
        pub value: f64 = "value",
    }
}

impl Percent {
    /// So many per cent.
    pub fn new(value: f64) -> Self {
        Self { value }
    }

    /// The whole parts per million, as Istio hands them to Envoy. What is below zero, or no number, is none.
    pub fn parts_per_million(&self) -> u32 {
        (self.value * 10_000.0) as u32
    }
}
