//! Enrolment: from a join token to a sealed certificate.
//!
//! One straight line in which each step needs what the step before has proved: the token gives
//! the digest, the digest makes a [`PinnedRoot`], only a pinned root makes the TLS configuration
//! that the token is sent over, and only a certificate that chains to it is kept.

use std::{collections::BTreeMap, error::Error, fmt, rc::Rc, sync::Arc, time::Duration};

use smol::{LocalExecutor, Timer, future};

use crate::{
    ca::{
        CertificateRequest, ChainError, Issued, JoinToken, KeyError, PinnedRoot, Role, RootError,
    },
    limits::{
        CERTIFICATE_POLL, CERTIFICATE_POLL_FIRST, CERTIFICATE_POLL_PAUSE,
        CERTIFICATE_POLL_PAUSE_FIRST, DIAL_TIMEOUT,
    },
    model::{
        Availability, Identity, IssuanceState, LinkLoss, NodeCertificate, NodeId,
        PendingCertificate, SecretBytes, UnixTime, chain,
    },
    rpc::{self, CallError, CertificateAnswer, Channel, Code, JOIN_NAME, TlsError},
    seal::{FileError, IdentityStore, SaveError},
};

/// Why a node could not be enrolled; one variant per different remedy.
#[derive(Debug)]
pub enum JoinError {
    /// No address answered. One line per address.
    Unreachable {
        /// Address and what went wrong there.
        attempts: Vec<(String, CallError)>,
    },
    /// A manager answered, and its root CA is not the token's.
    Root {
        /// Who answered.
        addr: String,
        /// What does not fit.
        cause: RootError,
    },
    /// The manager's CA was verified, and it does not know the token.
    UnknownToken {
        /// Who answered.
        addr: String,
    },
    /// The token is a manager's: this node would have become a manager.
    ManagerToken,
    /// The certificate is a manager's: the node was promoted just then.
    Promoted,
    /// The node's record was removed before its certificate was signed.
    Forgotten {
        /// Who says so.
        addr: String,
    },
    /// The manager refused to sign.
    NotSigned {
        /// Its reason.
        reason: String,
    },
    /// The certificate that came back can not be used.
    Certificate(ChainError),
    /// The manager refused for another reason, or the link broke.
    Call {
        /// Who answered.
        addr: String,
        /// What went wrong.
        cause: CallError,
    },
    /// No key could be made.
    Key(KeyError),
    /// The root CA does not make a TLS configuration.
    Tls(TlsError),
    /// The identity could not be stored.
    Save(SaveError),
    /// What was stored could not be erased.
    Erase(FileError),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { attempts } => {
                f.write_str("no manager could be reached")?;
                for (addr, cause) in attempts {
                    write!(f, "; {addr}: {}", chain(cause))?;
                }
                f.write_str(
                    ". Check the address, that port 2377 is open, and that the manager is up; \
                     then run join again",
                )
            }
            Self::Root { addr, .. } => write!(f, "the manager at {addr} can not be believed"),
            Self::UnknownToken { addr } => write!(
                f,
                "the manager at {addr} (its CA was verified) does not know this token: it was \
                 rotated, or mistyped. Get a new one there: docker swarm join-token worker",
            ),
            Self::ManagerToken => f.write_str(
                "this is a manager token, and edgeagent is only ever a worker. Use the worker \
                 token: docker swarm join-token worker; and remove the node record that this \
                 attempt made: docker node rm",
            ),
            Self::Promoted => f.write_str(
                "the managers made this node one of theirs, and edgeagent is only ever a worker; \
                 it keeps the certificate that it has. On a manager: docker node demote",
            ),
            Self::Forgotten { addr } => write!(
                f,
                "the manager at {addr} does not know this node any more: its record was removed \
                 before its certificate was signed. Start anew: edgeagent leave, then edgeagent \
                 join"
            ),
            Self::NotSigned { reason } => write!(
                f,
                "the manager refused to sign a certificate for this node: {reason}. That is final \
                 for this node id; to ask anew: edgeagent leave, then edgeagent join"
            ),
            Self::Certificate(_) => {
                f.write_str("the certificate that the manager sent is unusable")
            }
            Self::Call { addr, .. } => write!(f, "joining through the manager at {addr} failed"),
            Self::Key(_) => f.write_str("no key could be made"),
            Self::Tls(_) => f.write_str("the root CA that was presented is unusable"),
            Self::Erase(_) => f.write_str("what was stored of this attempt could not be erased"),
            Self::Save(_) => f.write_str("the identity could not be stored"),
        }
    }
}

impl Error for JoinError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Root { cause, .. } => Some(cause),
            Self::Certificate(cause) => Some(cause),
            Self::Call { cause, .. } => Some(cause),
            Self::Save(cause) => Some(cause),
            Self::Erase(cause) => Some(cause),
            Self::Key(cause) => Some(cause),
            Self::Tls(cause) => Some(cause),
            Self::Unreachable { .. }
            | Self::UnknownToken { .. }
            | Self::ManagerToken
            | Self::Promoted
            | Self::Forgotten { .. }
            | Self::NotSigned { .. } => None,
        }
    }
}

/// What enrolment needs from outside.
#[derive(Debug)]
pub struct Enrolment<'a> {
    /// Runs the connections.
    pub executor: Rc<LocalExecutor<'static>>,
    /// Where the identity is sealed.
    pub store: &'a IdentityStore,
    /// Reads the wall clock.
    pub clock: fn() -> UnixTime,
}

/// How a node wishes to join, besides its token.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Where managers are.
    pub seeds: Vec<String>,
    /// Whether it wants tasks at once.
    pub availability: Availability,
    /// Engine labels that are kept with the identity.
    pub labels: BTreeMap<String, String>,
    /// SHA-256 of the provisioning file that wishes it.
    pub provisioned: Option<[u8; 32]>,
    /// Burn the token as soon as there is a certificate.
    pub forget_token: bool,
}

/// A certificate was asked for, and what is needed to fetch it is sealed.
#[derive(Debug)]
pub struct Asked {
    /// As it was sealed.
    pub identity: Identity,
    /// The request.
    pub pending: PendingCertificate,
    /// The connection to the manager that took it.
    channel: Channel,
    addr: String,
}

impl JoinError {
    /// True when the same attempt would end the same way: the manager was believed, and refused.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::UnknownToken { .. }
            | Self::ManagerToken
            | Self::Promoted
            | Self::Forgotten { .. }
            | Self::NotSigned { .. } => true,
            Self::Unreachable { .. }
            // Somebody in between may go away, and nothing secret was sent.
            | Self::Root { .. }
            | Self::Certificate(_)
            | Self::Call { .. }
            | Self::Key(_)
            | Self::Tls(_)
            | Self::Save(_)
            | Self::Erase(_) => false,
        }
    }

    /// True when a certificate is out of time by this node's clock: a manager's, or the one that
    /// was signed just now. Then it is the clock that is wrong, most likely.
    #[must_use]
    pub fn is_about_time(&self) -> bool {
        let wrong = |cause: &CallError| matches!(cause.loss(), LinkLoss::WrongTime(_));
        match self {
            Self::Unreachable { attempts } => attempts.iter().any(|(_, cause)| wrong(cause)),
            Self::Call { cause, .. } => wrong(cause),
            Self::Certificate(cause) => {
                matches!(cause, ChainError::NotYetValid { .. } | ChainError::Expired { .. })
            }
            Self::Root { .. }
            | Self::UnknownToken { .. }
            | Self::ManagerToken
            | Self::Promoted
            | Self::Forgotten { .. }
            | Self::NotSigned { .. }
            | Self::Key(_)
            | Self::Tls(_)
            | Self::Save(_)
            | Self::Erase(_) => false,
        }
    }
}

impl Enrolment<'_> {
    /// Enrols this node and seals the identity. `sealed` is told when the node id and key are
    /// durable, `progress` once when the managers take their time to sign.
    ///
    /// # Errors
    /// [`JoinError`], as for [`Self::ask`] and [`Self::finish`].
    pub async fn join(
        &self,
        token: &JoinToken,
        wish: Wish,
        sealed: impl FnOnce(),
        progress: impl Fn(&PendingCertificate),
    ) -> Result<Issued, JoinError> {
        let Asked { mut identity, pending, channel, addr } = self.ask(token, wish).await?;
        sealed();
        let chain = await_signature(&channel, &addr, &pending, || progress(&pending)).await?;
        self.finish(&mut identity, &pending, chain)
    }

    /// Asks for a certificate with `token`, through the first address that answers, and seals what
    /// [`Self::signature`] needs.
    ///
    /// # Errors
    /// [`JoinError`]. Nothing is stored before a manager has taken the token; from then on the
    /// node id and key are kept.
    pub async fn ask(&self, token: &JoinToken, wish: Wish) -> Result<Asked, JoinError> {
        let (addr, root) = self.find_root(token, &wish.seeds).await?;
        let channel = self.dial_ca(&root, &addr).await?;
        let random = ring::rand::SystemRandom::new();
        let request = CertificateRequest::generate(&random).map_err(JoinError::Key)?;
        let node_id = channel
            .issue_certificate(&request.csr, Some(token.expose()), wish.availability)
            .await
            .map_err(|cause| {
                let addr = addr.clone();
                if let CallError::Status { code: Code::InvalidArgument, .. } = cause {
                    JoinError::UnknownToken { addr }
                } else {
                    JoinError::Call { addr, cause }
                }
            })?;
        let pending = PendingCertificate { node_id, key: request.key, csr: request.csr };
        let identity = Identity {
            token: SecretBytes::new(token.expose().as_bytes().to_vec()),
            seeds: wish.seeds,
            root_ca: root.pem().to_vec(),
            availability: wish.availability,
            pending: Some(pending.clone()),
            labels: wish.labels,
            provisioned: wish.provisioned,
            forget_token: wish.forget_token,
            ..Identity::default()
        };
        self.store.save(&identity).map_err(JoinError::Save)?;
        Ok(Asked { identity, pending, channel, addr })
    }

    /// Waits until a certificate that was asked for is signed. `progress` is told once when the
    /// managers take their time.
    ///
    /// # Errors
    /// [`JoinError`]; what was stored stays as it is.
    pub async fn signature(
        &self,
        identity: &Identity,
        pending: &PendingCertificate,
        progress: impl Fn(&PendingCertificate),
    ) -> Result<Vec<u8>, JoinError> {
        let root = PinnedRoot::unsealed(identity.root_ca.clone());
        let mut attempts = Vec::new();
        for addr in &identity.seeds {
            let signed = async {
                let channel = self.dial_ca(&root, addr).await?;
                await_signature(&channel, addr, pending, || progress(pending)).await
            };
            match signed.await {
                Err(JoinError::Call { addr, cause }) => {
                    if let LinkLoss::Removed(_) = cause.loss() {
                        return Err(JoinError::Forgotten { addr });
                    }
                    attempts.push((addr, cause));
                }
                decided => return decided,
            }
        }
        Err(JoinError::Unreachable { attempts })
    }

    /// Checks and seals the certificate. Whoever calls this has the lock on `data-root`, and has
    /// read `identity` under it.
    ///
    /// # Errors
    /// [`JoinError`]; a manager's certificate is thrown away, and all that was stored with it.
    pub fn finish(
        &self,
        identity: &mut Identity,
        pending: &PendingCertificate,
        chain: Vec<u8>,
    ) -> Result<Issued, JoinError> {
        let now = (self.clock)();
        let root = PinnedRoot::unsealed(identity.root_ca.clone());
        let issued =
            Issued::check(&root, &chain, &pending.key, now).map_err(JoinError::Certificate)?;
        if issued.role != Role::Worker {
            self.store.forget().map_err(JoinError::Erase)?;
            return Err(JoinError::ManagerToken);
        }
        identity.certificate = Some(NodeCertificate {
            node_id: issued.node_id.clone(),
            key: pending.key.clone(),
            chain,
        });
        identity.pending = None;
        identity.time_floor = Identity::raised_floor(identity.time_floor, issued.not_before);
        if identity.forget_token {
            identity.token = SecretBytes::default();
        }
        self.store.save(identity).map_err(JoinError::Save)?;
        if identity.forget_token
            && let Err(error) = self.store.burn_older()
        {
            // The agent tries again whenever it starts.
            log::warn!("the burnt token is still sealed in the older slot: {error}");
        }
        Ok(issued)
    }

    /// Asks each address for the root CA, over a connection that proves nothing, until one
    /// presents the bundle that the token names. Nothing of the token is sent.
    async fn find_root(
        &self,
        token: &JoinToken,
        seeds: &[String],
    ) -> Result<(String, PinnedRoot), JoinError> {
        let mut attempts = Vec::new();
        let mut refused = None;
        let tls = rpc::unverified().map_err(JoinError::Tls)?;
        for addr in seeds {
            let bundle = async {
                Channel::open(&self.executor, addr, Arc::clone(&tls), JOIN_NAME, DIAL_TIMEOUT)
                    .await?
                    .root_ca()
                    .await
            };
            match bundle.await {
                Ok(pem) => match PinnedRoot::pin(pem, token) {
                    Ok(root) => return Ok((addr.clone(), root)),
                    // Another address may be of the right swarm.
                    Err(cause) => refused = Some(JoinError::Root { addr: addr.clone(), cause }),
                },
                Err(cause) => attempts.push((addr.clone(), cause)),
            }
        }
        Err(refused.unwrap_or(JoinError::Unreachable { attempts }))
    }

    async fn dial_ca(&self, root: &PinnedRoot, addr: &str) -> Result<Channel, JoinError> {
        let call = |cause| JoinError::Call { addr: addr.to_owned(), cause };
        let tls = rpc::joining(root, (self.clock)()).map_err(JoinError::Tls)?;
        Channel::open(&self.executor, addr, tls, JOIN_NAME, DIAL_TIMEOUT).await.map_err(call)
    }
}

/// Polls until the certificate for this very request is signed. Calls `progress` once, when the
/// first poll has brought nothing.
pub(super) async fn await_signature(
    channel: &Channel,
    addr: &str,
    pending: &PendingCertificate,
    progress: impl Fn(),
) -> Result<Vec<u8>, JoinError> {
    let mut pause = CERTIFICATE_POLL_PAUSE_FIRST;
    let mut hold = CERTIFICATE_POLL_FIRST;
    loop {
        match channel.certificate_status(&pending.node_id, hold).await {
            Ok(answer) => {
                if let Some(chain) = signed(answer, &pending.csr)? {
                    return Ok(chain);
                }
                pause = pause.saturating_mul(2).min(CERTIFICATE_POLL_PAUSE);
            }
            // It was held all the time, so the next one may follow at once.
            Err(CallError::Deadline) => pause = CERTIFICATE_POLL_PAUSE_FIRST,
            Err(cause) => return Err(JoinError::Call { addr: addr.to_owned(), cause }),
        }
        if hold == CERTIFICATE_POLL_FIRST {
            progress();
            hold = CERTIFICATE_POLL;
        }
        Timer::after(pause).await;
    }
}

/// The chain, if this answer is final and belongs to this request.
///
/// # Errors
/// [`JoinError::NotSigned`] when it is final and there is none.
pub fn signed(answer: CertificateAnswer, csr: &[u8]) -> Result<Option<Vec<u8>>, JoinError> {
    match answer.state {
        IssuanceState::Issued | IssuanceState::Rotate if answer.csr == csr => {
            if answer.chain.is_empty() {
                return Err(JoinError::NotSigned {
                    reason: String::from("the answer holds no certificate"),
                });
            }
            Ok(Some(answer.chain))
        }
        IssuanceState::Failed => Err(JoinError::NotSigned { reason: answer.err }),
        // An answer to an older request, or not decided yet.
        IssuanceState::Issued
        | IssuanceState::Rotate
        | IssuanceState::Unknown
        | IssuanceState::Renew
        | IssuanceState::Pending => Ok(None),
    }
}

/// Ends a renewal that takes longer than `limit`: a manager that never signs, or has the request
/// of another node with our identity, would keep it going until the certificate has expired.
pub(super) async fn bounded<T>(
    addr: &str,
    limit: Duration,
    renewal: impl Future<Output = Result<T, JoinError>>,
) -> Result<T, JoinError> {
    future::or(renewal, async {
        Timer::after(limit).await;
        Err(JoinError::Call { addr: addr.to_owned(), cause: CallError::Deadline })
    })
    .await
}

/// Renews the certificate over `channel`, which was opened with the present one.
///
/// # Errors
/// [`JoinError`]; a certificate for the manager role is refused with
/// [`JoinError::Promoted`] and thrown away.
pub(super) async fn renew(
    channel: &Channel,
    addr: &str,
    root: &PinnedRoot,
    node: &NodeId,
    now: impl FnOnce() -> UnixTime,
) -> Result<(NodeCertificate, Issued), JoinError> {
    let random = ring::rand::SystemRandom::new();
    let request = CertificateRequest::generate(&random).map_err(JoinError::Key)?;
    channel
        .issue_certificate(&request.csr, None, Availability::Active)
        .await
        .map_err(|cause| JoinError::Call { addr: addr.to_owned(), cause })?;
    let pending = PendingCertificate { node_id: node.clone(), key: request.key, csr: request.csr };
    let chain = await_signature(channel, addr, &pending, || {}).await?;
    let issued =
        Issued::renewed(root, &chain, &pending.key, now()).map_err(JoinError::Certificate)?;
    if issued.role != Role::Worker {
        return Err(JoinError::Promoted);
    }
    let certificate = NodeCertificate { node_id: issued.node_id.clone(), key: pending.key, chain };
    Ok((certificate, issued))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeRole;

    fn answer(state: IssuanceState, csr: &[u8], chain: &[u8]) -> CertificateAnswer {
        CertificateAnswer {
            state,
            err: String::from("no"),
            csr: csr.to_vec(),
            chain: chain.to_vec(),
            role: NodeRole::Worker,
        }
    }

    #[test]
    fn a_renewal_that_nobody_signs_ends_and_can_be_tried_again() {
        let never = bounded("m:2377", Duration::from_millis(1), future::pending::<Result<(), _>>());
        assert!(matches!(
            future::block_on(never),
            Err(JoinError::Call { cause: CallError::Deadline, .. })
        ));
        let text = JoinError::Promoted.to_string();
        assert!(text.contains("demote") && !text.contains("token"), "{text}");
    }

    #[test]
    fn only_dates_are_about_time() {
        use rustls::{CertificateError as Bad, pki_types};
        let time = |seconds| pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let tls = |bad| CallError::Tls { addr: String::from("m:2377"), source: bad };
        let early = || {
            let bad = Bad::NotValidYetContext { time: time(2), not_before: time(9) };
            tls(rustls::Error::InvalidCertificate(bad))
        };
        let foreign = || tls(rustls::Error::InvalidCertificate(Bad::UnknownIssuer));
        let addr = || String::from("m:2377");
        let (now, then) = (UnixTime::from_seconds(2), UnixTime::from_seconds(9));
        for (error, expected) in [
            (JoinError::Call { addr: addr(), cause: early() }, true),
            (JoinError::Call { addr: addr(), cause: foreign() }, false),
            (JoinError::Call { addr: addr(), cause: CallError::Deadline }, false),
            (
                JoinError::Unreachable {
                    attempts: vec![(addr(), CallError::Deadline), (addr(), early())],
                },
                true,
            ),
            (JoinError::Unreachable { attempts: vec![(addr(), CallError::Deadline)] }, false),
            (JoinError::Certificate(ChainError::NotYetValid { not_before: then, now }), true),
            (JoinError::Certificate(ChainError::Expired { not_after: now, now: then }), true),
            (JoinError::Certificate(ChainError::KeyMismatch), false),
            (JoinError::Root { addr: addr(), cause: RootError::Empty }, false),
            (JoinError::UnknownToken { addr: addr() }, false),
        ] {
            assert_eq!(error.is_about_time(), expected, "{error:?}");
        }
    }

    #[test]
    fn only_a_final_answer_to_our_own_request_counts() {
        use IssuanceState::{Failed, Issued, Pending, Renew, Rotate, Unknown};
        for state in [Issued, Rotate] {
            assert_eq!(
                signed(answer(state, b"ours", b"chain"), b"ours").unwrap().unwrap(),
                b"chain"
            );
            assert!(signed(answer(state, b"older", b"chain"), b"ours").unwrap().is_none());
            assert!(signed(answer(state, b"ours", b""), b"ours").is_err());
        }
        for state in [Unknown, Renew, Pending] {
            assert!(signed(answer(state, b"ours", b"chain"), b"ours").unwrap().is_none());
        }
        assert!(matches!(
            signed(answer(Failed, b"ours", b""), b"ours"),
            Err(JoinError::NotSigned { .. })
        ));
    }
}
