//! Root CA bundles: the only thing a node trusts, and how it comes to trust one.
//!
//! A bundle may hold RSA keys from 2048 bits on, P-256 and P-384. Swarm also allows P-521, which
//! ring can not verify: such a bundle is refused by name when it is pinned, not later at a
//! handshake.

use core::fmt;

use super::{
    Certificate, ChainError, JoinToken, hex,
    issued::{Chain, issuer_under, verified_issuer},
    pem::{self, NotPem},
    sha256,
};
use crate::model::UnixTime;

/// A root CA bundle that may be trusted: its digest matched a join token, or it was sealed after
/// such a match, or it took over from one by the rotation rule. There is no other way to make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedRoot {
    pem: Vec<u8>,
}

/// Why a root CA bundle is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootError {
    /// Its digest is not the token's.
    Mismatch {
        /// SHA-256 from the token, hexadecimal.
        expected: String,
        /// SHA-256 of the bytes that were presented.
        presented: String,
    },
    /// It holds no certificate.
    Empty,
    /// It is larger than we take.
    TooLarge,
    /// Something in it can not be read.
    Malformed,
    /// A certificate in it may not sign others.
    NotCa {
        /// Position in the bundle, from 1.
        position: usize,
    },
    /// A certificate is signed with an algorithm that swarm does not allow.
    SignatureAlgorithm {
        /// Position in the bundle, from 1.
        position: usize,
    },
    /// A certificate has a key that this build can not verify with.
    Key {
        /// Position in the bundle, from 1.
        position: usize,
    },
    /// As a successor: our certificate does not lead to it.
    NotOurs(ChainError),
}

impl PinnedRoot {
    /// Trusts a bundle because its digest is the one in the token.
    ///
    /// # Errors
    /// [`RootError::Mismatch`] first of all; other variants when the bundle breaks swarm's rules
    /// (swarmkit `ca/certificates.go`, `NewRootCA`). Validity dates are left to
    /// [`super::Issued::check`], which knows the time.
    pub fn pin(pem: Vec<u8>, token: &JoinToken) -> Result<Self, RootError> {
        let (expected, presented) = (token.root_digest(), sha256(&pem));
        if expected != presented {
            return Err(RootError::Mismatch {
                expected: hex(&expected),
                presented: hex(&presented),
            });
        }
        Self::usable(pem)
    }

    /// The bundle that takes over: our current chain must verify against it too (swarmkit
    /// `node/node.go` and `ca/config.go`, `UpdateRootCA`). The same bytes give the same root.
    ///
    /// # Errors
    /// [`RootError::NotOurs`] when `chain_pem` does not lead to it at `now`; other variants when
    /// the bundle breaks swarm's rules. The present root stays in force.
    pub fn successor(
        &self,
        pem: &[u8],
        chain_pem: &[u8],
        now: UnixTime,
    ) -> Result<Self, RootError> {
        if self.pem == pem {
            return Ok(self.clone());
        }
        let root = Self::usable(pem.to_vec())?;
        let chain = Chain::read(chain_pem).map_err(RootError::NotOurs)?;
        verified_issuer(&root, &chain, now).map_err(RootError::NotOurs)?;
        Ok(root)
    }

    /// The bundle that takes over although no manager that we believe has said so: it was fetched
    /// over a connection that proves nothing, because a rotation was missed (swarmkit
    /// `ca/config.go`, `updateRootThenUpdateCert`).
    ///
    /// Our chain must verify against *each* root in it. Swarmkit is content with one of them, and
    /// so takes the real root with that of an attacker beside it.
    ///
    /// # Errors
    /// As for [`Self::successor`]. The present root stays in force.
    pub fn recovered(
        &self,
        pem: &[u8],
        chain_pem: &[u8],
        now: UnixTime,
    ) -> Result<Self, RootError> {
        let root = self.successor(pem, chain_pem, now)?;
        if root != *self {
            let chain = Chain::read(chain_pem).map_err(RootError::NotOurs)?;
            for der in root.certificates()? {
                issuer_under(vec![der], &chain, now).map_err(RootError::NotOurs)?;
            }
        }
        Ok(root)
    }

    /// The bundle, PEM, exactly as received.
    #[must_use]
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// SHA-256 of the bundle in hexadecimal: what a join token names.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex(&sha256(&self.pem))
    }

    /// A bundle out of the sealed identity, where it was put after its digest had matched.
    #[must_use]
    pub const fn unsealed(pem: Vec<u8>) -> Self {
        Self { pem }
    }

    /// The DER of each certificate: the trust anchors for TLS.
    ///
    /// # Errors
    /// As for [`Self::pin`]; not for a bundle that was pinned once.
    pub fn certificates(&self) -> Result<Vec<Vec<u8>>, RootError> {
        pem::certificates(&self.pem).map_err(|error| match error {
            NotPem::TooLarge => RootError::TooLarge,
            NotPem::Empty => RootError::Empty,
            NotPem::Malformed => RootError::Malformed,
        })
    }

    fn usable(pem: Vec<u8>) -> Result<Self, RootError> {
        let root = Self { pem };
        for (index, der) in root.certificates()?.iter().enumerate() {
            let position = index + 1;
            let certificate = Certificate::read(der).map_err(|_| RootError::Malformed)?;
            if !certificate.is_ca {
                return Err(RootError::NotCa { position });
            }
            if !SIGNATURES.contains(&certificate.signature_algorithm) {
                return Err(RootError::SignatureAlgorithm { position });
            }
            if !verifiable(certificate.spki) {
                return Err(RootError::Key { position });
            }
            webpki::anchor_from_trusted_cert(&der.as_slice().into())
                .map_err(|_| RootError::Malformed)?;
        }
        Ok(root)
    }
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch { expected, presented } => write!(
                f,
                "expected root CA sha256:{expected} (from the token) but the manager presents \
                 sha256:{presented}: either the swarm's root CA was rotated and the token is old, \
                 or someone is intercepting; nothing secret was sent"
            ),
            Self::Empty => f.write_str("the root CA bundle holds no certificate"),
            Self::TooLarge => f.write_str("the root CA bundle is larger than this node takes"),
            Self::Malformed => f.write_str("the root CA bundle can not be read"),
            Self::NotCa { position } => {
                write!(f, "certificate {position} of the root CA bundle is not a CA certificate")
            }
            Self::SignatureAlgorithm { position } => write!(
                f,
                "certificate {position} of the root CA bundle is signed with an algorithm other \
                 than RSA or ECDSA with SHA-256, SHA-384 or SHA-512"
            ),
            Self::Key { position } => write!(
                f,
                "certificate {position} of the root CA bundle has a key that this build can not \
                 verify with: it takes RSA from 2048 to 8192 bits, P-256 and P-384 (not P-521)"
            ),
            Self::NotOurs(_) => f.write_str(
                "this node's certificate does not lead to the new root CA, so the old one stays",
            ),
        }
    }
}

impl core::error::Error for RootError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NotOurs(cause) => Some(cause),
            Self::Mismatch { .. }
            | Self::Empty
            | Self::TooLarge
            | Self::Malformed
            | Self::NotCa { .. }
            | Self::SignatureAlgorithm { .. }
            | Self::Key { .. } => None,
        }
    }
}

/// Signature algorithms that swarm allows (swarmkit `ca/certificates.go`,
/// `validateSignatureAlgorithm`): sha256/384/512WithRSAEncryption, ecdsa-with-SHA256/384/512.
const SIGNATURES: [&[u8]; 6] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4],
];

/// ring can verify signatures made with this key.
fn verifiable(spki: &[u8]) -> bool {
    use super::der::{self, NotDer, Reader};
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    const P384: &[u8] = &[0x2b, 0x81, 4, 0, 34];
    let check = || -> Result<bool, NotDer> {
        let mut fields = Reader::new(Reader::new(spki).expect(der::SEQUENCE)?.content);
        let mut algorithm = Reader::new(fields.expect(der::SEQUENCE)?.content);
        let kind = algorithm.expect(der::OBJECT_IDENTIFIER)?.content;
        let key = fields.expect(der::BIT_STRING)?.content;
        if kind == EC {
            let curve = algorithm.expect(der::OBJECT_IDENTIFIER)?.content;
            return Ok(curve == P256 || curve == P384);
        }
        if kind != RSA {
            return Ok(false);
        }
        // A BIT STRING starts with its number of unused bits, an INTEGER with a zero when its
        // highest bit is set.
        let key = key.strip_prefix(&[0]).ok_or(NotDer)?;
        let modulus =
            Reader::new(Reader::new(key).expect(der::SEQUENCE)?.content).expect(der::INTEGER)?;
        let modulus = modulus.content.strip_prefix(&[0]).unwrap_or(modulus.content);
        let high_bit = modulus.first().is_some_and(|byte| 0x80 <= *byte);
        Ok(256 < modulus.len() && modulus.len() <= 1024 || modulus.len() == 256 && high_bit)
    };
    check() == Ok(true)
}
