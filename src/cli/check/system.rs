//! The rest of the machine: clock, random numbers, TPM, and the way to a manager.

use std::{
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    path::Path,
};

use super::{Finding, text_of};
use crate::{
    cli::join::addresses,
    config::Config,
    limits::{CHECK_DIAL_TIMEOUT, CHECK_MTU, RELEASED},
    model::UnixTime,
    node::clock,
    seal::{Machine, available},
};

pub(super) fn findings(config: &Config, root: &Path) -> Vec<Finding> {
    vec![time(clock().wall), entropy(root), seal(config)]
}

/// A clock from before this program was made is wrong.
fn time(now: UnixTime) -> Finding {
    let what = "clock";
    if UnixTime::from_seconds(RELEASED) <= now {
        return Finding::ok(what, now.to_string());
    }
    Finding::limited(
        what,
        format!("{now}, which is past"),
        "certificates of managers are not valid yet, so the node can not join",
        "start a time service (chrony, systemd-timesyncd, ntpd) before the agent",
    )
}

fn entropy(root: &Path) -> Finding {
    let what = "random numbers";
    let bits: u32 =
        text_of(root, "proc/sys/kernel/random/entropy_avail").trim().parse().unwrap_or(0);
    if 128 <= bits {
        return Finding::ok(what, format!("{bits} bits"));
    }
    Finding::limited(
        what,
        format!("{bits} bits"),
        "joining waits until the kernel has collected more",
        "a kernel with a driver for the board's random number generator",
    )
}

fn seal(config: &Config) -> Finding {
    let what = "seal";
    let tiers = available(&Machine::this(), &config.seal);
    let names: Vec<&str> = tiers.iter().map(|tier| tier.name()).collect();
    let found = names.join(", ");
    if names.iter().any(|name| *name != "host") {
        return Finding::ok(what, found);
    }
    Finding::limited(
        what,
        found,
        "weak: who copies the whole disk and knows the serial numbers can open what is sealed",
        "a TPM 2.0 at /dev/tpmrm0, or LoadCredentialEncrypted=edgeagent-seal-key",
    )
}

/// Whether a manager is reached, and with packets of which size.
pub(super) fn way_to(address: &str) -> Finding {
    let what = "manager";
    let missing = |found: String, fix| {
        Finding::limited(what, found, "the node can not join, or loses its managers", fix)
    };
    let named = match addresses(&[String::from(address)]) {
        Ok(named) => named.concat(),
        Err(_) => return missing(format!("{address} is no address"), "host or host:port"),
    };
    let found: Vec<SocketAddr> = match named.to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) => {
            return missing(format!("{named}: no such name: {error}"), "check the name server");
        }
    };
    let mut last = format!("{named}: the name has no address");
    for addr in found {
        match TcpStream::connect_timeout(&addr, CHECK_DIAL_TIMEOUT) {
            Ok(stream) => return mtu(&named, segment(&stream)),
            Err(error) => last = format!("{named}: {error}"),
        }
    }
    missing(last, "check cable, route and firewall: TCP port 2377 of the manager")
}

/// The largest segment that both ends agreed on; 0 when the kernel does not tell.
fn segment(stream: &TcpStream) -> u32 {
    crate::sys::tcp_segment(stream).unwrap_or(0)
}

fn mtu(address: &str, segment: u32) -> Finding {
    let what = "manager";
    let found = format!("{address} answers, segments of {segment} bytes");
    if CHECK_MTU <= segment {
        return Finding::ok(what, found);
    }
    Finding::limited(
        what,
        found,
        "some tunnels with small packets lose large ones: joining may hang within TLS",
        "set the MTU of this device's interface to that of the tunnel",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::Verdict;

    #[test]
    fn a_clock_at_1970_is_told() {
        assert_eq!(time(UnixTime::from_seconds(0)).verdict, Verdict::Limited);
        assert_eq!(time(clock().wall).verdict, Verdict::Ok);
    }

    #[test]
    fn a_manager_is_reached_or_the_reason_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(way_to(&address).verdict, Verdict::Ok);
        drop(listener);
        let refused = way_to(&address);
        assert_eq!(refused.verdict, Verdict::Limited);
        assert!(refused.found.contains("refused"), "{}", refused.found);
    }
}
