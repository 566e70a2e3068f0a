//! `rpc` against an HTTP/2 server on loopback whose every frame is ours.
//!
//! Certificates come from the `openssl` command, messages are encoded by hand: neither shares
//! code with what is tested. What a real manager says is tested elsewhere.

#![cfg(test)]

mod rpc_matrix;
mod rpc_server;

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use edgeagent::{
    ca::PinnedRoot,
    limits,
    model::{
        Availability, Change, Identity, IssuanceState, LinkLoss, LogLine, LogStream,
        NodeDescription, NodeId, NodeResources, NodeRole, PendingCertificate, SealSettings,
        SecretBytes, ServiceId, SetKind, TaskId, TaskState, TaskStatus, TlsInfo, UnixTime,
    },
    node::enrol::{Enrolment, JoinError},
    rpc::{self, CallError, Channel, Code, JOIN_NAME, Link, LinkEvent, MANAGER_NAME, Target},
    seal::{IdentityStore, Machine, Sealer},
};
use rpc_server::{
    Reply, Server, bytes_field, framed, number_field, pki, server_config, server_config_for_members,
};
use rustls::ClientConfig;
use smol::{
    LocalExecutor, Timer,
    channel::{Receiver, bounded},
    future::{self, FutureExt},
};

const SOON: Duration = Duration::from_secs(10);

fn run<T>(test: impl AsyncFnOnce(Rc<LocalExecutor<'static>>) -> T) -> T {
    let ex = Rc::new(LocalExecutor::new());
    smol::block_on(ex.run(test(Rc::clone(&ex)).or(async {
        Timer::after(Duration::from_secs(60)).await;
        panic!("the test hangs")
    })))
}

fn root(name: &str) -> PinnedRoot {
    PinnedRoot::unsealed(pki(&format!("{name}.pem")))
}

fn joining(name: &str) -> Arc<ClientConfig> {
    rpc::joining(&root(name), UnixTime::default()).unwrap()
}

fn member() -> Arc<ClientConfig> {
    let key = SecretBytes::new(pki("worker.der"));
    rpc::member(&root("root"), &pki("worker.pem"), &key, UnixTime::default()).unwrap()
}

async fn open(
    ex: &Rc<LocalExecutor<'static>>,
    server: &Server,
    tls: Arc<ClientConfig>,
    name: &'static str,
) -> Result<Channel, CallError> {
    Channel::open(ex, &server.addr, tls, name, SOON).await
}

fn root_ca_reply(_: &str) -> Reply {
    Reply::answer(bytes_field(1, b"PEM"))
}

#[test]
fn the_root_is_downloaded_from_whoever_answers() {
    run(async |ex| {
        let server = Server::start(&ex, server_config("stranger", true), root_ca_reply).await;
        let channel = open(&ex, &server, rpc::unverified().unwrap(), JOIN_NAME).await.unwrap();
        assert_eq!(channel.root_ca().await.unwrap(), b"PEM");
        assert_eq!(server.calls(), ["/docker.swarmkit.v1.CA/GetRootCACertificate"]);
    });
}

#[test]
fn managers_of_rsa_p256_and_p384_roots_are_believed_under_both_names() {
    run(async |ex| {
        for (leaf, root) in
            [("manager", "root"), ("manager-rsa", "root-rsa"), ("manager-p384", "root-p384")]
        {
            let server = Server::start(&ex, server_config(leaf, true), root_ca_reply).await;
            for name in [JOIN_NAME, MANAGER_NAME] {
                let channel = open(&ex, &server, joining(root), name).await.expect(leaf);
                assert_eq!(channel.root_ca().await.unwrap(), b"PEM");
            }
        }
    });
}

#[test]
fn a_manager_that_knows_only_tls_1_2_is_believed() {
    run(async |ex| {
        let config = rpc_server::server_config_tls12("manager");
        let server = Server::start(&ex, config, root_ca_reply).await;
        let channel = open(&ex, &server, joining("root"), JOIN_NAME).await.unwrap();
        assert_eq!(channel.root_ca().await.unwrap(), b"PEM");
    });
}

#[test]
fn a_worker_of_the_same_ca_is_no_manager() {
    run(async |ex| {
        let server = Server::start(&ex, server_config("worker", true), root_ca_reply).await;
        for name in [JOIN_NAME, MANAGER_NAME] {
            let error = open(&ex, &server, joining("root"), name).await.unwrap_err();
            assert!(matches!(error.loss(), LinkLoss::Untrusted(_)), "{error:?}");
        }
        assert!(server.calls().is_empty(), "nothing may be sent to it");
    });
}

#[test]
fn a_manager_of_another_root_is_refused() {
    run(async |ex| {
        let server = Server::start(&ex, server_config("stranger", true), root_ca_reply).await;
        let error = open(&ex, &server, joining("root"), JOIN_NAME).await.unwrap_err();
        assert!(matches!(error, CallError::Tls { .. }), "{error:?}");
        assert!(matches!(error.loss(), LinkLoss::Untrusted(_)), "{error:?}");
        assert!(server.calls().is_empty());
    });
}

#[test]
fn a_manager_that_selects_no_protocol_is_spoken_to_and_one_with_another_is_not() {
    run(async |ex| {
        let server = Server::start(&ex, server_config("manager", false), root_ca_reply).await;
        let channel = open(&ex, &server, joining("root"), JOIN_NAME).await.unwrap();
        assert_eq!(channel.root_ca().await.unwrap(), b"PEM");

        let mut config = rustls::ServerConfig::clone(&server_config("manager", true));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let server = Server::start(&ex, Arc::new(config), root_ca_reply).await;
        let error = open(&ex, &server, joining("root"), JOIN_NAME).await.unwrap_err();
        assert!(matches!(error.loss(), LinkLoss::Untrusted(_)), "{error:?}");
    });
}

#[test]
fn the_time_floor_counts_when_the_clock_is_behind_it() {
    run(async |ex| {
        let server = Server::start(&ex, server_config("manager", true), root_ca_reply).await;
        let floor = UnixTime::from_seconds(9_000_000_000);
        let late = rpc::joining(&root("root"), floor).unwrap();
        let error = open(&ex, &server, late, JOIN_NAME).await.unwrap_err();
        assert!(matches!(error.loss(), LinkLoss::WrongTime(_)), "{error:?}");
    });
}

#[test]
fn our_certificate_goes_with_its_intermediates_and_its_refusal_is_told_as_such() {
    run(async |ex| {
        // As in a root rotation: the leaf is of the new CA, which the old root cross-signed.
        let config = server_config_for_members("manager", "root");
        let server = Server::start(&ex, config, root_ca_reply).await;
        let key = SecretBytes::new(pki("rotated.der"));
        let chain = [pki("rotated.pem"), pki("cross.pem")].concat();
        let tls = rpc::member(&root("root"), &chain, &key, UnixTime::default()).unwrap();
        let channel = open(&ex, &server, tls, MANAGER_NAME).await.unwrap();
        assert_eq!(channel.root_ca().await.unwrap(), b"PEM");

        let tls = rpc::member(&root("root"), &pki("rotated.pem"), &key, UnixTime::default());
        let error = match open(&ex, &server, tls.unwrap(), MANAGER_NAME).await {
            Ok(channel) => channel.root_ca().await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error.loss(), LinkLoss::Denied(_)), "{error:?}");
    });
}

#[test]
fn a_key_of_another_certificate_makes_no_member() {
    let key = SecretBytes::new(pki("rotated.der"));
    let error = rpc::member(&root("root"), &pki("worker.pem"), &key, UnixTime::default());
    assert!(matches!(error, Err(rpc::TlsError::Key(_))));
    let nothing = PinnedRoot::unsealed(b"no PEM".to_vec());
    assert!(rpc::joining(&nothing, UnixTime::default()).is_err());
}

#[test]
fn an_error_without_a_body_is_mapped() {
    run(async |ex| {
        let server = Server::start(&ex, server_config("manager", true), |_| {
            Reply::refused(3, "A valid join token is necessary to join this%20cluster")
        })
        .await;
        let channel = open(&ex, &server, joining("root"), JOIN_NAME).await.unwrap();
        let answer = channel.issue_certificate(b"CSR", Some("SWMTKN"), Availability::Active).await;
        let Err(CallError::Status { code: Code::InvalidArgument, message }) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(message, "A valid join token is necessary to join this cluster");
    });
}

#[test]
fn a_certificate_is_asked_for_and_its_state_read() {
    run(async |ex| {
        let server = Server::start(&ex, server_config("manager", true), |path| {
            if path.ends_with("/IssueNodeCertificate") {
                return Reply::answer(bytes_field(1, b"node1"));
            }
            let certificate = [bytes_field(2, b"CSR"), bytes_field(4, b"CHAIN")].concat();
            let answer =
                [bytes_field(1, &number_field(1, 3)), bytes_field(2, &certificate)].concat();
            Reply::answer(answer)
        })
        .await;
        let channel = open(&ex, &server, joining("root"), JOIN_NAME).await.unwrap();
        let node =
            channel.issue_certificate(b"CSR", Some("SWMTKN"), Availability::Drain).await.unwrap();
        assert_eq!(node.as_str(), "node1");
        let sent = [bytes_field(2, b"CSR"), bytes_field(3, b"SWMTKN"), number_field(4, 2)];
        assert_eq!(server.bodies(), [framed(&sent.concat())]);
        let answer = channel.certificate_status(&node, SOON).await.unwrap();
        assert_eq!(answer.state, IssuanceState::Issued);
        assert_eq!((&*answer.csr, &*answer.chain), (&b"CSR"[..], &b"CHAIN"[..]));
        assert_eq!(answer.role, NodeRole::Worker);
    });
}

#[test]
fn a_pending_node_asks_every_manager_and_learns_that_it_was_forgotten() {
    run(async |ex| {
        let lost = |_: &str| Reply::refused(10, "dispatcher is stopped");
        let first = Server::start(&ex, server_config("manager", true), lost).await;
        let gone = |_: &str| Reply::refused(5, "NotFound");
        let second = Server::start(&ex, server_config("manager", true), gone).await;

        let folder = std::env::temp_dir().join(format!("edgeagent-rpc-{}", std::process::id()));
        let sealer = Sealer::open(&folder, &Machine::this(), &SealSettings::default()).unwrap();
        let store = IdentityStore::new(&folder, sealer);
        let clock = || UnixTime::default();
        let enrolment = Enrolment { executor: Rc::clone(&ex), store: &store, clock };
        let pending = PendingCertificate {
            node_id: NodeId::new("node1").unwrap(),
            key: SecretBytes::default(),
            csr: b"CSR".to_vec(),
        };
        let identity = Identity {
            root_ca: pki("root.pem"),
            seeds: vec![first.addr.clone(), second.addr.clone()],
            ..Identity::default()
        };
        let error = enrolment.signature(&identity, &pending, |_| {}).await.unwrap_err();
        assert_eq!(first.calls().len(), 1, "the first one was asked, and could not answer");
        let JoinError::Forgotten { addr } = error else { panic!("{error:?}") };
        assert_eq!(addr, second.addr);
        std::fs::remove_dir_all(&folder).unwrap();
    });
}

#[test]
fn an_answer_in_single_bytes_is_put_together() {
    run(async |ex| {
        let server = Server::start(&ex, server_config("manager", true), |_| {
            let answer = framed(&bytes_field(1, b"PEM"));
            Reply::pieces(answer.chunks(1).map(Bytes::copy_from_slice).collect())
        })
        .await;
        let channel = open(&ex, &server, joining("root"), JOIN_NAME).await.unwrap();
        assert_eq!(channel.root_ca().await.unwrap(), b"PEM");
    });
}

#[test]
fn answers_that_are_no_grpc_are_errors() {
    run(async |ex| {
        let twice = [framed(b""), framed(b"")].concat();
        for reply in [
            Reply::pieces(vec![framed(b"x").slice(..5)]),
            Reply::pieces(vec![twice.into()]),
            Reply { status: None, ..root_ca_reply("") },
            Reply { http: 404, ..root_ca_reply("") },
            Reply { content_type: "text/html", ..root_ca_reply("") },
            Reply::pieces(vec![Bytes::from_static(b"\x01\0\0\0\0")]),
        ] {
            let config = server_config("manager", true);
            let server = Server::start(&ex, config, move |_| reply.clone()).await;
            let channel = open(&ex, &server, joining("root"), JOIN_NAME).await.unwrap();
            let error = channel.root_ca().await.unwrap_err();
            assert!(matches!(error, CallError::Malformed { .. }), "{error:?}");
            assert!(matches!(error.loss(), LinkLoss::Misbehaved(_)));
        }
    });
}

#[test]
fn a_message_that_announces_too_much_fails_before_it_arrives() {
    run(async |ex| {
        let server = Server::start(&ex, server_config("manager", true), |_| Reply {
            stall: true,
            ..Reply::pieces(vec![Bytes::from_static(b"\0\xff\xff\xff\xff")])
        })
        .await;
        let channel = open(&ex, &server, joining("root"), JOIN_NAME).await.unwrap();
        let error = channel.root_ca().await.unwrap_err();
        let CallError::TooLarge { bytes, limit } = error else { panic!("{error:?}") };
        assert_eq!((bytes, limit), (0xffff_ffff, limits::ANSWER_MAX_BYTES));
    });
}

#[test]
fn a_stalled_answer_meets_its_deadline() {
    run(async |ex| {
        for reply in [
            Reply { stall: true, ..Reply::pieces(vec![]) },
            Reply { stall: true, ..Reply::pieces(vec![framed(b"xx").slice(..6)]) },
            Reply::refused(4, "context deadline exceeded"),
        ] {
            let config = server_config("manager", true);
            let server = Server::start(&ex, config, move |_| reply.clone()).await;
            let channel = open(&ex, &server, joining("root"), JOIN_NAME).await.unwrap();
            let node = NodeId::new("node1").unwrap();
            let wait = Duration::from_millis(100);
            let error = channel.certificate_status(&node, wait).await.unwrap_err();
            assert!(matches!(error, CallError::Deadline), "{error:?}");
        }
    });
}

#[test]
fn a_listener_that_says_nothing_and_a_closed_port_are_unreachable() {
    run(async |ex| {
        let silent = smol::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = silent.local_addr().unwrap().to_string();
        let wait = Duration::from_millis(100);
        let error = Channel::open(&ex, &addr, joining("root"), JOIN_NAME, wait).await.unwrap_err();
        assert!(matches!(error, CallError::Stalled { .. }), "{error:?}");
        assert!(error.to_string().contains("MTU"), "{error}");
        assert!(matches!(error.loss(), LinkLoss::Unreachable(_)));
        drop(silent);
        let error = Channel::open(&ex, &addr, joining("root"), JOIN_NAME, SOON).await.unwrap_err();
        assert!(matches!(error, CallError::Connect { .. }), "{error:?}");
        assert!(matches!(error.loss(), LinkLoss::Unreachable(_)));
        let error = Channel::open(&ex, "nowhere.invalid:1", joining("root"), JOIN_NAME, SOON).await;
        assert!(matches!(error, Err(CallError::Resolve { .. })), "{error:?}");
    });
}

// --- links ---

fn description() -> NodeDescription {
    NodeDescription {
        hostname: "edge".to_owned(),
        architecture: "aarch64".to_owned(),
        resources: NodeResources::default(),
        engine_version: "20.10".to_owned(),
        engine_labels: std::collections::BTreeMap::new(),
        plugins: Vec::new(),
        tls_info: TlsInfo::default(),
    }
}

fn connect(ex: &Rc<LocalExecutor<'static>>, server: &Server) -> (Link, Receiver<LinkEvent>) {
    let (events, inbox) = bounded(4);
    let target = Target { addr: server.addr.clone(), tls: member(), name: MANAGER_NAME };
    (Link::open(Rc::clone(ex), target, None, description(), events), inbox)
}

/// A dispatcher whose streams stay open after their first messages.
fn dispatcher(path: &str) -> Reply {
    let (_, method) = path.rsplit_once('/').unwrap();
    match method {
        "Session" => Reply { stall: true, ..Reply::answer(bytes_field(1, b"session1")) },
        "Heartbeat" => Reply::answer(bytes_field(1, &number_field(1, 7))),
        "UpdateTaskStatus" => Reply::refused(7, "cannot update a task not assigned this node"),
        "ListenSubscriptions" => Reply::refused(12, "unknown service"),
        "Assignments" => {
            let set = [bytes_field(3, b"1")].concat();
            Reply { stall: true, ..Reply::answer(set) }
        }
        "PublishLogs" => Reply { read_all: true, ..Reply::answer(Vec::new()) },
        other => panic!("unexpected call of {other}"),
    }
}

#[test]
fn a_link_registers_beats_watches_reports_and_publishes() {
    run(async |ex| {
        let config = server_config_for_members("manager", "root");
        let server = Server::start(&ex, config, dispatcher).await;
        let (link, inbox) = connect(&ex, &server);
        let Ok(LinkEvent::Session(message)) = inbox.recv().await else { panic!() };
        assert_eq!(message.session_id.as_str(), "session1");

        link.heartbeat();
        let event = inbox.recv().await.unwrap();
        let LinkEvent::HeartbeatAck { period } = event else { panic!("{event:?}") };
        assert_eq!(period, Duration::from_secs(7));

        for _ in 0..2 {
            link.watch();
            let event = inbox.recv().await.unwrap();
            let LinkEvent::Assignments(set) = event else { panic!("{event:?}") };
            assert_eq!((set.kind, &*set.results_in), (SetKind::Complete, "1"));
        }

        // Refused as foreign: the managers will never want it, so it counts as delivered.
        let task = TaskId::new("task1").unwrap();
        let status = TaskStatus { state: TaskState::Running, ..TaskStatus::default() };
        link.report(task.clone(), status);
        let event = inbox.recv().await.unwrap();
        let LinkEvent::Reported { task: reported, state } = event else { panic!("{event:?}") };
        assert_eq!((reported, state), (task.clone(), TaskState::Running));

        let mut sink = link.publish("sub1", NodeId::new("node1").unwrap());
        let line = LogLine {
            at: UnixTime::from_seconds(1),
            stream: LogStream::Stderr,
            data: b"hello\n".to_vec(),
        };
        let attributes = [("team".to_owned(), "roof".to_owned())];
        let service = ServiceId::new("service1").unwrap();
        sink.send(&service, &task, &attributes, vec![line]).await.unwrap();
        sink.close().await.unwrap();
        let context =
            [bytes_field(1, b"service1"), bytes_field(2, b"node1"), bytes_field(3, b"task1")];
        let line = [
            bytes_field(1, &context.concat()),
            bytes_field(2, &number_field(1, 1)),
            number_field(3, 2),
            bytes_field(4, b"hello\n"),
            bytes_field(5, &[bytes_field(1, b"team"), bytes_field(2, b"roof")].concat()),
        ];
        let first = [bytes_field(1, b"sub1"), bytes_field(2, &line.concat())].concat();
        let last = [bytes_field(1, b"sub1"), number_field(3, 1)].concat();
        assert_eq!(server.bodies().last().unwrap(), &[framed(&first), framed(&last)].concat());
        assert!(inbox.is_empty(), "a log broker that is missing must not end the link");
    });
}

#[test]
fn a_lost_link_says_so_once_and_a_dropped_one_never() {
    run(async |ex| {
        let config = server_config_for_members("manager", "root");
        let server = Server::start(&ex, config, |path| {
            if path.ends_with("/Heartbeat") {
                return Reply::refused(5, "node not registered");
            }
            dispatcher(path)
        })
        .await;
        let (link, inbox) = connect(&ex, &server);
        assert!(matches!(inbox.recv().await, Ok(LinkEvent::Session(_))));
        link.heartbeat();
        let event = inbox.recv().await.unwrap();
        assert!(matches!(event, LinkEvent::Lost(LinkLoss::SessionInvalid)), "{event:?}");
        link.heartbeat();
        link.watch();
        assert!(inbox.recv().await.is_err(), "nothing follows the loss");

        let (link, inbox) = connect(&ex, &server);
        assert!(matches!(inbox.recv().await, Ok(LinkEvent::Session(_))));
        drop(link);
        assert!(inbox.recv().await.is_err(), "a dropped link is silent");
        server.until_closed(2).await;
    });
}

#[test]
fn a_manager_that_never_registers_us_is_left() {
    run(async |ex| {
        let config = server_config_for_members("manager", "root");
        let server = Server::start(&ex, config, |_| Reply::refused(2, "node not found")).await;
        let (_link, inbox) = connect(&ex, &server);
        let event = inbox.recv().await.unwrap();
        assert!(matches!(event, LinkEvent::Lost(LinkLoss::Removed(_))), "{event:?}");
    });
}

#[test]
fn a_manager_that_passes_a_bound_is_left() {
    run(async |ex| {
        let config = server_config_for_members("manager", "root");
        let server = Server::start(&ex, config, |path| {
            if !path.ends_with("/Assignments") {
                return dispatcher(path);
            }
            let head = u32::try_from(limits::ASSIGNMENTS_MAX_BYTES + 1).unwrap().to_be_bytes();
            let head = Bytes::from([&[0], &head[..]].concat());
            Reply { stall: true, ..Reply::pieces(vec![head]) }
        })
        .await;
        let (link, inbox) = connect(&ex, &server);
        assert!(matches!(inbox.recv().await, Ok(LinkEvent::Session(_))));
        link.watch();
        let event = inbox.recv().await.unwrap();
        assert!(matches!(event, LinkEvent::Lost(LinkLoss::Misbehaved(_))), "{event:?}");
        server.until_closed(1).await;
        let node = NodeId::new("node1").unwrap();
        let closed = link.publish("sub1", node).close().await;
        assert!(matches!(closed, Err(CallError::Closed)), "the link is gone");
    });
}

#[test]
fn a_session_is_resumed_by_its_id() {
    run(async |ex| {
        let config = server_config_for_members("manager", "root");
        let server = Server::start(&ex, config, dispatcher).await;
        let (events, inbox) = bounded(4);
        let target = Target { addr: server.addr.clone(), tls: member(), name: MANAGER_NAME };
        let session = edgeagent::model::SessionId::new("session0").ok();
        let _link = Link::open(Rc::clone(&ex), target, session, description(), events);
        assert!(matches!(inbox.recv().await, Ok(LinkEvent::Session(_))));
        let request = server.bodies().swap_remove(0);
        assert!(request.ends_with(&bytes_field(2, b"session0")));
    });
}

#[test]
fn a_set_larger_than_this_node_holds_flows_through_small_windows() {
    run(async |ex| {
        let config = server_config_for_members("manager", "root");
        let server = Server::start(&ex, config, |path| {
            if !path.ends_with("/Assignments") {
                return dispatcher(path);
            }
            let mut set = Vec::new();
            for number in 0..20 {
                let spec = bytes_field(2, &vec![number; 500 << 10]);
                let secret =
                    [bytes_field(1, format!("s{number}").as_bytes()), bytes_field(3, &spec)];
                let assignment = bytes_field(2, &secret.concat());
                set.extend(bytes_field(4, &bytes_field(1, &assignment)));
            }
            Reply { stall: true, ..Reply::answer(set) }
        })
        .await;
        let (link, inbox) = connect(&ex, &server);
        assert!(matches!(inbox.recv().await, Ok(LinkEvent::Session(_))));
        link.watch();
        let event = inbox.recv().await.unwrap();
        let LinkEvent::Assignments(set) = event else { panic!("{event:?}") };
        assert_eq!(set.changes.len(), 20);
        for (number, change) in set.changes.iter().enumerate() {
            let Change::UpdateSecret(secret) = change else { panic!() };
            let data = secret.data.as_ref().map(SecretBytes::expose);
            // Four are what this node holds; the others are named.
            assert_eq!(data.map(<[u8]>::len), (number < 4).then_some(500 << 10), "{number}");
            let same = |data: &[u8]| data.iter().all(|byte| usize::from(*byte) == number);
            assert!(data.is_none_or(same), "{number}");
        }
    });
}

#[test]
fn logs_wait_for_a_manager_that_does_not_read() {
    run(async |ex| {
        let config = server_config_for_members("manager", "root");
        let server = Server::start(&ex, config, |path| {
            if path.ends_with("/PublishLogs") {
                return Reply { stall: true, ..Reply::pieces(vec![]) };
            }
            dispatcher(path)
        })
        .await;
        let (link, inbox) = connect(&ex, &server);
        assert!(matches!(inbox.recv().await, Ok(LinkEvent::Session(_))));
        let mut sink = link.publish("sub1", NodeId::new("node1").unwrap());
        let (service, task) = (ServiceId::new("s").unwrap(), TaskId::new("t").unwrap());
        let mut sent = 0;
        let endless = async {
            loop {
                let line = LogLine {
                    at: UnixTime::default(),
                    stream: LogStream::Stdout,
                    data: vec![b'x'; 16 << 10],
                };
                sink.send(&service, &task, &[], vec![line]).await.unwrap();
                sent += 1;
            }
        };
        future::or(endless, async {
            Timer::after(Duration::from_millis(500)).await;
        })
        .await;
        assert!(sent < 64, "{sent} lines of 16 KiB were taken without a reader");
        // The rest of the link goes on.
        link.heartbeat();
        assert!(matches!(inbox.recv().await, Ok(LinkEvent::HeartbeatAck { .. })));
    });
}
