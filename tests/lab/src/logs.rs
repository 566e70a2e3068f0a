//! The LogBroker: passes wishes for logs to nodes, and their lines to whoever asked.
//!
//! Source: swarmkit `manager/logbroker` (behaviour.md §12).

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use smol::channel::{Receiver, Sender, unbounded};

use crate::{
    ca,
    dispatcher::wait,
    grpc::{Answer, Call, Gone, Status, code},
    lab::Lab,
    proto,
    state::{Liveness, task_state},
};

/// What somebody wants to read.
#[derive(Debug)]
struct Subscription {
    service: String,
    follow: bool,
    tail: i64,
    /// Nodes that have not said yet that they are done.
    waiting: BTreeSet<String>,
    lines: Sender<proto::LogMessage>,
}

/// All open subscriptions by id.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    open: BTreeMap<String, Subscription>,
}

/// Ends its subscription when it is dropped.
pub(crate) struct Reading {
    lab: Rc<Lab>,
    id: String,
    /// Lines as they come; closed when every node is done.
    pub(crate) lines: Receiver<proto::LogMessage>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.lab.subscriptions.borrow_mut().open.remove(&self.id);
        self.lab.wake();
    }
}

/// Asks every node that has tasks of `service`. `tail` is swarm's: 0 all, −(n+1) the last n.
pub(crate) fn read(lab: &Rc<Lab>, service: &str, follow: bool, tail: i64) -> Option<Reading> {
    let id = ca::random_id().ok()?;
    let waiting: BTreeSet<String> = {
        let state = lab.state.borrow();
        let ready =
            |id: &String| state.nodes.get(id).is_some_and(|node| node.status == Liveness::Ready);
        let tasks = state
            .tasks
            .values()
            .filter(|task| task.service == service && task_state::ASSIGNED <= task.state);
        tasks.map(|task| task.node.clone()).filter(|id| ready(id)).collect()
    };
    let (sender, lines) = unbounded();
    if follow || !waiting.is_empty() {
        let service = service.to_owned();
        let subscription = Subscription { service, follow, tail, waiting, lines: sender };
        lab.subscriptions.borrow_mut().open.insert(id.clone(), subscription);
        lab.wake();
    }
    Some(Reading { lab: Rc::clone(lab), id, lines })
}

pub(crate) async fn listen(lab: &Rc<Lab>, mut call: Call) {
    let node = call.peer.as_ref().map(|peer| peer.name.clone()).unwrap_or_default();
    let result = match call.body.next::<proto::Empty>().await {
        Ok(_) => {
            tell(lab, &mut call.answer).await;
            Ok(())
        }
        Err(status) => Err(status),
    };
    done(lab, &node, None);
    call.answer.finish(result);
}

/// Tells one node of subscriptions, new and ended.
async fn tell(lab: &Lab, answer: &mut Answer) {
    let mut told = BTreeSet::new();
    loop {
        let seen = lab.version();
        let messages: Vec<proto::SubscriptionMessage> = {
            let subscriptions = lab.subscriptions.borrow();
            let new = subscriptions.open.iter().filter(|(id, _)| !told.contains(*id));
            let new = new.map(|(id, wish)| proto::SubscriptionMessage {
                id: id.clone(),
                selector: Some(proto::LogSelector {
                    service_ids: vec![wish.service.clone()],
                    ..proto::LogSelector::default()
                }),
                options: Some(proto::LogSubscriptionOptions {
                    streams: vec![1, 2],
                    follow: wish.follow,
                    tail: wish.tail,
                    since: None,
                }),
                close: false,
            });
            let ended = told.iter().filter(|id| !subscriptions.open.contains_key(*id));
            let ended = ended.map(|id: &String| proto::SubscriptionMessage {
                id: id.clone(),
                close: true,
                ..proto::SubscriptionMessage::default()
            });
            new.chain(ended).collect()
        };
        // Headers go out at once: a listener wants to know that it is listening.
        if answer.open().is_err() {
            return;
        }
        for message in messages {
            if let Err(Gone) = answer.send(&message).await {
                return;
            }
            if message.close {
                told.remove(&message.id);
            } else {
                told.insert(message.id);
            }
        }
        if wait(lab, seen, answer).await.is_err() {
            return;
        }
    }
}

/// A node is done with one subscription, or with all.
fn done(lab: &Lab, node: &str, id: Option<&str>) {
    let mut subscriptions = lab.subscriptions.borrow_mut();
    for (open, subscription) in &mut subscriptions.open {
        if id.is_none_or(|id| id == open) {
            subscription.waiting.remove(node);
            if subscription.waiting.is_empty() && !subscription.follow {
                subscription.lines.close();
            }
        }
    }
}

pub(crate) async fn publish(lab: &Lab, mut call: Call) {
    let node = call.peer.as_ref().map(|peer| peer.name.clone()).unwrap_or_default();
    let mut current: Option<String> = None;
    let result = loop {
        let message = match call.body.next::<proto::PublishLogsMessage>().await {
            Ok(Some(message)) => message,
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        };
        match take(lab, &node, &mut current, message) {
            Ok(true) => break Ok(()),
            Ok(false) => {}
            Err(status) => break Err(status),
        }
    };
    if let Some(id) = current {
        done(lab, &node, Some(&id));
    }
    if result.is_ok() && call.answer.send(&proto::Empty {}).await.is_err() {
        return;
    }
    call.answer.finish(result);
}

/// Takes one message in; tells whether it was the last.
fn take(
    lab: &Lab,
    node: &str,
    current: &mut Option<String>,
    message: proto::PublishLogsMessage,
) -> Result<bool, Status> {
    if message.subscription_id.is_empty() {
        return Err(Status::new(code::INVALID_ARGUMENT, "missing subscription ID"));
    }
    match current {
        None => *current = Some(message.subscription_id.clone()),
        Some(id) if *id != message.subscription_id => {
            let message = "different subscription IDs in the same session";
            return Err(Status::new(code::INVALID_ARGUMENT, message));
        }
        Some(_) => {}
    }
    if message.close {
        return Ok(true);
    }
    let subscriptions = lab.subscriptions.borrow();
    let Some(subscription) = subscriptions.open.get(&message.subscription_id) else {
        return Err(Status::new(code::NOT_FOUND, "unknown subscription ID"));
    };
    for line in message.messages {
        let from = line.context.as_ref().map(|context| context.node_id.as_str());
        if from != Some(node) {
            let received = from.unwrap_or_default();
            let message = format!("invalid NodeID: expected={node};received={received}");
            return Err(Status::new(code::PERMISSION_DENIED, message));
        }
        // Unbounded, and closed only when nobody reads any more.
        drop(subscription.lines.try_send(line));
    }
    Ok(false)
}
