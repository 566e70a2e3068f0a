//! Files of the host: removing trees of them, and what is mounted where.
//!
//! Knows nothing of what the files are for.

pub mod mountinfo;
mod remove;

pub use remove::{RemoveError, empty, remove_at, remove_tree};
