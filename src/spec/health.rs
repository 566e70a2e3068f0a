//! Health checks: the spec's over the image's, field by field (moby `daemon/commit.go`, `merge`;
//! `daemon/health.go`).

use std::time::Duration;

use super::{Field, SpecError, process::no_nul};
use crate::{
    limits::{PROBE_INTERVAL, PROBE_RETRIES, PROBE_START_INTERVAL, PROBE_TIME_MIN, PROBE_TIMEOUT},
    model::{HealthCheck, HealthSpec, ImageConfig},
};

/// What `CMD-SHELL` runs when the image names no shell.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The health check of a container; nothing when there is none, or it was switched off.
pub(super) fn build(
    spec: Option<&HealthSpec>,
    image: &ImageConfig,
) -> Result<Option<HealthCheck>, SpecError> {
    let own = spec.cloned().unwrap_or_default();
    let images = image.healthcheck.clone().unwrap_or_default();
    let test = if own.test.is_empty() { images.test.unwrap_or_default() } else { own.test };
    let argv = match test.split_first() {
        None => return Ok(None),
        Some((word, _)) if word == "NONE" => return Ok(None),
        Some((word, argv)) if word == "CMD" => argv.to_vec(),
        Some((word, command)) if word == "CMD-SHELL" => {
            let shell = image.shell.clone().filter(|shell| !shell.is_empty());
            let mut argv = shell.unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
            argv.extend_from_slice(command);
            argv
        }
        Some((word, _)) => {
            return Err(SpecError::invalid(
                Field::HealthCmd,
                format!("invalid health check {word:?}: it begins with CMD, CMD-SHELL or NONE"),
            ));
        }
    };
    if argv.is_empty() {
        return Err(SpecError::invalid(
            Field::HealthCmd,
            "invalid health check: CMD names no program",
        ));
    }
    no_nul(Field::HealthCmd, "health check", &argv)?;
    let nanos = |nanos: i64| Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
    let retries = [own.retries, u32::try_from(images.retries).unwrap_or_default()];
    Ok(Some(HealthCheck {
        argv,
        interval: time(
            "Interval",
            Field::HealthInterval,
            [own.interval, nanos(images.interval)],
            PROBE_INTERVAL,
        )?,
        timeout: time(
            "Timeout",
            Field::HealthTimeout,
            [own.timeout, nanos(images.timeout)],
            PROBE_TIMEOUT,
        )?,
        retries: retries.into_iter().find(|retries| *retries != 0).unwrap_or(PROBE_RETRIES),
        start_period: time(
            "StartPeriod",
            Field::HealthStartPeriod,
            [own.start_period, nanos(images.start_period)],
            Duration::ZERO,
        )?,
        start_interval: time(
            "StartInterval",
            Field::HealthStartInterval,
            [own.start_interval, nanos(images.start_interval)],
            PROBE_START_INTERVAL,
        )?,
    }))
}

/// The first one that is set.
fn time(
    name: &str,
    field: Field,
    set: [Duration; 2],
    default: Duration,
) -> Result<Duration, SpecError> {
    match set.into_iter().find(|time| !time.is_zero()) {
        None => Ok(default),
        Some(time) if time < PROBE_TIME_MIN => Err(SpecError::invalid(
            field,
            format!("{name} in Healthcheck cannot be less than {}ms", PROBE_TIME_MIN.as_millis()),
        )),
        Some(time) => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ImageHealth;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn image() -> ImageConfig {
        let healthcheck = ImageHealth {
            test: Some(words(&["CMD-SHELL", "probe me"])),
            interval: 7_000_000_000,
            timeout: 2_000_000_000,
            retries: 9,
            ..ImageHealth::default()
        };
        ImageConfig { healthcheck: Some(healthcheck), ..ImageConfig::default() }
    }

    #[test]
    fn fields_come_from_the_spec_then_the_image_then_docker() {
        let check = build(None, &image()).unwrap().unwrap();
        assert_eq!(check.argv, words(&["/bin/sh", "-c", "probe me"]));
        assert_eq!((check.interval.as_secs(), check.timeout.as_secs(), check.retries), (7, 2, 9));
        assert_eq!(
            (check.start_period, check.start_interval),
            (Duration::ZERO, PROBE_START_INTERVAL)
        );
        // Only some fields of its own: the image's test stays.
        let own =
            HealthSpec { retries: 1, timeout: Duration::from_secs(5), ..HealthSpec::default() };
        let check = build(Some(&own), &image()).unwrap().unwrap();
        assert_eq!(check.argv.last().unwrap(), "probe me");
        assert_eq!((check.interval.as_secs(), check.timeout.as_secs(), check.retries), (7, 5, 1));
        let own = HealthSpec { test: words(&["CMD", "/probe", "x"]), ..HealthSpec::default() };
        let check = build(Some(&own), &ImageConfig::default()).unwrap().unwrap();
        assert_eq!(check.argv, words(&["/probe", "x"]));
        assert_eq!((check.interval, check.timeout), (PROBE_INTERVAL, PROBE_TIMEOUT));
        let bash = ImageConfig { shell: Some(words(&["/bin/bash", "-ec"])), ..image() };
        let check = build(None, &bash).unwrap().unwrap();
        assert_eq!(check.argv, words(&["/bin/bash", "-ec", "probe me"]));
    }

    #[test]
    fn it_can_be_switched_off_and_must_make_sense() {
        let none = HealthSpec { test: words(&["NONE"]), ..HealthSpec::default() };
        assert_eq!(build(Some(&none), &image()), Ok(None));
        assert_eq!(build(None, &ImageConfig::default()), Ok(None));
        assert_eq!(build(Some(&HealthSpec::default()), &ImageConfig::default()), Ok(None));
        for test in [&["CMD"][..], &["HTTP", "/"], &["CMD", "a\0b"]] {
            let bad = HealthSpec { test: words(test), ..HealthSpec::default() };
            assert!(build(Some(&bad), &image()).is_err(), "{test:?}");
        }
        let quick = HealthSpec { interval: Duration::from_micros(999), ..HealthSpec::default() };
        let error = build(Some(&quick), &image()).unwrap_err().to_string();
        let text = "Interval in Healthcheck cannot be less than 1ms; --health-interval ";
        assert!(error.starts_with(text), "{error}");
    }
}
