//! Join tokens, certificate requests, and who may be believed.

/// A root CA bundle that may be trusted: its digest matched a join token, or it was sealed after
/// such a match, or it took over from one by the rotation rule. There is no other way to make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedRoot {
    pem: Vec<u8>,
}

impl PinnedRoot {
    /// The bundle, PEM, exactly as received.
    #[must_use]
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// A bundle out of the sealed identity, where it was put after its digest had matched.
    #[must_use]
    pub const fn unsealed(pem: Vec<u8>) -> Self {
        Self { pem }
    }
}
