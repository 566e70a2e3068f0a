//! A node that is no member yet: it waits for `join`, joins by itself with a provisioning file, and
//! waits for its certificate.
//!
//! # A provisioning file is consumed once
//!
//! | step | after a power cut right behind it |
//! |---|---|
//! | a manager takes the token | the file is whole: the node asks again, one record stays behind |
//! | identity sealed, with the file's digest | [`settle`] erases the file at the next start |
//! | first byte of the file is zero | a file that begins so is erased, whatever else there is |
//! | all of it is zero | the same |
//! | its name is gone | done |
//! | *or, when it can not be erased:* digest remembered | it is not used again, after `leave` neither |
//!
//! So there is always the file or the identity, and one identity from one content.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use smol::{LocalExecutor, channel::Receiver, future};
use zeroize::Zeroizing;

use super::{
    CLOCK_REMEDY, clock,
    control::{Question, Request, StatusReport},
    enrol::{Enrolment, JoinError, Wish},
    fingerprint, rest, rest_for, token, wait_for_identity,
};
use crate::{
    ca::{JoinToken, sha256},
    config::{Config, JoinFile},
    limits::{
        CLOCK_SURELY_PAST_SECONDS, JOIN_FILE_LOOK, JOIN_FILE_MAX_BYTES, JOIN_LOCK_RETRY,
        JOIN_RETRY_CLOCK_MAX, JOIN_RETRY_FIRST, JOIN_RETRY_MAX,
    },
    model::{Identity, PendingCertificate, UnixTime, chain},
    seal::{
        IdentityStore, Lock, LockError, Machine, SaveError,
        provisioned::{self, Fate},
    },
};

/// The name of systemd's credential with the content of a provisioning file.
const CREDENTIAL: &str = "edgeagent-join";

/// The state of a node that cannot join because of its clock; members have the same.
const CLOCK_WRONG: &str = "clock-wrong";

/// The agent while it is no member.
pub(super) struct Outsider<'a> {
    executor: &'a Rc<LocalExecutor<'static>>,
    config: &'a Config,
    machine: &'a Machine,
    questions: &'a Receiver<Question>,
    /// What last went wrong; kept for `status` over all attempts.
    pub(super) last_error: Option<String>,
    /// The last attempt failed by the dates of a certificate.
    out_of_time: bool,
}

/// A place where a provisioning file may be.
struct Source {
    path: PathBuf,
    /// Ours to erase: systemd's credentials are not.
    erasable: bool,
}

/// A provisioning file that was not used yet.
struct Found {
    path: PathBuf,
    digest: [u8; 32],
    file: JoinFile,
    token: JoinToken,
}

/// What there is to provision with.
enum Search {
    Nothing,
    Found(Box<Found>),
    /// There is a file, and it is not used: why, for the person.
    Unusable(String),
}

/// How an attempt with a provisioning file went.
enum Attempt {
    /// There is an identity now.
    Sealed,
    /// Another process changes the membership.
    Busy,
    Failed(JoinError),
}

impl<'a> Outsider<'a> {
    pub(super) const fn new(
        executor: &'a Rc<LocalExecutor<'static>>,
        config: &'a Config,
        machine: &'a Machine,
        questions: &'a Receiver<Question>,
    ) -> Self {
        Self { executor, config, machine, questions, last_error: None, out_of_time: false }
    }

    fn enrolment<'s>(&self, store: &'s IdentityStore) -> Enrolment<'s> {
        Enrolment { executor: Rc::clone(self.executor), store, clock: || clock().wall }
    }

    fn report(&self, state: &str, store: &IdentityStore) -> StatusReport {
        let last_error = self.last_error.clone();
        StatusReport { last_error, ..StatusReport::new(state, Some(store.tier())) }
    }

    /// Names a clock that is wrong as the state of a node that tries to join.
    fn judge_clock(&self, report: &mut StatusReport) {
        let last_error = self.last_error.as_deref().filter(|_| self.out_of_time);
        if let Some(reason) = clock_trouble(clock().wall, last_error) {
            report.state = String::from(CLOCK_WRONG);
            report.reason = reason;
        }
    }

    /// Keeps what went wrong, for the log and for `status`.
    fn complain(&mut self, error: &JoinError, report: &mut StatusReport) {
        let text = format!("joining: {}", chain(error));
        log::warn!("{text}");
        self.out_of_time = error.is_about_time();
        report.last_error = Some(text.clone());
        self.last_error = Some(text);
        self.judge_clock(report);
    }

    /// Waits until there may be an identity: from `join`, or from a provisioning file.
    pub(super) async fn await_join(&mut self, store: &IdentityStore) {
        log::info!("this node is not part of a swarm; waiting for edgeagent join");
        let mut pause = JOIN_RETRY_FIRST;
        let mut told = String::new();
        loop {
            let mut report = self.report("not-joined", store);
            let look_again = match self.search() {
                Search::Nothing => JOIN_FILE_LOOK,
                Search::Unusable(reason) => {
                    if told != reason {
                        log::warn!("{reason}");
                        told.clone_from(&reason);
                    }
                    report.reason = reason;
                    JOIN_FILE_LOOK
                }
                Search::Found(found) => {
                    report.state = String::from("joining");
                    report.managers.clone_from(&found.file.addresses);
                    report.reason = format!("joining as {} says", found.path.display());
                    self.judge_clock(&mut report);
                    let asked = async {
                        wait_for_identity(&report, &[], self.questions).await;
                        None
                    };
                    let attempt = async { Some(self.attempt(store, &found).await) };
                    match future::or(asked, attempt).await {
                        // Told of an identity, or to leave: see what there is then.
                        None => {
                            return rest_for(JOIN_LOCK_RETRY, &report, &[], self.questions).await;
                        }
                        Some(Attempt::Sealed) => return,
                        Some(Attempt::Busy) => JOIN_LOCK_RETRY,
                        Some(Attempt::Failed(error)) => {
                            self.complain(&error, &mut report);
                            if !error.is_final() {
                                let wrong = report.state == CLOCK_WRONG;
                                let most =
                                    if wrong { JOIN_RETRY_CLOCK_MAX } else { JOIN_RETRY_MAX };
                                let now = pause.min(most);
                                pause = now.saturating_mul(2).min(most);
                                now
                            } else if remember(self.config, &found.digest, Fate::Refused) {
                                continue;
                            } else {
                                // A disk that refuses must not make us ask without end.
                                JOIN_RETRY_MAX
                            }
                        }
                    }
                }
            };
            if self.told_within(look_again, &report).await {
                return;
            }
        }
    }

    /// Answers questions for a while; true when the identity has changed or is to be forgotten.
    async fn told_within(&self, pause: Duration, report: &StatusReport) -> bool {
        let tries = report.state == "joining" || report.state == CLOCK_WRONG;
        let next_attempt_seconds = tries.then_some(pause.as_secs());
        let report = StatusReport { next_attempt_seconds, ..report.clone() };
        let told = async {
            wait_for_identity(&report, &[], self.questions).await;
            true
        };
        future::or(told, async {
            smol::Timer::after(pause).await;
            false
        })
        .await
    }

    /// Goes on with an enrolment that was begun and not seen to its end.
    pub(super) async fn await_approval(&mut self, store: &IdentityStore, identity: &Identity) {
        let Some(pending) = &identity.pending else {
            wait_for_identity(&self.report("not-joined", store), &[], self.questions).await;
            return;
        };
        let mut report = self.report("pending-approval", store);
        report.node_id = Some(pending.node_id.to_string());
        report.join_token = Some(String::from(token::kept(identity)));
        report.managers.clone_from(&identity.seeds);
        report.reason = format!(
            "waiting for approval of node {} (key fingerprint {}) by the managers",
            pending.node_id,
            fingerprint(pending)
        );
        self.judge_clock(&mut report);
        let asked = async {
            let request = wait_for_identity(&report, &[], self.questions).await;
            Err(request == Request::Leave)
        };
        let enrolment = self.enrolment(store);
        let signed = async { Ok(enrolment.signature(identity, pending, |_| {}).await) };
        let finished = match future::or(asked, Box::pin(signed)).await {
            Err(false) => return,
            // The command forgets the identity, and nothing may store it again behind its back.
            Err(true) => return rest(&report, &[], self.questions).await,
            Ok(Ok(chain)) => self.finish(store, &enrolment, pending, chain),
            Ok(Err(error)) => Err(error),
        };
        match finished {
            Ok(true) => self.last_error = None,
            Ok(false) => rest_for(JOIN_LOCK_RETRY, &report, &[], self.questions).await,
            Err(error) => {
                self.complain(&error, &mut report);
                if !error.is_final() {
                    return rest(&report, &[], self.questions).await;
                }
                // With a manager's token nothing is stored any more, and there is no node to show.
                if !matches!(error, JoinError::ManagerToken) {
                    report.state = String::from("rejected");
                    report.reason = error.to_string();
                    wait_for_identity(&report, &[], self.questions).await;
                }
            }
        }
    }

    /// Seals the certificate; false when a command is at work on the identity, and will tell.
    fn finish(
        &self,
        store: &IdentityStore,
        enrolment: &Enrolment<'_>,
        pending: &PendingCertificate,
        chain: Vec<u8>,
    ) -> Result<bool, JoinError> {
        let _lock = match Lock::exclusive(&self.config.data_root) {
            Ok(lock) => lock,
            Err(LockError::Held) => return Ok(false),
            Err(LockError::File(error)) => return Err(JoinError::Save(SaveError::File(error))),
        };
        let current = store.load().map_err(|error| JoinError::Save(SaveError::Occupied(error)))?;
        match current {
            Some(mut current) if current.pending.as_ref() == Some(pending) => {
                enrolment.finish(&mut current, pending, chain).map(|_issued| true)
            }
            Some(_) | None => Ok(false),
        }
    }

    /// Asks for a certificate as the file says, under the lock. What comes then is the work of
    /// [`Self::await_approval`], which needs no file.
    async fn attempt(&self, store: &IdentityStore, found: &Found) -> Attempt {
        let _lock = match Lock::exclusive(&self.config.data_root) {
            Ok(lock) => lock,
            Err(LockError::Held) => return Attempt::Busy,
            Err(LockError::File(error)) => {
                return Attempt::Failed(JoinError::Save(SaveError::File(error)));
            }
        };
        match store.load() {
            Ok(None) => {}
            Ok(Some(_)) => return Attempt::Sealed,
            Err(error) => return Attempt::Failed(JoinError::Save(SaveError::Occupied(error))),
        }
        log::info!("joining a swarm as {} says", found.path.display());
        let wish = Wish {
            seeds: found.file.addresses.clone(),
            availability: found.file.availability,
            labels: found.file.labels.clone(),
            provisioned: Some(found.digest),
            forget_token: found.file.forget_token,
        };
        match Box::pin(self.enrolment(store).ask(&found.token, wish)).await {
            Ok(_asked) => Attempt::Sealed,
            Err(error) => Attempt::Failed(error),
        }
    }

    /// The first provisioning file that was not used yet.
    fn search(&self) -> Search {
        let mut found = Search::Nothing;
        for Source { path, .. } in sources(self.config, self.machine) {
            let place = path.display();
            let text = match read(&path) {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(error) => {
                    found = Search::Unusable(format!("{place} can not be read: {error}"));
                    continue;
                }
            };
            if provisioned::is_half_erased(&text) {
                // A power cut came between; the identity that it was used for may be gone again.
                erase(&path);
                continue;
            }
            let digest = sha256(&text);
            found = match provisioned::fate(&self.config.data_root, &digest) {
                Ok(None) => match parse(&text) {
                    Ok((file, token)) => {
                        warn_if_open(&path);
                        return Search::Found(Box::new(Found { path, digest, file, token }));
                    }
                    Err(error) => Search::Unusable(format!("{place}: {error}")),
                },
                Ok(Some(Fate::Used)) => Search::Unusable(format!(
                    "{place} was used once already, and is not used again: join with edgeagent \
                     join, or write a new one",
                )),
                Ok(Some(Fate::Refused)) => Search::Unusable(format!(
                    "the managers refused what {place} says, and it is not tried again: write a \
                     new one, or join with edgeagent join. A manager prints the token: docker \
                     swarm join-token worker",
                )),
                Err(error) => Search::Unusable(error.to_string()),
            };
        }
        found
    }
}

fn sources(config: &Config, machine: &Machine) -> Vec<Source> {
    let credential = machine.credentials.as_ref();
    credential
        .map(|folder| Source { path: folder.join(CREDENTIAL), erasable: false })
        .into_iter()
        .chain([Source { path: config.join_file.clone(), erasable: true }])
        .collect()
}

/// What to say of a clock that cannot be right; `out_of_time` is an error about the dates of a
/// certificate.
fn clock_trouble(now: UnixTime, out_of_time: Option<&str>) -> Option<String> {
    let past = UnixTime::from_seconds(CLOCK_SURELY_PAST_SECONDS);
    match out_of_time {
        Some(error) => Some(format!("{error}. {CLOCK_REMEDY}")),
        None if now < past => Some(format!(
            "this node's clock says {now}, and this version of edgeagent was made after {past}. \
             {CLOCK_REMEDY}"
        )),
        None => None,
    }
}

/// Erases the provisioning file that `identity` was made from, or remembers that it is used.
/// `first` when an unused one is to be mentioned.
pub(crate) fn settle(config: &Config, machine: &Machine, identity: &Identity, first: bool) {
    for Source { path, erasable } in sources(config, machine) {
        let Ok(Some(text)) = read(&path) else { continue };
        if provisioned::is_half_erased(&text) {
            erase(&path);
        } else if let Some(digest) = identity.provisioned.filter(|of| *of == sha256(&text)) {
            if !erasable || !erase(&path) {
                remember(config, &digest, Fate::Used);
            }
        } else if first {
            log::warn!(
                "{} is not used, for this node is in a swarm; it holds a join token in the clear: \
                 remove it",
                path.display()
            );
        }
    }
}

/// True when it is durable.
fn remember(config: &Config, digest: &[u8; 32], fate: Fate) -> bool {
    match provisioned::remember(&config.data_root, digest, fate) {
        Ok(()) => true,
        Err(error) => {
            let error = chain(&error);
            log::error!("the provisioning file is used up, which could not be noted: {error}");
            false
        }
    }
}

fn parse(text: &[u8]) -> Result<(JoinFile, JoinToken), String> {
    let file = JoinFile::parse(text).map_err(|error| chain(&error))?;
    let token = JoinToken::parse(file.token.expose()).map_err(|error| chain(&error))?;
    Ok((file, token))
}

/// The content; nothing when there is no file. One that is too large comes back cut there, which no
/// parser takes.
fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // A pipe must not block the agent.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let limit = JOIN_FILE_MAX_BYTES + 1;
    // Large enough from the start: a buffer that grows leaves a token behind.
    let mut text = Zeroizing::new(Vec::with_capacity(limit + 1));
    file.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut text)?;
    Ok(Some(text))
}

fn warn_if_open(path: &Path) {
    let mode = path.metadata().map_or(0, |metadata| metadata.mode());
    if mode & 0o077 != 0 {
        log::warn!(
            "{} holds a join token and may be read by others (mode {:04o}): chmod 600, or a \
             medium that is mounted with umask=077",
            path.display(),
            mode & 0o7777
        );
    }
}

/// True when it is gone.
fn erase(path: &Path) -> bool {
    match provisioned::erase(path) {
        Ok(()) => {
            log::info!("{} was used; its content is overwritten and removed", path.display());
            true
        }
        Err(error) => {
            log::warn!(
                "a used provisioning file can not be erased, it stays unused: {}",
                chain(&error)
            );
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_before_this_version_or_by_the_dates_of_a_certificate() {
        let past = UnixTime::from_seconds(CLOCK_SURELY_PAST_SECONDS);
        assert_eq!(clock_trouble(past, None), None);
        let says = |now, error| clock_trouble(now, error).unwrap();
        let text = says(UnixTime::default(), None);
        assert!(text.contains("1970-01-01") && text.contains("2026-01-01"), "{text}");
        for now in [UnixTime::default(), past] {
            let text = says(now, Some("joining: not valid before 2027"));
            assert!(text.contains("2027. Set the clock"), "{text}");
        }
    }
}
