//! The life of a request, through the public API, in virtual time: a table of cases, and laws for random events.

mod bed;
mod laws;
mod queue;
mod table;
