//! Joining anew after the certificate has expired: a new key, a new node id, the same trust.
//!
//! What the core allows once a day is stored before the token leaves this node, so that neither a
//! crash nor a lost answer makes a second node of it. The old certificate stays until the new one
//! is there: a node that still waits to be accepted goes on with the same request after a restart.

use std::rc::Rc;

use ring::rand::SystemRandom;
use smol::{LocalExecutor, Timer};

use super::{Member, News, trusted_now};
use crate::{
    agent::Input,
    ca::{CertificateRequest, Issued, JoinToken, PinnedRoot, Role},
    limits::{CERTIFICATE_POLL_PAUSE, DIAL_TIMEOUT},
    model::{
        Availability, Identity, LinkLoss, NodeCertificate, PendingCertificate, UnixTime, chain,
    },
    node::enrol::{self, JoinError},
    rpc::{self, CallError, Channel, Code, JOIN_NAME},
};

/// How far joining anew has come.
pub(super) enum Step {
    /// A manager took the token, and named the node; or not.
    Asked(Result<PendingCertificate, Refusal>),
    /// The certificate is signed, or never will be.
    Signed(Result<(NodeCertificate, Issued), JoinError>),
}

/// Why there is no new node.
pub(super) struct Refusal {
    error: JoinError,
    /// A manager may have made a node all the same.
    asked: bool,
    /// When the node had joined anew before.
    before: Option<UnixTime>,
}

/// The sealed token, if it is of the root that this node trusts: nothing else may be joined.
pub(super) fn token(identity: &Identity) -> Option<JoinToken> {
    let text = std::str::from_utf8(identity.token.expose()).ok()?;
    let token = JoinToken::parse(text).ok()?;
    PinnedRoot::pin(identity.root_ca.clone(), &token).is_ok().then_some(token)
}

impl Member<'_> {
    /// Asks the managers for another node.
    pub(super) fn rejoin(&mut self) {
        let before = self.identity.rejoined;
        let Some(token) = token(&self.identity) else {
            self.tell(Input::RejoinFailed { rejoined: before });
            return;
        };
        self.identity.rejoined = Some(trusted_now(&self.identity));
        if !self.save_identity() {
            self.identity.rejoined = before;
            self.tell(Input::RejoinFailed { rejoined: before });
            return;
        }
        log::warn!("this node's certificate has expired: it joins anew");
        let ca = self.authority();
        let availability = self.identity.availability;
        let news = self.news.0.clone();
        self.rejoining = Some(self.executor.spawn(async move {
            let asked = ask(&ca, &token, availability).await;
            let asked = asked.map_err(|(error, asked)| Refusal { error, asked, before });
            // The loop lives as long as this future.
            let _unheard = news.send(News::Rejoin(Step::Asked(asked))).await;
        }));
    }

    /// Waits for the certificate of a node that was asked for, if there is one.
    pub(super) fn await_new_node(&mut self) {
        let Some(pending) = self.identity.pending.clone() else { return };
        let ca = self.authority();
        let news = self.news.0.clone();
        self.rejoining = Some(self.executor.spawn(async move {
            let signed = Box::pin(signature(&ca, &pending)).await;
            let _unheard = news.send(News::Rejoin(Step::Signed(signed))).await;
        }));
    }

    pub(super) fn handle_rejoin(&mut self, step: Step) {
        match step {
            Step::Asked(Ok(pending)) => {
                log::warn!("joining anew as node {}; this was {}", pending.node_id, self.node_id);
                self.identity.pending = Some(pending);
                self.identity.replaces = Some(self.node_id.clone());
                self.save_identity();
                self.await_new_node();
            }
            Step::Asked(Err(Refusal { error, asked, before })) => {
                self.rejoining = None;
                if !asked {
                    self.identity.rejoined = before;
                    self.save_identity();
                }
                self.rejoin_failed(&error);
            }
            Step::Signed(Ok((certificate, issued))) => self.become_new_node(certificate, issued),
            Step::Signed(Err(error)) => {
                self.rejoining = None;
                self.identity.pending = None;
                self.save_identity();
                self.rejoin_failed(&error);
            }
        }
    }

    fn rejoin_failed(&mut self, error: &JoinError) {
        self.complain(format!("joining anew failed: {}", chain(error)));
        self.tell(Input::RejoinFailed { rejoined: self.identity.rejoined });
    }

    fn become_new_node(&mut self, certificate: NodeCertificate, issued: Issued) {
        self.rejoining = None;
        let old = std::mem::replace(&mut self.node_id, issued.node_id.clone());
        self.identity.certificate = Some(certificate);
        self.identity.pending = None;
        self.identity.time_floor =
            Identity::raised_floor(self.identity.time_floor, issued.not_before);
        // What is stored still leads to the same certificate.
        self.save_identity();
        log::warn!(
            "this node is {} now. Its old record stays until it is removed, on a manager: \
             docker node rm {old}",
            self.node_id
        );
        let (not_before, not_after) = (issued.not_before, issued.not_after);
        self.issued = issued;
        label(&mut self.description, &self.identity);
        self.adopt_identity();
        let at = self.identity.rejoined.unwrap_or_else(|| trusted_now(&self.identity));
        self.tell(Input::Rejoined { at, not_before, not_after });
    }

    fn authority(&self) -> Authority {
        let mut addrs: Vec<String> =
            self.identity.managers.iter().map(|peer| peer.addr.clone()).collect();
        addrs.extend(self.identity.seeds.iter().cloned());
        Authority {
            executor: Rc::clone(&self.executor),
            root: self.root.clone(),
            floor: self.identity.time_floor,
            addrs,
        }
    }
}

/// Lets the operator find the record that nobody needs any more.
pub(super) fn label(description: &mut crate::model::NodeDescription, identity: &Identity) {
    if let (Some(old), None) = (&identity.replaces, &identity.pending) {
        description.engine_labels.insert(String::from("replaces"), old.to_string());
    }
}

/// The managers in their role as certificate authority.
struct Authority {
    executor: Rc<LocalExecutor<'static>>,
    root: PinnedRoot,
    floor: UnixTime,
    addrs: Vec<String>,
}

impl Authority {
    /// A connection to one that shows a chain to our root, without a certificate of ours.
    async fn dial(&self, addr: &str) -> Result<Channel, JoinError> {
        let tls = rpc::joining(&self.root, self.floor).map_err(JoinError::Tls)?;
        Channel::open(&self.executor, addr, tls, JOIN_NAME, DIAL_TIMEOUT)
            .await
            .map_err(|cause| JoinError::Call { addr: addr.to_owned(), cause })
    }
}

/// Gives the token to the first manager that can be believed. Failing, tells also whether one may
/// have taken it.
async fn ask(
    ca: &Authority,
    token: &JoinToken,
    availability: Availability,
) -> Result<PendingCertificate, (JoinError, bool)> {
    let request = CertificateRequest::generate(&SystemRandom::new())
        .map_err(|error| (JoinError::Key(error), false))?;
    let mut attempts = Vec::new();
    for addr in &ca.addrs {
        let channel = match ca.dial(addr).await {
            Ok(channel) => channel,
            Err(JoinError::Call { addr, cause }) => {
                attempts.push((addr, cause));
                continue;
            }
            Err(error) => return Err((error, false)),
        };
        let issued =
            channel.issue_certificate(&request.csr, Some(token.expose()), availability).await;
        let addr = addr.clone();
        return match issued {
            Ok(node_id) => Ok(PendingCertificate { node_id, key: request.key, csr: request.csr }),
            // The same token will not be good tomorrow either, so this counts.
            Err(CallError::Status { code: Code::InvalidArgument, .. }) => {
                Err((JoinError::UnknownToken { addr }, true))
            }
            // An answer that is an error: nothing was made.
            Err(cause @ CallError::Status { .. }) => Err((JoinError::Call { addr, cause }, false)),
            Err(cause) => Err((JoinError::Call { addr, cause }, true)),
        };
    }
    Err((JoinError::Unreachable { attempts }, false))
}

/// Waits until the managers have decided. Links that break are made anew.
async fn signature(
    ca: &Authority,
    pending: &PendingCertificate,
) -> Result<(NodeCertificate, Issued), JoinError> {
    let chain = 'signed: loop {
        for addr in &ca.addrs {
            let signed =
                async { enrol::await_signature(&ca.dial(addr).await?, addr, pending, || {}).await };
            match signed.await {
                Ok(chain) => break 'signed chain,
                Err(JoinError::Call { addr, cause }) => {
                    if let LinkLoss::Removed(_) = cause.loss() {
                        return Err(JoinError::Forgotten { addr });
                    }
                    log::debug!("{addr}: {cause}");
                }
                Err(error) => return Err(error),
            }
        }
        Timer::after(CERTIFICATE_POLL_PAUSE).await;
    };
    let now = super::clock().wall.max(ca.floor);
    let issued = Issued::renewed(&ca.root, &chain, &pending.key, now);
    let issued = issued.map_err(JoinError::Certificate)?;
    if issued.role != Role::Worker {
        return Err(JoinError::ManagerToken);
    }
    let key = pending.key.clone();
    Ok((NodeCertificate { node_id: issued.node_id.clone(), key, chain }, issued))
}
