//! Which list of managers is stored, and when: each store is a write to flash with fsync, and
//! managers decide how often their list changes.

use std::time::{Duration, Instant};

use crate::model::Peer;

/// Changes that are stored at once.
const AT_ONCE: u32 = 4;

/// One more may be stored after this long: at most 28 a day.
const REFILL: Duration = Duration::from_hours(1);

/// The list as it is stored, and the one that is to be.
#[derive(Debug)]
pub(super) struct Memory {
    stored: Vec<Peer>,
    wanted: Vec<Peer>,
    /// Stores that are left, at the time up to which they are counted.
    left: u32,
    counted: Instant,
}

impl Memory {
    pub(super) const fn new(stored: Vec<Peer>, now: Instant) -> Self {
        Self { stored, wanted: Vec::new(), left: AT_ONCE, counted: now }
    }

    /// Takes the newest list.
    pub(super) fn want(&mut self, list: Vec<Peer>) {
        self.wanted = list;
    }

    fn differs(&self) -> bool {
        !self.wanted.is_empty() && self.wanted != self.stored
    }

    /// When [`Memory::due`] has something next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let pause = if self.left == 0 { REFILL } else { Duration::ZERO };
        self.differs().then_some(self.counted + pause)
    }

    /// The list that is to be stored now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Vec<Peer>> {
        while self.left < AT_ONCE && self.counted + REFILL <= now {
            self.left += 1;
            self.counted += REFILL;
        }
        if self.left == AT_ONCE {
            self.counted = now;
        }
        if self.left == 0 || !self.differs() {
            return None;
        }
        self.left = self.left.saturating_sub(1);
        self.stored.clone_from(&self.wanted);
        Some(self.stored.clone())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use super::*;

    fn list(name: &str) -> Vec<Peer> {
        vec![Peer { node_id: name.into(), addr: format!("{name}:2377") }]
    }

    #[test]
    fn a_list_that_changes_all_the_time_is_stored_a_few_times_a_day() {
        let start = Instant::now();
        let mut memory = Memory::new(Vec::new(), start);
        let mut stores = 0;
        for second in 0..86_400_u64 {
            memory.want(list(if second % 2 == 0 { "a" } else { "b" }));
            stores += u32::from(memory.due(start + Duration::from_secs(second)).is_some());
        }
        assert!((24..=28).contains(&stores), "{stores}");
    }

    #[test]
    fn one_change_is_stored_at_once_and_the_last_of_many_is_stored_in_the_end() {
        let start = Instant::now();
        let mut memory = Memory::new(list("a"), start);
        memory.want(list("a"));
        assert_eq!((memory.deadline(), memory.due(start)), (None, None));
        for name in ["b", "c", "d", "e"] {
            memory.want(list(name));
            assert_eq!(memory.due(start), Some(list(name)));
        }
        memory.want(list("f"));
        assert_eq!(memory.due(start), None);
        memory.want(list("g"));
        let at = memory.deadline().unwrap();
        assert_eq!(at, start + REFILL);
        assert_eq!(memory.due(at), Some(list("g")));
        assert_eq!(memory.deadline(), None);
        // What came back by itself needs no write.
        memory.want(list("h"));
        memory.want(list("g"));
        assert_eq!((memory.deadline(), memory.due(at + REFILL)), (None, None));
    }
}
