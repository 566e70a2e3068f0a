//! Which tier seals: what the operator asks for, what sealed the records that are there, what
//! works on this machine.
//!
//! Records stay with their tier when a better one appears. They change it only when the
//! configuration names another, at the start of the agent: task by task, then the identity, each
//! durable before what it replaces is gone. After a power cut the next start goes on from there.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs, iter,
    path::{Path, PathBuf},
    thread,
};

use super::{
    CredentialError, FileError, IdentityStore, Lock, LockError, RecordError, SaveError, SealError,
    Sealer, TaskStore, Tier, TpmError, credential,
    files::{self, private_folder},
    hardware,
    identity::SLOTS,
    record::{Label, label},
    sealer::HOST_KEY,
    tasks::FOLDER as TASKS,
    tpm::Tpm,
    tpm_key::{self, TPM_KEY},
};
use crate::{
    limits::{IDENTITY_MAX_BYTES, LOCK_ATTEMPTS, LOCK_PAUSE, TASK_RECORD_MAX_BYTES},
    model::{SealChoice, SealSettings},
};

/// What of a machine goes into its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Identifiers of its hardware, in order.
    pub identifiers: Vec<Vec<u8>>,
    /// The folder with the credentials that systemd gave this process.
    pub credentials: Option<PathBuf>,
}

impl Machine {
    /// The one that this process runs on.
    #[must_use]
    pub fn this() -> Self {
        Self {
            identifiers: hardware::identifiers(Path::new("/")),
            credentials: credential::folder(),
        }
    }
}

impl Sealer {
    /// The sealer of what is stored in `data_root`: of the identity's tier whatever the settings
    /// say, and of the settings' tier when there is no identity. Makes `data_root` (0700) and the
    /// tier's key when they are missing; changes no record.
    ///
    /// # Errors
    /// [`SealError`]. Nothing that is stored was touched.
    pub fn open(
        data_root: &Path,
        machine: &Machine,
        settings: &SealSettings,
    ) -> Result<Self, SealError> {
        private_folder(data_root).map_err(SealError::File)?;
        let found = Found::read(data_root).map_err(SealError::File)?;
        Place { data_root, machine, settings, found: &found }.current()
    }

    /// [`Self::open`] for the agent's start: records of another tier than the configuration's are
    /// sealed again first. Without a named tier, those of another tier than the identity's.
    ///
    /// # Errors
    /// [`SealError`], also when the tier to go to, or the one to come from, does not open. Every
    /// record still opens with the tier that its header names.
    pub fn settle(
        data_root: &Path,
        machine: &Machine,
        settings: &SealSettings,
    ) -> Result<Self, SealError> {
        private_folder(data_root).map_err(SealError::File)?;
        let found = Found::read(data_root).map_err(SealError::File)?;
        let Some(identity) = found.identity() else {
            return Place { data_root, machine, settings, found: &found }.current();
        };
        let target = named(settings.choice).unwrap_or(identity.tier);
        if found.strays(target).next().is_none() {
            let sealer = Place { data_root, machine, settings, found: &found }.tier(target)?;
            forget_other_keys(data_root, target);
            return Ok(sealer);
        }
        let _lock = lock(data_root)?;
        // Another process may have come before the lock.
        let found = Found::read(data_root).map_err(SealError::File)?;
        Place { data_root, machine, settings, found: &found }.reseal(target)
    }

    /// This sealer, or the one of an identity that another process has stored meanwhile.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn follow(
        self,
        data_root: &Path,
        machine: &Machine,
        settings: &SealSettings,
    ) -> Result<Self, SealError> {
        let found = Found::read(data_root).map_err(SealError::File)?;
        match found.identity() {
            Some(label) if label.tier != self.tier() || label.key_id != self.key_id() => {
                Place { data_root, machine, settings, found: &found }.current()
            }
            Some(_) | None => Ok(self),
        }
    }
}

/// The tiers that would work for a new node, best first. Seals nothing.
#[must_use]
pub fn available(machine: &Machine, settings: &SealSettings) -> Vec<Tier> {
    let works = |tier: &Tier| match tier {
        Tier::Tpm2 => Tpm::open(&settings.tpm).is_ok(),
        Tier::Credential => credential::read(machine.credentials.as_deref()).is_ok(),
        Tier::Host => true,
    };
    [Tier::Tpm2, Tier::Credential, Tier::Host].into_iter().filter(works).collect()
}

/// The lock on `data_root`. A child between fork and exec holds it for a moment, so one refusal is
/// none.
fn lock(data_root: &Path) -> Result<Lock, SealError> {
    for _ in 1..LOCK_ATTEMPTS {
        match Lock::exclusive(data_root) {
            Err(LockError::Held) => thread::sleep(LOCK_PAUSE),
            Ok(lock) => return Ok(lock),
            Err(LockError::File(error)) => return Err(SealError::File(error)),
        }
    }
    Err(SealError::Held)
}

/// True when there is an identity, whether it opens or not.
#[must_use]
pub fn is_sealed(data_root: &Path) -> bool {
    SLOTS.iter().any(|slot| data_root.join(slot).exists())
}

/// Removes identity and task records without opening them: the way out when the seal is lost. The
/// newest identity goes last.
///
/// # Errors
/// [`FileError`]; what could not be removed is there still.
pub fn discard(data_root: &Path) -> Result<(), FileError> {
    let found = Found::read(data_root)?;
    let tasks = task_paths(data_root)?;
    for path in &tasks {
        files::remove(path)?;
    }
    if !tasks.is_empty() {
        files::sync_folder(&data_root.join(TASKS))?;
    }
    let mut slots = SLOTS.map(|slot| {
        let path = data_root.join(slot);
        let label = found.slots.iter().find(|(at, _)| *at == path);
        (label.map(|(_, label)| label.generation), slot, path)
    });
    slots.sort();
    for (_, slot, path) in slots {
        files::wipe(&files::temporary(data_root, slot))?;
        files::wipe(&path)?;
    }
    Ok(())
}

/// Where keys come from while a sealer is opened.
struct Place<'a> {
    data_root: &'a Path,
    machine: &'a Machine,
    settings: &'a SealSettings,
    found: &'a Found,
}

impl Place<'_> {
    fn current(&self) -> Result<Sealer, SealError> {
        match (self.found.identity(), named(self.settings.choice)) {
            (Some(label), _) => self.tier(label.tier),
            (None, Some(tier)) => self.tier(tier),
            (None, None) => self.best(),
        }
    }

    fn tier(&self, tier: Tier) -> Result<Sealer, SealError> {
        match tier {
            Tier::Host => Sealer::on_hardware(self.data_root, &self.machine.identifiers),
            Tier::Credential => self.credential().map_err(SealError::Credential)?,
            Tier::Tpm2 => {
                let mut tpm = Tpm::open(&self.settings.tpm).map_err(SealError::Tpm)?;
                let needed = self.found.labels().any(|label| label.tier == Tier::Tpm2);
                let key = tpm_key::open(self.data_root, &mut tpm, needed)?;
                Sealer::derive(Tier::Tpm2, &key, &self.machine.identifiers)
            }
        }
    }

    fn credential(&self) -> Result<Result<Sealer, SealError>, CredentialError> {
        let key = credential::read(self.machine.credentials.as_deref())?;
        Ok(Sealer::derive(Tier::Credential, &key, &self.machine.identifiers))
    }

    /// For a new node. A TPM that does not work is passed over; a credential that was handed in
    /// and is no key is not, for somebody meant it to be used.
    fn best(&self) -> Result<Sealer, SealError> {
        match self.tier(Tier::Tpm2) {
            Err(SealError::Tpm(error)) => match error {
                TpmError::Absent { .. } => log::debug!("no tier tpm2: {error}"),
                TpmError::Lost { .. } | TpmError::Malformed { .. } | TpmError::Refused { .. } => {
                    log::warn!("no tier tpm2: {error}")
                }
            },
            opened => return opened,
        }
        match self.credential() {
            Err(CredentialError::Missing) => self.tier(Tier::Host),
            opened => opened.map_err(SealError::Credential)?,
        }
    }

    /// Brings every record to `target`. Idempotent, and safe to stop anywhere.
    fn reseal(&self, target: Tier) -> Result<Sealer, SealError> {
        let Some(identity) = self.found.identity() else { return self.current() };
        // What is there is opened first, so that a key to go to is made only when it is needed. A
        // task whose record does not open would be taken for none, and be stopped.
        let mut from = BTreeMap::new();
        for label in iter::once(identity).chain(self.found.tasks()) {
            if let Entry::Vacant(entry) = from.entry(label.tier as u8) {
                entry.insert(self.tier(label.tier)?);
            }
        }
        let to = match from.get(&(target as u8)) {
            Some(sealer) => sealer.clone(),
            None => self.tier(target)?,
        };
        let mut damaged = 0_usize;
        for (path, label) in &self.found.tasks {
            if label.tier == target {
                continue;
            }
            let Some(from) = from.get(&(label.tier as u8)) else { continue };
            match TaskStore::reseal(self.data_root, path, from, &to) {
                Ok(()) => {}
                Err(SaveOrRecord::Save(error)) => return Err(change(error)),
                Err(SaveOrRecord::Record(error)) => {
                    damaged += 1;
                    log::warn!("a task record stays as it is path={} {error}", path.display());
                }
            }
        }
        if let Some(from) = from.get(&(identity.tier as u8)) {
            let strays = self.found.slots.iter().any(|(_, label)| label.tier != target);
            if strays {
                IdentityStore::new(self.data_root, from.clone()).reseal(&to).map_err(change)?;
            }
        }
        if damaged == 0 {
            forget_other_keys(self.data_root, target);
        }
        log::info!("sealed again tier={}", target.name());
        Ok(to)
    }
}

/// Why one record was not sealed again.
pub(super) enum SaveOrRecord {
    /// It was not stored.
    Save(SaveError),
    /// It does not open.
    Record(RecordError),
}

fn change(error: SaveError) -> SealError {
    match error {
        SaveError::Seal(error) => error,
        SaveError::File(error) => SealError::File(error),
        SaveError::Occupied(error) => SealError::Identity(Box::new(error)),
    }
}

fn named(choice: SealChoice) -> Option<Tier> {
    match choice {
        SealChoice::Auto => None,
        SealChoice::Tpm2 => Some(Tier::Tpm2),
        SealChoice::Credential => Some(Tier::Credential),
        SealChoice::Host => Some(Tier::Host),
    }
}

/// A key that nothing is sealed with opens old copies of the disk, nothing else.
fn forget_other_keys(data_root: &Path, tier: Tier) {
    for (of, name) in [(Tier::Host, HOST_KEY), (Tier::Tpm2, TPM_KEY)] {
        if of != tier
            && let Err(error) = files::wipe(&data_root.join(name))
        {
            log::warn!("an old key stays: {error}");
        }
    }
}

/// Which records there are, by their headers.
struct Found {
    slots: Vec<(PathBuf, Label)>,
    tasks: Vec<(PathBuf, Label)>,
}

impl Found {
    fn read(data_root: &Path) -> Result<Self, FileError> {
        let slots = SLOTS.map(|slot| data_root.join(slot));
        let mut tasks = task_paths(data_root)?;
        // What an interrupted write left is no record.
        tasks.retain(|path| {
            path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
        });
        Ok(Self {
            slots: labels(slots.into(), IDENTITY_MAX_BYTES)?,
            tasks: labels(tasks, TASK_RECORD_MAX_BYTES)?,
        })
    }

    /// The newest slot's.
    fn identity(&self) -> Option<&Label> {
        self.slots.iter().map(|(_, label)| label).max_by_key(|label| label.generation)
    }

    fn tasks(&self) -> impl Iterator<Item = &Label> {
        self.tasks.iter().map(|(_, label)| label)
    }

    fn labels(&self) -> impl Iterator<Item = &Label> {
        self.slots.iter().map(|(_, label)| label).chain(self.tasks())
    }

    fn strays(&self, tier: Tier) -> impl Iterator<Item = &Label> {
        self.labels().filter(move |label| label.tier != tier)
    }
}

/// Those of the files that exist and have a sound header.
fn labels(paths: Vec<PathBuf>, max_bytes: usize) -> Result<Vec<(PathBuf, Label)>, FileError> {
    let mut labels = Vec::new();
    for path in paths {
        let label = files::read(&path, max_bytes)?.and_then(|record| label(&record));
        labels.extend(label.map(|label| (path, label)));
    }
    Ok(labels)
}

/// Every file among the task records, in order; none when there is no such folder.
fn task_paths(data_root: &Path) -> Result<Vec<PathBuf>, FileError> {
    let folder = data_root.join(TASKS);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(FileError::because("read the folder", &folder))?;
    paths.sort();
    Ok(paths)
}
