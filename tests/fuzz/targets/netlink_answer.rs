//! Answers of the kernel over netlink.

/// Any bytes: no panic, and nothing longer than what it came in.
pub fn run(data: &[u8]) {
    edgeagent::net::fuzz_netlink(data);
}
