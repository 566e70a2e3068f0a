//! An AssignmentsMessage of a hostile manager: read or refused, never more than it holds.

use edgeagent::{limits::ASSIGNMENTS_MAX_CHANGES, rpc};

/// Reads `data`.
pub fn run(data: &[u8]) {
    if let Ok(set) = rpc::assignments(data) {
        assert!(set.changes.len() <= ASSIGNMENTS_MAX_CHANGES);
        assert!(set.changes.len() <= data.len() / 2, "a change takes two bytes at least");
        assert_eq!(rpc::assignments(data).ok(), Some(set), "reading is a function of the bytes");
    }
}
