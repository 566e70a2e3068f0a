//! Who is a manager (design.md §7): a chain to the pinned root, and the DNS name of the moment:
//! `swarm-ca` while joining, `swarm-manager` for members. Each row is judged at both moments.
//!
//! Organization and unit of the subject are not looked at (threat T5 of anchors.md). The unit says
//! what the name says, and a certificate with the name can come from nobody but a manager's CA. The
//! organization is the cluster's id: another cluster has another root, which is not ours.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    rc::Rc,
    sync::Arc,
};

use edgeagent::{
    model::LinkLoss,
    rpc::{CallError, Channel, JOIN_NAME, Link, LinkEvent, MANAGER_NAME, Target},
};
use rustls::ServerConfig;
use smol::{LocalExecutor, channel::bounded};

use crate::{
    SOON, description, joining, member, root_ca_reply,
    rpc_server::{self, Reply, Server, bytes_field, pki, server_config},
    run,
};

/// What is shown; believed while joining; believed as a member.
const ROWS: &[(&str, bool, bool)] = &[
    ("manager", true, true),
    // Through an intermediate that is sent, and one that is not.
    ("chained", true, true),
    ("below", false, false),
    // One name of the two.
    ("only-ca", true, false),
    ("only-manager", false, true),
    // Of the same CA, but no manager.
    ("worker", false, false),
    ("elsewhere", false, false),
    ("longer", false, false),
    ("address", false, false),
    ("swarm-manager", false, false), // the name is the subject's alone
    ("client", false, false),
    ("by-worker", false, false),
    ("ca-leaf", false, false),
    // The subject does not count.
    ("other-ou", true, true),
    ("other-cluster", true, true),
    // The right names, of nobody we know.
    ("stranger", false, false),
    ("brought", false, false),
    ("self", false, false),
    ("self-ca", false, false),
    // At the wrong time.
    ("expired", false, false),
    ("future", false, false),
];

#[test]
fn a_manager_is_who_has_the_chain_and_the_name_and_nobody_else() {
    run(async |ex| {
        for (leaf, as_newcomer, as_member) in ROWS {
            let config = server_config(leaf, true);
            judge(&ex, leaf, &config, *as_newcomer, *as_member).await;
        }
    });
}

#[test]
fn a_manager_speaks_tls_1_2_or_1_3_and_h2_or_says_nothing_of_it() {
    run(async |ex| {
        let tls12 = rpc_server::server_config_tls12("manager");
        judge(&ex, "TLS 1.2", &tls12, true, true).await;
        judge(&ex, "no ALPN", &server_config("manager", false), true, true).await;
        let mut http1 = ServerConfig::clone(&server_config("manager", true));
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        judge(&ex, "HTTP/1.1", &Arc::new(http1), false, false).await;
    });
}

/// Lets the server be dialled at both moments.
async fn judge(
    ex: &Rc<LocalExecutor<'static>>,
    row: &str,
    config: &Arc<ServerConfig>,
    as_newcomer: bool,
    as_member: bool,
) {
    let server = Server::start(ex, Arc::clone(config), root_ca_reply).await;
    let opened = Channel::open(ex, &server.addr, joining("root"), JOIN_NAME, SOON).await;
    match opened {
        Ok(channel) => {
            assert!(as_newcomer, "{row} was believed by a newcomer");
            assert!(channel.root_ca().await.is_ok(), "{row}");
        }
        Err(error) => {
            assert!(!as_newcomer, "{row} was refused by a newcomer: {error}");
            // With the right name and chain the clock may be what is wrong: a loss of its own.
            let timely = !matches!(row, "expired" | "future");
            let told = match error.loss() {
                LinkLoss::Untrusted(_) => timely,
                LinkLoss::WrongTime(_) => !timely,
                _ => false,
            };
            assert!(told, "{row}: {error:?}");
        }
    }
    assert_eq!(server.calls().is_empty(), !as_newcomer, "{row}: {:?}", server.calls());

    let session = |_: &str| Reply { stall: true, ..Reply::answer(bytes_field(1, b"session1")) };
    let server = Server::start(ex, Arc::clone(config), session).await;
    let (believed, error) = registers(ex, &server.addr).await;
    assert_eq!(believed, as_member, "{row} for a member: {error}");
    // Nothing was asked of it, so no task can have come from it.
    assert_eq!(server.calls().is_empty(), !as_member, "{row}: {:?}", server.calls());
}

/// Whether a member's link registers at `addr`, or why not.
async fn registers(ex: &Rc<LocalExecutor<'static>>, addr: &str) -> (bool, String) {
    let (events, inbox) = bounded(4);
    let target = Target { addr: addr.to_owned(), tls: member(), name: MANAGER_NAME };
    let _link = Link::open(Rc::clone(ex), target, None, description(), events);
    match inbox.recv().await {
        Ok(LinkEvent::Session(_)) => (true, String::new()),
        Ok(LinkEvent::Lost(
            LinkLoss::Untrusted(why) | LinkLoss::WrongTime(why) | LinkLoss::Unreachable(why),
        )) => (false, why),
        other => panic!("{addr}: {other:?}"),
    }
}

/// `openssl s_server`, which still knows the protocols that rustls never had.
struct Old(Child, String);

impl Old {
    fn start(version: &str) -> Self {
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let folder = std::env::temp_dir();
        let name = format!("edgeagent-old-{}", std::process::id());
        let files = ["pem", "key"].map(|kind| folder.join(format!("{name}.{kind}")));
        for (file, kind) in files.iter().zip(["pem", "key"]) {
            std::fs::write(file, pki(&format!("manager.{kind}"))).unwrap();
        }
        let mut server = Command::new("openssl")
            .args(["s_server", version, "-cipher", "ALL:@SECLEVEL=0", "-accept", &addr, "-cert"])
            .arg(&files[0])
            .arg("-key")
            .arg(&files[1])
            // It ends with its input.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It says ACCEPT when it listens.
        let mut said = std::io::BufReader::new(server.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ACCEPT") {
            line.clear();
            assert_ne!(std::io::BufRead::read_line(&mut said, &mut line).unwrap(), 0);
        }
        for file in files {
            std::fs::remove_file(file).unwrap();
        }
        // Kept open for the server's lines to go somewhere.
        server.stdout = Some(said.into_inner());
        Self(server, addr)
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn tls_before_1_2_is_not_spoken() {
    run(async |ex| {
        for version in ["-tls1", "-tls1_1"] {
            let server = Old::start(version);
            let tls = joining("root");
            let opened = Channel::open(&ex, &server.1, tls, JOIN_NAME, SOON).await;
            // What the refusal looks like is up to the other side, which may just hang up.
            assert!(opened.is_err(), "{version}");
            assert!(!registers(&ex, &server.1).await.0, "{version}");
        }
        // The same server with a protocol of today is believed: the version is all that is wrong.
        let server = Old::start("-tls1_2");
        let error = Channel::open(&ex, &server.1, joining("root"), JOIN_NAME, SOON).await.err();
        assert!(
            !matches!(error, Some(CallError::Tls { .. } | CallError::Connect { .. })),
            "{error:?}"
        );
    });
}
