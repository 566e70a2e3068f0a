//! `join` and `leave`.

use std::{fs, io::Read as _, path::Path, rc::Rc, thread};

use smol::{LocalExecutor, future};
use zeroize::Zeroizing;

use super::{Failure, Join, print};
use crate::{
    ca::{JoinToken, PinnedRoot},
    config::{Config, manager_address},
    limits::{JOIN_ADDRESSES_MAX, JOIN_LOCK_WAIT, LOCK_PAUSE, TOKEN_FILE_MAX_BYTES},
    model::{Identity, PendingCertificate, chain},
    node::{
        self,
        control::{self, Request, Response},
        enrol::{Enrolment, JoinError, Wish},
    },
    seal::{self, IdentityStore, Lock, LockError, Machine, Sealer},
};

/// Joins a swarm, or says that this node is in it already.
pub(super) fn join(config: &Config, arguments: Join) -> Result<(), Failure> {
    let Join { token, token_file, forget_token, availability, addresses: given } = arguments;
    let token = parse_token(&read_token(token, token_file.as_deref())?)?;
    let seeds = addresses(&given)?;
    node::make_private_dir(&config.data_root)?;
    let _lock = lock(config)?;
    let sealer = Sealer::open(&config.data_root, &Machine::this(), &config.seal)?;
    let store = IdentityStore::new(&config.data_root, sealer);
    let known = store.load()?;
    if let Some(identity) = &known
        && identity.certificate.is_some()
    {
        return already_joined(identity, &token);
    }

    let executor = Rc::new(LocalExecutor::new());
    let enrolment =
        Enrolment { executor: Rc::clone(&executor), store: &store, clock: || node::clock().wall };
    let issued = future::block_on(executor.run(async {
        let begun = known.filter(|identity| same_swarm(identity, &token));
        if let Some(mut identity) = begun
            && let Some(pending) = identity.pending.clone()
        {
            identity.seeds = merged(seeds, &identity.seeds);
            identity.forget_token |= forget_token;
            let chain = enrolment.signature(&identity, &pending, tell_pending).await?;
            return enrolment.finish(&mut identity, &pending, chain);
        }
        let wish = Wish { seeds, availability, forget_token, ..Wish::default() };
        // This command may be interrupted from here on, and the agent goes on with what is sealed.
        let sealed = || drop(control::ask(&config.exec_root, &Request::IdentityChanged));
        enrolment.join(&token, wish, sealed, tell_pending).await
    }));
    let issued = match issued {
        Ok(issued) => issued,
        Err(error) => {
            // What is sealed may be another attempt now, or none.
            drop(control::ask(&config.exec_root, &Request::IdentityChanged));
            return Err(failure(error));
        }
    };
    notify(config);
    log::debug!("joined node.id={}", issued.node_id);
    print(format_args!("This node joined a swarm as a worker.\n"))
}

/// The lock on `data-root`. Another command that joins is waited for, so that the second of two is
/// told what the first has done.
pub(super) fn lock(config: &Config) -> Result<Lock, Failure> {
    let attempts = JOIN_LOCK_WAIT.as_millis() / LOCK_PAUSE.as_millis().max(1);
    for attempt in 0..attempts {
        match Lock::exclusive(&config.data_root) {
            Err(LockError::Held) => {}
            other => return Ok(other?),
        }
        if attempt == 0 {
            tell("another edgeagent is changing this node's membership; waiting for it");
        }
        thread::sleep(LOCK_PAUSE);
    }
    Ok(Lock::exclusive(&config.data_root)?)
}

/// Lets a running agent read the identity again.
fn notify(config: &Config) {
    match control::ask(&config.exec_root, &Request::IdentityChanged) {
        Ok(Some(_)) => {}
        Ok(None) => tell("no agent runs on this node yet; start it: edgeagent run"),
        Err(error) => tell(&format!("the running agent does not answer, restart it: {error}")),
    }
}

/// Speaks to the person, beside what a script reads from standard output.
#[expect(clippy::print_stderr, reason = "a message to the person at the terminal")]
fn tell(message: &str) {
    eprintln!("edgeagent: {message}");
}

/// One line that says what an operator can compare before accepting the node.
fn tell_pending(pending: &PendingCertificate) {
    tell(&format!(
        "waiting for the managers to sign the certificate of node {} (key {})",
        pending.node_id,
        node::fingerprint(pending)
    ));
}

fn failure(error: JoinError) -> Failure {
    let text = chain(&error);
    match error {
        JoinError::Root { .. }
        | JoinError::UnknownToken { .. }
        | JoinError::ManagerToken
        | JoinError::Promoted
        | JoinError::Forgotten { .. }
        | JoinError::NotSigned { .. } => Failure::refused(text),
        JoinError::Unreachable { .. }
        | JoinError::Certificate(_)
        | JoinError::Call { .. }
        | JoinError::Key(_)
        | JoinError::Tls(_)
        | JoinError::Erase(_)
        | JoinError::Save(_) => Failure::plain(text),
    }
}

/// The addresses given this time, and those of the attempt before: it may have been the wrong one.
fn merged(given: Vec<String>, before: &[String]) -> Vec<String> {
    let mut all = given;
    for addr in before {
        if all.len() < JOIN_ADDRESSES_MAX && !all.contains(addr) {
            all.push(addr.clone());
        }
    }
    all
}

fn already_joined(identity: &Identity, token: &JoinToken) -> Result<(), Failure> {
    let node = identity.certificate.as_ref().map(|certificate| certificate.node_id.to_string());
    let node = node.unwrap_or_default();
    if same_swarm(identity, token) {
        return print(format_args!("This node is already part of this swarm, as node {node}.\n"));
    }
    Err(Failure::plain(format!(
        "this node is already part of another swarm, as node {node}. Leave that one first: \
         edgeagent leave"
    )))
}

/// The token names the root CA that this identity trusts, or is the very token it joined with
/// (a root rotation changes both).
fn same_swarm(identity: &Identity, token: &JoinToken) -> bool {
    PinnedRoot::pin(identity.root_ca.clone(), token).is_ok()
        || identity.token.expose() == token.expose().as_bytes()
}

/// The form of a token is judged before anything else happens.
pub(super) fn parse_token(text: &str) -> Result<JoinToken, Failure> {
    JoinToken::parse(text)
        .map_err(|error| Failure::usage(format!("invalid join token: {}", chain(&error))))
}

pub(super) fn read_token(
    token: Option<String>,
    file: Option<&Path>,
) -> Result<Zeroizing<String>, Failure> {
    match (token, file) {
        (Some(token), None) => Ok(Zeroizing::new(token)),
        (None, Some(path)) => read_token_file(path),
        (Some(_), Some(_)) => Err(Failure::usage("give --token or --token-file, not both")),
        (None, None) => Err(Failure::usage(
            "a join token is needed: --token TOKEN or --token-file FILE. A manager prints it: \
             docker swarm join-token worker",
        )),
    }
}

fn read_token_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    // Large enough from the start: a buffer that grows leaves a token behind.
    let capacity = usize::try_from(TOKEN_FILE_MAX_BYTES).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(TOKEN_FILE_MAX_BYTES).read_to_string(&mut text)
    } else {
        fs::File::open(path)
            .and_then(|file| file.take(TOKEN_FILE_MAX_BYTES).read_to_string(&mut text))
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => {
            Err(Failure::failed(&format!("cannot read the token from {}", path.display()), &error))
        }
    }
}

/// `host[:port]` with the default port made explicit.
pub(super) fn addresses(given: &[String]) -> Result<Vec<String>, Failure> {
    if given.is_empty() {
        return Err(Failure::usage(
            "the address of a manager is needed: edgeagent join --token TOKEN MANAGER[:2377]",
        ));
    }
    if JOIN_ADDRESSES_MAX < given.len() {
        return Err(Failure::usage(format!("at most {JOIN_ADDRESSES_MAX} addresses can be given")));
    }
    given.iter().map(|addr| address(addr)).collect()
}

fn address(given: &str) -> Result<String, Failure> {
    manager_address(given).ok_or_else(|| {
        Failure::usage(format!(
            "{given:?} is not an address: host, host:port, IPv4, IPv4:port or [IPv6]:port"
        ))
    })
}

/// Stops and removes every task and forgets the identity.
pub(super) fn leave(config: &Config) -> Result<(), Failure> {
    match control::ask(&config.exec_root, &Request::Leave) {
        Ok(Some(Response::Done)) => {}
        Ok(Some(Response::Failed(reason) | Response::Refused(reason))) => {
            return Err(Failure::plain(reason));
        }
        Ok(Some(Response::Status(_) | Response::Tasks(_))) => {
            return Err(Failure::plain("the running agent answered something else"));
        }
        // Nothing runs; what is stored may be pending or unusable, and is forgotten all the same.
        Ok(answer @ (None | Some(Response::NotJoined))) => {
            // An agent that is just starting must not read what is being forgotten.
            let _alone = match answer {
                Some(_) => None,
                None => {
                    node::make_private_dir(&config.exec_root)?;
                    Some(node::lock(&config.exec_root)?)
                }
            };
            leave_alone(config)?;
            control::ask(&config.exec_root, &Request::IdentityChanged)
                .map_err(|error| Failure::failed("the running agent does not answer", &error))?;
        }
        Err(error) => return Err(Failure::failed("the running agent does not answer", &error)),
    }
    print(format_args!("Node left the swarm. Its record stays there as Down: docker node rm\n"))
}

/// Leaves without an agent.
fn leave_alone(config: &Config) -> Result<(), Failure> {
    let _lock = Lock::exclusive(&config.data_root)?;
    // An identity whose seal is lost is still one to be forgotten.
    if !seal::is_sealed(&config.data_root) {
        return Err(Failure::not_joined());
    }
    // A provisioning file that can not be erased must not make this node join again.
    let machine = Machine::this();
    if let Ok(sealer) = Sealer::open(&config.data_root, &machine, &config.seal)
        && let Ok(Some(identity)) = IdentityStore::new(&config.data_root, sealer).load()
    {
        node::settle(config, &machine, &identity, false);
    }
    let _told = node::sweep(config, false);
    // Records of tasks go too: one that does not open would keep images from being pruned for ever.
    seal::discard(&config.data_root)
        .map_err(|error| Failure::failed("cannot erase the identity", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_attempt_tries_the_addresses_of_both() {
        let list = |addrs: &[&str]| addrs.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
        let all = merged(list(&["new:1", "same:1"]), &list(&["old:1", "same:1"]));
        assert_eq!(all, list(&["new:1", "same:1", "old:1"]));
        let many: Vec<String> = (0..JOIN_ADDRESSES_MAX).map(|n| format!("m{n}:1")).collect();
        assert_eq!(merged(many.clone(), &list(&["old:1"])), many);
    }
}
