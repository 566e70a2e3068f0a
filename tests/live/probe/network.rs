//! Names and networks.

use super::{Case, Moment, case};

pub(super) const CASES: &[Case] = &[
    case(
        "names",
        &[
            "--hostname",
            "box.example",
            "--host",
            "db:10.9.8.7",
            "--dns",
            "192.0.2.1",
            "--dns-search",
            "example.org",
            "--dns-option",
            "ndots:3",
        ],
    ),
    case(
        "names-more",
        &[
            "--host",
            "db:10.9.8.7",
            "--host",
            "db:10.9.8.8",
            "--host",
            "v6:2001:db8::1",
            "--dns",
            "192.0.2.1",
            "--dns",
            "2001:db8::53",
            "--dns-search",
            "a.example",
            "--dns-search",
            "b.example",
        ],
    ),
    case("dns-search", &["--dns-search", "."]),
    case("dns-option", &["--dns-option", "timeout:1", "--dns-option", "attempts:1"]),
    case(
        "host-name-long",
        &["--hostname", "a-name-of-sixty-three-letters-is-what-the-rules-of-dns-would-let"],
    ),
    case("host-network", &["--network", "host"]).meant(BRIDGES),
    case(
        "host-network-names",
        &["--network", "host", "--hostname", "box", "--host", "db:10.9.8.7"],
    )
    .meant(BRIDGES),
    case(
        "host-network-dns",
        &["--network", "host", "--dns", "192.0.2.1", "--dns-search", "example.org"],
    )
    .meant(BRIDGES),
    case("host-network-user", &["--network", "host", "--user", "app", "--read-only"])
        .meant(BRIDGES),
    case("bridge-network", &["--network", "bridge"]),
    case(
        "port",
        &[
            "--publish",
            "mode=host,target=80,published=8080",
            "--publish",
            "mode=host,target=53,published=5353,protocol=udp",
        ],
    )
    .words(&["sh", "-c", "sh /look; exec sleep 1000"])
    .moment(Moment::Running),
    case("port-ended", &["--publish", "mode=host,target=81,published=8081"]),
];

const BRIDGES: &[super::Meant] = &[(
    "interface: ",
    "the bridges of dockerd, ours, and what containers of other cases hang on them",
)];
