//! PEM (RFC 7468): certificates in, requests out.
//!
//! Text before and between blocks is skipped and text after the last one is not, as Go and
//! cfssl's `ParseCertificatesPEM` have it; a block of another kind is refused.

use crate::limits::{PEM_MAX_BYTES, PEM_MAX_CERTIFICATES};

const BEGIN: &str = "-----BEGIN ";
const BEGIN_CERTIFICATE: &str = "CERTIFICATE-----";
const END_CERTIFICATE: &str = "-----END CERTIFICATE-----";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Characters on a line (RFC 7468 section 2).
const LINE: usize = 64;

/// Why a text is not a list of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotPem {
    /// More than [`PEM_MAX_BYTES`] or [`PEM_MAX_CERTIFICATES`].
    TooLarge,
    /// No block in it.
    Empty,
    /// A block that is broken or of another kind, or text after the last block.
    Malformed,
}

/// The DER of every certificate, at least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, NotPem> {
    if PEM_MAX_BYTES < pem.len() {
        return Err(NotPem::TooLarge);
    }
    let mut rest = core::str::from_utf8(pem).map_err(|_| NotPem::Malformed)?;
    let mut found = Vec::new();
    while let Some((before, block)) = rest.split_once(BEGIN) {
        if !before.is_empty() && !before.ends_with('\n') {
            return Err(NotPem::Malformed);
        }
        let body = block.strip_prefix(BEGIN_CERTIFICATE).ok_or(NotPem::Malformed)?;
        let (body, after) = body.split_once(END_CERTIFICATE).ok_or(NotPem::Malformed)?;
        if found.len() == PEM_MAX_CERTIFICATES {
            return Err(NotPem::TooLarge);
        }
        found.push(decode(body).ok_or(NotPem::Malformed)?);
        rest = after;
    }
    if found.is_empty() {
        Err(NotPem::Empty)
    } else if rest.trim_ascii().is_empty() {
        Ok(found)
    } else {
        Err(NotPem::Malformed)
    }
}

/// A certificate request as PEM.
pub(super) fn request(der: &[u8]) -> Vec<u8> {
    let mut out = b"-----BEGIN CERTIFICATE REQUEST-----\n".to_vec();
    for line in encode(der).chunks(LINE) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(b"-----END CERTIFICATE REQUEST-----\n");
    out
}

fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = (0..3).fold(0_usize, |word, i| {
            word << 8 | usize::from(group.get(i).copied().unwrap_or_default())
        });
        for i in 0..4 {
            let character = ALPHABET.get(word >> (18 - 6 * i) & 63).copied().unwrap_or_default();
            out.push(if i <= group.len() { character } else { b'=' });
        }
    }
    out
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut word = 0_u32;
    let (mut bits, mut characters, mut padding) = (0, 0_usize, 0_usize);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        characters += 1;
        if byte == b'=' {
            padding += 1;
            continue;
        }
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        if padding != 0 {
            return None;
        }
        word = word << 6 | u32::from(value);
        bits += 6;
        if 8 <= bits {
            bits -= 8;
            let [.., low] = (word >> bits).to_be_bytes();
            out.push(low);
            word &= (1 << bits) - 1;
        }
    }
    (characters % 4 == 0 && padding <= 2 && bits == padding * 2 && word == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(body: &str) -> String {
        format!("{BEGIN}{BEGIN_CERTIFICATE}\n{body}\n{END_CERTIFICATE}\n")
    }

    #[test]
    fn base64_of_every_length_comes_back() {
        for length in 0..200_usize {
            let bytes: Vec<u8> = (0..=255_u8).map(|i| i.wrapping_mul(37)).take(length).collect();
            let text = String::from_utf8(encode(&bytes)).unwrap();
            assert_eq!(decode(&text), Some(bytes), "{text}");
        }
        assert_eq!(encode(b"foob"), b"Zm9vYg==");
    }

    #[test]
    fn base64_that_is_not_canonical_is_refused() {
        for bad in ["Zg", "Zg=", "Zg===", "Z===", "Zh==", "Zm9=", "Zg==Zg==", "Z g!=", "===="] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn text_before_blocks_is_skipped_and_text_after_them_is_not() {
        let two = format!("Root CA\n{}more\n{}\n\n", block("Zm9v"), block("Zg=="));
        assert_eq!(certificates(two.as_bytes()), Ok(vec![b"foo".to_vec(), b"f".to_vec()]));
        assert_eq!(certificates((two + "x").as_bytes()), Err(NotPem::Malformed));
        assert_eq!(certificates(b"hello"), Err(NotPem::Empty));
        let key = "-----BEGIN PRIVATE KEY-----\nZg==\n-----END PRIVATE KEY-----\n";
        assert_eq!(certificates((block("Zg==") + key).as_bytes()), Err(NotPem::Malformed));
        assert_eq!(certificates(&block("Zg==").as_bytes()[..40]), Err(NotPem::Malformed));
        let many = block("Zg==").repeat(PEM_MAX_CERTIFICATES + 1);
        assert_eq!(certificates(many.as_bytes()), Err(NotPem::TooLarge));
    }
}
