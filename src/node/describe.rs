//! What this node says of itself.

use std::{collections::BTreeMap, fs, path::Path};

use super::devices;
use crate::{
    config::Config,
    model::{GenericResource, NodeDescription, NodeResources, Plugin, TlsInfo},
};

/// What this node can do. The scheduler filters by this list, so it names only what works: a
/// service on an overlay network is never sent here.
const PLUGINS: [Plugin; 6] = [
    Plugin { kind: "Log", name: "json-file" },
    Plugin { kind: "Log", name: "local" },
    BRIDGE,
    Plugin { kind: "Network", name: "host" },
    Plugin { kind: "Network", name: "null" },
    Plugin { kind: "Volume", name: "local" },
];

/// The engine label that every node of ours has, with the version; one of the owner's of the same
/// name wins.
const LABEL: &str = "io.edgeagent";

/// Not there with `"bridge": "none"`.
const BRIDGE: Plugin = Plugin { kind: "Network", name: "bridge" };

/// Describes this node; of two engine labels with one name, the configuration's counts and not the
/// one it was provisioned with. The same input gives the same bytes: a change restarts the session.
pub(super) fn describe(
    config: &Config,
    provisioned: &BTreeMap<String, String>,
    tls_info: TlsInfo,
) -> NodeDescription {
    let name = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    // So that a service can be kept on such nodes, or off them.
    let mine = (String::from(LABEL), String::from(env!("CARGO_PKG_VERSION")));
    let mut engine_labels = BTreeMap::from([mine]);
    engine_labels.extend(provisioned.clone());
    engine_labels.extend(config.labels.clone());
    NodeDescription {
        hostname: config.hostname.clone().unwrap_or_else(|| text(name.nodename())),
        architecture: text(name.machine()),
        resources: NodeResources {
            nano_cpus: i64::from(cpus()).saturating_mul(1_000_000_000),
            memory_bytes: memory_bytes(Path::new("/proc/meminfo")),
            generic: generic(config),
        },
        engine_version: format!("edgeagent-{}", env!("CARGO_PKG_VERSION")),
        engine_labels,
        plugins: PLUGINS
            .into_iter()
            .filter(|plugin| config.bridge.enabled || *plugin != BRIDGE)
            .collect(),
        tls_info,
    }
}

/// The version of the kernel; what it does not say is 0.
pub(super) fn kernel() -> (u32, u32) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
    (next(), next())
}

/// Resources that the configuration counts, and devices by class.
fn generic(config: &Config) -> Vec<GenericResource> {
    let mut generic = config.generic_resources.clone();
    generic.extend(devices::offered(&config.policy));
    generic
}

/// Processors that this process may use.
pub(super) fn cpus() -> u32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|count| u32::try_from(count.get()).ok())
        .unwrap_or(1)
}

/// Total memory, 0 when the kernel does not tell.
fn memory_bytes(meminfo: &Path) -> i64 {
    let text = fs::read_to_string(meminfo).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<i64>().ok())
        .and_then(|kilobytes| kilobytes.checked_mul(1024))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_sorted_for_their_order_is_part_of_the_description() {
        assert!(PLUGINS.is_sorted());
    }

    #[test]
    fn a_label_of_the_configuration_wins_over_a_provisioned_one() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let config = Config { labels: labels(&[("site", "roof")]), ..Config::default() };
        let provisioned = labels(&[("site", "hut"), ("row", "3")]);
        let tls_info = TlsInfo::default();
        let description = describe(&config, &provisioned, tls_info);
        let version = env!("CARGO_PKG_VERSION");
        let expected = [(LABEL, version), ("row", "3"), ("site", "roof")];
        assert_eq!(description.engine_labels, labels(&expected));
        let config = Config { labels: labels(&[(LABEL, "no")]), ..Config::default() };
        let description = describe(&config, &labels(&[]), TlsInfo::default());
        assert_eq!(description.engine_labels, labels(&[(LABEL, "no")]));
    }

    #[test]
    fn total_memory_is_read_in_bytes() {
        assert!(1 << 20 < memory_bytes(Path::new("/proc/meminfo")));
        assert_eq!(memory_bytes(Path::new("/nowhere")), 0);
    }
}
