//! What a program of an image needs to be run.

/// Any bytes: no panic, and a name that is part of them.
pub fn run(data: &[u8]) {
    edgeagent::shim::fuzz_interpreter(data);
}
