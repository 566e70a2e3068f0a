//! What a container has of the network, as it is stored in its task's folder.

use edgeagent::net::Lease;

/// Any bytes: no panic, and what is read is shown without one.
pub fn run(data: &[u8]) {
    if let Some(lease) = Lease::parse(data) {
        assert!(lease.ports.len() <= lease.status().len());
    }
}
