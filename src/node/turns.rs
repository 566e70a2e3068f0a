//! Whose turn it is to pull.
//!
//! One pull of a registry at a time: a second one would only halve the first one's share. A second
//! registry does not wait for the first: it may be the slow one. A pull that brings next to nothing
//! gives its turn to whoever waits and queues up again ([`Pace`]); what came is kept.

use std::{
    cell::RefCell,
    collections::VecDeque,
    time::{Duration, Instant},
};

use smol::channel::{Receiver, Sender, bounded};

/// Pulls at a time, each a fetch child of some MiB.
const SLOTS: usize = 2;

/// How often a pull is looked at, and over what time it is measured.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// A pull that brings fewer bytes within [`LOOK`] is slow: some 10 kB a second, what GPRS brings.
const SLOW_BYTES: u64 = 100 << 10;

/// A pull keeps its turn for so long, however slow: enough to connect and to bring something.
const LEAST_TURN: Duration = Duration::from_secs(30);

/// The turns of a node.
#[derive(Debug, Default)]
pub(super) struct Turns(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    running: Vec<Ticket>,
    /// In the order in which they get a turn.
    waiting: VecDeque<(Ticket, Sender<()>)>,
}

#[derive(Debug)]
struct Ticket {
    number: u64,
    registry: String,
    /// Runs while nobody else does.
    alone: bool,
}

/// A turn, or a place in the queue for one. Dropping it lets others go on.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Turns {
    /// Waits for a turn to pull from `registry`.
    pub(super) async fn take(&self, registry: &str) -> Turn<'_> {
        let (turn, granted) = self.queue(registry, false);
        wait(granted).await;
        turn
    }

    /// Waits for a turn while nobody else has one, ahead of everybody who waits.
    pub(super) async fn take_alone(&self, registry: &str) -> Turn<'_> {
        let (turn, granted) = self.queue(registry, true);
        wait(granted).await;
        turn
    }

    fn queue(&self, registry: &str, alone: bool) -> (Turn<'_>, Receiver<()>) {
        let (grant, granted) = bounded(1);
        let mut state = self.0.borrow_mut();
        let number = state.next;
        state.next += 1;
        let entry = (Ticket { number, registry: registry.to_owned(), alone }, grant);
        if alone {
            state.waiting.push_front(entry);
        } else {
            state.waiting.push_back(entry);
        }
        state.grant();
        (Turn { turns: self, number }, granted)
    }
}

/// The sender lives for as long as the place in the queue.
async fn wait(granted: Receiver<()>) {
    if granted.recv().await.is_err() {
        log::debug!("a turn to pull was given up");
    }
}

impl State {
    /// Lets everybody go on who can.
    fn grant(&mut self) {
        while let Some(at) = self.waiting.iter().position(|(ticket, _)| self.may_run(ticket)) {
            let Some((ticket, grant)) = self.waiting.remove(at) else { return };
            self.running.push(ticket);
            // There is room for one, and this is the only one.
            let _granted = grant.try_send(());
        }
    }

    fn may_run(&self, ticket: &Ticket) -> bool {
        if ticket.alone {
            return self.running.is_empty();
        }
        self.running.len() < SLOTS
            && self.running.iter().all(|other| !other.alone && other.registry != ticket.registry)
            && self.waiting.iter().all(|(other, _)| !other.alone)
    }
}

impl Turn<'_> {
    /// Whether somebody could go on if this turn ended.
    pub(super) fn is_wanted(&self) -> bool {
        let state = self.turns.0.borrow();
        let others = state.running.iter().filter(|ticket| ticket.number != self.number);
        let others: Vec<&Ticket> = others.collect();
        state.waiting.iter().any(|(ticket, _)| {
            // Who wants to be alone waits for every other one, and is helped by each.
            ticket.alone || others.iter().all(|other| other.registry != ticket.registry)
        })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.0.borrow_mut();
        state.running.retain(|ticket| ticket.number != self.number);
        state.waiting.retain(|(ticket, _)| ticket.number != self.number);
        state.grant();
    }
}

/// How fast a pull is: whether it may be asked to give its turn to others.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    /// Bytes within [`LOOK`] below which it is slow.
    least: u64,
    seen: u64,
}

impl Pace {
    /// A turn begins. `rate` is what the owner allows, in bytes per second: who is slow by order is
    /// not slow.
    pub(super) fn new(now: Instant, rate: Option<u64>) -> Self {
        let allowed = rate.map_or(u64::MAX, |rate| rate.saturating_mul(LOOK.as_secs()) / 2);
        Self { since: now, least: SLOW_BYTES.min(allowed), seen: 0 }
    }

    /// Looks at the bytes that are here of those in all, once every [`LOOK`]; true when the pull is
    /// slow and had its time. With all bytes here it is the store that takes the time.
    pub(super) fn is_slow(&mut self, done: u64, total: u64, now: Instant) -> bool {
        let brought = done.saturating_sub(self.seen);
        self.seen = done;
        let fetching = total == 0 || done < total;
        fetching && brought < self.least && LEAST_TURN <= now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_granted(granted: &Receiver<()>) -> bool {
        granted.try_recv().is_ok()
    }

    #[test]
    fn each_registry_has_one_turn_and_there_are_two() {
        let turns = Turns::default();
        let (a, a_granted) = turns.queue("a", false);
        assert!(is_granted(&a_granted));
        let (a2, a2_granted) = turns.queue("a", false);
        let (b, b_granted) = turns.queue("b", false);
        assert!(!is_granted(&a2_granted), "the registry is busy");
        assert!(is_granted(&b_granted), "the second slot");
        let (c, c_granted) = turns.queue("c", false);
        let (_d, d_granted) = turns.queue("d", false);
        assert!(!is_granted(&c_granted) && !is_granted(&d_granted));
        drop(b);
        assert!(is_granted(&c_granted), "a2 can not, c is the next that can");
        drop(a);
        assert!(is_granted(&a2_granted) && !is_granted(&d_granted), "in order");
        drop(c);
        assert!(is_granted(&d_granted));
        drop(a2);
    }

    #[test]
    fn a_place_in_the_queue_can_be_given_up() {
        let turns = Turns::default();
        let (a, _) = turns.queue("a", false);
        let (_b, _) = turns.queue("b", false);
        let (c, c_granted) = turns.queue("c", false);
        let (_d, d_granted) = turns.queue("d", false);
        drop(c);
        drop(a);
        assert!(!is_granted(&c_granted) && is_granted(&d_granted));
    }

    #[test]
    fn who_wants_to_be_alone_is_next() {
        let turns = Turns::default();
        let (a, _) = turns.queue("a", false);
        let (b, _) = turns.queue("b", false);
        let (_c, c_granted) = turns.queue("c", false);
        assert!(a.is_wanted() && b.is_wanted());
        let (alone, alone_granted) = turns.queue("x", true);
        drop(a);
        assert!(!is_granted(&alone_granted) && !is_granted(&c_granted) && b.is_wanted());
        drop(b);
        assert!(is_granted(&alone_granted) && !is_granted(&c_granted));
        drop(alone);
        assert!(is_granted(&c_granted));
    }

    #[test]
    fn a_turn_is_wanted_by_those_whom_its_end_would_help() {
        let turns = Turns::default();
        let (a, _) = turns.queue("a", false);
        assert!(!a.is_wanted());
        let (b, _) = turns.queue("b", false);
        assert!(!a.is_wanted() && !b.is_wanted(), "nobody waits");
        let (_a2, _) = turns.queue("a", false);
        assert!(a.is_wanted(), "another image of the same registry");
        assert!(!b.is_wanted(), "the end of b helps nobody: a is busy");
        let (_c, _) = turns.queue("c", false);
        assert!(b.is_wanted());
    }

    #[test]
    fn slow_is_who_had_time_and_brings_nothing() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let at = |looks: u32| start + LOOK * looks;
        let mut drip = Pace::new(start, None);
        assert!(!drip.is_slow(2 << 10, 1 << 30, at(1)) && !drip.is_slow(4 << 10, 1 << 30, at(2)));
        assert!(drip.is_slow(6 << 10, 1 << 30, at(3)));
        assert!(!drip.is_slow(10 << 20, 1 << 30, at(4)), "it goes on again");
        assert!(drip.is_slow(10 << 20, 1 << 30, at(5)));
        assert!(Pace::new(start, None).is_slow(0, 0, at(3)), "not even a manifest");
        assert!(!Pace::new(start, None).is_slow(5, 5, at(3)), "all is here");
        let mut ordered = Pace::new(start, Some(4096));
        assert!(!ordered.is_slow(40 << 10, 1 << 30, at(3)), "as fast as it may");
        assert!(ordered.is_slow(50 << 10, 1 << 30, at(4)), "slower than it may");
    }
}
