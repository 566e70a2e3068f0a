//! Contents of `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container.

use std::fmt::Write as _;

use crate::model::{Bundle, NetworkMode};

/// What Docker writes into every `/etc/hosts` (moby `libnetwork/etchosts`).
const HOSTS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    ff00::0\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// `/etc/hosts`: Docker's lines and the extra ones; with the host's network and no extra ones, the
/// host's (moby `libnetwork/sandbox_dns_unix.go`, `buildHostsFile`).
pub(crate) fn hosts(bundle: &Bundle, of_host: &str) -> String {
    let mut text = match bundle.network {
        NetworkMode::Host if bundle.hosts.is_empty() && !of_host.is_empty() => of_host.to_owned(),
        NetworkMode::Host | NetworkMode::Isolated | NetworkMode::Bridge(_) => HOSTS.to_owned(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for (address, name) in &bundle.hosts {
        // Writing to a string can not fail.
        let _written = writeln!(text, "{address}\t{name}");
    }
    if let NetworkMode::Bridge(endpoint) = &bundle.network {
        // The whole name, then the part before the first dot.
        let name = match bundle.hostname.split_once('.') {
            Some((short, _)) => &format!("{} {short}", bundle.hostname),
            None => &bundle.hostname,
        };
        let _written = writeln!(text, "{}\t{name}", endpoint.v4.address);
        if let Some((v6, _)) = &endpoint.v6 {
            let _written = writeln!(text, "{}\t{name}", v6.address);
        }
    }
    text
}

/// `/etc/resolv.conf`.
pub(crate) fn resolv_conf(bundle: &Bundle, of_host: &str) -> String {
    bundle.resolv_conf.clone().unwrap_or_else(|| of_host.to_owned())
}
