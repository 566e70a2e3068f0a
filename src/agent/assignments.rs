//! The assignments stream: is a message next in its chain, and what does it change.
//!
//! A complete set starts a chain; an incremental one continues it or reveals a gap, and is
//! then discarded: only a new stream repairs that. Source: behaviour.md §8, style.md §3.3.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::{Duration, Instant},
};

use crate::{
    limits::{REWATCH_MAX, REWATCH_MIN},
    model::{AssignmentSet, Change, Config, ConfigId, Secret, SecretId, SetKind, Task, TaskId},
};

use super::random::Random;

/// What a message changes, sorted by the order in which it must be done.
#[derive(Debug, Default, PartialEq)]
pub struct Diff {
    /// It lists everything: what it does not name is to be removed.
    pub complete: bool,
    /// Secrets to drop, before any is added.
    pub removed_secrets: Vec<SecretId>,
    /// Configs to drop, before any is added.
    pub removed_configs: Vec<ConfigId>,
    /// Secrets to keep from here on.
    pub secrets: Vec<Secret>,
    /// Configs to keep from here on.
    pub configs: Vec<Config>,
    /// Tasks to remove; none of them is in `tasks`.
    pub removed_tasks: BTreeSet<TaskId>,
    /// Tasks that can not be taken, and why; none of them is in `tasks` or `removed_tasks`.
    pub refused_tasks: BTreeMap<TaskId, String>,
    /// Tasks that were over before they came: neither news nor gone.
    pub kept_tasks: BTreeSet<TaskId>,
    /// Tasks to start or update. Of two with one identifier the last counts.
    pub tasks: BTreeMap<TaskId, Task>,
    /// Name of the state after this message.
    pub results_in: String,
}

impl Diff {
    /// Whether it says that this task is of this node.
    pub(super) fn names(&self, id: &TaskId) -> bool {
        self.tasks.contains_key(id)
            || self.refused_tasks.contains_key(id)
            || self.kept_tasks.contains(id)
    }
}

/// A message that does not follow the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What it continues.
    pub applies_to: String,
}

/// Reads `set` as the message after the one that resulted in `last`; absent: a stream's first.
///
/// # Errors
/// [`Gap`] when it is incremental and continues another state. It must not be applied.
pub fn read(last: Option<&str>, set: AssignmentSet) -> Result<Diff, Gap> {
    let complete = match set.kind {
        SetKind::Complete => true,
        SetKind::Incremental if last == Some(set.applies_to.as_str()) => false,
        SetKind::Incremental => return Err(Gap { applies_to: set.applies_to }),
    };
    let mut diff = Diff { complete, results_in: set.results_in, ..Diff::default() };
    for change in set.changes {
        match change {
            Change::UpdateTask(task) => {
                diff.tasks.insert(task.id.clone(), *task);
            }
            Change::RemoveTask(id) => {
                diff.removed_tasks.insert(id);
            }
            Change::RefuseTask { id, why } => {
                diff.refused_tasks.insert(id, why);
            }
            Change::KeepTask(id) => {
                diff.kept_tasks.insert(id);
            }
            Change::UpdateSecret(secret) => diff.secrets.push(secret),
            Change::RemoveSecret(id) => diff.removed_secrets.push(id),
            Change::UpdateConfig(config) => diff.configs.push(config),
            Change::RemoveConfig(id) => diff.removed_configs.push(id),
        }
    }
    let updated = &diff.tasks;
    diff.removed_tasks.retain(|id| !updated.contains_key(id));
    let removed = &diff.removed_tasks;
    diff.refused_tasks.retain(|id, _| !updated.contains_key(id) && !removed.contains(id));
    Ok(diff)
}

/// The chain of one link, and when to open its stream anew.
#[derive(Debug, Default)]
pub(super) struct Chain {
    last: Option<String>,
    rewatch: Option<Instant>,
    pause: Duration,
}

impl Chain {
    /// A stream without a message yet. What was learned of a bad manager's pace goes with it.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Reads the next message; absent when it was discarded because of a gap.
    pub(super) fn follow(
        &mut self,
        set: AssignmentSet,
        random: &mut Random,
        now: Instant,
    ) -> Option<Diff> {
        match read(self.last.as_deref(), set) {
            Ok(diff) => {
                self.last = Some(diff.results_in.clone());
                self.rewatch = None;
                if !diff.complete {
                    self.pause = Duration::ZERO;
                }
                Some(diff)
            }
            Err(gap) => {
                log::debug!("gap in assignments; expected={:?} {gap:?}", self.last);
                self.last = None;
                if self.rewatch.is_none() {
                    self.pause = (self.pause * 2).clamp(REWATCH_MIN, REWATCH_MAX);
                    self.rewatch = Some(now + self.pause / 2 + random.within(self.pause / 2));
                }
                None
            }
        }
    }

    /// When to open the stream anew.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.rewatch
    }

    /// Whether that time has come; true once.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.rewatch.is_some_and(|at| at <= now);
        if due {
            mem::take(&mut self.rewatch);
        }
        due
    }
}
