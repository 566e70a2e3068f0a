//! Names: the container's own, those of `/etc/hosts`, and who resolves the rest.

use std::net::{IpAddr, Ipv4Addr};

use super::{Field, NodeFacts, SpecError, private};
use crate::model::{ContainerId, DnsConfig, Endpoint, NetworkMode, ResolvConf};

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
        return Err(SpecError::invalid(
            Field::Hostname,
            format!(
                "invalid hostname {expanded:?}: at most {HOSTNAME_MAX_BYTES} printable ASCII characters \
             without spaces are allowed"
            ),
        ));
    }
    Ok(expanded.to_owned())
}

/// Lines of `/etc/hosts`: aliases are dropped and lines without a name skipped, as Docker does.
/// `host-gateway` is the address at which a container finds the host.
pub(super) fn hosts(
    lines: &[String],
    network: NetworkMode,
) -> Result<Vec<(String, String)>, SpecError> {
    let mut hosts = Vec::new();
    for line in lines {
        let mut fields = line.split_whitespace();
        let (Some(address), Some(name)) = (fields.next(), fields.next()) else {
            continue;
        };
        let address = match (address, network) {
            ("host-gateway", NetworkMode::Bridge(endpoint)) => endpoint.gateway.to_string(),
            // There the host is the container's own.
            ("host-gateway", NetworkMode::Host) => Ipv4Addr::LOCALHOST.to_string(),
            ("host-gateway", NetworkMode::Isolated) => {
                return Err(SpecError::unsupported(
                    Field::Host,
                    format!("--host {name}:host-gateway without a network"),
                    "use --network host, or remove \"bridge\": \"none\" from agent.json",
                ));
            }
            (address, _) => address.to_owned(),
        };
        if address.parse::<IpAddr>().is_err() {
            return Err(SpecError::invalid(
                Field::Host,
                format!("invalid IP address in add-host: {address:?}"),
            ));
        }
        hosts.push((address, name.to_owned()));
    }
    Ok(hosts)
}

/// Whom Docker asks when the host knows nobody that a container could (moby
/// `libnetwork/internal/resolvconf`).
const PUBLIC_NAMESERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// The same, for containers with IPv6.
const PUBLIC_NAMESERVERS_V6: [&str; 2] = ["2001:4860:4860::8888", "2001:4860:4860::8844"];

/// The whole `/etc/resolv.conf`; nothing when the host's is right as it is.
///
/// Each part comes from the task, else from the node's configuration, else from the host's file
/// (moby `daemon/container_operations.go`, `buildSandboxOptions`; libnetwork `resolvconf`).
pub(super) fn resolv_conf(
    dns: &DnsConfig,
    network: NetworkMode,
    node: &NodeFacts,
) -> Result<Option<String>, SpecError> {
    let pick = |own: &[String], nodes: &[String]| -> Vec<String> {
        if own.is_empty() { nodes.to_vec() } else { own.to_vec() }
    };
    let mut nameservers = pick(&dns.nameservers, &node.dns.nameservers);
    let mut search = pick(&dns.search, &node.dns.search);
    let mut options = pick(&dns.options, &node.dns.options);
    for nameserver in &nameservers {
        if nameserver.parse::<IpAddr>().is_err() {
            return Err(SpecError::invalid(
                Field::Dns,
                format!("{nameserver} is not an ip address"),
            ));
        }
    }
    for (field, words, what) in
        [(Field::DnsSearch, &search, "domain"), (Field::DnsOption, &options, "option")]
    {
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if let Some(word) = words.iter().find(|word| word.is_empty() || word.contains(odd)) {
            return Err(SpecError::invalid(field, format!("{word:?} is not a dns {what}")));
        }
    }
    let own = !(nameservers.is_empty() && search.is_empty() && options.is_empty());
    if !own && !private(network) {
        return Ok(None);
    }
    let hosts = ResolvConf::read(&node.resolv_conf);
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    if nameservers.is_empty() {
        nameservers = owned(&hosts.nameservers);
        if private(network) {
            reachable(&mut nameservers, network);
        }
    }
    if search.is_empty() {
        search = owned(&hosts.search);
    }
    if options.is_empty() {
        options = owned(&hosts.options);
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
    for line in hosts.others {
        text.push_str(&format!("{line}\n"));
    }
    Ok(Some(text))
}

/// Leaves the host's name servers that can be reached from another network namespace; when there
/// are none, Docker's choice.
fn reachable(nameservers: &mut Vec<String>, network: NetworkMode) {
    let v6 = matches!(network, NetworkMode::Bridge(Endpoint { v6: Some(_), .. }));
    nameservers.retain(|text| {
        // With the name of an interface, which is the host's.
        text.parse::<IpAddr>()
            .is_ok_and(|address| !address.is_loopback() && (v6 || address.is_ipv4()))
    });
    if nameservers.is_empty() {
        let public = PUBLIC_NAMESERVERS.iter();
        let public_v6 = PUBLIC_NAMESERVERS_V6.iter().filter(|_| v6);
        nameservers.extend(public.chain(public_v6).map(|text| (*text).to_owned()));
    }
}
