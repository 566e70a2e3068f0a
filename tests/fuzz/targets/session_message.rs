//! A SessionMessage of a hostile manager: read or refused.

use edgeagent::rpc;

/// Reads `data`.
pub fn run(data: &[u8]) {
    if let Ok(message) = rpc::session_message(data) {
        assert!(message.managers.iter().all(|manager| !manager.peer.addr.is_empty()));
        assert!(message.managers.len() <= data.len());
    }
}
