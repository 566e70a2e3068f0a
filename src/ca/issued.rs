//! Judging a certificate that a manager issued.
//!
//! The rules are swarmkit's (`ca/certificates.go`, `ValidateCertChain`; `ca/transport.go`,
//! `GetAndValidateCertificateSubject`). Whether the role is one that we want is for the caller to
//! say: a manager's join token makes a manager's certificate.

use core::fmt;
use std::time::Duration;

use ring::{rand::SystemRandom, signature::KeyPair as _};
use rustls::pki_types::{self, CertificateDer};

use super::{Certificate, PinnedRoot, date::shown, pem, request::key_pair};
use crate::model::{NodeId, SecretBytes, TlsInfo, UnixTime};

/// A node certificate that leads to the pinned root and belongs to our key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The node id: its common name.
    pub node_id: NodeId,
    /// Its organizational unit.
    pub role: Role,
    /// The cluster id: its organization.
    pub organization: String,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity, inclusive.
    pub not_after: UnixTime,
    /// DER of the name of the certificate that signed ours.
    pub issuer_subject: Vec<u8>,
    /// DER of the SubjectPublicKeyInfo of the certificate that signed ours.
    pub issuer_spki: Vec<u8>,
}

/// Role in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// `swarm-worker`.
    Worker,
    /// `swarm-manager`.
    Manager,
    /// Anything else.
    Other(String),
}

/// Why a certificate chain is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainError {
    /// A certificate is not valid yet; often our clock is wrong.
    NotYetValid {
        /// Start of its validity.
        not_before: UnixTime,
        /// The time it was checked for.
        now: UnixTime,
    },
    /// A certificate is not valid any more; or our clock is wrong.
    Expired {
        /// End of its validity.
        not_after: UnixTime,
        /// The time it was checked for.
        now: UnixTime,
    },
    /// The certificates do not lead to each other.
    NoChain,
    /// The certificate is not for our key.
    KeyMismatch,
    /// It leads to another root than ours.
    ForeignRoot,
    /// It can not be read.
    Malformed,
    /// It names no node, role or cluster.
    NoIdentity,
}

impl Issued {
    /// Judges a chain, leaf first, for `key` (PKCS#8) at `now`.
    ///
    /// # Errors
    /// [`ChainError`]; the dates are judged first, so that a wrong clock is told as such.
    pub fn check(
        root: &PinnedRoot,
        chain_pem: &[u8],
        key: &SecretBytes,
        now: UnixTime,
    ) -> Result<Self, ChainError> {
        let chain = Chain::read(chain_pem)?;
        let leaf = Certificate::read(chain.leaf()).map_err(|_| ChainError::Malformed)?;
        let key = key_pair(key, &SystemRandom::new()).map_err(|_| ChainError::KeyMismatch)?;
        if leaf.spki != super::request::spki(key.public_key().as_ref()) {
            return Err(ChainError::KeyMismatch);
        }
        let (issuer_subject, issuer_spki) = verified_issuer(root, &chain, now)?;
        let (Some(name), Some(unit), Some(organization)) =
            (leaf.common_name, leaf.unit, leaf.organization)
        else {
            return Err(ChainError::NoIdentity);
        };
        if organization.is_empty() {
            return Err(ChainError::NoIdentity);
        }
        Ok(Self {
            node_id: NodeId::new(name).map_err(|_| ChainError::NoIdentity)?,
            role: match unit {
                "swarm-worker" => Role::Worker,
                "swarm-manager" => Role::Manager,
                other => Role::Other(other.to_owned()),
            },
            organization: organization.to_owned(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            issuer_subject,
            issuer_spki,
        })
    }

    /// Reads a certificate that was judged when it came. Its dates are not asked again: by which
    /// clock? A manager that refuses it says that it has expired.
    ///
    /// # Errors
    /// [`ChainError`] but for its dates.
    pub fn stored(
        root: &PinnedRoot,
        chain_pem: &[u8],
        key: &SecretBytes,
    ) -> Result<Self, ChainError> {
        let (_, until) = Chain::read(chain_pem)?.bounds()?;
        Self::check(root, chain_pem, key, until)
    }

    /// Judges a renewed certificate, which came from a manager that was believed. One that is not
    /// valid yet proves that our clock is behind, and is taken.
    ///
    /// # Errors
    /// As for [`Self::check`], but never [`ChainError::NotYetValid`] for the chain itself.
    pub fn renewed(
        root: &PinnedRoot,
        chain_pem: &[u8],
        key: &SecretBytes,
        now: UnixTime,
    ) -> Result<Self, ChainError> {
        let (from, _) = Chain::read(chain_pem)?.bounds()?;
        Self::check(root, chain_pem, key, now.max(from))
    }

    /// What the node tells the managers about its trust root and issuer.
    #[must_use]
    pub fn tls_info(&self, root: &PinnedRoot) -> TlsInfo {
        TlsInfo {
            trust_root: root.pem().to_vec(),
            cert_issuer_subject: self.issuer_subject.clone(),
            cert_issuer_public_key: self.issuer_spki.clone(),
        }
    }
}

/// The DER of a leaf and the intermediates after it.
#[derive(Debug)]
pub(super) struct Chain(Vec<CertificateDer<'static>>);

impl Chain {
    pub(super) fn read(chain_pem: &[u8]) -> Result<Self, ChainError> {
        let ders = pem::certificates(chain_pem).map_err(|_| ChainError::Malformed)?;
        Ok(Self(ders.into_iter().map(CertificateDer::from).collect()))
    }

    /// From when on, and until when, every certificate in it is valid.
    fn bounds(&self) -> Result<(UnixTime, UnixTime), ChainError> {
        let read = |der| Certificate::read(der).map_err(|_| ChainError::Malformed);
        let mut bounds = (UnixTime::default(), UnixTime::from_nanos(i64::MAX));
        for der in &self.0 {
            let certificate = read(der)?;
            bounds.0 = bounds.0.max(certificate.not_before);
            bounds.1 = bounds.1.min(certificate.not_after);
        }
        Ok(bounds)
    }

    fn leaf(&self) -> &[u8] {
        self.0.first().map_or(&[], |leaf| leaf.as_ref())
    }
}

/// Checks dates, order and path of a chain, and returns subject and SubjectPublicKeyInfo of the
/// certificate that signed the leaf, both as DER.
pub(super) fn verified_issuer(
    root: &PinnedRoot,
    chain: &Chain,
    now: UnixTime,
) -> Result<(Vec<u8>, Vec<u8>), ChainError> {
    let roots = root.certificates().map_err(|_| ChainError::ForeignRoot)?;
    issuer_under(roots, chain, now)
}

/// The same for these roots, each DER.
pub(super) fn issuer_under(
    roots: Vec<Vec<u8>>,
    chain: &Chain,
    now: UnixTime,
) -> Result<(Vec<u8>, Vec<u8>), ChainError> {
    let certificates = chain
        .0
        .iter()
        .map(|der| Certificate::read(der))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| ChainError::Malformed)?;
    for certificate in &certificates {
        in_time(certificate, now)?;
    }
    if !certificates.iter().zip(certificates.iter().skip(1)).all(|(a, b)| a.issuer == b.subject) {
        return Err(ChainError::NoChain);
    }

    let root_ders: Vec<_> = roots.into_iter().map(CertificateDer::from).collect();
    let anchors = root_ders
        .iter()
        .map(webpki::anchor_from_trusted_cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| ChainError::ForeignRoot)?;
    let (leaf, intermediates) = chain.0.split_first().ok_or(ChainError::Malformed)?;
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|_| ChainError::Malformed)?;
    let seconds = u64::try_from(now.seconds()).unwrap_or_default();
    let path = leaf
        .verify_for_usage(
            ALGORITHMS,
            &anchors,
            intermediates,
            pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(|error| judged(&error))?;

    // A root's own dates bind in Go, while webpki takes an anchor without them.
    let anchor = path.anchor();
    let anchor_spki = webpki::spki_for_anchor(anchor);
    let mut roots = root_ders.iter().filter_map(|der| Certificate::read(der).ok());
    let root = roots
        .find(|root| root.spki == anchor_spki.as_ref() && root.subject.ends_with(&anchor.subject))
        .ok_or(ChainError::ForeignRoot)?;
    in_time(&root, now)?;
    let issuer = certificates.get(1).unwrap_or(&root);
    Ok((issuer.subject.to_vec(), issuer.spki.to_vec()))
}

fn in_time(certificate: &Certificate<'_>, now: UnixTime) -> Result<(), ChainError> {
    let Certificate { not_before, not_after, .. } = *certificate;
    if now < not_before {
        Err(ChainError::NotYetValid { not_before, now })
    } else if not_after.seconds() < now.seconds() {
        Err(ChainError::Expired { not_after, now })
    } else {
        Ok(())
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "webpki's list of errors is open")]
fn judged(error: &webpki::Error) -> ChainError {
    match error {
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            ChainError::ForeignRoot
        }
        webpki::Error::CaUsedAsEndEntity
        | webpki::Error::EndEntityUsedAsCa
        | webpki::Error::PathLenConstraintViolated
        | webpki::Error::NameConstraintViolation
        | webpki::Error::MaximumPathDepthExceeded => ChainError::NoChain,
        _ => ChainError::Malformed,
    }
}

/// What swarm allows and ring has: RSA from 2048 bits on and both smaller NIST curves.
static ALGORITHMS: &[&dyn pki_types::SignatureVerificationAlgorithm] = &[
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P256_SHA384,
    webpki::ring::ECDSA_P384_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    webpki::ring::RSA_PKCS1_2048_8192_SHA384,
    webpki::ring::RSA_PKCS1_2048_8192_SHA512,
];

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYetValid { not_before, now } => write!(
                f,
                "the certificate is not valid before {}, and this node's clock says {}: set the \
                 clock, or wait until it is synchronised",
                shown(*not_before),
                shown(*now)
            ),
            Self::Expired { not_after, now } => write!(
                f,
                "the certificate was valid until {}, and this node's clock says {}: if the clock \
                 is right, leave the swarm and join again",
                shown(*not_after),
                shown(*now)
            ),
            Self::NoChain => f.write_str("the certificates do not form a chain"),
            Self::KeyMismatch => f.write_str("the certificate is not for this node's key"),
            Self::ForeignRoot => {
                f.write_str("the certificate was not signed by the root CA that this node trusts")
            }
            Self::Malformed => f.write_str("the certificate can not be read"),
            Self::NoIdentity => {
                f.write_str("the certificate names no node id (CN), role (OU) or cluster (O)")
            }
        }
    }
}

impl core::error::Error for ChainError {}
