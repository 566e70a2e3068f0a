//! A container's health: when to probe, and what the probes mean (moby `daemon/health.go`).
//!
//! Knows no processes and no clock; times are on the monotonic one.

use std::time::Duration;

use crate::{
    limits::PROBE_OUTPUT_MAX_BYTES,
    model::{Health, HealthCheck, HealthStatus},
};

/// What docker adds to output that was cut.
const CUT: &str = "...";

/// The health of one container, and when it is asked for next.
#[derive(Debug)]
pub(super) struct Monitor {
    check: HealthCheck,
    health: Health,
    /// When the container started.
    started: Duration,
    next: Duration,
}

impl Monitor {
    /// For a container that started at `now`: the first probe comes after one interval.
    pub(super) fn new(check: HealthCheck, now: Duration) -> Self {
        let health = Health {
            status: HealthStatus::Starting,
            failing_streak: 0,
            exit_code: None,
            output: String::new(),
        };
        let mut monitor = Self { check, health, started: now, next: now };
        monitor.schedule(now);
        monitor
    }

    /// The container's program begins at `now`, which may be later than [`Self::new`].
    pub(super) fn begin(&mut self, now: Duration) {
        self.started = now;
        self.schedule(now);
    }

    /// How long a probe may take.
    pub(super) const fn timeout(&self) -> Duration {
        self.check.timeout
    }

    pub(super) const fn health(&self) -> &Health {
        &self.health
    }

    /// When the next probe is to begin.
    pub(super) const fn next(&self) -> Duration {
        self.next
    }

    /// A probe that began at `began` ended with `code` (absent: it was killed for taking too
    /// long) at `now`. True when there is something to tell: a change, or a failure.
    pub(super) fn probed(
        &mut self,
        began: Duration,
        code: Option<i32>,
        output: String,
        now: Duration,
    ) -> bool {
        let before = self.health.status;
        if code == Some(0) {
            self.health.status = HealthStatus::Healthy;
            self.health.failing_streak = 0;
        } else if before != HealthStatus::Starting
            || self.check.start_period <= began.saturating_sub(self.started)
        {
            self.health.failing_streak = self.health.failing_streak.saturating_add(1);
            if self.check.retries <= self.health.failing_streak {
                self.health.status = HealthStatus::Unhealthy;
            }
        }
        self.schedule(now);
        let told = code != Some(0) || before != self.health.status;
        if told {
            self.health.exit_code = Some(code.unwrap_or(-1));
            self.health.output = output;
        }
        told
    }

    fn schedule(&mut self, now: Duration) {
        let starting = self.health.status == HealthStatus::Starting
            && now.saturating_sub(self.started) < self.check.start_period;
        let pause = if starting { self.check.start_interval } else { self.check.interval };
        self.next = now.saturating_add(pause);
    }
}

/// What a probe printed, with a bound.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    cut: bool,
}

impl Output {
    /// Takes what was read; what is too much is dropped.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = PROBE_OUTPUT_MAX_BYTES.saturating_sub(self.bytes.len());
        self.cut |= room < bytes.len();
        self.bytes.extend(bytes.iter().take(room));
    }

    /// As text, after `before` when there is such.
    pub(super) fn text(&self, before: &str) -> String {
        let between = if before.is_empty() || self.bytes.is_empty() { "" } else { ": " };
        let mut text = format!("{before}{between}{}", String::from_utf8_lossy(&self.bytes));
        let cut = self.cut || PROBE_OUTPUT_MAX_BYTES < text.len();
        if cut {
            let room = PROBE_OUTPUT_MAX_BYTES.saturating_sub(CUT.len());
            text.truncate(text.floor_char_boundary(room));
            text.push_str(CUT);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn monitor(start_period: u64) -> Monitor {
        let check = HealthCheck {
            argv: vec!["probe".to_owned()],
            interval: seconds(10),
            timeout: seconds(3),
            retries: 2,
            start_period: seconds(start_period),
            start_interval: seconds(1),
        };
        Monitor::new(check, seconds(100))
    }

    fn probe(monitor: &mut Monitor, at: u64, code: Option<i32>) -> HealthStatus {
        monitor.probed(seconds(at), code, String::new(), seconds(at));
        monitor.health().status
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let mut monitor = monitor(0);
        assert_eq!(monitor.next(), seconds(110), "the first after one interval");
        assert_eq!(probe(&mut monitor, 110, Some(1)), HealthStatus::Starting);
        assert_eq!(probe(&mut monitor, 120, Some(0)), HealthStatus::Healthy);
        assert_eq!(probe(&mut monitor, 130, None), HealthStatus::Healthy);
        assert_eq!(monitor.health().exit_code, Some(-1));
        assert_eq!(probe(&mut monitor, 140, Some(0)), HealthStatus::Healthy);
        assert_eq!(probe(&mut monitor, 150, Some(7)), HealthStatus::Healthy, "the row was broken");
        assert_eq!(probe(&mut monitor, 160, Some(1)), HealthStatus::Unhealthy);
        assert_eq!(probe(&mut monitor, 170, Some(0)), HealthStatus::Healthy, "and back");
        assert_eq!(monitor.next(), seconds(180));
    }

    #[test]
    fn failures_of_the_start_period_do_not_count_until_a_success() {
        let mut slow = monitor(5);
        assert_eq!(slow.next(), seconds(101), "the start interval");
        for at in [101, 102, 103, 104] {
            assert_eq!(probe(&mut slow, at, Some(1)), HealthStatus::Starting);
            assert_eq!(slow.health().failing_streak, 0);
        }
        // Begun in the period, ended after it: does not count, but the next comes later.
        slow.probed(seconds(104), Some(1), String::new(), seconds(106));
        assert_eq!((slow.health().failing_streak, slow.next()), (0, seconds(116)));
        assert_eq!(probe(&mut slow, 116, Some(1)), HealthStatus::Starting);
        assert_eq!(probe(&mut slow, 126, Some(1)), HealthStatus::Unhealthy);
        // A success ends the period.
        let mut quick = monitor(50);
        assert_eq!(probe(&mut quick, 101, Some(0)), HealthStatus::Healthy);
        assert_eq!(quick.next(), seconds(111));
        assert_eq!(probe(&mut quick, 111, Some(1)), HealthStatus::Healthy);
        assert_eq!(probe(&mut quick, 121, Some(1)), HealthStatus::Unhealthy);
    }

    #[test]
    fn only_changes_and_failures_are_told() {
        let mut monitor = monitor(0);
        let mut told =
            |at, code| monitor.probed(seconds(at), Some(code), String::new(), seconds(at));
        assert!(told(110, 0), "healthy now");
        assert!(!told(120, 0));
        assert!(told(130, 1));
        assert!(!told(140, 0));
    }

    #[test]
    fn output_is_bounded_even_when_it_is_no_text() {
        let mut output = Output::default();
        output.push(b"short");
        assert_eq!((output.text("late"), output.text("")), ("late: short".into(), "short".into()));
        assert_eq!(Output::default().text("late"), "late");
        output.push(&[0xff; 10_000]);
        let text = output.text("late");
        assert!(text.len() <= PROBE_OUTPUT_MAX_BYTES && text.ends_with(CUT), "{}", text.len());
    }
}
