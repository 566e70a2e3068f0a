//! The network of containers: made as the agent makes it, in a network namespace that ends with the child
//! that tries it.

use std::io::{self, Read as _, Write as _};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{WaitOptions, waitpid},
    thread::UnshareFlags,
};

use super::Finding;
use crate::{
    config::Config,
    model::{BridgeSettings, chain},
    net::{BRIDGE, Firewall, Guard, Network, firewall, guard},
    sys,
};

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    if !config.bridge.enabled {
        return vec![bridge(None)];
    }
    vec![bridge(Some(tried(&config.bridge))), guarded(&guard()), beside(&firewall())]
}

/// Makes bridge and table where nobody sees them; what was in the way, when something was.
fn tried(settings: &BridgeSettings) -> io::Result<String> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let Some(pid) = sys::fork()? else {
        drop(read);
        // What it switches on ends with its namespace: that is nobody's news.
        log::set_max_level(log::LevelFilter::Off);
        let settings = settings.clone();
        let done = sys::unshare(UnshareFlags::NEWNET)
            .map_err(|error| format!("a network namespace: {error}"))
            .and_then(|()| {
                let ready = Network::new(settings, std::collections::BTreeMap::new()).ready();
                ready.map_err(|error| chain(&error))
            });
        let said = std::fs::File::from(write).write_all(done.err().unwrap_or_default().as_bytes());
        #[expect(clippy::exit, reason = "a copy must not go on with the rest of the list")]
        std::process::exit(i32::from(said.is_err()))
    };
    drop(write);
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text)?;
    let ended = waitpid(Some(pid), WaitOptions::empty())?;
    if ended.is_some_and(|(_, status)| status.exit_status() == Some(0)) {
        Ok(text)
    } else {
        Err(io::Error::other("the child that tried it ended early"))
    }
}

/// `tried` is nothing where agent.json wants no bridge.
fn bridge(tried: Option<io::Result<String>>) -> Finding {
    let what = "bridge network";
    let found = match tried {
        None => {
            return Finding::limited(
                what,
                "\"bridge\": \"none\"",
                "services need --network host, and publish no ports",
                "remove \"bridge\" from agent.json",
            );
        }
        Some(Ok(text)) if text.is_empty() => {
            return Finding::ok(what, "bridge, veth and nftables");
        }
        Some(Ok(text)) => text,
        Some(Err(error)) => error.to_string(),
    };
    Finding::limited(
        what,
        found,
        "only services with --network host start, and no ports are published",
        "a kernel with CONFIG_BRIDGE, VETH, NF_TABLES_IPV4, NFT_NAT, NFT_MASQ, NFT_CT, NFT_FIB and \
         NF_CT_NETLINK, or their modules",
    )
}

fn guarded(guard: &io::Result<Guard>) -> Finding {
    let what = "what containers send";
    let found = match guard {
        Ok(Guard::Interface) => return Finding::ok(what, "filtered at their interfaces"),
        Ok(Guard::Bridge) => return Finding::ok(what, "filtered at the bridge"),
        Ok(Guard::Missing) => String::from("not filtered"),
        Err(error) => format!("not known: {error}"),
    };
    Finding::limited(
        what,
        found,
        "containers of the bridge are kept apart from each other, and one of them could still take \
         the host in with a false address",
        "a kernel with CONFIG_NF_TABLES_NETDEV and NETFILTER_INGRESS, or with NF_TABLES_BRIDGE",
    )
}

fn beside(firewall: &io::Result<Firewall>) -> Finding {
    let what = "firewall";
    match firewall {
        Ok(Firewall::Open) => Finding::ok(what, "none that drops what is forwarded"),
        Ok(Firewall::Closed) => Finding::ok(
            what,
            format!("the policy of iptables' FORWARD is DROP; the agent adds rules for {BRIDGE}"),
        ),
        Ok(Firewall::Legacy) => Finding::limited(
            what,
            "iptables-legacy beside nftables",
            "if its FORWARD chain drops, containers of the bridge reach nothing",
            "iptables-legacy -A FORWARD -i edgeagent0 -j ACCEPT; iptables-legacy -A FORWARD -o \
             edgeagent0 -j ACCEPT; or move to iptables-nft",
        ),
        Err(error) => Finding::limited(
            what,
            format!("not known: {error}"),
            "a firewall that drops what is forwarded would cut containers off",
            "a kernel with CONFIG_NF_TABLES, and root's rights",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::Verdict;

    #[test]
    fn what_the_kernel_lacks_is_told_with_its_cost() {
        let text = String::from("cannot make interfaces: the kernel needs CONFIG_VETH");
        let lacking = bridge(Some(Ok(text)));
        assert_eq!(lacking.verdict, Verdict::Limited);
        assert!(lacking.found.contains("CONFIG_VETH") && lacking.costs.contains("--network host"));
        assert_eq!(bridge(Some(Ok(String::new()))).verdict, Verdict::Ok);
        assert_eq!(bridge(None).verdict, Verdict::Limited);
        assert_eq!(bridge(Some(Err(io::Error::other("x")))).verdict, Verdict::Limited);
    }

    #[test]
    fn only_a_firewall_that_we_can_not_talk_to_is_a_gap() {
        assert_eq!(beside(&Ok(Firewall::Open)).verdict, Verdict::Ok);
        assert_eq!(beside(&Ok(Firewall::Closed)).verdict, Verdict::Ok);
        assert_eq!(guarded(&Ok(Guard::Interface)).verdict, Verdict::Ok);
        assert_eq!(guarded(&Ok(Guard::Bridge)).verdict, Verdict::Ok);
        assert_eq!(guarded(&Ok(Guard::Missing)).verdict, Verdict::Limited);
        let legacy = beside(&Ok(Firewall::Legacy));
        assert_eq!(legacy.verdict, Verdict::Limited);
        assert!(legacy.fix.contains(&format!("-i {BRIDGE} -j ACCEPT")));
    }
}
