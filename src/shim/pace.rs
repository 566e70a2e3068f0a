//! How much of the processor a shim may take for what its container does.
//!
//! A shim lies outside the groups of its container, and each line that the container prints costs
//! it some work: without a bound, a container with a twentieth of a core makes its shim burn most
//! of one. So the shim takes no more for it than the container itself may. While that is used up,
//! it does not read; the container's pipe fills, and who prints waits, as for a slow terminal.

use std::time::Duration;

const SECOND: u128 = 1_000_000_000;

/// A budget of processor time: grows with the container's share, up to one second's worth.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Nanoseconds of processor time in a second.
    share: u64,
    /// Nanoseconds that may be used now; below zero, none.
    left: i64,
    /// The clocks when it was last looked at: of the world, and of this thread's processor time.
    looked: Duration,
    used: Duration,
}

impl Pace {
    /// For a container that may use so many billionths of a core; both clocks as they are now.
    pub(super) fn new(share: u64, now: Duration, used: Duration) -> Self {
        // None at all would be an end of all output.
        let share = share.max(1_000_000);
        Self { share, left: i64::try_from(share).unwrap_or(i64::MAX), looked: now, used }
    }

    /// Looks at the clocks.
    pub(super) fn look(&mut self, now: Duration, used: Duration) {
        let earned = now.saturating_sub(self.looked).as_nanos() * u128::from(self.share) / SECOND;
        let spent = used.saturating_sub(self.used).as_nanos();
        let share = i64::try_from(self.share).unwrap_or(i64::MAX);
        let number = |nanos: u128| i64::try_from(nanos).unwrap_or(i64::MAX);
        self.left =
            self.left.saturating_add(number(earned)).min(share).saturating_sub(number(spent));
        (self.looked, self.used) = (now, used);
    }

    /// When there is a budget again; absent while there is one.
    pub(super) fn pause(&self) -> Option<Duration> {
        let missing = u128::from(self.left.min(0).unsigned_abs());
        let wait = (missing * SECOND).div_ceil(u128::from(self.share));
        (missing != 0).then(|| {
            self.looked
                .saturating_add(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn no_more_is_used_than_the_share() {
        for share in [10_000_000, 50_000_000, 500_000_000, 2_000_000_000] {
            let (mut now, mut used) = (ms(5000), ms(70));
            let begin = (now, used);
            let mut pace = Pace::new(share, now, used);
            // Two milliseconds of work whenever it may; it would take a whole core.
            while now < begin.0 + ms(60_000) {
                match pace.pause() {
                    Some(until) => now = until,
                    None => {
                        now += ms(2);
                        used += ms(2);
                    }
                }
                pace.look(now, used);
            }
            let taken = (used - begin.1).as_nanos() as f64 / (now - begin.0).as_nanos() as f64;
            let allowed = (share as f64 / 1e9).min(1.0);
            assert!((allowed * 0.95..allowed * 1.05).contains(&taken), "{share}: {taken}");
        }
    }

    #[test]
    fn who_prints_little_never_waits_and_saves_one_second_at_most() {
        let (mut now, mut used) = (ms(0), ms(0));
        let mut pace = Pace::new(50_000_000, now, used);
        for _ in 0..1000 {
            now += ms(100);
            used += ms(4);
            pace.look(now, used);
            assert_eq!(pace.pause(), None);
        }
        used += ms(100);
        pace.look(now, used);
        let paused = pace.pause().unwrap() - now;
        assert!((ms(900)..ms(1200)).contains(&paused), "{paused:?}");
    }
}
