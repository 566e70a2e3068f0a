//! Answers to `docker service logs`: rings of tasks, sent to the LogBroker.
//!
//! Each subscription is one future that ends with `close`, also when no task matches: the
//! manager waits for every node that it asked (behaviour.md §12).

use std::{cell::RefCell, collections::BTreeMap, path::PathBuf, rc::Rc};

use smol::{LocalExecutor, Task as Running, Timer};

use super::perform::task_dir;
use crate::{
    agent::Agent,
    limits::{LOG_BATCH_MAX_BYTES, LOG_FOLLOW_INTERVAL, LOG_SUBSCRIPTIONS_MAX},
    logs::Reader,
    model::{LogSelector, LogSubscription, NodeId, ServiceId, TaskId},
    rpc::{Link, LogSink},
};

/// Serves log subscriptions.
#[derive(Debug)]
pub(super) struct Publisher {
    executor: Rc<LocalExecutor<'static>>,
    agent: Rc<RefCell<Agent>>,
    exec_root: PathBuf,
    active: BTreeMap<String, Running<()>>,
}

impl Publisher {
    pub(super) const fn new(
        executor: Rc<LocalExecutor<'static>>,
        agent: Rc<RefCell<Agent>>,
        exec_root: PathBuf,
    ) -> Self {
        Self { executor, agent, exec_root, active: BTreeMap::new() }
    }

    /// Takes a message of the subscription stream in.
    pub(super) fn handle(&mut self, link: &Link, node: &NodeId, wish: LogSubscription) {
        self.active.retain(|_, running| !running.is_finished());
        if wish.close {
            self.active.remove(&wish.id);
            return;
        }
        if self.active.contains_key(&wish.id) {
            return;
        }
        let sink = link.publish(&wish.id, node.clone());
        let full = LOG_SUBSCRIPTIONS_MAX <= self.active.len();
        if full {
            log::warn!(
                "more than {LOG_SUBSCRIPTIONS_MAX} log subscriptions: one is left unanswered"
            );
        }
        let (agent, exec_root) = (Rc::clone(&self.agent), self.exec_root.clone());
        let id = wish.id.clone();
        let running = self.executor.spawn(async move {
            let mut sink = sink;
            if !full {
                publish(&mut sink, &agent, &exec_root, &wish).await;
            }
            if let Err(error) = sink.close().await {
                log::debug!("log subscription: {error}");
            }
        });
        self.active.insert(id, running);
    }

    /// Ends every subscription: the link that carried them is gone.
    pub(super) fn clear(&mut self) {
        self.active.clear();
    }
}

async fn publish(
    sink: &mut LogSink,
    agent: &RefCell<Agent>,
    exec_root: &std::path::Path,
    wish: &LogSubscription,
) {
    // Without a reader: it could not go on.
    let mut readers: BTreeMap<TaskId, (ServiceId, Option<Reader>)> = BTreeMap::new();
    loop {
        let tasks = matching(&agent.borrow(), &wish.selector);
        for (task, service) in &tasks {
            if readers.contains_key(task) {
                continue;
            }
            // No ring: the container has not started yet.
            if let Ok(reader) = Reader::open(&task_dir(exec_root, task).join("log"), &wish.options)
            {
                readers.insert(task.clone(), (service.clone(), Some(reader)));
            }
        }
        let mut idle = true;
        // One batch of each in turn: a task that writes without end must not hide the others.
        for (task, (service, slot)) in &mut readers {
            let Some(reader) = slot else { continue };
            let batch = match reader.next_batch(LOG_BATCH_MAX_BYTES) {
                Ok(batch) => batch,
                Err(error) => {
                    log::warn!("cannot read a log task.id={task}: {error}");
                    *slot = None;
                    continue;
                }
            };
            if batch.lines.is_empty() {
                continue;
            }
            idle = false;
            if sink.send(service, task, batch.lines).await.is_err() {
                return;
            }
        }
        if !idle {
            continue;
        }
        if !wish.options.follow {
            return;
        }
        // An open file of a removed task would keep its memory.
        readers.retain(|task, _| tasks.iter().any(|(there, _)| there == task));
        Timer::after(LOG_FOLLOW_INTERVAL).await;
    }
}

/// The tasks that any of the three lists names.
fn matching(agent: &Agent, selector: &LogSelector) -> Vec<(TaskId, ServiceId)> {
    agent
        .records()
        .filter(|record| {
            let task = &record.task;
            selector.tasks.contains(&task.id)
                || selector.services.contains(&task.service_id)
                || selector.nodes.contains(&task.node_id)
        })
        .map(|record| (record.task.id.clone(), record.task.service_id.clone()))
        .collect()
}
