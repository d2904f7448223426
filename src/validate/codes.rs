//! The codes of diagnostics.
use super::report::Severity;
/// What a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeInfo {
    /// The code.
    pub code: &'static str,
}
impl CodeInfo {
    /// x
    pub fn istio(&self, severity: Severity) -> Option<&'static str> { let _ = severity; None }
}
/// x
pub const CODES: &[CodeInfo] = &[];
pub(super) fn find(code: &str) -> Option<&'static CodeInfo> { CODES.iter().find(|one| one.code == code) }
