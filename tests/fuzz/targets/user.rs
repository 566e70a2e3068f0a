//! A user, as a spec or image names it, with hostile account files.

/// Any texts: no panic, and nobody becomes root, or "no change", who was not asked for.
pub fn run(data: &[u8]) {
    edgeagent::shim::fuzz_user(data);
}
