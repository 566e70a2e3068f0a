//! The text of a gRPC status, as a manager writes it into a header.

use edgeagent::{limits::STATUS_MESSAGE_MAX_BYTES, rpc};

/// Any bytes: bounded, nothing that steers a terminal, and a plain text stays as it is.
pub fn run(data: &[u8]) {
    let text = rpc::status_text(data);
    assert!(text.len() <= STATUS_MESSAGE_MAX_BYTES);
    assert!(!text.contains(char::is_control), "{text:?}");
    let plain = data.iter().all(|byte| *byte != b'%' && (b' '..0x7f).contains(byte));
    if plain {
        assert!(data.starts_with(text.as_bytes()));
        assert_eq!(text.len(), data.len().min(STATUS_MESSAGE_MAX_BYTES));
    }
    // As a careful server writes it: every byte in two digits.
    if let Ok(whole) = core::str::from_utf8(data) {
        let encoded: String = data.iter().map(|byte| format!("%{byte:02X}")).collect();
        let decoded = rpc::status_text(encoded.as_bytes());
        let shown = whole.replace(char::is_control, " ");
        let cut = char::len_utf8('\u{fffd}');
        assert!(decoded.len() <= STATUS_MESSAGE_MAX_BYTES);
        assert_eq!(decoded == shown, shown.len() == decoded.len());
        assert!(shown.len() <= decoded.len() + cut || STATUS_MESSAGE_MAX_BYTES < data.len() + cut);
    }
}
