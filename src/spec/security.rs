//! Capabilities and kernel parameters.

use std::collections::BTreeMap;

use super::{Field, SpecError, private};
use crate::model::{EVERY_CAPABILITY, NetworkMode, capability_bit, default_capabilities};

/// The container's capabilities, bit by number (moby `oci/caps/utils.go`, `TweakCapabilities`).
/// `ALL` includes those that an older kernel does not have.
pub(super) fn capabilities(add: &[String], drop: &[String]) -> Result<u64, SpecError> {
    let (add, add_all) = mask(add, "CapAdd", Field::CapAdd)?;
    let (drop, drop_all) = mask(drop, "CapDrop", Field::CapDrop)?;
    let defaults = default_capabilities();
    Ok(if add_all {
        EVERY_CAPABILITY & !drop
    } else if drop_all {
        add
    } else {
        (defaults & !drop) | add
    })
}

/// The capabilities that these names stand for.
pub(super) fn named(add: &[String]) -> Result<u64, SpecError> {
    let (bits, all) = mask(add, "CapAdd", Field::CapAdd)?;
    Ok(if all { EVERY_CAPABILITY } else { bits })
}

/// The bits of these names, and whether `ALL` is among them.
fn mask(names: &[String], name: &str, field: Field) -> Result<(u64, bool), SpecError> {
    let (mut bits, mut all) = (0, false);
    for word in names {
        let upper = word.to_ascii_uppercase();
        if upper == "ALL" {
            all = true;
            continue;
        }
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        bits |= capability_bit(&upper).ok_or_else(|| {
            SpecError::invalid(
                field,
                format!("invalid {name}: unknown capability: \"CAP_{short}\""),
            )
        })?;
    }
    Ok((bits, all))
}

/// Kernel parameters: Docker's defaults for a network namespace, then the spec's.
///
/// Only those that belong to a namespace of the container are allowed, as runc does
/// (`libcontainer/configs/validate`).
pub(super) fn sysctls(
    spec: &BTreeMap<String, String>,
    network: NetworkMode,
) -> Result<BTreeMap<String, String>, SpecError> {
    let mut sysctls = BTreeMap::new();
    if private(network) {
        for (name, value) in [
            ("net.ipv4.ip_unprivileged_port_start", "0"),
            ("net.ipv4.ping_group_range", "0 2147483647"),
        ] {
            sysctls.insert(name.to_owned(), value.to_owned());
        }
    }
    for (dotted, value) in parameters(spec)? {
        if dotted.starts_with("net.") && !private(network) {
            return Err(SpecError::invalid(
                Field::Sysctl,
                format!("sysctl {dotted:?} not allowed in host network namespace"),
            ));
        }
        if !namespaced(&dotted) {
            return Err(SpecError::invalid(
                Field::Sysctl,
                format!("sysctl {dotted:?} is not in a separate kernel namespace"),
            ));
        }
        sysctls.insert(dotted, value);
    }
    Ok(sysctls)
}

/// The spec's kernel parameters with dots: `net/ipv4/ip_forward` is another spelling of the same.
pub(super) fn parameters(
    spec: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, SpecError> {
    let mut parameters = BTreeMap::new();
    for (name, value) in spec {
        let separator = name.chars().find(|c| matches!(c, '.' | '/'));
        let dotted = if separator == Some('/') { name.replace('/', ".") } else { name.clone() };
        let component = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        };
        if !dotted.split('.').all(component) || value.contains('\0') {
            return Err(SpecError::invalid(Field::Sysctl, format!("invalid sysctl {name:?}")));
        }
        parameters.insert(dotted, value.clone());
    }
    Ok(parameters)
}

fn namespaced(name: &str) -> bool {
    let ipc = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.domainname",
    ];
    ipc.contains(&name) || name.starts_with("fs.mqueue.") || name.starts_with("net.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn capabilities_follow_dockers_rules() {
        const DEFAULT: u64 = 0xa804_25fb;
        let table: [(&[&str], &[&str], u64); 9] = [
            (&[], &[], DEFAULT),
            (&["net_admin"], &[], DEFAULT | 1 << 12),
            (&["CAP_NET_ADMIN"], &["CAP_CHOWN", "mknod"], (DEFAULT & !1 & !(1 << 27)) | 1 << 12),
            (&["CHOWN"], &["CHOWN"], DEFAULT),
            (&["ALL"], &[], 0x1ff_ffff_ffff),
            (&["all"], &["sys_admin"], 0x1ff_ffff_ffff & !(1 << 21)),
            (&["ALL"], &["ALL"], 0x1ff_ffff_ffff),
            (&[], &["ALL"], 0),
            (&["NET_BIND_SERVICE"], &["ALL"], 1 << 10),
        ];
        for (add, drop, expected) in table {
            assert_eq!(capabilities(&words(add), &words(drop)), Ok(expected), "{add:?} {drop:?}");
        }
        let error = capabilities(&words(&["foo"]), &[]).unwrap_err();
        let text = "invalid CapAdd: unknown capability: \"CAP_FOO\"; --cap-add ";
        assert!(error.to_string().starts_with(text), "{error}");
        let error = capabilities(&[], &words(&[""])).unwrap_err();
        let text = "invalid CapDrop: unknown capability: \"CAP_\"; --cap-drop ";
        assert!(error.to_string().starts_with(text), "{error}");
    }

    #[test]
    fn only_parameters_of_the_containers_namespaces_are_allowed() {
        let try_one = |name: &str, network| {
            let spec = BTreeMap::from([(name.to_owned(), "1".to_owned())]);
            sysctls(&spec, network)
        };
        use NetworkMode::{Host, Isolated};
        for name in ["kernel.shmmax", "kernel.sem", "fs.mqueue.msg_max", "net.core.somaxconn"] {
            assert_eq!(try_one(name, Isolated).unwrap()[name], "1");
        }
        assert!(try_one("kernel.msgmax", Host).is_ok());
        for name in [
            "net.core.somaxconn",
            "kernel.core_pattern",
            "vm.swappiness",
            "fs.file-max",
            "kernel.shmmax/../core_pattern",
            "net.//.kernel",
            "net...kernel",
            "",
        ] {
            assert!(try_one(name, Host).is_err(), "{name}");
        }
        assert!(try_one("net/../kernel/core_pattern", Isolated).is_err());
        assert!(try_one("net...kernel.core_pattern", Isolated).is_err());
        let own = try_one("net/ipv4/ip_unprivileged_port_start", Isolated).unwrap();
        assert_eq!(own["net.ipv4.ip_unprivileged_port_start"], "1");
        assert_eq!(own["net.ipv4.ping_group_range"], "0 2147483647");
        assert!(sysctls(&BTreeMap::new(), Host).unwrap().is_empty());
    }
}
