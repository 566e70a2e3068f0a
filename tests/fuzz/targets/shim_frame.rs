//! Frames between agent and shim.

/// Any bytes: no panic, no growth, and what is understood survives a round trip.
pub fn run(data: &[u8]) {
    edgeagent::shim::fuzz_frame(data);
}
