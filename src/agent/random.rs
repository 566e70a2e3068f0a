//! Numbers for jitter and choice, from a seed that is passed in.
//!
//! Not for keys: whoever knows the seed knows every number.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): one word of state, any seed is good.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform over all 64 bits.
    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, `limit`); 0 when `limit` is 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(limit);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Uniform in [0, `limit`).
    pub(super) fn within(&mut self, limit: Duration) -> Duration {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_their_limit_and_reach_both_ends() {
        let mut random = Random::new(1);
        let seen: Vec<u64> = (0..1000).map(|_| random.below(10)).collect();
        assert!(seen.iter().all(|n| *n < 10));
        assert!(seen.contains(&0) && seen.contains(&9));
        assert_eq!(random.below(0), 0);
        assert!(random.within(Duration::from_secs(1)) < Duration::from_secs(1));
    }
}
