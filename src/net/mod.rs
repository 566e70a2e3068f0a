//! The network of containers: Docker's default bridge, with a bridge, table and records of our
//! own, so that a dockerd beside us keeps its own.
//!
//! | file | what |
//! |---|---|
//! | `netlink` | messages to the kernel |
//! | `link` | bridge, interfaces, addresses, routes |
//! | `routes` | which network the bridge gets |
//! | `nft` | address translation and protection |
//! | `guard` | what a container may send |
//! | `hold` | published ports, held against others |
//! | `connections` | what the kernel remembers of UDP |
//!
//! The agent owns the bridge, the table and who has which address; the container's first process
//! makes its own interface ([`attach`]), which the kernel deletes with its namespace. The table is
//! a function of the [`Lease`]s, and each lease is a file in its task's folder: an agent that was
//! killed at any instruction reads them and writes the table anew.

mod connections;
mod guard;
mod hold;
mod link;
mod netlink;
mod nft;
mod routes;

use core::fmt;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

pub use self::guard::{Guard, guard};
#[doc(hidden)]
pub use self::link::{Host, attach};
use self::{netlink::Socket, nft::Family};
#[doc(hidden)]
pub use self::{netlink::fuzz as fuzz_netlink, routes::fuzz as fuzz_routes};
use crate::{
    limits::{LEASE_MAX_BYTES, PUBLISHED_PORTS_MAX, RESOLV_CONF_MAX_BYTES, ROUTES_MAX_BYTES},
    model::{
        BridgeSettings, Cidr, Endpoint, PortConfig, PortProtocol, PublishMode, ResolvConf, TaskId,
    },
};

/// Name of the bridge.
pub const BRIDGE: &str = "edgeagent0";

const ROUTES: &str = "/proc/net/route";

/// Name of a lease's file in the task's folder.
const LEASE: &str = "network";

/// Why a container can not have its network.
#[derive(Debug)]
pub enum NetError {
    /// The kernel lacks something, or refuses it.
    Kernel {
        /// What we wanted.
        step: &'static str,
        /// What it needs.
        needs: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Every network of the pools is in use here.
    NoNetwork,
    /// Every address of the bridge's network has a container.
    NoAddress,
    /// Another container of this node publishes the port.
    Allocated {
        /// The port.
        port: u32,
    },
    /// Something else on this host uses the port, or it can not be bound.
    Port {
        /// The port.
        port: PortConfig,
        /// What `bind` said.
        cause: io::Error,
    },
    /// More ports than one table is made for.
    TooManyPorts,
    /// The lease can not be stored.
    Record(io::Error),
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const REMEDY: &str = "use --network host, or set \"bridge\": \"none\" in agent.json";
        match self {
            Self::Kernel { step, needs, .. } => {
                write!(f, "cannot {step}: the kernel needs {needs}; or {REMEDY}")
            }
            Self::NoNetwork => write!(
                f,
                "no network of default-address-pools is free on this host: set \"bip\" in agent.json"
            ),
            Self::NoAddress => f.write_str("no available IPv4 addresses on the bridge's network"),
            Self::Allocated { port } => {
                write!(f, "Bind for 0.0.0.0:{port} failed: port is already allocated")
            }
            Self::Port { port, .. } => write!(
                f,
                "failed to bind host port 0.0.0.0:{}/{}",
                port.published,
                protocol_name(port.protocol)
            ),
            Self::TooManyPorts => {
                write!(f, "at most {PUBLISHED_PORTS_MAX} ports can be published on a node")
            }
            Self::Record(_) => f.write_str("the network's record can not be written"),
        }
    }
}

impl core::error::Error for NetError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Kernel { cause, .. } | Self::Port { cause, .. } | Self::Record(cause) => {
                Some(cause)
            }
            Self::NoNetwork | Self::NoAddress | Self::Allocated { .. } | Self::TooManyPorts => None,
        }
    }
}

const fn protocol_name(protocol: PortProtocol) -> &'static str {
    match protocol {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Udp => "udp",
        PortProtocol::Sctp => "sctp",
    }
}

/// What a container has of the network: a file of its task's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its interface.
    pub endpoint: Endpoint,
    /// Its ports on the host, as they are really published.
    pub ports: Vec<PortConfig>,
}

impl Lease {
    /// The ports as `docker` shows them: once for each IP.
    #[must_use]
    pub fn status(&self) -> Vec<PortConfig> {
        let times = 1 + usize::from(self.endpoint.v6.is_some());
        self.ports.iter().flat_map(|port| std::iter::repeat_n(port.clone(), times)).collect()
    }

    /// Stores it in the task's folder, which must exist.
    ///
    /// # Errors
    /// [`NetError::Record`].
    pub fn write(&self, dir: &Path) -> Result<(), NetError> {
        let write = || {
            let bytes = postcard::to_stdvec(self).map_err(io::Error::other)?;
            let path = dir.join(LEASE);
            let new = dir.join("network.new");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            io::Write::write_all(&mut file, &bytes)?;
            fs::rename(new, path)
        };
        write().map_err(NetError::Record)
    }

    /// Reads it back; none when there is none that can be read.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        fs::File::open(dir.join(LEASE)).ok()?.take(LEASE_MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Self::parse(&bytes)
    }

    /// Reads the record's bytes: all of them.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (lease, []) = postcard::take_from_bytes(bytes).ok()? else { return None };
        Some(lease)
    }
}

/// The bridge of this node, and who is on it.
#[derive(Debug)]
pub struct Network {
    settings: BridgeSettings,
    leases: BTreeMap<TaskId, Lease>,
    /// The address that was given last.
    last: u32,
}

impl Network {
    /// Nothing is made before it is needed. `leases` are those of containers that may run.
    #[must_use]
    pub fn new(settings: BridgeSettings, leases: BTreeMap<TaskId, Lease>) -> Self {
        let given = leases.values().map(|lease| lease.endpoint.v4.address.to_bits());
        let last = given.max().unwrap_or(0);
        Self { settings, leases, last }
    }

    /// Whether there is a bridge at all.
    #[must_use]
    pub const fn enabled(&self) -> bool {
        self.settings.enabled
    }

    /// Makes bridge and table what they should be. For the start of an agent: does nothing on a
    /// host that never had a container on the bridge.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn restore(&self) -> Result<(), NetError> {
        let exists = Socket::route().is_ok_and(|socket| socket.index(BRIDGE).is_ok());
        if has_legacy() {
            log::info!(
                "iptables-legacy is in use beside nftables: if its FORWARD chain drops, containers \
                 reach nothing until: iptables-legacy -A FORWARD -i {BRIDGE} -j ACCEPT and \
                 iptables-legacy -A FORWARD -o {BRIDGE} -j ACCEPT"
            );
        }
        if self.settings.enabled && (exists || !self.leases.is_empty()) {
            self.ready()
        } else {
            Ok(())
        }
    }

    /// Makes sure of the bridge and all that belongs to it.
    ///
    /// # Errors
    /// [`NetError`], also for what this kernel lacks.
    pub fn ready(&self) -> Result<(), NetError> {
        self.bridge().and_then(|network| self.write_table(network))
    }

    /// Makes sure of all but the table; returns the bridge's address and network.
    fn bridge(&self) -> Result<Cidr<Ipv4Addr>, NetError> {
        let network = self.network()?;
        let kernel = |step, needs| move |cause| NetError::Kernel { step, needs, cause };
        let route = Socket::route().map_err(kernel("use netlink", "CONFIG_NET"))?;
        if self.leases.is_empty()
            && routes::of_bridge(&read_text(ROUTES))
                .is_some_and(|other| other.range() != network.range())
        {
            link::delete(&route, BRIDGE).map_err(kernel("replace the bridge", "CONFIG_BRIDGE"))?;
        }
        link::bridge(&route, &self.settings, network)
            .map_err(kernel("make the bridge", "CONFIG_BRIDGE"))?;
        link::has_pairs(&route).map_err(kernel("make interfaces", "CONFIG_VETH"))?;
        forwarding(&route, self.settings.v6.is_some())
            .map_err(kernel("switch forwarding on", "a writable /proc/sys/net"))?;
        Ok(network)
    }

    /// The network that the bridge has or gets; running containers decide it.
    fn network(&self) -> Result<Cidr<Ipv4Addr>, NetError> {
        if let Some(lease) = self.leases.values().next() {
            let Endpoint { gateway, v4, .. } = lease.endpoint;
            return Ok(Cidr { address: gateway, prefix: v4.prefix });
        }
        let taken: Vec<Ipv4Addr> = nameservers(&read_text("/etc/resolv.conf"));
        let routes = read_text(ROUTES);
        routes::choose(&self.settings, &routes, &taken).ok_or(NetError::NoNetwork)
    }

    /// Gives a container its address and ports. Returns what holds the ports: to be inherited by
    /// its shim.
    ///
    /// # Errors
    /// [`NetError`]; then it has neither.
    pub fn lease(
        &mut self,
        task: &TaskId,
        ports: &[PortConfig],
    ) -> Result<(Lease, Vec<OwnedFd>), NetError> {
        self.leases.remove(task);
        let network = self.bridge()?;
        let mut ports: Vec<PortConfig> =
            ports.iter().filter(|port| port.mode == PublishMode::Host).cloned().collect();
        let published = |lease: &Lease| lease.ports.len();
        if PUBLISHED_PORTS_MAX < self.leases.values().map(published).sum::<usize>() + ports.len() {
            return Err(NetError::TooManyPorts);
        }
        let mut held = Vec::new();
        for port in &mut ports {
            let same = |other: &PortConfig| {
                (other.protocol, other.published) == (port.protocol, port.published)
            };
            if self.leases.values().flat_map(|lease| &lease.ports).any(same) {
                return Err(NetError::Allocated { port: port.published });
            }
            let sockets = hold::hold(port, self.settings.v6.is_some())
                .map_err(|cause| NetError::Port { port: port.clone(), cause })?;
            held.extend(sockets);
        }
        let v4 = self.free_address(network)?;
        self.last = v4.address.to_bits();
        let v6 = self.settings.v6.map(|v6| {
            (Cidr { address: address_v6(v6, v4.address), prefix: v6.prefix }, gateway_v6(v6))
        });
        let endpoint = Endpoint {
            v4,
            gateway: network.address,
            v6,
            mtu: self.settings.mtu,
            isolated: !self.settings.icc && !filters_bridges(),
        };
        let lease = Lease { endpoint, ports };
        self.leases.insert(task.clone(), lease.clone());
        if let Err(error) = self.write_table(network).and_then(|()| self.forget(&lease)) {
            self.release(task);
            return Err(error);
        }
        Ok((lease, held))
    }

    /// What a task has.
    #[must_use]
    pub fn of(&self, task: &TaskId) -> Option<&Lease> {
        self.leases.get(task)
    }

    /// Takes address and ports of a container back that has ended.
    pub fn release(&mut self, task: &TaskId) {
        let network = self.network();
        let Some(lease) = self.leases.remove(task) else { return };
        if let (false, Ok(network)) = (lease.ports.is_empty(), network)
            && let Err(error) = self.write_table(network)
        {
            // Its rules lead to an address that nobody has, until the next container starts.
            log::warn!("cannot take back published ports task.id={task}: {error}");
        }
    }

    /// The next address after the last one that nobody has: one that was just given back may
    /// still be answered for by a namespace that the kernel has not cleared away yet.
    fn free_address(&self, network: Cidr<Ipv4Addr>) -> Result<Cidr<Ipv4Addr>, NetError> {
        let (first, end) = network.range();
        let used: BTreeSet<Ipv4Addr> =
            self.leases.values().map(|lease| lease.endpoint.v4.address).collect();
        let first = first.saturating_add(1);
        let next = self.last.saturating_add(1).max(first).min(end);
        (next..end)
            .chain(first..next)
            .map(Ipv4Addr::from_bits)
            .find(|address| *address != network.address && !used.contains(address))
            .map(|address| Cidr { address, prefix: network.prefix })
            .ok_or(NetError::NoAddress)
    }

    fn write_table(&self, network: Cidr<Ipv4Addr>) -> Result<(), NetError> {
        let kernel = |cause| NetError::Kernel {
            step: "write the nftables table",
            needs: "CONFIG_NF_TABLES_IPV4 (and _IPV6), NFT_NAT, NFT_MASQ, NFT_CT and NFT_FIB",
            cause,
        };
        let socket = Socket::netfilter().map_err(kernel)?;
        let swept = Socket::route().and_then(|route| guard::sweep(&socket, &route));
        if let Err(error) = swept {
            log::debug!("cannot delete chains of interfaces that are gone: {error}");
        }
        for (family, network) in self.families(network) {
            nft::write(&socket, network, self.settings.icc, self.leases.values())
                .map_err(kernel)?;
            speak_up(&socket, family);
        }
        Ok(())
    }

    fn families(&self, v4: Cidr<Ipv4Addr>) -> impl Iterator<Item = (Family, Cidr<IpAddr>)> {
        let v6 = self
            .settings
            .v6
            .map(|v6| (Family::V6, Cidr { address: IpAddr::V6(v6.address), prefix: v6.prefix }));
        let v4 = Cidr { address: IpAddr::V4(v4.address), prefix: v4.prefix };
        std::iter::once((Family::V4, v4)).chain(v6)
    }

    /// Lets UDP clients find a new container at an old port.
    fn forget(&self, lease: &Lease) -> Result<(), NetError> {
        let kernel = |cause| NetError::Kernel {
            step: "forget connections",
            needs: "CONFIG_NF_CT_NETLINK",
            cause,
        };
        let socket = Socket::netfilter().map_err(kernel)?;
        for family in [2, 10].into_iter().take(1 + usize::from(self.settings.v6.is_some())) {
            connections::forget(&socket, family, &lease.ports).map_err(kernel)?;
        }
        Ok(())
    }
}

/// What the host's own firewall makes of forwarded packets that it has no rule for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// It lets them through, or there is none.
    Open,
    /// It drops them, in a chain to which the agent can add rules.
    Closed,
    /// iptables-legacy has a filter: nftables can neither see nor change what that drops.
    Legacy,
}

/// Looks for another firewall in this network namespace.
///
/// # Errors
/// When the kernel does not tell.
pub fn firewall() -> io::Result<Firewall> {
    if has_legacy() {
        return Ok(Firewall::Legacy);
    }
    Ok(match nft::foreign(&Socket::netfilter()?, Family::V4)? {
        nft::Foreign::Open => Firewall::Open,
        nft::Foreign::Spoken | nft::Foreign::Closed => Firewall::Closed,
    })
}

fn has_legacy() -> bool {
    read_text("/proc/net/ip_tables_names").lines().any(|table| table == "filter")
}

/// Removes bridge and tables, for a node that left the swarm. What is not there is no error.
pub fn remove() {
    let removed = || -> io::Result<()> {
        let route = Socket::route()?;
        if route.index(BRIDGE).is_err() {
            return Ok(());
        }
        link::delete(&route, BRIDGE)?;
        let filters = Socket::netfilter()?;
        for family in [Family::V4, Family::V6] {
            nft::unspeak(&filters, family)?;
            nft::remove(&filters, family)?;
        }
        guard::remove(&filters)?;
        Ok(())
    };
    if let Err(error) = removed() {
        log::warn!("cannot remove the bridge {BRIDGE}: {error}");
    }
}

/// A firewall beside ours may drop what it has no rule for, as dockerd makes it; nothing that our
/// table says can change that.
fn speak_up(socket: &Socket, family: Family) {
    match nft::foreign(socket, family) {
        Ok(nft::Foreign::Open | nft::Foreign::Spoken) => {}
        Ok(nft::Foreign::Closed) => match nft::speak(socket, family) {
            Ok(()) => log::info!(
                "the policy of iptables' FORWARD chain is DROP: added rules for {BRIDGE} at its end"
            ),
            Err(error) => log::warn!(
                "the policy of iptables' FORWARD chain is DROP and no rule can be added: {error}; \
                 containers reach nothing until: iptables -A FORWARD -i {BRIDGE} -j ACCEPT and \
                 iptables -A FORWARD -o {BRIDGE} -j ACCEPT"
            ),
        },
        Err(error) => log::debug!("cannot look at other firewalls error={error}"),
    }
}

/// Lets packets through this host.
fn forwarding(route: &Socket, v6: bool) -> io::Result<()> {
    switch("/proc/sys/net/ipv4/ip_forward")?;
    // Answers to the host's own 127.0.0.1 come back over the bridge.
    fs::write(format!("/proc/sys/net/ipv4/conf/{BRIDGE}/route_localnet"), "1")?;
    if v6 {
        keep_advertised_routes(&link::bridges(route)?)?;
        switch("/proc/sys/net/ipv6/conf/all/forwarding")?;
    }
    Ok(())
}

fn switch(path: &str) -> io::Result<()> {
    if fs::read_to_string(path)?.trim() == "0" {
        fs::write(path, "1")?;
        log::info!("{path} is now 1: containers need it");
    }
    Ok(())
}

/// A host that forwards IPv6 ignores the routes that its router advertises, unless told not to.
/// Not on bridges, on which containers and guests could advertise routes, nor for interfaces that
/// do not exist yet, which may become such.
fn keep_advertised_routes(bridges: &[String]) -> io::Result<()> {
    for interface in fs::read_dir("/proc/sys/net/ipv6/conf")?.flatten() {
        let name = interface.file_name();
        if name == "all" || name == "default" || bridges.iter().any(|bridge| name == **bridge) {
            continue;
        }
        let path = interface.path().join("accept_ra");
        if fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
            fs::write(path, "2")?;
        }
    }
    Ok(())
}

/// Whether the table sees what goes from one port of the bridge to another. Then it keeps
/// containers apart; keeping the ports apart would cut published ports off too, for such packets
/// do not come up to the host.
fn filters_bridges() -> bool {
    read_text("/proc/sys/net/bridge/bridge-nf-call-iptables").trim() == "1"
}

/// The bridge's address in an IPv6 network: the first one.
const fn gateway_v6(network: Cidr<Ipv6Addr>) -> Ipv6Addr {
    Ipv6Addr::from_bits(begin_v6(network) | 1)
}

/// A container's: the MAC address, which is made of its IPv4 address, at the end, as Docker does.
fn address_v6(network: Cidr<Ipv6Addr>, v4: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(begin_v6(network) | (0x0242 << 32) | u128::from(v4.to_bits()))
}

const fn begin_v6(network: Cidr<Ipv6Addr>) -> u128 {
    let host = match u128::MAX.checked_shr(network.prefix as u32) {
        Some(host) => host,
        None => 0,
    };
    network.address.to_bits() & !host
}

fn nameservers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    let read = ResolvConf::read(resolv_conf);
    read.nameservers.iter().filter_map(|address| address.parse().ok()).collect()
}

/// A file of the system, as far as it is sane; nothing when it can not be read.
fn read_text(path: &str) -> String {
    let mut text = String::new();
    let bound = if path.starts_with("/proc") { ROUTES_MAX_BYTES } else { RESOLV_CONF_MAX_BYTES };
    match fs::File::open(path).and_then(|file| file.take(bound).read_to_string(&mut text)) {
        Ok(_) | Err(_) => text,
    }
}
