//! Files of the host: removing trees of them.
//!
//! Knows nothing of what the files are for.

mod remove;

pub use remove::{RemoveError, empty, remove_at, remove_tree};
