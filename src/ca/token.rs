//! Join tokens: the secret that lets a node in, and the digest of the root CA to trust.
//!
//! Shapes are `SWMTKN-1-<digest>-<secret>` and `SWMTKN-2-<FIPS flag>-<digest>-<secret>`
//! (swarmkit `ca/config.go`, `ParseJoinToken`). Swarmkit does not look at the characters; here
//! they must be lower-case base 36, for with any other the digest would be undefined and the
//! manager would refuse the secret. It does not tell worker tokens from manager tokens: only the
//! manager knows.

use core::fmt;

use zeroize::Zeroizing;

use super::hex;
use crate::limits::{TOKEN_DIGEST_CHARS, TOKEN_SECRET_CHARS};

/// A well-formed join token. Overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    text: Zeroizing<String>,
    digest: [u8; 32],
}

/// Which part of a join token is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It does not start with `SWMTKN-`.
    Prefix,
    /// The version is neither 1 nor 2.
    Version,
    /// The FIPS flag of a version 2 token is neither 0 nor 1.
    FipsFlag,
    /// The token is sound, but its cluster takes only FIPS-validated nodes.
    FipsRequired,
    /// It has more or fewer parts than its version wants.
    Parts {
        /// Parts between dashes.
        found: usize,
        /// What the version wants.
        expected: usize,
    },
    /// The digest of the root CA has another length.
    DigestLength {
        /// Characters found, of [`TOKEN_DIGEST_CHARS`].
        found: usize,
    },
    /// The digest holds other characters than `0-9a-z`, or a number above 2^256 - 1.
    DigestCharacters,
    /// The secret has another length.
    SecretLength {
        /// Characters found, of [`TOKEN_SECRET_CHARS`].
        found: usize,
    },
    /// The secret holds other characters than `0-9a-z`.
    SecretCharacters,
}

impl JoinToken {
    /// Reads a token; white space around it is dropped.
    ///
    /// # Errors
    /// [`TokenError`] names the first part that is wrong, and never holds any of the text.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim_ascii();
        let rest = text.strip_prefix("SWMTKN-").ok_or(TokenError::Prefix)?;
        let (version, rest) = rest.split_once('-').unwrap_or((rest, ""));
        let (fips, body) = match version {
            "1" => (None, rest),
            "2" => {
                let (flag, body) = rest.split_once('-').unwrap_or((rest, ""));
                (Some(flag), body)
            }
            _ => return Err(TokenError::Version),
        };
        if fips.is_some_and(|flag| flag != "0" && flag != "1") {
            return Err(TokenError::FipsFlag);
        }
        let expected = if fips.is_some() { 5 } else { 4 };
        let found = text.split('-').count();
        let (digest, secret) = match body.split_once('-') {
            Some(parts) if found == expected => parts,
            Some(_) | None => return Err(TokenError::Parts { found, expected }),
        };
        if digest.chars().count() != TOKEN_DIGEST_CHARS {
            return Err(TokenError::DigestLength { found: digest.chars().count() });
        }
        let digest = number(digest).ok_or(TokenError::DigestCharacters)?;
        if secret.chars().count() != TOKEN_SECRET_CHARS {
            return Err(TokenError::SecretLength { found: secret.chars().count() });
        }
        if !secret.bytes().all(|byte| base36(byte).is_some()) {
            return Err(TokenError::SecretCharacters);
        }
        if fips == Some("1") {
            return Err(TokenError::FipsRequired);
        }
        Ok(Self { text: Zeroizing::new(text.to_owned()), digest })
    }

    /// SHA-256 that the root CA bundle must have.
    #[must_use]
    pub const fn root_digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The whole token, for the one call that carries it to a manager with a pinned root.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<join token for root sha256:{}>", hex(&self.digest))
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::FipsRequired {
            return f.write_str(
                "this join token is of a cluster that demands FIPS, and this build is not \
                 FIPS-validated: the node can not join it",
            );
        }
        f.write_str("this is not a join token: ")?;
        match self {
            Self::Prefix => f.write_str("it does not start with SWMTKN-"),
            Self::Version => f.write_str("the version after SWMTKN- is neither 1 nor 2"),
            Self::FipsFlag => f.write_str("the FIPS flag after SWMTKN-2- is neither 0 nor 1"),
            Self::FipsRequired => Ok(()),
            Self::Parts { found, expected } => {
                write!(f, "it has {found} parts between dashes, {expected} are needed")
            }
            Self::DigestLength { found } => write!(
                f,
                "the digest of the root CA (the second-last part) has {found} characters, \
                 {TOKEN_DIGEST_CHARS} are needed"
            ),
            Self::DigestCharacters => f.write_str(
                "the digest of the root CA (the second-last part) is not a SHA-256 in base 36 \
                 (0-9, a-z)",
            ),
            Self::SecretLength { found } => write!(
                f,
                "the secret (the last part) has {found} characters, {TOKEN_SECRET_CHARS} are needed"
            ),
            Self::SecretCharacters => {
                f.write_str("the secret (the last part) holds other characters than 0-9 and a-z")
            }
        }?;
        f.write_str("; `docker swarm join-token worker` on a manager shows the right one")
    }
}

impl core::error::Error for TokenError {}

fn base36(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'z' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// The base-36 number as 32 bytes, most significant first.
fn number(text: &str) -> Option<[u8; 32]> {
    let mut number = [0_u8; 32];
    for byte in text.bytes() {
        let mut carry = u16::from(base36(byte)?);
        for digit in number.iter_mut().rev() {
            let [high, low] = (u16::from(*digit) * 36 + carry).to_be_bytes();
            *digit = low;
            carry = u16::from(high);
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "5oaq0bjhj6un82wg98mgigso5q7qlhc63je4gw7ivixqqhkd3p";
    const SECRET: &str = "f5lxx1zz5pnorynqglhzmsp33";

    fn digest_of(text: &str) -> Result<String, TokenError> {
        JoinToken::parse(text).map(|token| hex(&token.root_digest()))
    }

    #[test]
    fn digests_come_out_as_swarmkit_computes_them() {
        for (field, digest) in [
            (EMPTY, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned()),
            (
                "00lnskv07zwmsk66lvfsspt6gj5974l5mi756amczg556rd1gr",
                "00".to_owned() + &"ab".repeat(31),
            ),
            ("6dp5qcb22im238nr3wvp0ic7q99w035jmy2iw7i6n43d37jtof", "ff".repeat(32)),
        ] {
            assert_eq!(digest_of(&format!("SWMTKN-1-{field}-{SECRET}")), Ok(digest.clone()));
            assert_eq!(digest_of(&format!("SWMTKN-2-0-{field}-{SECRET}")), Ok(digest));
        }
    }

    #[test]
    fn each_wrong_part_is_named() {
        let high = "6dp5qcb22im238nr3wvp0ic7q99w035jmy2iw7i6n43d37jtog";
        for (text, error) in [
            (String::new(), TokenError::Prefix),
            (format!("swmtkn-1-{EMPTY}-{SECRET}"), TokenError::Prefix),
            ("SWMTKN".to_owned(), TokenError::Prefix),
            ("SWMTKN-".to_owned(), TokenError::Version),
            (format!("SWMTKN-3-{EMPTY}-{SECRET}"), TokenError::Version),
            (format!("SWMTKN-2-2-{EMPTY}-{SECRET}"), TokenError::FipsFlag),
            (format!("SWMTKN-2-{EMPTY}-{SECRET}"), TokenError::FipsFlag),
            (format!("SWMTKN-2-1-{EMPTY}-{SECRET}"), TokenError::FipsRequired),
            ("SWMTKN-1".to_owned(), TokenError::Parts { found: 2, expected: 4 }),
            (format!("SWMTKN-1-{EMPTY}"), TokenError::Parts { found: 3, expected: 4 }),
            (format!("SWMTKN-1-0-{EMPTY}-{SECRET}"), TokenError::Parts { found: 5, expected: 4 }),
            (format!("SWMTKN-2-0-{EMPTY}"), TokenError::Parts { found: 4, expected: 5 }),
            (format!("SWMTKN-1-{}-{SECRET}", &EMPTY[1..]), TokenError::DigestLength { found: 49 }),
            (format!("SWMTKN-1-{high}-{SECRET}"), TokenError::DigestCharacters),
            (format!("SWMTKN-1-{}-{SECRET}", EMPTY.to_uppercase()), TokenError::DigestCharacters),
            (format!("SWMTKN-1-{EMPTY}-{SECRET}0"), TokenError::SecretLength { found: 26 }),
            (format!("SWMTKN-1-{EMPTY}-{}_", &SECRET[1..]), TokenError::SecretCharacters),
        ] {
            assert_eq!(digest_of(&text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_token_is_kept_whole_and_never_shown() {
        let text = format!("SWMTKN-1-{EMPTY}-{SECRET}");
        let token = JoinToken::parse(&format!(" {text}\n")).unwrap();
        assert_eq!(token.expose(), text);
        assert!(!format!("{token:?}").contains(SECRET));
    }
}
