//! From text to trees and back: JSON by a reader of our own, YAML by the feature's parser, both under the same limits.

pub(crate) mod json;
mod limits;
pub(crate) mod print;
#[cfg(feature = "yaml")]
pub(crate) mod split;
#[cfg(feature = "yaml")]
pub(crate) mod yaml;

pub use limits::Limits;
pub(crate) use limits::{Budget, TextError, push_unique};
