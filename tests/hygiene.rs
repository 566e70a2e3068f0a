//! What a container sends raw, as its root with all rights over its own network, seen from the
//! host and from a neighbour: only frames of its own. In network namespaces of the test's own;
//! fails without root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "waiting for a condition has a bound")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "one socket is made by several calls")]
#![expect(unsafe_code, reason = "raw sockets and a thread's own namespace")]

use std::{
    collections::BTreeMap,
    env,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use edgeagent::{
    model::{BridgeSettings, Cidr, ContainerId, Endpoint, TaskId},
    net::{self, Guard, Network},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs this test again in a namespace of its own; true there.
fn alone(name: &str) -> bool {
    if env::var_os("EA_ALONE").is_some() {
        return true;
    }
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("EA_ALONE", "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name}");
    false
}

fn show(words: &str) -> String {
    let mut words = words.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread with a network namespace and an interface, as a container's first process has them.
struct Container {
    jobs: mpsc::Sender<Job>,
    endpoint: Endpoint,
}

impl Container {
    fn new(network: &mut Network, letter: &str) -> Self {
        Self::with(network, letter, net::Host::open().unwrap())
    }

    fn with(network: &mut Network, letter: &str, host: net::Host) -> Self {
        let task = TaskId::new(letter).unwrap();
        let endpoint = network.lease(&task, &[]).unwrap().0.endpoint;
        let id = ContainerId::new(&letter.repeat(64)).unwrap();
        let (jobs, work) = mpsc::channel::<Job>();
        thread::spawn(move || work.into_iter().for_each(|job| job()));
        let container = Self { jobs, endpoint };
        container.run(move || {
            // SAFETY: takes no pointers.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
            net::attach(&host, &id, &endpoint).unwrap();
        });
        container
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, receive) = mpsc::channel();
        self.jobs.send(Box::new(move || send.send(job()).unwrap())).unwrap();
        receive.recv().unwrap()
    }

    fn mac(&self) -> [u8; 6] {
        let [a, b, c, d] = self.endpoint.v4.address.octets();
        [2, 0x42, a, b, c, d]
    }

    fn v4(&self) -> Ipv4Addr {
        self.endpoint.v4.address
    }

    fn v6(&self) -> Ipv6Addr {
        self.endpoint.v6.map_or(Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 9), |(v6, _)| v6.address)
    }

    fn local(&self) -> Ipv6Addr {
        local(self.mac())
    }

    fn send(&self, frames: Vec<Vec<u8>>) {
        self.run(move || {
            let socket = raw("eth0");
            for frame in frames {
                // SAFETY: pointer and length are the frame's.
                let sent = unsafe {
                    libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0)
                };
                assert_eq!(usize::try_from(sent).unwrap(), frame.len());
            }
        });
    }

    fn listen(&self) -> OwnedFd {
        self.run(|| raw("eth0"))
    }
}

fn local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Sees and sends every frame of an interface of this thread's namespace.
fn raw(interface: &str) -> OwnedFd {
    let name = std::ffi::CString::new(interface).unwrap();
    let all = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
    // SAFETY: the name ends with NUL, the address is as long as it says, the descriptor is new.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, all.into());
        assert!(0 <= fd, "{}", std::io::Error::last_os_error());
        let mut address: libc::sockaddr_ll = core::mem::zeroed();
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        address.sll_protocol = all;
        address.sll_ifindex = i32::try_from(libc::if_nametoindex(name.as_ptr())).unwrap();
        let length = u32::try_from(size_of_val(&address)).unwrap();
        assert_eq!(libc::bind(fd, (&raw const address).cast(), length), 0);
        OwnedFd::from_raw_fd(fd)
    }
}

/// What is there, until a frame holds `end`; all that is there at this moment without one.
fn heard(socket: &OwnedFd, end: Option<&[u8]>) -> Vec<Vec<u8>> {
    let until = Instant::now() + PATIENCE;
    let mut frames = Vec::new();
    loop {
        let mut frame = vec![0; 2048];
        // SAFETY: pointer and length are the buffer's.
        let got = unsafe {
            let place = frame.as_mut_ptr().cast();
            libc::recv(socket.as_raw_fd(), place, frame.len(), libc::MSG_DONTWAIT)
        };
        match (usize::try_from(got), end) {
            (Ok(length), _) => {
                frame.truncate(length);
                let last = end.is_some_and(|end| holds(&frame, end));
                frames.push(frame);
                if last {
                    return frames;
                }
            }
            (Err(_), None) => return frames,
            (Err(_), Some(end)) => {
                assert!(Instant::now() < until, "no {end:?} in {frames:02x?}");
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

fn holds(frame: &[u8], mark: &[u8]) -> bool {
    frame.windows(mark.len()).any(|part| part == mark)
}

const EVERYBODY: [u8; 6] = [0xff; 6];
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, content: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), content].concat()
}

fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes.chunks(2).map(|two| match *two {
        [a, b] => u32::from(u16::from_be_bytes([a, b])),
        [a] => u32::from(a) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while 0xffff < sum {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn v4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + content.len()).unwrap().to_be_bytes();
    let mut head = [&[0x45, 0], &length[..], &[0, 0, 0, 0, 64, protocol, 0, 0]].concat();
    head.extend(from.octets());
    head.extend(to.octets());
    let check = sum(&[&head]).to_be_bytes();
    head.splice(10..12, check);
    head.extend(content);
    head
}

fn v6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = [&[0x60, 0, 0, 0], &length[..], &[protocol, 255]].concat();
    [&head[..], &from.octets(), &to.octets(), content].concat()
}

/// With a right checksum, for receivers that would act on it.
fn icmp_v6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0], content].concat();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let check = sum(&[&from.octets(), &to.octets(), &length, &[0, 0, 0, 58], &message]);
    message.splice(2..4, check.to_be_bytes());
    message
}

fn udp(from: u16, to: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + content.len()).unwrap();
    [&[from, to, length, 0].map(u16::to_be_bytes).concat()[..], content].concat()
}

fn arp(kind: u16, mac: [u8; 6], from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4];
    let kind = kind.to_be_bytes();
    [&head[..], &kind, &mac, &from.octets(), &[0; 6], &to.octets()].concat()
}

/// All that nobody may ever receive, by name.
fn evil(me: &Container, other: &Container, gateway: [u8; 6]) -> Vec<(&'static str, Vec<u8>)> {
    const ARP: u16 = 0x0806;
    const V4: u16 = 0x0800;
    const V6: u16 = 0x86dd;
    let (mac, mine, theirs) = (me.mac(), me.v4(), other.v4());
    let router = me.endpoint.gateway;
    let broadcast = Ipv4Addr::BROADCAST;
    let nodes: Ipv6Addr = "ff02::1".parse().unwrap();
    let routers: Ipv6Addr = "ff02::2".parse().unwrap();
    let foreign: Ipv6Addr = "fe80::bad".parse().unwrap();
    let option = |kind, mac: [u8; 6]| [&[kind, 1][..], &mac].concat();
    // RFC 4861 §4.2: a lifetime, then a prefix that makes addresses.
    let prefix: Ipv6Addr = "2001:db8:bad::".parse().unwrap();
    let advertisement = [
        &[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8][..],
        &[0; 4],
        &prefix.octets(),
    ]
    .concat();
    let claim = |target: Ipv6Addr, kind, mac| {
        [&[0x20, 0, 0, 0][..], &target.octets(), &option(kind, mac)].concat()
    };
    let ask = |target: Ipv6Addr| [&[0; 4][..], &target.octets()].concat();
    let nd = |from, to, kind, content: &[u8]| {
        ethernet(ALL_NODES, mac, V6, &v6(from, to, 58, &icmp_v6(from, to, kind, content)))
    };
    let own = me.local();
    let behind = |next: u8, from, to, kind, content: &[u8]| {
        // An empty extension header: hop by hop (0) or destination options (60).
        let inner = [&[58, 0, 1, 4, 0, 0, 0, 0], &icmp_v6(from, to, kind, content)[..]].concat();
        ethernet(ALL_NODES, mac, V6, &v6(from, to, next, &inner))
    };
    let ip = |from, to, protocol, content: &[u8]| {
        ethernet(EVERYBODY, mac, V4, &v4(from, to, protocol, content))
    };
    let tagged = |kind: u16, vlan: u16, inner: Vec<u8>| {
        let (addresses, rest) = inner.split_at(12);
        [addresses, &kind.to_be_bytes(), &vlan.to_be_bytes(), rest].concat()
    };
    let ra = || nd(own, nodes, 134, &advertisement);
    let offer = udp(67, 68, &[2; 300]);
    let hello = ip(mine, broadcast, 17, &udp(9, 9, b"x"));
    let from_port = |to| ethernet(to, mac, V4, &v4(mine, broadcast, 17, &udp(9, 9, b"x")));
    vec![
        ("RA", ra()),
        ("RA from another", nd(foreign, nodes, 134, &advertisement)),
        ("RA behind hop-by-hop", behind(0, own, nodes, 134, &advertisement)),
        ("RA behind options", behind(60, own, nodes, 134, &advertisement)),
        ("RA in a VLAN", tagged(0x8100, 5, ra())),
        ("RA with priority", tagged(0x8100, 0x2000, ra())),
        ("RA in a service VLAN", tagged(0x88a8, 5, ra())),
        ("RS", nd(own, routers, 133, &[0; 4])),
        ("redirect", nd(own, nodes, 137, &[0; 36])),
        ("packet too big", nd(own, nodes, 2, &[0, 0, 5, 0])),
        ("MLD query", nd(own, nodes, 130, &[0; 20])),
        ("NA of the neighbour", nd(own, nodes, 136, &claim(other.v6(), 2, mac))),
        ("NA of its link-local", nd(own, nodes, 136, &claim(other.local(), 2, mac))),
        ("NA of the router", nd(own, nodes, 136, &claim(local(gateway), 2, mac))),
        ("NA with a foreign MAC", nd(own, nodes, 136, &claim(own, 2, other.mac()))),
        ("NA behind options", behind(60, own, nodes, 136, &claim(other.v6(), 2, mac))),
        ("NA twice", nd(own, nodes, 136, &[claim(own, 2, mac), option(2, other.mac())].concat())),
        ("NS with a foreign MAC", nd(own, nodes, 135, &claim(other.v6(), 1, other.mac()))),
        ("NS that denies an address", nd(Ipv6Addr::UNSPECIFIED, nodes, 135, &ask(other.local()))),
        ("IPv6 from the neighbour", nd(other.v6(), nodes, 128, &[0; 4])),
        ("IPv6 from its link-local", nd(other.local(), nodes, 128, &[0; 4])),
        ("IPv6 from nowhere", nd(Ipv6Addr::UNSPECIFIED, nodes, 128, &[0; 4])),
        ("DHCPv6", ethernet(ALL_NODES, mac, V6, &v6(own, nodes, 17, &udp(547, 546, &[2; 60])))),
        ("DHCP offer", ip(mine, broadcast, 17, &offer)),
        ("DHCP offer of the router", ip(router, broadcast, 17, &offer)),
        ("DHCP from elsewhere", ip(mine, broadcast, 17, &udp(6767, 68, &[2; 300]))),
        ("IPv4 from the neighbour", ip(theirs, broadcast, 17, &udp(9, 9, b"x"))),
        ("IPv4 from the router", ip(router, broadcast, 17, &udp(9, 9, b"x"))),
        ("IPv4 from nowhere", ip(Ipv4Addr::UNSPECIFIED, broadcast, 17, &udp(68, 67, &[1; 300]))),
        ("ICMP redirect", ip(mine, broadcast, 1, &[&[5, 1, 0, 0][..], &[0; 32]].concat())),
        ("ICMP router", ip(mine, broadcast, 1, &[&[9, 0, 0, 0][..], &[0; 12]].concat())),
        ("fragmentation needed", ip(mine, router, 1, &[&[3, 4, 0, 0][..], &[0; 32]].concat())),
        (
            "IGMP query",
            ip(mine, "224.0.0.1".parse().unwrap(), 2, &[0x11, 0, 0xee, 0xff, 0, 0, 0, 0]),
        ),
        ("ARP of the neighbour", ethernet(EVERYBODY, mac, ARP, &arp(2, mac, theirs, theirs))),
        ("ARP of the router", ethernet(EVERYBODY, mac, ARP, &arp(1, mac, router, router))),
        ("ARP asks as another", ethernet(EVERYBODY, mac, ARP, &arp(1, mac, theirs, router))),
        ("ARP with a foreign MAC", ethernet(EVERYBODY, mac, ARP, &arp(2, other.mac(), mine, mine))),
        ("ARP of other sizes", {
            let mut odd = arp(2, mac, mine, theirs);
            odd.splice(4..6, [6, 16]);
            ethernet(EVERYBODY, mac, ARP, &odd)
        }),
        ("the neighbour's MAC", ethernet(EVERYBODY, other.mac(), V4, hello.get(14..).unwrap())),
        ("the router's MAC", ethernet(EVERYBODY, gateway, V4, hello.get(14..).unwrap())),
        ("a multicast MAC", ethernet(EVERYBODY, ALL_NODES, V4, hello.get(14..).unwrap())),
        ("to the bridge's group", from_port([1, 0x80, 0xc2, 0, 0, 0])),
        ("to LLDP's group", from_port([1, 0x80, 0xc2, 0, 0, 14])),
        (
            "spanning tree",
            ethernet([1, 0x80, 0xc2, 0, 0, 0], mac, 38, &[0x42, 0x42, 3, 0, 0, 0, 0]),
        ),
        ("LLDP", ethernet([1, 0x80, 0xc2, 0, 0, 14], mac, 0x88cc, &[2, 7, 4, 2, 0x42])),
        ("PPPoE", ethernet(EVERYBODY, mac, 0x8863, &[0x11, 7, 0, 0, 0, 0])),
        ("an own protocol", ethernet(EVERYBODY, mac, 0x88b5, b"hello")),
        ("MACsec", ethernet(EVERYBODY, mac, 0x88e5, &[0; 16])),
    ]
}

/// Each with a mark of its own behind its end, where nobody looks.
fn marked(frames: &[(&'static str, Vec<u8>)]) -> Vec<Vec<u8>> {
    frames
        .iter()
        .map(|(name, frame)| [&frame[..], b"<<", name.as_bytes(), b">>"].concat())
        .collect()
}

fn seen(frames: &[(&'static str, Vec<u8>)], heard: &[Vec<u8>]) -> Vec<&'static str> {
    let mark = |name: &str| format!("<<{name}>>").into_bytes();
    frames
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| heard.iter().any(|frame| holds(frame, &mark(name))))
        .collect()
}

fn host_state() -> String {
    let until = Instant::now() + PATIENCE;
    while show("ip addr").contains("tentative") {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(20));
    }
    ["route", "-6 route", "-o addr", "neigh", "-6 neigh"]
        .map(|what| show(&format!("ip {what}")))
        .concat()
}

fn settings(icc: bool, with_v6: bool) -> BridgeSettings {
    let v6 = Cidr { address: "fd00:9::".parse().unwrap(), prefix: 64 };
    BridgeSettings { icc, v6: with_v6.then_some(v6), ..BridgeSettings::default() }
}

fn gateway_mac() -> [u8; 6] {
    let link = show(&format!("ip -o link show {}", net::BRIDGE));
    let mac = link.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    let bytes: Vec<u8> = mac.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

fn attack(icc: bool, with_v6: bool, guard: Guard) {
    // It would cut the marks off.
    for family in ["iptables", "ip6tables", "arptables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        if std::fs::exists(&path).unwrap() {
            std::fs::write(path, "0").unwrap();
        }
    }
    let mut network = Network::new(settings(icc, with_v6), BTreeMap::new());
    let (me, other) = {
        let mut container = |letter| {
            Container::with(&mut network, letter, net::Host::open().unwrap().with_guard(guard))
        };
        (container("a"), container("b"))
    };
    let evil = evil(&me, &other, gateway_mac());
    let (host, neighbour) = (raw(net::BRIDGE), other.listen());
    let port = raw("vethaaaaaaaaaaa");
    let before = host_state();
    me.send(marked(&evil));
    let end = ethernet(EVERYBODY, me.mac(), 0x0800, &{
        v4(me.v4(), Ipv4Addr::BROADCAST, 17, &udp(9, 9, b"the end"))
    });
    me.send(vec![end.clone()]);
    assert_eq!(seen(&evil, &heard(&host, Some(b"the end"))), Vec::<&str>::new(), "host");
    let end_there = icc.then_some(&b"the end"[..]);
    assert_eq!(seen(&evil, &heard(&neighbour, end_there)), Vec::<&str>::new(), "neighbour");
    // What the device itself showed to a tap is what arrived, so that the frames were sent at all.
    assert_eq!(seen(&evil, &heard(&port, Some(b"the end"))).len(), evil.len(), "sent");
    assert_eq!(host_state(), before);

    // Without the filter all would have come: the test can fail.
    let family = if guard == Guard::Interface { "netdev" } else { "bridge" };
    show(&format!("nft delete table {family} edgeagent"));
    me.send(marked(&evil));
    me.send(vec![end]);
    let came = seen(&evil, &heard(&host, Some(b"the end")));
    let kept: Vec<_> = evil.iter().map(|(name, _)| name).filter(|n| !came.contains(n)).collect();
    assert!(kept.len() < 6, "{kept:?}");
    if !with_v6 {
        // The second line holds alone.
        let routes = show("ip -6 route");
        assert!(!routes.contains("proto ra"), "{routes}");
    }
    net::remove();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn neighbours_hear_nothing_that_is_not_its_own() {
    if alone("neighbours_hear_nothing_that_is_not_its_own") {
        attack(true, true, Guard::Interface);
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn the_same_without_ipv6() {
    if alone("the_same_without_ipv6") {
        attack(true, false, Guard::Interface);
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn the_same_where_containers_are_kept_apart() {
    if alone("the_same_where_containers_are_kept_apart") {
        attack(false, true, Guard::Interface);
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn the_same_on_a_kernel_that_filters_at_the_bridge_only() {
    if alone("the_same_on_a_kernel_that_filters_at_the_bridge_only") {
        attack(true, true, Guard::Bridge);
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn what_is_its_own_passes() {
    if !alone("what_is_its_own_passes") {
        return;
    }
    let mut network = Network::new(settings(true, true), BTreeMap::new());
    let (me, other) = (Container::new(&mut network, "a"), Container::new(&mut network, "b"));
    let (gateway, gateway_v6) = (me.endpoint.gateway, me.endpoint.v6.unwrap().1);
    let hello = |address: IpAddr| {
        let to = SocketAddr::new(address, 7000);
        me.run(move || {
            let until = Instant::now() + PATIENCE;
            // Until duplicate address detection is through.
            let mut stream = loop {
                match TcpStream::connect(to) {
                    Ok(stream) => break stream,
                    Err(error) => assert!(Instant::now() < until, "{to}: {error}"),
                }
                thread::sleep(Duration::from_millis(20));
            };
            stream.write_all(&[7; 100_000]).unwrap();
        });
    };
    let serve = || {
        let listener = TcpListener::bind("[::]:7000").unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut all = Vec::new();
                stream.unwrap().read_to_end(&mut all).unwrap();
            }
        });
    };
    serve();
    other.run(serve);
    for address in [IpAddr::from(other.v4()), other.v6().into(), gateway.into(), gateway_v6.into()]
    {
        hello(address);
    }
    // Datagrams in several packets, also between link-local addresses.
    let scope = 2;
    let local = other.local();
    let receiver = other.run(|| UdpSocket::bind("[::]:7001").unwrap());
    receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut got = 0;
    let until = Instant::now() + PATIENCE;
    while got == 0 {
        assert!(Instant::now() < until, "{}", show("nft list ruleset"));
        me.run(move || {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            let index = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
            let index = index.lines().find(|line| line.ends_with("eth0")).unwrap();
            let scope = u32::from_str_radix(index.split(' ').nth(1).unwrap(), 16).unwrap_or(scope);
            let to = std::net::SocketAddrV6::new(local, 7001, 0, scope);
            // Not before its own address is usable.
            let _again = socket.send_to(&[1; 9000], to);
        });
        got = receiver.recv(&mut [0; 10_000]).unwrap_or(0);
    }
    assert_eq!(got, 9000);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn routes_are_taken_from_routers_only() {
    if !alone("routes_are_taken_from_routers_only") {
        return;
    }
    show("ip link add lan0 type veth peer name wan0");
    show("ip link add guests0 type bridge");
    let value = |name: &str, key: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{name}/{key}");
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    };
    Network::new(settings(true, true), BTreeMap::new()).ready().unwrap();
    assert_eq!(value("lan0", "accept_ra"), "2");
    for other in ["guests0", "default"] {
        assert_eq!(value(other, "accept_ra"), "1", "{other}");
    }
    assert_eq!(value(net::BRIDGE, "accept_ra"), "0");
    assert_eq!(value(net::BRIDGE, "disable_ipv6"), "0");
    // Switched off again, on the bridge that is there.
    Network::new(settings(true, false), BTreeMap::new()).ready().unwrap();
    assert_eq!(value(net::BRIDGE, "accept_ra"), "0");
    assert_eq!(value(net::BRIDGE, "disable_ipv6"), "1");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn chains_go_with_their_interfaces() {
    if !alone("chains_go_with_their_interfaces") {
        return;
    }
    let mut network = Network::new(settings(true, true), BTreeMap::new());
    let first = Container::new(&mut network, "a");
    assert!(show("nft list ruleset").contains("chain vethaaaaaaaaaaa"));
    drop(first);
    let until = Instant::now() + PATIENCE;
    while show("ip link").contains("vethaaaaaaaaaaa") {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(10));
    }
    let second = Container::new(&mut network, "b");
    let rules = show("nft list ruleset");
    assert!(
        !rules.contains("vethaaaaaaaaaaa") && rules.contains("chain vethbbbbbbbbbbb"),
        "{rules}"
    );
    drop(second);
    net::remove();
    assert_eq!(show("nft list ruleset"), "");
}
