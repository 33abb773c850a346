//! The conformance suite of the message store, stamped on each database.

mod changes;
mod epochs;
mod facts;
mod faults;
mod lists;
mod marks;
mod pages;
mod races;
mod sends;
mod silence;
mod walks;
mod world;
