#![allow(unreachable_pub, dead_code)]

pub mod compare;
pub mod simulate;
pub mod verdicts;
pub mod world;

/// One case, and how it differs from what was observed.
pub struct CaseResult {
    pub case: String,
    pub differences: Vec<String>,
}
