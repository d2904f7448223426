//! The codes of diagnostics.

/// What a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeInfo {
    /// The code.
    pub code: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// Every code that this crate gives, in order.
pub const CODES: &[CodeInfo] = &[];
