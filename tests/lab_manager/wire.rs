//! Two network namespaces and the wire between them, on which packets are counted and lost.

use std::process::Command;

use crate::machine::{capture, prefix};

fn run(words: &[&str]) {
    capture(Command::new(words[0]).args(&words[1..])).ok();
}

/// The wire. The manager is `10.83.0.1` in `there`, the device `10.83.0.2` in `here`.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) here: String,
    pub(crate) there: String,
}

impl Wire {
    pub(crate) fn new(name: &str) -> Self {
        let wire = Self {
            here: format!("{}-{name}-here", prefix()),
            there: format!("{}-{name}-there", prefix()),
        };
        let (here, there) = (wire.here.as_str(), wire.there.as_str());
        for netns in [here, there] {
            run(&["ip", "netns", "add", netns]);
            // Nothing but what the test does may move on the wire.
            let quiet = "sysctl -q -w net.ipv6.conf.default.disable_ipv6=1";
            run(&["nsenter", &format!("--net=/run/netns/{netns}"), "sh", "-c", quiet]);
            run(&["ip", "-n", netns, "link", "set", "lo", "up"]);
        }
        run(&["ip", "-n", here, "link", "add", "w0", "type", "veth", "peer", "w0", "netns", there]);
        for (netns, addr) in [(there, "10.83.0.1/24"), (here, "10.83.0.2/24")] {
            run(&["ip", "-n", netns, "addr", "add", addr, "dev", "w0"]);
            run(&["ip", "-n", netns, "link", "set", "w0", "up"]);
        }
        wire
    }

    /// The manager's address.
    pub(crate) const fn manager(&self) -> &'static str {
        "10.83.0.1"
    }

    /// A command on the device.
    pub(crate) fn command(&self, program: &str) -> Command {
        Self::within(&self.here, program)
    }

    fn within(netns: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{netns}")).arg(program);
        command
    }

    /// Packets that the device has sent so far.
    pub(crate) fn packets(&self) -> u64 {
        let text = capture(self.command("cat").arg("/proc/net/dev")).ok();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("w0:")).unwrap();
        line.split_whitespace().nth(9).unwrap().parse().unwrap()
    }

    /// What the manager's side does with packets that come in.
    pub(crate) fn nft(&self, rule: &str) {
        self.chain("input", rule);
    }

    /// What it does with those that go out.
    pub(crate) fn nft_out(&self, rule: &str) {
        self.chain("output", rule);
    }

    fn chain(&self, hook: &str, rule: &str) {
        let rules = format!(
            "add table ip t\nadd chain ip t c {{ type filter hook {hook} priority 0; }}\nadd rule ip t c {rule}"
        );
        capture(Self::within(&self.there, "nft").arg(rules)).ok();
    }

    /// No rules any more.
    pub(crate) fn nft_none(&self) {
        capture(Self::within(&self.there, "nft").args(["flush", "ruleset"])).ok();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for netns in [&self.here, &self.there] {
            capture(Command::new("ip").args(["netns", "del", netns]));
        }
    }
}
