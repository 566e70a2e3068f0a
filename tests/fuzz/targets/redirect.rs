//! Addresses that registries lead to: resolved to what an address may be, followed only where that
//! is safe, and told without what is secret.

use edgeagent::image::{resolve, said::may_follow, shown};

/// Resolves the bytes against addresses of every shape.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    for base in ["https://a:5000/v2/x/blobs/y?z", "http://a/b/c/d;p?q", "https://[::1]"] {
        let Some(to) = resolve(base, text) else {
            assert!(text.bytes().any(|b| b.is_ascii_control()), "{text:?}");
            continue;
        };
        assert!(to.bytes().all(|b| b.is_ascii_graphic() && b != b'#'), "{to:?}");
        assert_eq!(resolve(base, &to).as_deref(), Some(to.as_str()), "it is where it is");
        if let Some(followed) = may_follow(base, text) {
            assert_eq!(followed, to);
            let (scheme, rest) = to.split_once("://").unwrap_or_default();
            let scheme = scheme.to_ascii_lowercase();
            assert!(scheme == "https" || (scheme == "http" && base.starts_with("http:")), "{to}");
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            assert!(!authority.is_empty() && !authority.contains('@'), "{to}");
        }
    }
    let told = shown(text);
    assert!(told.chars().count() <= 200 && !told.contains(['?', '#']), "{told:?}");
    assert!(!told.chars().any(char::is_control), "{told:?}");
}
