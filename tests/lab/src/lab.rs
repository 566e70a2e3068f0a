//! The one owner of everything: state on disk, sessions in memory, and who must be told.
//!
//! All of the lab runs on one thread. Nobody holds a borrow across an `await`.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    net::IpAddr,
    path::PathBuf,
    rc::Rc,
    task::{Poll, Waker},
};

use smol::{LocalExecutor, Task};

use crate::{
    ca::{self, NoRandom, Role, Template},
    evil::{self, Hook},
    logs::Subscriptions,
    scheduler,
    state::{self, Issuance, Liveness, Node, State},
    time,
};

/// A session of a node: ends with the process, so every node registers again after a restart.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    /// Down after this, milliseconds since 1970.
    pub(crate) deadline_ms: u64,
    /// New registrations that followed each other closely, and the last of them.
    pub(crate) registrations: u32,
    pub(crate) registered_ms: u64,
}

/// The lab.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) executor: Rc<LocalExecutor<'static>>,
    dir: PathBuf,
    pub(crate) state: RefCell<State>,
    pub(crate) sessions: RefCell<BTreeMap<String, Session>>,
    pub(crate) subscriptions: RefCell<Subscriptions>,
    /// How often each method was called since the start, or since the last switch of an evil mode.
    pub(crate) calls: RefCell<BTreeMap<&'static str, u64>>,
    /// New nodes of each address, and when its minute began, in milliseconds since 1970.
    pub(crate) newcomers: RefCell<BTreeMap<IpAddr, (u64, u32)>>,
    /// Open connections; dropping one closes it.
    pub(crate) connections: RefCell<BTreeMap<u64, Task<()>>>,
    changes: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
    /// When the scheduler wants to be asked again.
    pub(crate) next_ms: Cell<Option<u64>>,
}

impl Lab {
    pub(crate) fn new(
        dir: PathBuf,
        state: State,
        executor: Rc<LocalExecutor<'static>>,
    ) -> Rc<Self> {
        let now = time::now_ms();
        // As a new leader does: nodes are unknown, and down when they do not come back.
        let grace = state.heartbeat_ms.saturating_mul(6);
        let mut state = state;
        let mut sessions = BTreeMap::new();
        for (id, node) in &mut state.nodes {
            if node.status == Liveness::Ready {
                node.status = Liveness::Unknown;
                let session = Session {
                    id: String::new(),
                    deadline_ms: now + grace,
                    registrations: 0,
                    registered_ms: 0,
                };
                sessions.insert(id.clone(), session);
            }
        }
        Rc::new(Self {
            executor,
            dir,
            state: RefCell::new(state),
            sessions: RefCell::new(sessions),
            subscriptions: RefCell::default(),
            calls: RefCell::default(),
            newcomers: RefCell::default(),
            connections: RefCell::default(),
            changes: Cell::new(0),
            waiting: RefCell::default(),
            next_ms: Cell::new(None),
        })
    }

    /// To be called after every change: schedules, saves, wakes who waits.
    pub(crate) fn changed(&self) {
        {
            let mut state = self.state.borrow_mut();
            converge(&mut state);
            match scheduler::reconcile(&mut state, time::now_ms()) {
                Ok(next) => self.next_ms.set(next),
                Err(NoRandom) => say("no random numbers: nothing was scheduled"),
            }
            if let Err(error) = state::save(&self.dir, &state) {
                say(&format!("the state could not be saved: {error}"));
            }
        }
        self.wake();
    }

    /// Wakes who waits, without anything having changed on disk.
    pub(crate) fn wake(&self) {
        self.changes.set(self.changes.get().wrapping_add(1));
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// The number of changes so far.
    pub(crate) fn version(&self) -> u64 {
        self.changes.get()
    }

    /// Waits until there was a change after `seen`.
    pub(crate) async fn change_after(&self, seen: u64) {
        poll_fn(|cx| {
            if self.changes.get() != seen {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            waiting.retain(|waker| !waker.will_wake(cx.waker()));
            waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Evil modes that are on: what they do, and their number.
    pub(crate) fn evil(&self) -> Vec<(Hook, u64)> {
        let state = self.state.borrow();
        let on = state.evil.iter().filter_map(|(name, n)| Some((evil::find(name)?.hook, *n)));
        on.collect()
    }

    /// The bundle that everybody pins.
    pub(crate) fn root_pem(&self) -> String {
        self.state.borrow().root.certificate.clone()
    }
}

/// What an operator reads on the lab's own terminal.
#[expect(clippy::print_stderr, reason = "the lab is a program for a terminal")]
pub(crate) fn say(text: &str) {
    eprintln!("lab: {text}");
}

/// Signs a node's certificate with the authority of the day. An evil mode may change it.
pub(crate) fn issue(lab: &Lab, id: &str) -> Result<(), NoRandom> {
    let evil = lab.evil();
    let mut state = lab.state.borrow_mut();
    let state = &mut *state;
    let Some(node) = state.nodes.get_mut(id) else { return Ok(()) };
    let Some(spki) = ca::request_key(node.csr.as_bytes()) else {
        node.issuance = Issuance::Failed;
        node.refusal = String::from("failed to sign node certificate: bad request");
        return Ok(());
    };
    let mut template =
        Template::node(&state.cluster, id, Role::Worker, spki, state.validity_s, time::now_s());
    for (hook, n) in evil {
        if let Hook::Sign(change) = hook {
            change(&mut template, n);
        }
    }
    node.certificate = match &state.rotation {
        Some(rotation) => rotation.next.sign(&template)? + &rotation.cross,
        None => state.root.sign(&template)?,
    };
    node.issuance = Issuance::Issued;
    Ok(())
}

/// Ends a root rotation once every node reports the new issuer: the root switches, and with it
/// the join token.
fn converge(state: &mut State) {
    let Some(rotation) = &state.rotation else { return };
    let Some(facts) = rotation.next.facts() else { return };
    let issuer = ca::fingerprint(&facts.spki);
    if !state.nodes.values().all(|node: &Node| node.issuer == issuer) {
        return;
    }
    let Ok(secret) = ca::random_id() else { return };
    if let Some(rotation) = state.rotation.take() {
        state.root = rotation.next;
        state.cross = Some(rotation.cross);
        state.secret = secret;
        say("the root CA has been rotated; there is a new join token");
    }
}
