//! A new join token for a node that is in a swarm already.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::{
    ca::{JoinToken, TokenError, hex, sha256},
    model::{Identity, SecretBytes},
};

/// A wish to keep another token, as it travels over the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NewToken {
    /// The token as typed.
    pub token: TokenText,
    /// Keep it although it names another root CA than the one this node trusts.
    pub new_root: bool,
}

/// A token that is overwritten when dropped, and not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText(pub Zeroizing<String>);

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<join token>")
    }
}

impl Serialize for TokenText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TokenText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// A token is of another root CA than the node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherRoot {
    /// SHA-256 in the token, hexadecimal.
    pub token: String,
    /// SHA-256 of the root CA that the node trusts.
    pub trusted: String,
}

impl fmt::Display for OtherRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this token is for a swarm whose root CA is sha256:{}, and this node trusts \
             sha256:{}; the token it has stays. If the root CA was rotated: a node that reaches a \
             manager follows by itself, try again then; one that missed the whole rotation takes \
             it with --new-root. For another swarm: edgeagent leave, then edgeagent join",
            self.token, self.trusted
        )
    }
}

impl std::error::Error for OtherRoot {}

/// Puts the token into the identity, which is to be sealed then. A token that was to be forgotten
/// is not any more: it was just given to be kept.
///
/// # Errors
/// [`OtherRoot`], unless `new_root` says that this is known; the identity stays as it is.
pub fn replace(
    identity: &mut Identity,
    token: &JoinToken,
    new_root: bool,
) -> Result<(), OtherRoot> {
    let trusted = sha256(&identity.root_ca);
    if token.root_digest() != trusted && !new_root {
        return Err(OtherRoot { token: hex(&token.root_digest()), trusted: hex(&trusted) });
    }
    identity.token = SecretBytes::new(token.expose().as_bytes().to_vec());
    identity.forget_token = false;
    Ok(())
}

/// Does what `token set` wishes, for the agent that has the identity in its hands.
///
/// # Errors
/// [`NotSet`]; the identity stays as it is.
pub(crate) fn set(identity: &mut Identity, wish: &NewToken) -> Result<(), NotSet> {
    let token = JoinToken::parse(&wish.token.0).map_err(NotSet::Form)?;
    replace(identity, &token, wish.new_root).map_err(NotSet::Root)
}

/// Why a token is not kept.
#[derive(Debug)]
pub(crate) enum NotSet {
    /// It is none.
    Form(TokenError),
    /// It is of another root CA.
    Root(OtherRoot),
}

impl fmt::Display for NotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(error) => error.fmt(f),
            Self::Root(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotSet {}

/// Whether a token is kept: `sealed`, or `forgotten` when it was burnt.
#[must_use]
pub fn kept(identity: &Identity) -> &'static str {
    if identity.token.expose().is_empty() { "forgotten" } else { "sealed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "f5lxx1zz5pnorynqglhzmsp33";
    /// SHA-256 of nothing.
    const EMPTY: &str = "5oaq0bjhj6un82wg98mgigso5q7qlhc63je4gw7ivixqqhkd3p";
    const OTHER: &str = "6dp5qcb22im238nr3wvp0ic7q99w035jmy2iw7i6n43d37jtof";

    fn token(digest: &str) -> JoinToken {
        JoinToken::parse(&format!("SWMTKN-1-{digest}-{SECRET}")).unwrap()
    }

    #[test]
    fn a_token_of_another_root_is_refused_with_both_digests_unless_it_is_known() {
        let mut identity = Identity { forget_token: true, ..Identity::default() };
        assert_eq!(kept(&identity), "forgotten");
        let before = identity.clone();
        let error = replace(&mut identity, &token(OTHER), false).unwrap_err();
        assert_eq!(identity, before);
        let text = error.to_string();
        assert!(text.contains(&"ff".repeat(32)) && text.contains("e3b0c44298fc1c14"), "{text}");

        replace(&mut identity, &token(EMPTY), false).unwrap();
        assert_eq!((kept(&identity), identity.forget_token), ("sealed", false));
        replace(&mut identity, &token(OTHER), true).unwrap();
        assert_eq!(identity.token.expose(), token(OTHER).expose().as_bytes());
    }

    #[test]
    fn a_wish_is_never_shown_and_fits_a_request() {
        let text = token(EMPTY).expose().to_owned();
        let wish = NewToken { token: TokenText(Zeroizing::new(text)), new_root: true };
        assert!(!format!("{wish:?}").contains(SECRET));
        let line = serde_json::to_string(&wish).unwrap();
        assert_eq!(serde_json::from_str::<NewToken>(&line).unwrap(), wish);
    }
}
