//! The identity of this node: two slots, of which the highest generation that unseals wins.
//!
//! A write goes to the slot that does not hold the current identity, so that until its rename
//! nothing is lost, whatever happens. The store keeps nothing in memory.

use core::fmt;
use std::path::{Path, PathBuf};

use super::{FileError, RecordError, SealError, Sealer, Tier, Unsealed, files};
use crate::{limits::IDENTITY_MAX_BYTES, model::Identity};

const PURPOSE: &str = "identity";
/// The files, in `data-root`.
pub(super) const SLOTS: [&str; 2] = ["identity.a", "identity.b"];

/// Where the identity is kept.
#[derive(Clone, Debug)]
pub struct IdentityStore {
    data_root: PathBuf,
    sealer: Sealer,
}

/// Why an identity that exists does not open. The files are left as they are.
#[derive(Debug)]
pub enum OpenError {
    /// No slot is sound.
    Damaged {
        /// The folder with the slots.
        data_root: PathBuf,
    },
    /// It was sealed by another machine: the card was moved, or the hardware changed.
    Foreign {
        /// The folder with the slots.
        data_root: PathBuf,
        /// The tier that sealed it.
        tier: Tier,
    },
    /// It was written by an edgeagent that knows more, or with another tier.
    Unsupported(RecordError),
    /// A slot can not be read.
    File(FileError),
}

/// Why an identity was not stored. The one before is intact.
#[derive(Debug)]
pub enum SaveError {
    /// It can not be sealed.
    Seal(SealError),
    /// The disk refused.
    File(FileError),
    /// There is one that does not open; [`IdentityStore::forget`] comes first.
    Occupied(OpenError),
}

impl IdentityStore {
    /// A store in `data_root`.
    #[must_use]
    pub fn new(data_root: &Path, sealer: Sealer) -> Self {
        Self { data_root: data_root.to_owned(), sealer }
    }

    /// What the identity is sealed with.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.sealer.tier()
    }

    /// The identity; nothing when this node has none.
    ///
    /// # Errors
    /// [`OpenError`] when there is one and it does not open.
    pub fn load(&self) -> Result<Option<Identity>, OpenError> {
        Ok(self.current()?.map(|(_, unsealed)| unsealed.value))
    }

    /// Stores the identity durably. The same identity again writes nothing.
    ///
    /// # Errors
    /// [`SaveError`]; the identity before is still there.
    pub fn save(&self, identity: &Identity) -> Result<(), SaveError> {
        let (slot, generation) = match self.current().map_err(SaveError::Occupied)? {
            Some((_, current)) if current.value == *identity => return Ok(()),
            Some((slot, current)) => (other(slot), current.generation.saturating_add(1)),
            None => (SLOTS[0], 1),
        };
        let record = self
            .sealer
            .seal(PURPOSE, generation, identity, IDENTITY_MAX_BYTES)
            .map_err(SaveError::Seal)?;
        files::replace(&self.data_root, slot, &record).map_err(SaveError::File)
    }

    /// Seals the identity with another key, in both slots. The one before opens until the first
    /// is durable; one slot of each key is what a power cut can leave.
    pub(super) fn reseal(&self, to: &Sealer) -> Result<(), SaveError> {
        let Some((slot, current)) = self.current().map_err(SaveError::Occupied)? else {
            return Ok(());
        };
        let mut generation = current.generation;
        for slot in [other(slot), slot] {
            generation = generation.saturating_add(1);
            let record = to
                .seal(PURPOSE, generation, &current.value, IDENTITY_MAX_BYTES)
                .map_err(SaveError::Seal)?;
            files::replace(&self.data_root, slot, &record).map_err(SaveError::File)?;
        }
        Ok(())
    }

    /// Removes every trace, of an identity that does not open too. Nothing to remove is success.
    ///
    /// The current slot goes last: a power cut on the way leaves the current identity or none,
    /// never an older one.
    ///
    /// # Errors
    /// [`FileError`]; the identity may be there still.
    pub fn forget(&self) -> Result<(), FileError> {
        let last = match self.current() {
            Ok(Some((slot, _))) => slot,
            Ok(None) | Err(_) => SLOTS[0],
        };
        for slot in [other(last), last] {
            files::wipe(&files::temporary(&self.data_root, slot))?;
            files::wipe(&self.data_root.join(slot))?;
        }
        Ok(())
    }

    /// Wipes the older slot if it still holds a token that the current identity has burnt. The
    /// current one goes on alone until the next write.
    ///
    /// # Errors
    /// [`FileError`]; the older slot may be there still.
    pub fn burn_older(&self) -> Result<(), FileError> {
        let Ok(Some((slot, current))) = self.current() else { return Ok(()) };
        if !current.value.token.expose().is_empty() {
            return Ok(());
        }
        let path = self.data_root.join(other(slot));
        let older = files::read(&path, IDENTITY_MAX_BYTES)?
            .map(|record| self.sealer.unseal::<Identity>(PURPOSE, &record));
        match older {
            // One that does not open may hold a token as well.
            Some(Ok(older)) if older.value.token.expose().is_empty() => Ok(()),
            Some(_) => files::wipe(&path),
            None => Ok(()),
        }
    }

    fn current(&self) -> Result<Option<(&'static str, Unsealed<Identity>)>, OpenError> {
        let mut slots = Vec::with_capacity(SLOTS.len());
        for slot in SLOTS {
            let record = files::read(&self.data_root.join(slot), IDENTITY_MAX_BYTES)
                .map_err(OpenError::File)?;
            slots.extend(record.map(|record| (slot, self.sealer.unseal(PURPOSE, &record))));
        }
        choose(slots).map_err(|error| match error {
            RecordError::Damaged => OpenError::Damaged { data_root: self.data_root.clone() },
            RecordError::Foreign => {
                OpenError::Foreign { data_root: self.data_root.clone(), tier: self.sealer.tier() }
            }
            RecordError::OtherTier { .. } | RecordError::Unsupported { .. } => {
                OpenError::Unsupported(error)
            }
        })
    }
}

fn other(slot: &str) -> &'static str {
    let [a, b] = SLOTS;
    if slot == a { b } else { a }
}

/// What was found in a slot that exists.
type Found = (&'static str, Result<Unsealed<Identity>, RecordError>);

/// The highest generation that unseals. When none does, a slot that says whose it is tells more
/// than one that is damaged.
fn choose(slots: Vec<Found>) -> Result<Option<(&'static str, Unsealed<Identity>)>, RecordError> {
    let mut best: Option<(&'static str, Unsealed<Identity>)> = None;
    let mut worst = None;
    for (slot, opened) in slots {
        match opened {
            Ok(unsealed) => {
                if best.as_ref().is_none_or(|(_, best)| best.generation < unsealed.generation) {
                    best = Some((slot, unsealed));
                }
            }
            Err(error) if worst.is_none_or(|worst| worst == RecordError::Damaged) => {
                worst = Some(error);
            }
            Err(_) => {}
        }
    }
    match (best, worst) {
        (None, Some(error)) => Err(error),
        (best, _) => Ok(best),
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { data_root } => write!(
                f,
                "the identity in {} is damaged in both slots; running tasks go on; `edgeagent \
                 leave`, then join again",
                data_root.display()
            ),
            Self::Foreign { data_root, tier } => write!(
                f,
                "the identity in {} was sealed by another machine: the disk was moved or copied, \
                 {} was lost or replaced, or the hardware changed; running tasks go on; \
                 `edgeagent leave`, then join this machine",
                data_root.display(),
                match tier {
                    Tier::Host => "its host.key",
                    Tier::Credential => "systemd's credential edgeagent-seal-key",
                    Tier::Tpm2 => "its tpm.key",
                }
            ),
            Self::Unsupported(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::File(error) => Some(&error.cause),
            Self::Damaged { .. } | Self::Foreign { .. } | Self::Unsupported(_) => None,
        }
    }
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seal(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Occupied(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SaveError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Seal(error) => error.source(),
            Self::File(error) => Some(&error.cause),
            Self::Occupied(error) => error.source(),
        }
    }
}
