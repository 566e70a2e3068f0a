//! Certificate requests (PKCS#10, RFC 2986): a P-256 key, ECDSA with SHA-256, an empty subject.
//!
//! A manager takes nothing but the public key from a request, so nothing else is put in.

use core::fmt;

use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};

use super::{der, hex, pem, sha256};
use crate::model::SecretBytes;

/// A key and the request to have it signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Private key, PKCS#8 DER.
    pub key: SecretBytes,
    /// The request, PEM.
    pub csr: Vec<u8>,
}

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The kernel gave no random numbers.
    NoRandom,
    /// The key is not a P-256 key in PKCS#8.
    BadKey,
}

impl CertificateRequest {
    /// Makes a new key and its request.
    ///
    /// # Errors
    /// [`KeyError::NoRandom`].
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, rng)
            .map_err(|_| KeyError::NoRandom)?;
        Self::for_key(&SecretBytes::new(document.as_ref().to_vec()), rng)
    }

    /// Makes a request for a key that exists; its signature differs from call to call.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn for_key(key: &SecretBytes, rng: &dyn SecureRandom) -> Result<Self, KeyError> {
        let pair = key_pair(key, rng)?;
        let info = der::write(
            der::SEQUENCE,
            &[
                &der::write(der::INTEGER, &[&[0]]),
                &der::write(der::SEQUENCE, &[]),
                &spki(pair.public_key().as_ref()),
                &der::write(der::CONTEXT_0, &[]),
            ],
        );
        let signature = pair.sign(rng, &info).map_err(|_| KeyError::NoRandom)?;
        let algorithm =
            der::write(der::SEQUENCE, &[&der::write(der::OBJECT_IDENTIFIER, &[ECDSA_SHA256])]);
        let signature = der::write(der::BIT_STRING, &[&[0], signature.as_ref()]);
        let request = der::write(der::SEQUENCE, &[&info, &algorithm, &signature]);
        Ok(Self { key: key.clone(), csr: pem::request(&request) })
    }
}

/// SHA-256, in hexadecimal, of the SubjectPublicKeyInfo of this key (PKCS#8): what an operator
/// compares before he lets a node in.
///
/// # Errors
/// [`KeyError`].
pub fn key_fingerprint(key: &SecretBytes) -> Result<String, KeyError> {
    let pair = key_pair(key, &SystemRandom::new())?;
    Ok(hex(&sha256(&spki(pair.public_key().as_ref()))))
}

/// Opens a PKCS#8 key. ring draws a seed for later signatures, also when there are none.
pub(super) fn key_pair(
    key: &SecretBytes,
    rng: &dyn SecureRandom,
) -> Result<EcdsaKeyPair, KeyError> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.expose(), rng)
        .map_err(|_| KeyError::BadKey)
}

/// DER of the SubjectPublicKeyInfo (RFC 5480) of an uncompressed P-256 point.
pub(super) fn spki(point: &[u8]) -> Vec<u8> {
    let algorithm = der::write(
        der::SEQUENCE,
        &[
            &der::write(der::OBJECT_IDENTIFIER, &[EC_PUBLIC_KEY]),
            &der::write(der::OBJECT_IDENTIFIER, &[P256]),
        ],
    );
    der::write(der::SEQUENCE, &[&algorithm, &der::write(der::BIT_STRING, &[&[0], point])])
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRandom => "the kernel gives no random numbers",
            Self::BadKey => "the node key is not a P-256 key in PKCS#8",
        })
    }
}

impl core::error::Error for KeyError {}

/// 1.2.840.10045.2.1
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
/// 1.2.840.10045.3.1.7
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// 1.2.840.10045.4.3.2
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
