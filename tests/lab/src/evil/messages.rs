//! Calls answered wrongly: refused, stalled, endless, out of order, noise.

use std::{future::pending, time::Duration};

use bytes::Bytes;
use prost::Message as _;

use super::{Instead, Line};
use crate::{
    ca,
    grpc::{Call, Gone, Status, code, framed},
    lab::Lab,
    proto,
    state::task_state,
};

/// Bytes of one piece of an endless message, and of one secret.
const PIECE_BYTES: usize = 1 << 16;
/// Changes in one message that are too many.
const MANY: usize = 1_000_000;
/// Strangers in one list, and empty entries that fill the largest message that is read.
const MANAGERS: usize = 1000;
const EMPTY_MANAGERS: usize = 60_000;
/// Secrets of the largest size in one set.
const LARGEST_SECRETS: u64 = 4;
const LARGEST_SECRET_BYTES: usize = 500 << 10;
/// Empty labels of one task.
const LABELS: usize = 60_000;

// --- certificates that do not come ---

type Issued = proto::NodeCertificateStatusResponse;

pub(super) fn sign_never(_: Issued, _: u64) -> Option<Issued> {
    None
}

pub(super) fn sign_fails(_: Issued, _: u64) -> Option<Issued> {
    let err = String::from("failed to sign node certificate: the lab does not want to");
    let status = proto::IssuanceStatus { state: 4, err };
    let certificate =
        proto::Certificate { status: Some(status.clone()), ..proto::Certificate::default() };
    Some(Issued { status: Some(status), certificate: Some(certificate) })
}

pub(super) fn other_csr(mut answer: Issued, _: u64) -> Option<Issued> {
    let other = b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    if let Some(certificate) = &mut answer.certificate {
        certificate.csr = other.to_vec();
    }
    Some(answer)
}

pub(super) fn sign_nothing(mut answer: Issued, _: u64) -> Option<Issued> {
    answer.certificate = None;
    Some(answer)
}

pub(super) fn sign_garbage(mut answer: Issued, _: u64) -> Option<Issued> {
    if let (Some(certificate), Ok(noise)) = (&mut answer.certificate, ca::random::<512>()) {
        certificate.certificate = ca::pem("CERTIFICATE", &noise).into_bytes();
    }
    Some(answer)
}

// --- refusals, with the texts of behaviour.md §5 ---

pub(super) fn rate_limit(path: &str, node: &str, _: u64) -> Option<Status> {
    let message = format!("node {node} exceeded rate limit count of registrations");
    (path == super::SESSION).then(|| Status::new(code::UNAVAILABLE, message))
}

pub(super) fn node_removed(path: &str, node: &str, _: u64) -> Option<Status> {
    if path.starts_with("CA/") || node.is_empty() {
        return None;
    }
    if path.starts_with("NodeCA/") {
        let message = "A valid join token is necessary to join this cluster";
        return Some(Status::new(code::INVALID_ARGUMENT, message));
    }
    let message = format!(
        "Permission denied: unauthorized peer role: rpc error: code = PermissionDenied desc = \
         Permission denied: node {node} was removed from swarm"
    );
    Some(Status::new(code::PERMISSION_DENIED, message))
}

pub(super) fn node_not_found(path: &str, _: &str, _: u64) -> Option<Status> {
    (path == super::SESSION).then(|| Status::new(code::UNKNOWN, "node not found"))
}

pub(super) fn not_registered(path: &str, _: &str, _: u64) -> Option<Status> {
    (path == "Dispatcher/Heartbeat").then(|| Status::new(code::NOT_FOUND, "node not registered"))
}

pub(super) fn session_invalid(path: &str, _: &str, _: u64) -> Option<Status> {
    let answer = || Status::new(code::INVALID_ARGUMENT, "session invalid");
    (path == "Dispatcher/Heartbeat").then(answer)
}

pub(super) fn no_leader(path: &str, _: &str, _: u64) -> Option<Status> {
    let message = "The swarm does not have a leader. It's possible that too few managers are \
                   online. Make sure more than half of the managers are online.";
    (path != "CA/GetRootCACertificate").then(|| Status::new(code::UNKNOWN, message))
}

// --- time ---

pub(super) fn leader_change(lab: &Lab) {
    for session in lab.sessions.borrow_mut().values_mut() {
        session.id.clear();
    }
    lab.wake();
}

pub(super) fn cut(lab: &Lab) {
    lab.connections.borrow_mut().clear();
}

pub(super) fn period_zero(_: u64) -> Duration {
    Duration::ZERO
}

pub(super) fn period_ages(_: u64) -> Duration {
    Duration::from_secs(1000 * 365 * 86_400)
}

// --- calls that end otherwise ---

pub(super) fn stall(call: Call, _: u64) -> Instead {
    Box::pin(async move {
        pending::<()>().await;
        drop(call);
    })
}

pub(super) fn reset(call: Call, _: u64) -> Instead {
    Box::pin(async move { call.answer.reset() })
}

pub(super) fn compressed(mut call: Call, _: u64) -> Instead {
    Box::pin(async move {
        let squeezed = [&[1, 0, 0, 0, 20][..], &[0x1f, 0x8b, 8], &[0; 17]].concat();
        if let Ok(()) = call.answer.send_bytes(squeezed.into()).await {
            call.answer.finish(Ok(()));
        }
    })
}

/// Sends what `next` makes until the client is gone.
fn for_ever(mut call: Call, mut next: impl FnMut(u64) -> Bytes + 'static) -> Instead {
    Box::pin(async move {
        let mut number = 0;
        loop {
            if let Err(Gone) = call.answer.send_bytes(next(number)).await {
                return;
            }
            number += 1;
            smol::future::yield_now().await;
        }
    })
}

/// Sends `bytes`, then nothing, and does not end.
fn then_silence(mut call: Call, bytes: Bytes) -> Instead {
    Box::pin(async move {
        if let Ok(()) = call.answer.send_bytes(bytes).await {
            pending::<()>().await;
        }
    })
}

pub(super) fn huge(call: Call, _: u64) -> Instead {
    let piece = Bytes::from(vec![0x0a; PIECE_BYTES]);
    let head = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]);
    for_ever(call, move |number| if number == 0 { head.clone() } else { piece.clone() })
}

pub(super) fn half(call: Call, _: u64) -> Instead {
    then_silence(call, Bytes::from_static(&[0, 0, 0, 3, 0xe8, 0x08, 0, 0x12, 0]))
}

pub(super) fn malformed(call: Call, _: u64) -> Instead {
    // A field of length 2^63, and a tag that is none.
    let noise = [0x22, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x07, 0xff];
    then_silence(call, framed(&noise))
}

pub(super) fn many(call: Call, _: u64) -> Instead {
    then_silence(call, framed(&[0x22, 0].repeat(MANY)))
}

pub(super) fn managers(call: Call, _: u64) -> Instead {
    let manager = |n| proto::WeightedPeer {
        peer: Some(proto::Peer { node_id: format!("manager{n}"), addr: format!("127.1.0.1:{n}") }),
        weight: 10,
    };
    let message = proto::SessionMessage {
        session_id: String::from("managers"),
        managers: (0..MANAGERS).map(manager).collect(),
        ..proto::SessionMessage::default()
    };
    then_silence(call, framed(&message.encode_to_vec()))
}

pub(super) fn empty_managers(call: Call, _: u64) -> Instead {
    // Its managers have no address, so that it is the session message of a good manager.
    let head = proto::SessionMessage {
        session_id: String::from("empty"),
        ..proto::SessionMessage::default()
    };
    let message = [head.encode_to_vec(), [0x1a, 0].repeat(EMPTY_MANAGERS)].concat();
    for_ever(call, move |_| framed(&message))
}

pub(super) fn subscriptions(call: Call, _: u64) -> Instead {
    for_ever(call, |number| {
        let message = proto::SubscriptionMessage {
            id: format!("subscription{number}"),
            selector: Some(proto::LogSelector {
                service_ids: vec![String::from("nothing")],
                ..proto::LogSelector::default()
            }),
            options: Some(proto::LogSubscriptionOptions {
                follow: true,
                ..proto::LogSubscriptionOptions::default()
            }),
            close: false,
        };
        framed(&message.encode_to_vec())
    })
}

/// Complete sets, each as large as an honest one may be, and none like the one before.
pub(super) fn full(call: Call, _: u64) -> Instead {
    for_ever(call, |number| {
        let secret = |n| {
            let spec = proto::SecretSpec {
                data: vec![b'x'; LARGEST_SECRET_BYTES],
                ..proto::SecretSpec::default()
            };
            let id = format!("full{number}x{n}");
            proto::assignment::Item::Secret(proto::Secret { id, spec: Some(spec) })
        };
        set(0, (0..LARGEST_SECRETS).map(secret).collect())
    })
}

/// Tasks whose labels take many times their size in memory, and are of no other use.
pub(super) fn fat(call: Call, _: u64) -> Instead {
    let node = call.peer.as_ref().map(|peer| peer.name.clone()).unwrap_or_default();
    for_ever(call, move |_| {
        let task = proto::Task {
            id: String::from("fat"),
            service_id: String::from("fat"),
            node_id: node.clone(),
            desired_state: task_state::SHUTDOWN,
            ..proto::Task::default()
        };
        // annotations (field 7) with labels (field 2).
        let labels = [0x12, 0].repeat(LABELS);
        let mut task = task.encode_to_vec();
        nested(0x3a, &labels, &mut task);
        let (mut assignment, mut change, mut message) = (Vec::new(), Vec::new(), Vec::new());
        nested(0x0a, &task, &mut assignment);
        nested(0x0a, &assignment, &mut change);
        nested(0x22, &change, &mut message);
        framed(&message)
    })
}

/// A field with a length, by its tag.
fn nested(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    prost::encoding::encode_varint(u64::try_from(content.len()).unwrap_or_default(), out);
    out.extend_from_slice(content);
}

/// Number 0 is complete, others follow one another.
fn set(number: u64, items: Vec<proto::assignment::Item>) -> Bytes {
    let changes = items.into_iter().map(|item| proto::AssignmentChange {
        assignment: Some(proto::Assignment { item: Some(item) }),
        action: 0,
    });
    let message = proto::AssignmentsMessage {
        r#type: i32::from(number != 0),
        applies_to: if number == 0 { String::new() } else { number.to_string() },
        results_in: (number + 1).to_string(),
        changes: changes.collect(),
    };
    framed(&message.encode_to_vec())
}

/// Tasks that nobody may start: they are over before they begin.
pub(super) fn endless(call: Call, n: u64) -> Instead {
    let node = call.peer.as_ref().map(|peer| peer.name.clone()).unwrap_or_default();
    for_ever(call, move |number| {
        let tasks = (0..n).map(|task| {
            proto::assignment::Item::Task(proto::Task {
                id: format!("endless{number}x{task}"),
                service_id: String::from("endless"),
                node_id: node.clone(),
                desired_state: task_state::SHUTDOWN,
                ..proto::Task::default()
            })
        });
        set(number, tasks.collect())
    })
}

pub(super) fn secrets(call: Call, _: u64) -> Instead {
    for_ever(call, |number| {
        let secret = proto::Secret {
            id: format!("secret{number}"),
            spec: Some(proto::SecretSpec {
                data: vec![b'x'; PIECE_BYTES],
                ..proto::SecretSpec::default()
            }),
        };
        set(number, vec![proto::assignment::Item::Secret(secret)])
    })
}

// --- assignments out of order ---

type Messages = Vec<proto::AssignmentsMessage>;

pub(super) fn drop_some(line: &mut Line, message: proto::AssignmentsMessage, _: u64) -> Messages {
    line.count += 1;
    if line.count.is_multiple_of(2) { Vec::new() } else { vec![message] }
}

pub(super) fn duplicate(_: &mut Line, message: proto::AssignmentsMessage, _: u64) -> Messages {
    vec![message.clone(), message]
}

pub(super) fn reorder(line: &mut Line, message: proto::AssignmentsMessage, _: u64) -> Messages {
    line.count += 1;
    if line.count == 1 {
        return vec![message];
    }
    match line.held.take() {
        None => {
            line.held = Some(message);
            Vec::new()
        }
        Some(earlier) => vec![message, earlier],
    }
}

pub(super) fn gap(line: &mut Line, mut message: proto::AssignmentsMessage, _: u64) -> Messages {
    line.count += 1;
    if 1 < line.count {
        message.applies_to = format!("gap{}", line.count);
    }
    vec![message]
}

pub(super) fn no_complete(
    _: &mut Line,
    mut message: proto::AssignmentsMessage,
    _: u64,
) -> Messages {
    message.r#type = 1;
    if message.applies_to.is_empty() {
        message.applies_to = String::from("0");
    }
    vec![message]
}
