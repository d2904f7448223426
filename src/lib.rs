//! Executes Istio's traffic policy: `VirtualService` and `DestinationRule`, decided as a mesh proxy decides.
#![forbid(unsafe_code)]

pub mod balance;
pub mod compile;
pub mod engine;
pub mod entropy;
pub mod exchange;
pub mod head;
mod hosts;
pub mod limit;
pub mod mesh;
pub mod outlier;
pub mod policy;
pub mod resource;
pub mod time;
#[cfg(feature = "tower")]
pub mod tower;
pub mod transform;
pub mod upstream;
pub mod validate;

pub use engine::Engine;
pub use resource::Resources;
