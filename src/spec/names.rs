//! Names: the container's own, those of `/etc/hosts`, and who resolves the rest.

use std::net::IpAddr;

use super::{NodeFacts, SpecError, private};
use crate::model::{ContainerId, DnsConfig, NetworkMode};

/// Longest host name of Linux in bytes (`HOST_NAME_MAX`).
const HOSTNAME_MAX_BYTES: usize = 64;

/// Characters of a container id that make its default host name.
const SHORT_ID_CHARS: usize = 12;

/// The host name inside. `expanded` is the spec's.
pub(super) fn hostname(
    expanded: &str,
    network: NetworkMode,
    container: &ContainerId,
    node: &NodeFacts,
) -> Result<String, SpecError> {
    if expanded.is_empty() && !private(network) {
        return Ok(node.hostname.clone());
    }
    if expanded.is_empty() {
        return Ok(container.as_str().chars().take(SHORT_ID_CHARS).collect());
    }
    if HOSTNAME_MAX_BYTES < expanded.len() || !expanded.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(SpecError::invalid(format!(
            "invalid hostname {expanded:?}: at most {HOSTNAME_MAX_BYTES} printable ASCII characters \
             without spaces are allowed"
        )));
    }
    Ok(expanded.to_owned())
}

/// Lines of `/etc/hosts`: aliases are dropped and lines without a name skipped, as Docker does.
pub(super) fn hosts(lines: &[String]) -> Result<Vec<(String, String)>, SpecError> {
    let mut hosts = Vec::new();
    for line in lines {
        let mut fields = line.split_whitespace();
        let (Some(address), Some(name)) = (fields.next(), fields.next()) else {
            continue;
        };
        if address == "host-gateway" {
            return Err(SpecError::unsupported(
                format!("--host {name}:host-gateway"),
                "give the address itself",
            ));
        }
        if address.parse::<IpAddr>().is_err() {
            return Err(SpecError::invalid(format!("invalid IP address in add-host: {address:?}")));
        }
        hosts.push((address.to_owned(), name.to_owned()));
    }
    Ok(hosts)
}

/// The whole `/etc/resolv.conf`; nothing when the host's is right as it is.
///
/// Each part comes from the task, else from the node's configuration, else from the host's file
/// (moby `daemon/container_operations.go`, `buildSandboxOptions`; libnetwork `resolvconf`).
pub(super) fn resolv_conf(dns: &DnsConfig, node: &NodeFacts) -> Result<Option<String>, SpecError> {
    let pick = |own: &[String], nodes: &[String]| -> Vec<String> {
        if own.is_empty() { nodes.to_vec() } else { own.to_vec() }
    };
    let mut nameservers = pick(&dns.nameservers, &node.dns.nameservers);
    let mut search = pick(&dns.search, &node.dns.search);
    let mut options = pick(&dns.options, &node.dns.options);
    for nameserver in &nameservers {
        if nameserver.parse::<IpAddr>().is_err() {
            return Err(SpecError::invalid(format!("{nameserver} is not an ip address")));
        }
    }
    for word in search.iter().chain(&options) {
        if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(SpecError::invalid(format!("{word:?} is not a domain or option for dns")));
        }
    }
    if nameservers.is_empty() && search.is_empty() && options.is_empty() {
        return Ok(None);
    }
    let lines: Vec<Vec<&str>> =
        node.resolv_conf.lines().map(|line| line.split_whitespace().collect()).collect();
    let last = |keyword: &str| -> Vec<String> {
        let found = lines.iter().filter(|words| words.first() == Some(&keyword)).next_back();
        found.into_iter().flatten().skip(1).map(|word| (*word).to_owned()).collect()
    };
    if nameservers.is_empty() {
        let hosts = lines.iter().filter(|words| words.first() == Some(&"nameserver"));
        nameservers = hosts.filter_map(|words| words.get(1)).map(|s| (*s).to_owned()).collect();
    }
    if search.is_empty() {
        search = last("search");
    }
    if options.is_empty() {
        options = last("options");
    }
    let mut text = String::new();
    for nameserver in &nameservers {
        text.push_str(&format!("nameserver {nameserver}\n"));
    }
    // A lone dot means no search domain at all.
    if !search.is_empty() && search != ["."] {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    Ok(Some(text))
}
