//! What a registry asks for: every token server that is found was named.

use edgeagent::image::said::{http_date, realms};

/// Reads the bytes as a `WWW-Authenticate` header, and as a date.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let (found, _) = realms(text);
    assert!(found.len() <= text.len());
    for realm in &found {
        assert!(!realm.is_empty() && realm.len() <= text.len());
        // Whatever follows a challenge, it stays what it is.
        let (again, basic) = realms(&format!("{}, Basic", text.replace(['"', '\\'], "")));
        assert!(basic && again.len() <= text.len());
    }
    if let Some(seconds) = http_date(text) {
        assert!(seconds < 400_000_000_000, "{text:?} {seconds}");
    }
}
