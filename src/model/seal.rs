//! What the operator wishes of the seal.

use std::path::PathBuf;

/// The keys `seal` and `tpm` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealSettings {
    /// `seal`: which tier.
    pub choice: SealChoice,
    /// `tpm`: a TPM 2.0 device, or the socket of a software TPM; absolute.
    pub tpm: PathBuf,
}

/// Which tier seals what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SealChoice {
    /// The one that sealed what there is; on a new node the best that works.
    #[default]
    Auto,
    /// The TPM.
    Tpm2,
    /// The key that systemd hands in.
    Credential,
    /// The random file and the hardware's identifiers.
    Host,
}

impl Default for SealSettings {
    fn default() -> Self {
        Self { choice: SealChoice::Auto, tpm: "/dev/tpmrm0".into() }
    }
}
