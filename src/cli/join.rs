//! `join` and `leave`.

use std::{fs, io::Read as _, path::Path, rc::Rc};

use smol::{LocalExecutor, future};
use zeroize::Zeroizing;

use super::{Failure, Join, print};
use crate::{
    ca::{JoinToken, PinnedRoot},
    config::Config,
    limits::{DEFAULT_MANAGER_PORT, JOIN_ADDRESSES_MAX, TOKEN_FILE_MAX_BYTES},
    model::{Identity, PendingCertificate, chain},
    node::{
        self,
        control::{self, Request, Response},
        enrol::{Enrolment, JoinError},
    },
    seal::{self, IdentityStore, Lock, Machine, Sealer},
};

/// Joins a swarm, or says that this node is in it already.
pub(super) fn join(config: &Config, arguments: Join) -> Result<(), Failure> {
    let token = read_token(&arguments)?;
    let token = JoinToken::parse(token.trim())
        .map_err(|error| Failure::usage(format!("invalid join token: {}", chain(&error))))?;
    let seeds = addresses(&arguments.addresses)?;
    node::make_private_dir(&config.data_root)?;
    let _lock = Lock::exclusive(&config.data_root)?;
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
        match known {
            Some(mut identity) if same_swarm(&identity, &token) => match identity.pending.clone() {
                Some(pending) => {
                    identity.seeds = merged(seeds, &identity.seeds);
                    enrolment.resume(&mut identity, &pending, tell_pending).await
                }
                None => enrolment.join(&token, seeds, arguments.availability, tell_pending).await,
            },
            Some(_) | None => {
                enrolment.join(&token, seeds, arguments.availability, tell_pending).await
            }
        }
    }))
    .map_err(failure)?;
    match control::ask(&config.exec_root, Request::IdentityChanged) {
        Ok(Some(_)) => {}
        Ok(None) => tell("no agent runs on this node yet; start it: edgeagent run"),
        Err(error) => tell(&format!("the running agent does not answer, restart it: {error}")),
    }
    log::debug!("joined node.id={}", issued.node_id);
    print(format_args!("This node joined a swarm as a worker.\n"))
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

fn read_token(arguments: &Join) -> Result<Zeroizing<String>, Failure> {
    match (&arguments.token, &arguments.token_file) {
        (Some(token), None) => Ok(Zeroizing::new(token.clone())),
        (None, Some(path)) => read_token_file(path),
        (Some(_), Some(_)) => Err(Failure::usage("give --token or --token-file, not both")),
        (None, None) => Err(Failure::usage(
            "a join token is needed: --token TOKEN or --token-file FILE. A manager prints it: \
             docker swarm join-token worker",
        )),
    }
}

fn read_token_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
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
    let bad = || {
        Failure::usage(format!(
            "{given:?} is not an address: host, host:port, IPv4, IPv4:port or [IPv6]:port"
        ))
    };
    let (host, port) = if let Some(rest) = given.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
        (format!("[{host}]"), rest.strip_prefix(':'))
    } else if given.parse::<std::net::Ipv6Addr>().is_ok() {
        (format!("[{given}]"), None)
    } else {
        match given.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (given.to_owned(), None),
        }
    };
    let port = match port {
        Some(port) => port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(bad)?,
        None if given.starts_with('[') && !given.ends_with(']') => return Err(bad()),
        None => DEFAULT_MANAGER_PORT,
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]%".contains(&b);
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err(bad());
    }
    Ok(format!("{host}:{port}"))
}

/// Stops and removes every task and forgets the identity.
pub(super) fn leave(config: &Config) -> Result<(), Failure> {
    match control::ask(&config.exec_root, Request::Leave) {
        Ok(Some(Response::Done)) => {}
        Ok(Some(Response::Failed(reason))) => return Err(Failure::plain(reason)),
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
            control::ask(&config.exec_root, Request::IdentityChanged)
                .map_err(|error| Failure::failed("the running agent does not answer", &error))?;
        }
        Err(error) => return Err(Failure::failed("the running agent does not answer", &error)),
    }
    print(format_args!("Node left the swarm. Its record stays there as Down: docker node rm\n"))
}

/// Leaves without an agent.
fn leave_alone(config: &Config) -> Result<(), Failure> {
    let _lock = Lock::exclusive(&config.data_root)?;
    // Nothing is opened: an identity whose seal is lost is still one to be forgotten.
    if !seal::is_sealed(&config.data_root) {
        return Err(Failure::not_joined());
    }
    node::sweep(config);
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

    #[test]
    fn addresses_get_the_port_that_managers_use() {
        for (given, full) in [
            ("10.0.0.1", "10.0.0.1:2377"),
            ("10.0.0.1:4000", "10.0.0.1:4000"),
            ("manager.example", "manager.example:2377"),
            ("[::1]", "[::1]:2377"),
            ("[::1]:99", "[::1]:99"),
            ("fe80::1", "[fe80::1]:2377"),
        ] {
            assert_eq!(address(given).unwrap(), full);
        }
        for bad in [
            "",
            ":2377",
            "host:",
            "host:0",
            "host:70000",
            "host:x",
            "[::1",
            "[::1]x",
            "a b",
            "http://h",
        ] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }
}
