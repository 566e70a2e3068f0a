//! The cryptography of every TLS connection, to managers and to registries: rustls's choice for
//! ring without what no peer needs. That is a tenth of a megabyte less to ship and to trust.

use std::sync::Arc;

use rustls::{
    Error,
    crypto::{
        CryptoProvider, KeyProvider,
        ring::{default_provider, kx_group, sign},
    },
    pki_types::PrivateKeyDer,
    sign::SigningKey,
};

/// Suites and signatures are all of rustls's. Keys are agreed on by P-256, which every TLS 1.3 peer
/// must know (RFC 8446 §9.1), or P-384; both are needed for certificates anyway, X25519 is not.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: vec![kx_group::SECP256R1, kx_group::SECP384R1],
        key_provider: &OwnKeys,
        ..default_provider()
    })
}

/// The kind of key that this node makes for itself (`ca`): P-256.
#[derive(Debug)]
struct OwnKeys;

impl KeyProvider for OwnKeys {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        sign::any_ecdsa_type(&key)
    }
}
