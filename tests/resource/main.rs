//! The resources: every field is read and written, what was printed reads back, and what is wrong is told.
#![cfg(feature = "yaml")]

mod corpus;
mod fields;
mod laws;
mod loader;
mod schema;
