//! The managers that may be dialled, and how well each served so far.
//!
//! The addresses given to `join` stay for ever as a fallback with the lowest weight. Source:
//! swarmkit `remotes/remotes.go`; behaviour.md §7.6.
//!
//! Whatever list a manager tells is believed, for nothing else moves a fleet to new managers. It
//! may be of strangers, or of machines long gone. So after every second failure in a row the draw
//! is among those alone that no list can take away, each as likely as the other: the operator's
//! addresses, and the manager that served last.
//!
//! Weights alone would ask a manager that is gone again and again while the others elect a leader.
//! So nobody is asked twice before everybody was asked once, and then the one goes first whose
//! failure is the longest ago.

use crate::{
    limits::MANAGERS_MAX,
    model::{Peer, WeightedPeer},
};

use super::random::Random;

/// Weight of one good experience; a bad one is its negative.
const OBSERVATION: i64 = 10;
const WEIGHT_MAX: i64 = 256;

/// Managers with weights, and the fallback.
#[derive(Debug)]
pub(super) struct Remotes {
    managers: Vec<WeightedPeer>,
    seeds: Vec<Peer>,
    /// Served last.
    proven: Option<Peer>,
    /// Bad experiences since a good one.
    failures: u32,
    /// Addresses that failed since then, the latest last. At most [`MANAGERS_MAX`]; of more the
    /// first is forgotten, and may be asked again early.
    failed: Vec<String>,
}

impl Remotes {
    /// Known managers, and `host:port` addresses of the operator.
    pub(super) fn new(managers: Vec<Peer>, seeds: Vec<String>) -> Self {
        let managers =
            managers.into_iter().map(|peer| WeightedPeer { peer, weight: OBSERVATION }).collect();
        let seeds = seeds
            .into_iter()
            .filter(|addr| !addr.is_empty())
            .map(|addr| Peer { node_id: String::new(), addr })
            .collect();
        Self { managers, seeds, proven: None, failures: 0, failed: Vec::new() }
    }

    /// Takes over the managers of a session message; an empty list changes nothing.
    ///
    /// Returns the new list when it names other managers than before.
    pub(super) fn learn(&mut self, told: &[WeightedPeer]) -> Option<Vec<Peer>> {
        let mut next: Vec<WeightedPeer> = Vec::new();
        for manager in told.iter().filter(|manager| !manager.peer.addr.is_empty()) {
            if next.len() == MANAGERS_MAX {
                log::warn!("more managers than can be remembered; limit={MANAGERS_MAX}");
                break;
            }
            if next.iter().any(|other| other.peer == manager.peer) {
                continue;
            }
            let old = self.managers.iter().find(|other| other.peer == manager.peer);
            let weight = blend(old.map_or(0, |old| old.weight), manager.weight);
            next.push(WeightedPeer { peer: manager.peer.clone(), weight });
        }
        if next.is_empty() {
            return None;
        }
        next.sort_by(|a, b| a.peer.cmp(&b.peer));
        let before: Vec<Peer> = self.managers.iter().map(|m| m.peer.clone()).collect();
        let after: Vec<Peer> = next.iter().map(|m| m.peer.clone()).collect();
        self.managers = next;
        (before != after).then_some(after)
    }

    /// Notes how a link to `peer` went. Addresses of the operator have no weight to change.
    pub(super) fn observe(&mut self, peer: &Peer, good: bool) {
        if good {
            self.failures = 0;
            self.failed.clear();
            self.proven = Some(peer.clone());
        } else {
            self.failures = self.failures.saturating_add(1);
            self.failed.retain(|addr| *addr != peer.addr);
            if self.failed.len() == MANAGERS_MAX {
                self.failed.remove(0);
            }
            self.failed.push(peer.addr.clone());
        }
        if let Some(manager) = self.managers.iter_mut().find(|manager| manager.peer == *peer) {
            let observed = if good { OBSERVATION } else { -OBSERVATION };
            manager.weight = blend(manager.weight, observed);
        }
    }

    /// Draws one by weight, or a lasting one when it is its turn; never none unless there is none.
    pub(super) fn choose(&self, random: &mut Random) -> Option<Peer> {
        if self.failures != 0 && self.failures.is_multiple_of(2) {
            let lasting: Vec<_> = self.seeds.iter().chain(&self.proven).map(|p| (p, 0)).collect();
            if let Some(peer) = self.draw(&lasting, random) {
                return Some(peer.clone());
            }
        }
        let fallback = self
            .seeds
            .iter()
            .filter(|seed| self.managers.iter().all(|manager| manager.peer.addr != seed.addr))
            .map(|seed| (seed, 0));
        let all = self.managers.iter().map(|manager| (&manager.peer, manager.weight));
        self.draw(&all.chain(fallback).collect::<Vec<_>>(), random).cloned()
    }

    /// Draws by weight among those that have not failed; when all have, the one that failed first.
    fn draw<'a>(&self, peers: &[(&'a Peer, i64)], random: &mut Random) -> Option<&'a Peer> {
        let failed = |peer: &Peer| self.failed.iter().position(|addr| *addr == peer.addr);
        let fresh: Vec<(&Peer, u64)> = peers
            .iter()
            .filter(|(peer, _)| failed(peer).is_none())
            .map(|(peer, weight)| (*peer, tickets(*weight)))
            .collect();
        let mut drawn = random.below(fresh.iter().map(|(_, count)| count).sum());
        for (peer, count) in fresh {
            if drawn < count {
                return Some(peer);
            }
            drawn -= count;
        }
        peers.iter().map(|(peer, _)| *peer).min_by_key(|peer| failed(peer))
    }
}

/// Half old, half new, rounded up, within ±256.
fn blend(old: i64, observed: i64) -> i64 {
    let sum = old.saturating_add(observed.clamp(-WEIGHT_MAX, WEIGHT_MAX));
    (sum.saturating_add(1)).div_euclid(2).clamp(-WEIGHT_MAX, WEIGHT_MAX)
}

/// `max(weight, 0) + 0.001`, in thousandths.
fn tickets(weight: i64) -> u64 {
    u64::try_from(weight.max(0)).unwrap_or(0) * 1000 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &str) -> WeightedPeer {
        let peer = Peer { node_id: name.into(), addr: format!("{name}:2377") };
        WeightedPeer { peer, weight: 10 }
    }

    #[test]
    fn weights_follow_the_formula_of_swarm() {
        assert_eq!(blend(0, 10), 5);
        assert_eq!(blend(5, 10), 8);
        assert_eq!(blend(10, -10), 0);
        assert_eq!(blend(0, -10), -5);
        assert_eq!(blend(-5, -10), -7);
        assert_eq!(blend(256, i64::MAX), 256);
        assert_eq!(blend(-256, i64::MIN), -256);
    }

    #[test]
    fn seeds_are_never_dropped_and_rarely_drawn() {
        let mut remotes = Remotes::new(vec![], vec!["seed:2377".into()]);
        let mut random = Random::new(7);
        assert_eq!(remotes.choose(&mut random).unwrap().addr, "seed:2377");
        assert!(remotes.learn(&[manager("m1")]).is_some());
        let drawn = |remotes: &Remotes, random: &mut Random| {
            (0..1000).filter(|_| remotes.choose(random).unwrap().addr == "seed:2377").count()
        };
        assert!(drawn(&remotes, &mut random) < 10);
        remotes.observe(&manager("m1").peer, false);
        assert_eq!(drawn(&remotes, &mut random), 1000);
    }

    #[test]
    fn nobody_is_asked_again_before_everybody_was_asked() {
        let mut remotes = Remotes::new(vec![], vec!["m1:2377".into()]);
        remotes.learn(&[manager("m1"), manager("m2"), manager("m3")]);
        remotes.observe(&manager("m1").peer, true);
        let mut random = Random::new(5);
        let mut asked = Vec::new();
        for _ in 0..9 {
            let peer = remotes.choose(&mut random).unwrap();
            remotes.observe(&peer, false);
            asked.push(peer.addr);
        }
        // Every second time it is the turn of the seed, dead as it may be, and in between that of
        // the others, one after the other.
        let others: Vec<_> = asked.iter().skip(1).step_by(2).collect();
        assert!(others.windows(2).all(|two| two[0] != two[1]), "{asked:?}");
        assert!(others.iter().all(|addr| *addr != "m1:2377"), "{asked:?}");
    }

    #[test]
    fn a_list_is_told_only_when_it_changed_and_an_empty_one_counts_for_nothing() {
        let mut remotes = Remotes::new(vec![manager("m1").peer], vec![]);
        assert_eq!(remotes.learn(&[]), None);
        assert_eq!(remotes.learn(&[manager("m1"), manager("m1")]), None);
        let both = remotes.learn(&[manager("m2"), manager("m1")]).unwrap();
        assert_eq!(both.len(), 2);
        assert_eq!(remotes.learn(&[manager("m1"), manager("m2")]), None);
        let mut blank = manager("m3");
        blank.peer.addr = String::new();
        assert_eq!(remotes.learn(&[blank]), None);
        assert!(Remotes::new(vec![], vec![]).choose(&mut Random::new(1)).is_none());
    }

    #[test]
    fn a_list_of_strangers_can_not_keep_us_from_the_seeds_and_the_last_that_served() {
        let mut remotes = Remotes::new(vec![], vec!["seed:2377".into()]);
        let mut random = Random::new(3);
        remotes.observe(&manager("good").peer, true);
        let strangers: Vec<_> = (0..MANAGERS_MAX).map(|n| manager(&format!("m{n}"))).collect();
        remotes.learn(&strangers);
        let mut drawn = Vec::new();
        for _ in 0..40 {
            let peer = remotes.choose(&mut random).unwrap();
            remotes.observe(&peer, false);
            drawn.push(peer.addr);
        }
        let lasting = |addr: &String| addr == "seed:2377" || addr == "good:2377";
        assert!(drawn.iter().skip(2).step_by(2).all(lasting), "{drawn:?}");
        for addr in ["seed:2377", "good:2377"] {
            assert!(drawn.iter().take(12).any(|seen| seen == addr), "{drawn:?}");
        }
        // The others still have their turn: a list that is right is not given up.
        assert!(drawn.iter().skip(1).step_by(2).all(|addr| !lasting(addr)), "{drawn:?}");
        // Who serves is stayed with.
        remotes.observe(&manager("m1").peer, true);
        assert!(!lasting(&remotes.choose(&mut random).unwrap().addr));
    }

    #[test]
    fn a_list_without_end_is_cut() {
        let told: Vec<WeightedPeer> = (0..100).map(|n| manager(&format!("m{n}"))).collect();
        let mut remotes = Remotes::new(vec![], vec![]);
        assert_eq!(remotes.learn(&told).unwrap().len(), MANAGERS_MAX);
    }
}
