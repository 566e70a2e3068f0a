//! Join tokens, certificate requests, and who may be believed.
//!
//! Everything here is a function of its arguments: no connection, no file, no clock. Random
//! numbers come in through [`ring::rand::SecureRandom`]. The order of a join is
//! [`JoinToken::parse`], [`PinnedRoot::pin`] over the bytes that a manager shows, and only then
//! does the secret travel; [`Issued::check`] judges the answer.
//!
//! It deliberately does not keep anything (see [`crate::seal`]) and does not check the other end
//! of a TLS connection, which is the work of rustls with the roots of [`PinnedRoot`].

mod certificate;
mod date;
mod der;
mod issued;
mod pem;
mod request;
mod root;
mod token;

pub use certificate::{Certificate, CertificateError};
pub use issued::{ChainError, Issued, Role};
pub use request::{CertificateRequest, KeyError, key_fingerprint};
pub use root::{PinnedRoot, RootError};
pub use token::{JoinToken, TokenError};

use core::fmt::Write as _;

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can not fail.
        if write!(text, "{byte:02x}").is_err() {
            text.clear();
        }
        text
    })
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}
