//! `/proc/net/route`.

/// Any text: the network that is chosen is in nobody's way.
pub fn run(data: &[u8]) {
    if let Ok(text) = core::str::from_utf8(data) {
        edgeagent::net::fuzz_routes(text);
    }
}
