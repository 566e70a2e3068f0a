//! Answers to `docker service logs`: rings of tasks, sent to the LogBroker.
//!
//! Each subscription is one future that ends with `close`, also when no task matches: the
//! manager waits for every node that it asked (behaviour.md §12).

use std::{collections::BTreeMap, rc::Rc};

use smol::{LocalExecutor, Task as Running, Timer};

use super::{
    perform::{Context, task_dir},
    pulls,
};
use crate::{
    agent::Agent,
    limits::{LOG_BATCH_MAX_BYTES, LOG_FOLLOW_INTERVAL, LOG_SUBSCRIPTIONS_MAX},
    logs::Reader,
    model::{LogSelector, LogSubscription, NodeId, ServiceId, TaskId},
    rpc::{Link, LogSink},
    spec,
};

/// Serves log subscriptions.
#[derive(Debug)]
pub(super) struct Publisher {
    executor: Rc<LocalExecutor<'static>>,
    context: Rc<Context>,
    active: BTreeMap<String, Running<()>>,
}

impl Publisher {
    pub(super) const fn new(executor: Rc<LocalExecutor<'static>>, context: Rc<Context>) -> Self {
        Self { executor, context, active: BTreeMap::new() }
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
        let context = Rc::clone(&self.context);
        let id = wish.id.clone();
        let running = self.executor.spawn(async move {
            let mut sink = sink;
            if !full {
                publish(&mut sink, &context, &wish).await;
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

/// What one task's lines come from, and what each carries.
struct Source {
    service: ServiceId,
    attributes: Vec<(String, String)>,
    /// Absent: it could not go on.
    reader: Option<Reader>,
}

async fn publish(sink: &mut LogSink, context: &Context, wish: &LogSubscription) {
    let mut sources: BTreeMap<TaskId, Source> = BTreeMap::new();
    loop {
        let tasks = matching(&context.agent.borrow(), &wish.selector);
        for (task, service) in &tasks {
            if sources.contains_key(task) {
                continue;
            }
            let log = task_dir(&context.config.exec_root, task).join("log");
            // No ring: the container has not started yet.
            if let Ok(reader) = Reader::open(&log, &wish.options) {
                let attributes = attributes(context, task);
                let source = Source { service: service.clone(), attributes, reader: Some(reader) };
                sources.insert(task.clone(), source);
            }
        }
        let mut idle = true;
        // One batch of each in turn: a task that writes without end must not hide the others.
        for (task, source) in &mut sources {
            let Some(reader) = &mut source.reader else { continue };
            let batch = match reader.next_batch(LOG_BATCH_MAX_BYTES) {
                Ok(batch) => batch,
                Err(error) => {
                    log::warn!("cannot read a log task.id={task}: {error}");
                    source.reader = None;
                    continue;
                }
            };
            if batch.lines.is_empty() {
                continue;
            }
            idle = false;
            let Source { service, attributes, .. } = source;
            if sink.send(service, task, attributes, batch.lines).await.is_err() {
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
        sources.retain(|task, _| tasks.iter().any(|(there, _)| there == task));
        Timer::after(LOG_FOLLOW_INTERVAL).await;
    }
}

/// What the task's log options add to its lines.
fn attributes(context: &Context, task: &TaskId) -> Vec<(String, String)> {
    let task = context.agent.borrow().record(task).map(|record| record.task.clone());
    let Some(task) = task else { return Vec::new() };
    // Most tasks have no such options: the store is left alone then.
    if task.log_driver.as_ref().is_none_or(|driver| driver.options.is_empty()) {
        return Vec::new();
    }
    let image = pulls::local(context, &task);
    spec::log_attributes(&task, image.as_ref(), &context.facts.borrow())
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
