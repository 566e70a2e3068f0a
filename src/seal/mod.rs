//! Sealed records: what survives a reboot, unreadable without this machine's key.
//!
//! A [`Sealer`] turns a value into bytes and back; [`IdentityStore`] and [`TaskStore`] keep such
//! bytes durably below `data-root`. Three answers are never confused: *absent*, *damaged*, and
//! *foreign*, which is another machine's. Sealing, opening and choosing a slot are functions over
//! bytes; `files` alone touches a disk.
//!
//! The key comes from one of three tiers, best first: `tpm2`, `credential`, `host`. None keeps out
//! someone who is root on the running machine. `tpm2` keeps out who has the disk alone, also with
//! the serial number; `credential` does what the operator's encryption of it does; `host` keeps a
//! copied card or a leaked backup of part of the disk from being read, no more. `status` and
//! `check` name the tier.

mod credential;
mod files;
mod hardware;
mod identity;
mod lock;
pub mod provisioned;
mod record;
mod sealer;
mod tasks;
mod tiers;
mod tpm;
mod tpm_codes;
mod tpm_key;

pub use credential::CredentialError;
pub use files::FileError;
pub use identity::{IdentityStore, OpenError, SaveError};
pub use lock::{Lock, LockError};
pub use record::{RecordError, Tier, Unsealed};
pub use sealer::{SealError, Sealer};
pub use tasks::{DamagedTask, LoadedTasks, TaskStore};
pub use tiers::{Machine, available, discard, is_sealed};
pub use tpm::{Tpm, TpmBlob, TpmError, Transport};
pub use tpm_key::TpmKeyError;
