//! Statuses that the dispatcher has not taken yet.
//!
//! Per task the newest counts and a lower one never replaces a higher; one is under way per
//! task, for the dispatcher keeps the last to arrive without comparing (behaviour.md §10).
//! Nothing outlives a link: every stored status is offered again after a registration.

use std::collections::BTreeMap;

use crate::model::{TaskId, TaskState, TaskStatus};

/// The outbox. Keyed by task, so its bound is that of the tasks.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    open: bool,
    tasks: BTreeMap<TaskId, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    under_way: Option<TaskState>,
    queued: Option<TaskStatus>,
}

impl Reporter {
    /// There is a session: statuses may be sent.
    pub(super) fn open(&mut self) {
        self.open = true;
        self.tasks.clear();
    }

    /// There is no session: nothing is sent or kept.
    pub(super) fn close(&mut self) {
        self.open = false;
        self.tasks.clear();
    }

    /// Tasks with a status that is not taken yet.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Returns the status if it is to be sent at once; keeps it for later if one is under way.
    pub(super) fn offer(&mut self, task: &TaskId, status: TaskStatus) -> Option<TaskStatus> {
        if !self.open {
            return None;
        }
        let entry = self.tasks.entry(task.clone()).or_default();
        let known = entry.queued.as_ref().map(|queued| queued.state).max(entry.under_way);
        if known.is_some_and(|known| status.state < known) {
            return None;
        }
        if entry.under_way.is_some() {
            entry.queued = Some(status);
            return None;
        }
        entry.under_way = Some(status.state);
        Some(status)
    }

    /// The dispatcher took a status; returns the next one to send.
    pub(super) fn taken(&mut self, task: &TaskId, state: TaskState) -> Option<TaskStatus> {
        let entry = self.tasks.get_mut(task)?;
        if entry.under_way != Some(state) {
            return None;
        }
        entry.under_way = None;
        let next = entry.queued.take();
        match &next {
            Some(status) => entry.under_way = Some(status.state),
            None => {
                self.tasks.remove(task);
            }
        }
        next
    }

    /// The task is being removed: what waits is of no use. One under way may still be answered.
    pub(super) fn forget(&mut self, task: &TaskId) {
        if let Some(entry) = self.tasks.get_mut(task) {
            entry.queued = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: TaskState) -> TaskStatus {
        TaskStatus { state, ..TaskStatus::default() }
    }

    #[test]
    fn the_newest_wins_and_one_is_under_way() {
        let mut reporter = Reporter::default();
        let task = TaskId::new("t1").unwrap();
        assert_eq!(reporter.offer(&task, status(TaskState::Accepted)), None, "no session");
        reporter.open();
        assert!(reporter.offer(&task, status(TaskState::Accepted)).is_some());
        assert_eq!(reporter.offer(&task, status(TaskState::Preparing)), None);
        assert_eq!(reporter.offer(&task, status(TaskState::Running)), None);
        assert_eq!(reporter.offer(&task, status(TaskState::Ready)), None, "lower");
        assert_eq!(reporter.taken(&task, TaskState::Ready), None, "not under way");
        assert_eq!(
            reporter.taken(&task, TaskState::Accepted).map(|s| s.state),
            Some(TaskState::Running)
        );
        assert_eq!(reporter.taken(&task, TaskState::Running), None);
        assert_eq!(reporter.len(), 0);
    }

    #[test]
    fn nothing_outlives_a_link_or_a_removal() {
        let mut reporter = Reporter::default();
        let task = TaskId::new("t1").unwrap();
        reporter.open();
        assert!(reporter.offer(&task, status(TaskState::Accepted)).is_some());
        assert_eq!(reporter.offer(&task, status(TaskState::Running)), None);
        reporter.forget(&task);
        assert_eq!(reporter.taken(&task, TaskState::Accepted), None);
        assert!(reporter.offer(&task, status(TaskState::Accepted)).is_some());
        reporter.close();
        reporter.open();
        assert!(reporter.offer(&task, status(TaskState::Accepted)).is_some());
    }
}
