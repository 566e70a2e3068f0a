//! The tasks of this node: one sealed record each, so that a restarted agent knows what it owns.
//!
//! There are as many files as the core accepts tasks; nobody else writes here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{FileError, RecordError, SaveError, Sealer, files, tiers::SaveOrRecord};
use crate::{
    limits::TASK_RECORD_MAX_BYTES,
    model::{TaskId, TaskRecord},
};

/// The folder, in `data-root`.
pub(super) const FOLDER: &str = "tasks";

/// Where task records are kept: `<data-root>/tasks/<task id>`.
#[derive(Clone, Debug)]
pub struct TaskStore {
    folder: PathBuf,
    sealer: Sealer,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct LoadedTasks {
    /// In order of their identifiers.
    pub records: Vec<TaskRecord>,
    /// Files that do not open. They are left where they are.
    pub damaged: Vec<DamagedTask>,
}

/// A task record that does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedTask {
    /// The file.
    pub path: PathBuf,
    /// The task, when the file's name is an identifier.
    pub id: Option<TaskId>,
    /// Why.
    pub error: RecordError,
}

impl TaskStore {
    /// A store in `data_root`; makes its folder (0700).
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(data_root: &Path, sealer: Sealer) -> Result<Self, FileError> {
        let folder = data_root.join(FOLDER);
        files::private_folder(&folder)?;
        files::sync_folder(data_root)?;
        Ok(Self { folder, sealer })
    }

    /// Stores a record durably in place of the one before.
    ///
    /// # Errors
    /// [`SaveError`]; the record before is still there.
    pub fn save(&self, record: &TaskRecord) -> Result<(), SaveError> {
        let id = &record.task.id;
        // A file is replaced as a whole, so one generation is all there is.
        let sealed = self
            .sealer
            .seal(&purpose(id), 1, record, TASK_RECORD_MAX_BYTES)
            .map_err(SaveError::Seal)?;
        files::replace(&self.folder, id.as_str(), &sealed).map_err(SaveError::File)
    }

    /// Removes a record durably. One that does not exist is removed already.
    ///
    /// # Errors
    /// [`FileError`]; the record may be there still.
    pub fn erase(&self, id: &TaskId) -> Result<(), FileError> {
        files::remove(&files::temporary(&self.folder, id.as_str()))?;
        files::remove(&self.folder.join(id.as_str()))?;
        files::sync_folder(&self.folder)
    }

    /// Removes every record durably, those that do not open too.
    ///
    /// # Errors
    /// [`FileError`]; some may be there still.
    pub fn clear(&self) -> Result<(), FileError> {
        for path in self.paths()? {
            files::remove(&path)?;
        }
        files::sync_folder(&self.folder)
    }

    fn paths(&self) -> Result<Vec<PathBuf>, FileError> {
        fs::read_dir(&self.folder)
            .and_then(|entries| {
                entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>()
            })
            .map_err(FileError::because("read the folder", &self.folder))
    }

    /// Every record. Temporary files of an interrupted write are removed.
    ///
    /// # Errors
    /// [`FileError`] when the folder or a file can not be read.
    pub fn load_all(&self) -> Result<LoadedTasks, FileError> {
        let mut paths = self.paths()?;
        paths.sort();
        let mut loaded = LoadedTasks::default();
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with('.') {
                // On a medium that became read-only it stays, and does no harm.
                if let Err(error) = files::remove(&path) {
                    log::warn!("{error}");
                }
                continue;
            }
            let id = TaskId::new(name).ok();
            let opened = match &id {
                Some(id) => self.open_record(id, &path)?,
                None => Err(RecordError::Damaged),
            };
            match opened {
                Ok(record) => loaded.records.push(record),
                Err(error) => loaded.damaged.push(DamagedTask { path, id, error }),
            }
        }
        Ok(loaded)
    }

    /// Seals the record in `path` with another key. The one before stays until that is durable.
    pub(super) fn reseal(
        data_root: &Path,
        path: &Path,
        from: &Sealer,
        to: &Sealer,
    ) -> Result<(), SaveOrRecord> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let id = TaskId::new(name).map_err(|_| SaveOrRecord::Record(RecordError::Damaged))?;
        let from = Self { folder: data_root.join(FOLDER), sealer: from.clone() };
        let record = from
            .open_record(&id, path)
            .map_err(|error| SaveOrRecord::Save(SaveError::File(error)))?
            .map_err(SaveOrRecord::Record)?;
        Self { sealer: to.clone(), ..from }.save(&record).map_err(SaveOrRecord::Save)
    }

    fn open_record(
        &self,
        id: &TaskId,
        path: &Path,
    ) -> Result<Result<TaskRecord, RecordError>, FileError> {
        let sealed = files::read(path, TASK_RECORD_MAX_BYTES)?.unwrap_or_default();
        Ok(self.sealer.unseal(&purpose(id), &sealed).map(|unsealed| unsealed.value))
    }
}

fn purpose(id: &TaskId) -> String {
    format!("task:{id}")
}
