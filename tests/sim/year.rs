//! A year in the life of a certificate, in virtual time.

use std::time::{Duration, Instant};

use edgeagent::{
    agent::{Agent, Input, Output, Start},
    model::{LinkLoss, Now, UnixTime},
};

use crate::{desk::WALL, nouns, random::Dice};

const DAY: u64 = 86_400;
const YEAR: u64 = 365 * DAY;
/// Default of swarm.
const VALIDITY: i64 = 90 * 86_400;

/// A node whose renewals fail now and then.
struct Node {
    agent: Agent,
    dice: Dice,
    epoch: Instant,
    /// Seconds since the beginning, and what the wall clock is ahead by.
    clock: u64,
    ahead: i64,
    validity: (UnixTime, UnixTime),
    renewals: u32,
    failures: u64,
}

impl Node {
    fn new(seed: u64, failures: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an origin; only differences count")]
        let epoch = Instant::now();
        let validity = issued(0);
        let start = start(seed, validity);
        let now = Now { mono: epoch, wall: UnixTime::from_seconds(WALL) };
        let agent = Agent::new(start, now);
        let dice = Dice::new(seed + 1);
        Self { agent, dice, epoch, clock: 0, ahead: 0, validity, renewals: 0, failures }
    }

    fn now(&self) -> Now {
        let wall = WALL + i64::try_from(self.clock).unwrap() + self.ahead;
        Now {
            mono: self.epoch + Duration::from_secs(self.clock),
            wall: UnixTime::from_seconds(wall),
        }
    }

    /// The true time, whatever the clock shows.
    fn truth(&self) -> UnixTime {
        UnixTime::from_seconds(WALL + i64::try_from(self.clock).unwrap())
    }

    fn give(&mut self, input: Input) {
        self.agent.handle(input, self.now());
        while let Some(output) = self.agent.poll() {
            let answer = match output {
                Output::Connect { .. } => {
                    Input::Session(nouns::session("s1", &["m1"], Some(nouns::node())))
                }
                Output::Heartbeat => Input::HeartbeatAck { period: Duration::from_secs(600) },
                Output::Renew if self.dice.percent(self.failures) => Input::RenewalFailed,
                Output::Renew => {
                    self.renewals += 1;
                    self.validity = issued(self.clock);
                    let (not_before, not_after) = self.validity;
                    Input::Certificate { not_before, not_after }
                }
                Output::Persist(_)
                | Output::Erase(_)
                | Output::Managers(_)
                | Output::Lost(_)
                | Output::Close
                | Output::Watch
                | Output::Report(..)
                | Output::Perform(..)
                | Output::Cancel(_)
                | Output::Rejoin
                | Output::Left => continue,
            };
            // Every answer takes a second: time goes on within an online day.
            self.clock += 1;
            self.agent.handle(answer, self.now());
        }
    }

    /// Online for so many seconds.
    fn online(&mut self, seconds: u64) {
        let end = self.clock + seconds;
        self.give(Input::Timeout);
        while self.clock < end {
            assert!(self.truth() < self.validity.1, "expired after {} days", self.clock / DAY);
            let (at, _) = self.agent.deadline().unwrap();
            let wait = at.duration_since(self.epoch).as_secs() + 1;
            self.clock = self.clock.max(wait).min(end);
            self.give(Input::Timeout);
        }
    }
}

fn issued(at: u64) -> (UnixTime, UnixTime) {
    let from = WALL + i64::try_from(at).unwrap() - 3600;
    (UnixTime::from_seconds(from), UnixTime::from_seconds(from + VALIDITY + 3600))
}

fn start(seed: u64, validity: (UnixTime, UnixTime)) -> Start {
    Start { managers: vec![nouns::peer("m1")], seed, validity: Some(validity), ..Start::default() }
}

#[test]
fn a_device_that_is_online_one_day_in_thirty_never_expires() {
    for seed in 0..100 {
        for reboots in [false, true] {
            let mut node = Node::new(seed, 50);
            while node.clock < YEAR {
                node.online(DAY);
                node.give(Input::LinkLost(LinkLoss::Unreachable(String::from("no network"))));
                node.clock += 29 * DAY;
                if reboots {
                    node.agent = Agent::new(start(seed + node.clock, node.validity), node.now());
                    node.give(Input::Timeout);
                }
            }
            // Thirteen online days; each second one at least has to renew.
            assert!((6..=13).contains(&node.renewals), "{seed}: {}", node.renewals);
        }
    }
}

#[test]
fn a_node_that_is_always_online_asks_for_little() {
    for seed in 0..5 {
        let mut node = Node::new(seed, 0);
        node.online(YEAR);
        // 365 days in steps of 18 to 31.5.
        assert!((11..=20).contains(&node.renewals), "{seed}: {}", node.renewals);
    }
}

#[test]
fn a_wrong_clock_lets_no_certificate_expire() {
    let day = 86_400;
    for seed in 0..5 {
        // In 1970 for ever; a month ahead; a day back.
        for ahead in [-WALL, 30 * day, -day] {
            let mut node = Node::new(seed, 20);
            node.ahead = ahead;
            node.online(YEAR / 2);
            assert!((4..=11).contains(&node.renewals), "{seed} {ahead}: {}", node.renewals);
        }
    }
    // Jumps to and fro, every hour for a month: renewals stay rare.
    let mut node = Node::new(7, 0);
    for hour in 0..24 * 30 {
        node.ahead = [0, day, -day, 30 * day, -WALL][hour % 5];
        node.online(3600);
    }
    assert!((1..=30).contains(&node.renewals), "{}", node.renewals);
}
