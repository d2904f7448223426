//! Executes Istio's traffic policy: `VirtualService` and `DestinationRule`, decided as a mesh proxy decides.
#![forbid(unsafe_code)]

pub mod compile;
pub mod entropy;
pub mod head;
pub mod mesh;
pub mod policy;
pub mod resource;
pub mod time;
pub mod transform;
