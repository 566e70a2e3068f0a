//! The lab manager: a swarm manager in one process, for demos and fault tests.
//!
//! It speaks swarm's wire protocol to workers, real dockerd ones as well, and is never linked
//! into edgeagent. What it is not: replicated, fast, or a place for a production swarm.
//!
//! - [`cli`] the command line, [`control`] the socket it goes through, [`commands`] what it does
//! - [`state`] what is kept on disk, [`lab`] its one owner, [`scheduler`] services to tasks
//! - [`server`] the port, [`grpc`] the frames, [`node_ca`], [`dispatcher`], [`logs`] the services
//! - [`ca`], [`der`], [`time`] certificates and tokens
//! - [`evil`] every way to be wrong on demand

mod ca;
mod cli;
mod commands;
mod control;
mod der;
mod dispatcher;
mod evil;
mod grpc;
mod lab;
mod logs;
mod node_ca;
#[expect(unreachable_pub, clippy::large_enum_variant, reason = "generated from lab.proto")]
mod proto;
mod scheduler;
mod server;
mod state;
mod time;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    rc::Rc,
};

use cli::{Arguments, Command, Init};
use lab::{Lab, say};
use smol::{LocalExecutor, net::TcpListener};
use state::State;

fn main() -> ExitCode {
    let Arguments { dir, command } = argh::from_env();
    let result = match command {
        Command::Init(wish) => init(&dir, &wish),
        Command::Serve(wish) => resume(&dir, &wish.evil),
        other @ (Command::JoinToken(_)
        | Command::Node(_)
        | Command::Service(_)
        | Command::Ca(_)
        | Command::Calls(_)
        | Command::Evil(_)) => control::ask(&dir, &other),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say(&reason);
            ExitCode::FAILURE
        }
    }
}

fn init(dir: &Path, wish: &Init) -> Result<(), String> {
    if state::exists(dir) {
        let dir = dir.display();
        return Err(format!(
            "there is a swarm in {dir}; go on with it: lab --dir {dir} serve. Or remove the folder"
        ));
    }
    let every = |addr: SocketAddr| addr.ip().is_unspecified();
    if !wish.any_address && wish.bind.parse().is_ok_and(every) {
        let bind = &wish.bind;
        return Err(format!(
            "{bind} would let every network in: name one address, or add --any-address"
        ));
    }
    let no_random = |_| String::from("the kernel gives no random numbers");
    let new_id = || ca::random_id().map_err(no_random);
    let secret = wish.secret.clone().map_or_else(new_id, Ok)?;
    let state = State {
        cluster: new_id()?,
        manager: new_id()?,
        manager_key: ca::pem("PRIVATE KEY", &ca::new_key().map_err(no_random)?),
        bind: wish.bind.clone(),
        manual_approval: wish.approval,
        join_rate: wish.join_rate,
        secret,
        validity_s: i64::try_from(wish.cert_validity.as_secs()).unwrap_or(i64::MAX / 4),
        heartbeat_ms: u64::try_from(wish.heartbeat.as_millis()).unwrap_or(u64::MAX / 8),
        root: ca::Authority::new(time::now_s()).map_err(no_random)?,
        cross: None,
        rotation: None,
        nodes: BTreeMap::new(),
        removed: BTreeSet::new(),
        services: BTreeMap::new(),
        tasks: BTreeMap::new(),
        evil: BTreeMap::new(),
    };
    serve(dir, state, &wish.evil)
}

fn resume(dir: &Path, evil: &str) -> Result<(), String> {
    let state = state::load(dir)
        .map_err(|error| format!("no swarm in {}: {error}. Start one: lab init", dir.display()))?;
    serve(dir, state, evil)
}

/// Serves until it is killed; everything that counts is on disk at any time.
fn serve(dir: &Path, mut state: State, evil: &str) -> Result<(), String> {
    for (name, n) in cli::modes(evil)? {
        evil::find(&name).ok_or_else(|| commands::unknown_mode(&name))?;
        state.evil.insert(name, n);
    }
    let executor = Rc::new(LocalExecutor::new());
    smol::block_on(executor.run(async {
        let bind = state.bind.clone();
        let failed = |error| format!("cannot listen on {bind}: {error}");
        let listener = TcpListener::bind(&bind).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        state.bind = addr.to_string();
        let failed = |error| format!("{}: {error}", dir.display());
        state::save(dir, &state).map_err(failed)?;
        let socket = control::bind(dir).map_err(failed)?;
        let token = ca::join_token(state.root.certificate.as_bytes(), &state.secret);
        let lab = Lab::new(dir.to_path_buf(), state, Rc::clone(&executor));
        lab.changed();
        say(&format!("serving on {addr}. To add a worker:"));
        say(&format!("    edgeagent join --token {token} {addr}"));
        let tasks = [
            executor.spawn(server::listen(Rc::clone(&lab), listener)),
            executor.spawn(control::listen(Rc::clone(&lab), socket)),
            executor.spawn(dispatcher::tick(lab)),
        ];
        for task in tasks {
            task.await;
        }
        Ok(())
    }))
}
