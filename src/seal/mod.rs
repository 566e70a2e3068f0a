//! Sealed records: what survives a reboot, unreadable without this machine's key.
//!
//! A [`Sealer`] turns a value into bytes and back; [`IdentityStore`] and [`TaskStore`] keep such
//! bytes durably below `data-root`. Three answers are never confused: *absent*, *damaged*, and
//! *foreign*, which is another machine's. Sealing, opening and choosing a slot are functions over
//! bytes; `files` alone touches a disk.
//!
//! Only the tier `host` is implemented. It keeps a copied card or a leaked backup of part of the
//! disk from being read; it does not keep out someone who owns the running machine, nor one who
//! has its whole disk and knows its serial number. `status` and `check` name the tier.

mod files;
mod hardware;
mod identity;
mod lock;
mod record;
mod sealer;
mod tasks;

pub use files::FileError;
pub use identity::{IdentityStore, OpenError, SaveError};
pub use lock::{Lock, LockError};
pub use record::{RecordError, Tier, Unsealed};
pub use sealer::{SealError, Sealer};
pub use tasks::{DamagedTask, LoadedTasks, TaskStore};
