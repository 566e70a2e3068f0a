//! Join tokens: what an operator pastes.

use edgeagent::ca::JoinToken;

/// A token that is taken reads the same again, and no error repeats the text.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    if let Ok(token) = JoinToken::parse(text) {
        let again = JoinToken::parse(token.expose());
        assert_eq!(again.as_ref(), Ok(&token));
        assert_eq!(token.expose(), text.trim_ascii());
    }
}
