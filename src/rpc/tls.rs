//! TLS to managers: who is believed, and as whom we come.
//!
//! A manager is whoever shows a chain to the pinned root *and* the right DNS name: a worker's
//! certificate comes from the same CA and is good for servers too, so the name alone keeps a
//! worker from playing manager. Roots of RSA, P-256 and P-384 are verified; P-521 is not, for
//! ring has no such curve. There is no revocation and no session resumption.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{self, CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
};

use crate::{
    ca::PinnedRoot,
    crypto,
    model::{SecretBytes, UnixTime},
};

/// DNS name of a manager's certificate while joining.
pub const JOIN_NAME: &str = "swarm-ca";
/// DNS name of a manager's certificate for members.
pub const MANAGER_NAME: &str = "swarm-manager";
/// The one protocol that is offered. Some managers select none and speak it all the same.
pub(super) const ALPN: &[u8] = b"h2";

/// Why no TLS configuration can be made.
#[derive(Debug)]
pub enum TlsError {
    /// The root CA bundle holds no usable certificate.
    Root(Option<rustls::Error>),
    /// Our certificate chain can not be read.
    Chain,
    /// Our key can not be read, or belongs to another certificate.
    Key(rustls::Error),
    /// TLS itself can not be set up: a fault of this program.
    Setup(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root(_) => "the root CA of the swarm can not be used; join again",
            Self::Chain => "the certificate of this node can not be read; join again",
            Self::Key(_) => "the key of this node does not fit its certificate; join again",
            Self::Setup(_) => "TLS can not be set up; this is a fault of edgeagent",
        })
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Root(error) => error.as_ref().map(|error| error as _),
            Self::Key(error) | Self::Setup(error) => Some(error),
            Self::Chain => None,
        }
    }
}

/// Believes whoever answers. Only for the download of the root CA, whose digest is then compared
/// with the join token.
///
/// # Errors
/// [`TlsError::Setup`].
pub fn unverified() -> Result<Arc<ClientConfig>, TlsError> {
    let provider = crypto::provider();
    let verifier = Arc::new(crypto::Unverified(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(finished(config))
}

/// Believes managers of this root; shows no certificate. Use it with [`JOIN_NAME`].
///
/// `floor` is the earliest time that can be true: certificates are checked against the later of
/// it and the clock.
///
/// # Errors
/// [`TlsError::Root`], [`TlsError::Setup`].
pub fn joining(root: &PinnedRoot, floor: UnixTime) -> Result<Arc<ClientConfig>, TlsError> {
    Ok(finished(verifying(root, floor)?.with_no_client_auth()))
}

/// Believes managers of this root, and shows our certificate with all its intermediates: without
/// them a renewal during a root rotation would not be believed. Use it with [`MANAGER_NAME`].
///
/// `chain_pem` is leaf first; `floor` as for [`joining`].
///
/// # Errors
/// [`TlsError`].
pub fn member(
    root: &PinnedRoot,
    chain_pem: &[u8],
    key_pkcs8: &SecretBytes,
    floor: UnixTime,
) -> Result<Arc<ClientConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::Chain)?;
    if chain.is_empty() {
        return Err(TlsError::Chain);
    }
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key_pkcs8.expose()));
    let key = ring::sign::any_ecdsa_type(&key).map_err(TlsError::Key)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(TlsError::Key)?;
    let resolver = Arc::new(SingleCertAndKey::from(certified));
    Ok(finished(verifying(root, floor)?.with_client_cert_resolver(resolver)))
}

fn verifying(
    root: &PinnedRoot,
    floor: UnixTime,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(root.pem()) {
        let certificate = certificate.map_err(|_| TlsError::Root(None))?;
        roots.add(certificate).map_err(|error| TlsError::Root(Some(error)))?;
    }
    if roots.is_empty() {
        return Err(TlsError::Root(None));
    }
    let provider = crypto::provider();
    Ok(ClientConfig::builder_with_details(provider, Arc::new(FlooredClock(floor)))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots))
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    // One long connection at a time: a ticket would only cost memory.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The later of the clock and the latest time that was ever trusted.
#[derive(Debug)]
struct FlooredClock(UnixTime);

impl TimeProvider for FlooredClock {
    fn current_time(&self) -> Option<pki_types::UnixTime> {
        let floor = u64::try_from(self.0.seconds()).unwrap_or(0);
        let floor = std::time::Duration::from_secs(floor);
        Some(pki_types::UnixTime::now().max(pki_types::UnixTime::since_unix_epoch(floor)))
    }
}
