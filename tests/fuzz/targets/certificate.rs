//! Certificates and bundles: what a manager sends.

use edgeagent::{
    ca::{Certificate, Issued, PinnedRoot},
    model::{SecretBytes, UnixTime},
};

/// Slices stay within the input, and nothing unsigned is accepted.
pub fn run(data: &[u8]) {
    if let Ok(certificate) = Certificate::read(data) {
        for part in [certificate.issuer, certificate.subject, certificate.spki] {
            assert!(part.len() < data.len());
        }
    }
    let root = PinnedRoot::unsealed(data.to_vec());
    drop(root.certificates());
    drop(root.successor(data, data, UnixTime::default()));
    let (key, now) = (SecretBytes::default(), UnixTime::from_seconds(1_795_361_959));
    assert!(Issued::check(&root, data, &key, now).is_err());
}
