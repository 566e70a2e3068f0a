//! Limits: memory, CPU, processes, logs.

use std::collections::BTreeMap;

use super::{Field, NodeFacts, SpecError};
use crate::{
    limits::{CONTAINER_MEMORY_MIN_BYTES, CONTAINER_NANO_CPUS_MIN},
    model::{Driver, Rlimit, Ulimit, byte_size},
};

/// `RLIMIT_*` numbers of Linux on ARM, x86 and RISC-V. Docker knows no `as` and no `rss` that
/// works; `as` is refused as there (docker/go-units `ulimit.go`).
const RLIMITS: [(&str, u32); 15] = [
    ("cpu", 0),
    ("fsize", 1),
    ("data", 2),
    ("stack", 3),
    ("core", 4),
    ("rss", 5),
    ("nproc", 6),
    ("nofile", 7),
    ("memlock", 8),
    ("locks", 10),
    ("sigpending", 11),
    ("msgqueue", 12),
    ("nice", 13),
    ("rtprio", 14),
    ("rttime", 15),
];

/// The resource limits: the spec's over the node's, by name.
pub(super) fn rlimits(node: &[Ulimit], spec: &[Ulimit]) -> Result<Vec<Rlimit>, SpecError> {
    let mut limits = BTreeMap::new();
    for ulimit in node.iter().chain(spec) {
        let name = ulimit.name.as_str();
        let Some((_, resource)) = RLIMITS.iter().find(|(known, _)| *known == name) else {
            return Err(SpecError::invalid(Field::Ulimit, format!("invalid ulimit type: {name}")));
        };
        let (Some(soft), Some(hard)) = (bound(ulimit.soft), bound(ulimit.hard)) else {
            return Err(SpecError::invalid(
                Field::Ulimit,
                format!("invalid ulimit {name}: limits are -1 (unlimited), 0 or more"),
            ));
        };
        if hard < soft {
            return Err(SpecError::invalid(
                Field::Ulimit,
                format!(
                    "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                    ulimit.soft, ulimit.hard
                ),
            ));
        }
        limits.insert(*resource, Rlimit { resource: *resource, soft, hard });
    }
    Ok(limits.into_values().collect())
}

fn bound(limit: i64) -> Option<u64> {
    if limit == -1 { Some(u64::MAX) } else { u64::try_from(limit).ok() }
}

/// The memory limit; 0 or less: none.
pub(super) fn memory(bytes: i64) -> Result<Option<u64>, SpecError> {
    match u64::try_from(bytes) {
        Ok(0) | Err(_) => Ok(None),
        Ok(bytes) if bytes < CONTAINER_MEMORY_MIN_BYTES => Err(SpecError::Memory),
        Ok(bytes) => Ok(Some(bytes)),
    }
}

/// The memory limit, or none where the kernel can not enforce one and the owner does not mind, as
/// under Docker.
pub(super) fn enforced(limit: Option<u64>, node: &NodeFacts) -> Result<Option<u64>, SpecError> {
    match limit {
        Some(_) if !node.memory_controller && node.policy.reject_unenforced => {
            Err(SpecError::NoMemoryController)
        }
        limit => Ok(limit.filter(|_| node.memory_controller)),
    }
}

/// The CPU limit; 0 or less: none.
pub(super) fn cpus(nano_cpus: i64, available: u32) -> Result<Option<u64>, SpecError> {
    let most = u64::from(available).saturating_mul(1_000_000_000);
    match u64::try_from(nano_cpus) {
        Ok(0) | Err(_) => Ok(None),
        Ok(nano) if nano < CONTAINER_NANO_CPUS_MIN || most < nano => {
            Err(SpecError::Cpus { available })
        }
        Ok(nano) => Ok(Some(nano)),
    }
}

/// The OOM killer's preference.
pub(super) fn oom_score_adj(score: i64) -> Result<i32, SpecError> {
    i32::try_from(score).ok().filter(|score| (-1000..=1000).contains(score)).ok_or_else(|| {
        SpecError::invalid(
            Field::OomScoreAdj,
            format!("Invalid value {score}, range for oom score adj is [-1000, 1000]"),
        )
    })
}

/// Bytes of the log ring; 0: no log is kept. The file drivers' sizes can only make it smaller.
pub(super) fn log_bytes(driver: Option<&Driver>, node: u64) -> Result<u64, SpecError> {
    let Some(driver) = driver else {
        return Ok(node);
    };
    if driver.name == "none" {
        return Ok(0);
    }
    if !matches!(driver.name.as_str(), "" | "json-file" | "local") {
        return Err(SpecError::unsupported(
            Field::LogDriver,
            format!("--log-driver {}", driver.name),
            "use json-file, local or none; logs are kept in memory either way",
        ));
    }
    let (mut size, mut files) = (None, 1_u64);
    for (key, value) in &driver.options {
        let valid = match key.as_str() {
            "max-size" if value == "-1" => true,
            "max-size" => {
                size = byte_size(value).filter(|size| 0 < *size);
                size.is_some()
            }
            "max-file" => {
                files = value.parse().unwrap_or(0);
                0 < files
            }
            // They only say how Docker handles its files and queues.
            "compress" | "cache-disabled" | "cache-max-file" | "cache-max-size"
            | "cache-compress" | "mode" | "max-buffer-size" => true,
            // `labels` and `env` are shown with each line, see `log.rs`; the others add words to
            // lines that are sent or stored elsewhere.
            "labels" | "labels-regex" | "env" | "env-regex" | "tag" => true,
            _ => {
                let name = if driver.name.is_empty() { "json-file" } else { &driver.name };
                return Err(SpecError::invalid(
                    Field::LogOption,
                    format!("unknown log opt '{key}' for {name} log driver"),
                ));
            }
        };
        if !valid {
            return Err(SpecError::invalid(
                Field::LogOption,
                format!("invalid value for log opt {key}: {value:?}"),
            ));
        }
    }
    let wanted = size.map_or(node, |size| size.saturating_mul(files));
    Ok(wanted.clamp(LOG_MIN_BYTES.min(node), node))
}

/// Smallest log ring that is worth having, whatever `max-size` says: 16 KiB.
const LOG_MIN_BYTES: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn ulimit(name: &str, soft: i64, hard: i64) -> Ulimit {
        Ulimit { name: name.to_owned(), soft, hard }
    }

    #[test]
    fn ulimits_of_the_spec_win_by_name() {
        let node = [ulimit("nofile", 1024, 4096), ulimit("core", 0, 0)];
        let merged = rlimits(&node, &[ulimit("nofile", 10, -1)]).unwrap();
        let expected = [
            Rlimit { resource: 4, soft: 0, hard: 0 },
            Rlimit { resource: 7, soft: 10, hard: u64::MAX },
        ];
        assert_eq!(merged, expected);
        for (bad, text) in [
            (ulimit("as", 1, 1), "invalid ulimit type: as"),
            (
                ulimit("nofile", 2, 1),
                "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
            ),
            (
                ulimit("nofile", -1, 1),
                "ulimit soft limit must be less than or equal to hard limit: -1 > 1",
            ),
            (
                ulimit("nofile", -2, 1),
                "invalid ulimit nofile: limits are -1 (unlimited), 0 or more",
            ),
        ] {
            let error = rlimits(&[], &[bad]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text}; --ulimit ")), "{error}");
        }
    }

    #[test]
    fn memory_and_cpus_have_dockers_bounds_and_texts() {
        assert_eq!(memory(0), Ok(None));
        assert_eq!(memory(-1), Ok(None));
        assert_eq!(memory(6 << 20), Ok(Some(6 << 20)));
        let error = memory((6 << 20) - 1).unwrap_err();
        assert!(error.to_string().starts_with("Minimum memory limit allowed is 6MB; "), "{error}");
        assert_eq!(cpus(0, 2), Ok(None));
        assert_eq!(cpus(2_000_000_000, 2), Ok(Some(2_000_000_000)));
        assert_eq!(cpus(10_000_000, 2), Ok(Some(10_000_000)));
        for bad in [9_999_999, 2_000_000_001, i64::MAX] {
            let error = cpus(bad, 2).unwrap_err().to_string();
            let text = "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available; ";
            assert!(error.starts_with(text), "{error}");
        }
        assert_eq!(oom_score_adj(-1000), Ok(-1000));
        assert!(oom_score_adj(1001).is_err());
    }

    #[test]
    fn file_log_drivers_are_taken_and_others_refused() {
        let bytes = |name: &str, options: &[(&str, &str)]| {
            let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            log_bytes(Some(&Driver { name: name.to_owned(), options }), 1 << 20)
        };
        assert_eq!(log_bytes(None, 5), Ok(5));
        assert_eq!(bytes("", &[]), Ok(1 << 20));
        assert_eq!(bytes("json-file", &[("max-size", "10m"), ("max-file", "3")]), Ok(1 << 20));
        assert_eq!(bytes("local", &[("max-size", "64k"), ("max-file", "2")]), Ok(128 << 10));
        assert_eq!(bytes("local", &[("max-size", "1b")]), Ok(16 << 10));
        assert_eq!(bytes("local", &[("max-size", "-1")]), Ok(1 << 20));
        assert_eq!(bytes("none", &[]), Ok(0));
        for name in ["syslog", "journald"] {
            assert!(bytes(name, &[]).unwrap_err().to_string().contains(name));
        }
        for name in
            ["tag", "labels", "labels-regex", "env", "env-regex", "cache-disabled", "compress"]
        {
            assert_eq!(bytes("json-file", &[(name, "x")]), Ok(1 << 20), "{name}");
        }
        assert_eq!(bytes("local", &[("max-size", "0.0625m")]), Ok(64 << 10));
        assert!(bytes("local", &[("max-size", "big")]).is_err());
        assert!(bytes("local", &[("max-file", "0")]).is_err());
        let error = bytes("json-file", &[("foo", "x")]).unwrap_err().to_string();
        assert!(error.starts_with("unknown log opt 'foo' for json-file log driver; "), "{error}");
    }
}
