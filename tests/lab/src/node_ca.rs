//! CA and NodeCA: the root for whoever asks, certificates for whoever has the token.
//!
//! Source: swarmkit `ca/server.go` (behaviour.md §3). Unlike swarm today, a newcomer can be made
//! to wait for `node accept`, as swarm's wire still allows.

use std::{collections::BTreeMap, net::IpAddr, rc::Rc, time::Duration};

use smol::{Timer, future};

use crate::{
    ca::{self, NoRandom},
    evil::Hook,
    grpc::{Call, Status, code},
    lab::{self, Lab, say},
    proto,
    server::authorize,
    state::{Availability, Issuance, Liveness, Node},
    time,
};

/// Newcomers that may wait for approval at once; one more is refused.
const PENDING_MAX: usize = 128;

/// Addresses whose newcomers are counted; a newcomer from one more is refused.
const ADDRESSES_MAX: usize = 1024;

const MINUTE_MS: u64 = 60_000;

/// How long a status call is held when the client names no deadline.
const HOLD: Duration = Duration::from_secs(60);

/// IssuanceStatus.State
const PENDING: i32 = 2;
const ISSUED: i32 = 3;
const FAILED: i32 = 4;
const ROTATE: i32 = 5;

pub(crate) async fn root_certificate(lab: &Lab, mut call: Call) {
    let mut certificate = lab.root_pem().into_bytes();
    for (hook, n) in lab.evil() {
        if let Hook::Root(change) = hook {
            match change(&certificate, n) {
                Ok(changed) => certificate = changed,
                Err(NoRandom) => return call.answer.finish(Err(no_random())),
            }
        }
    }
    let sent = call.answer.send(&proto::GetRootCaCertificateResponse { certificate }).await;
    if sent.is_ok() {
        call.answer.finish(Ok(()));
    }
}

fn no_random() -> Status {
    Status::new(code::INTERNAL, "no random numbers")
}

pub(crate) async fn issue(lab: &Lab, mut call: Call) {
    let result = match call.body.only::<proto::IssueNodeCertificateRequest>().await {
        Ok(request) => take_request(lab, &call, request),
        Err(status) => Err(status),
    };
    match result {
        Ok((node_id, accepted)) => {
            let node_membership = i32::from(accepted);
            let answer = proto::IssueNodeCertificateResponse { node_id, node_membership };
            if call.answer.send(&answer).await.is_ok() {
                call.answer.finish(Ok(()));
            }
        }
        Err(status) => call.answer.finish(Err(status)),
    }
}

/// Renewal by a member's certificate, or a new node by token: node id, and whether it is accepted.
fn take_request(
    lab: &Lab,
    call: &Call,
    request: proto::IssueNodeCertificateRequest,
) -> Result<(String, bool), Status> {
    let csr = String::from_utf8(request.csr)
        .ok()
        .filter(|csr| !csr.is_empty())
        .ok_or_else(|| Status::new(code::INVALID_ARGUMENT, "InvalidArgument"))?;
    let key = ca::request_key(csr.as_bytes());
    let fingerprint = key.map(|key| ca::fingerprint(&key)).unwrap_or_default();
    let member = call.peer.as_ref().filter(|peer| authorize(lab, Some(peer)).is_ok());
    let (id, accepted) = if let Some(peer) = member {
        let mut state = lab.state.borrow_mut();
        let node = state.nodes.get_mut(&peer.name).ok_or_else(|| {
            let id = &peer.name;
            let message = format!("node {id} not found when attempting to renew certificate");
            Status::new(code::NOT_FOUND, message)
        })?;
        node.csr = csr;
        node.fingerprint = fingerprint;
        (peer.name.clone(), true)
    } else {
        let mut state = lab.state.borrow_mut();
        if request.token != ca::join_token(state.root.certificate.as_bytes(), &state.secret) {
            let message = "A valid join token is necessary to join this cluster";
            return Err(Status::new(code::INVALID_ARGUMENT, message));
        }
        let waiting = state.nodes.values().filter(|node| !node.accepted).count();
        if PENDING_MAX <= waiting {
            let message = format!("{PENDING_MAX} nodes wait for approval already");
            return Err(Status::new(code::RESOURCE_EXHAUSTED, message));
        }
        admit(lab, call.addr, state.join_rate)?;
        let id = ca::random_id().map_err(|NoRandom| no_random())?;
        let accepted = !state.manual_approval;
        say(&format!(
            "node {id} asks to join from {}, key fingerprint SHA256:{fingerprint}",
            call.addr
        ));
        let node = Node {
            accepted,
            availability: Availability::from_wire(request.availability),
            labels: BTreeMap::new(),
            csr,
            fingerprint,
            issuance: Issuance::Pending,
            refusal: String::new(),
            certificate: String::new(),
            hostname: String::new(),
            platform: <(String, String)>::default(),
            engine: String::new(),
            engine_labels: BTreeMap::new(),
            issuer: String::new(),
            addr: call.addr.to_string(),
            status: Liveness::Unknown,
        };
        state.nodes.insert(id.clone(), node);
        (id, accepted)
    };
    if accepted {
        lab::issue(lab, &id).map_err(|NoRandom| no_random())?;
    }
    lab.changed();
    Ok((id, accepted))
}

/// Counts a newcomer against the rate of its address.
fn admit(lab: &Lab, addr: IpAddr, rate: u32) -> Result<(), Status> {
    let now = time::now_ms();
    let mut newcomers = lab.newcomers.borrow_mut();
    newcomers.retain(|_, (since, _)| now < since.saturating_add(MINUTE_MS));
    let wait = |message| Err(Status::new(code::RESOURCE_EXHAUSTED, message));
    if ADDRESSES_MAX <= newcomers.len() && !newcomers.contains_key(&addr) {
        return wait(String::from("nodes join from too many addresses, wait a minute"));
    }
    let (_, count) = newcomers.entry(addr).or_insert((now, 0));
    if rate <= *count {
        return wait(format!("{addr} made {rate} nodes within a minute, wait"));
    }
    *count += 1;
    Ok(())
}

pub(crate) async fn status(lab: &Rc<Lab>, mut call: Call) {
    let id = match call.body.only::<proto::NodeCertificateStatusRequest>().await {
        Ok(request) => request.node_id,
        Err(status) => return call.answer.finish(Err(status)),
    };
    let decided = async { Some(decision(lab, &id).await) };
    let late = async {
        Timer::after(call.timeout.unwrap_or(HOLD)).await;
        None
    };
    match future::or(decided, late).await {
        Some(Ok(answer)) => {
            if call.answer.send(&answer).await.is_ok() {
                call.answer.finish(Ok(()));
            }
        }
        Some(Err(status)) => call.answer.finish(Err(status)),
        None => {
            let message = "context deadline exceeded";
            call.answer.finish(Err(Status::new(code::DEADLINE_EXCEEDED, message)));
        }
    }
}

/// Waits until the node's certificate is in a final state.
async fn decision(lab: &Lab, id: &str) -> Result<proto::NodeCertificateStatusResponse, Status> {
    loop {
        let seen = lab.version();
        let mut answer = {
            let state = lab.state.borrow();
            let node =
                state.nodes.get(id).ok_or_else(|| Status::new(code::NOT_FOUND, "NotFound"))?;
            (node.issuance != Issuance::Pending).then(|| certificate_status(id, node))
        };
        for (hook, n) in lab.evil() {
            if let Hook::Status(change) = hook {
                answer = answer.and_then(|answer| change(answer, n));
            }
        }
        if let Some(answer) = answer {
            return Ok(answer);
        }
        lab.change_after(seen).await;
    }
}

fn certificate_status(id: &str, node: &Node) -> proto::NodeCertificateStatusResponse {
    let status = proto::IssuanceStatus { state: wire(node.issuance), err: node.refusal.clone() };
    proto::NodeCertificateStatusResponse {
        certificate: Some(certificate(id, node)),
        status: Some(status),
    }
}

/// A node's certificate as its own record shows it.
pub(crate) fn certificate(id: &str, node: &Node) -> proto::Certificate {
    let status = proto::IssuanceStatus { state: wire(node.issuance), err: node.refusal.clone() };
    proto::Certificate {
        role: 0,
        csr: node.csr.clone().into_bytes(),
        status: Some(status),
        certificate: node.certificate.clone().into_bytes(),
        cn: id.to_owned(),
    }
}

const fn wire(issuance: Issuance) -> i32 {
    match issuance {
        Issuance::Pending => PENDING,
        Issuance::Issued => ISSUED,
        Issuance::Failed => FAILED,
        Issuance::Rotate => ROTATE,
    }
}
