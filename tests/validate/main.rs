//! Validation: whose kind a document is, the codes and their table, analyzers, rules that hide each other, what is read by
//! people and by machines.

#![allow(clippy::unwrap_used)]

mod broken;
mod codes;
mod envelope;
mod program;
mod reach;
