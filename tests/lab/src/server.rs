//! The one TCP port: TLS, HTTP/2, and which call goes where.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_rustls::{TlsAcceptor, server::TlsStream};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use smol::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio::io::ReadBuf;

use crate::{
    ca::{self, Facts, Role, Subject, Template},
    dispatcher,
    evil::{Hook, Own},
    grpc::{self, Answer, Body, Call, Status, code},
    lab::{Lab, say},
    logs, node_ca, time,
};

/// TLS over TCP, as the server sees it.
pub(crate) type Tls = TlsStream<TcpStream>;

/// Validity of the certificate that the lab shows, in seconds; it is made anew per connection.
const OWN_VALIDITY_S: i64 = 90 * 86_400;

/// What is counted by name.
const METHODS: &[&str] = &[
    "CA/GetRootCACertificate",
    "NodeCA/IssueNodeCertificate",
    "NodeCA/NodeCertificateStatus",
    "Dispatcher/Session",
    "Dispatcher/Heartbeat",
    "Dispatcher/UpdateTaskStatus",
    "Dispatcher/Assignments",
    "LogBroker/ListenSubscriptions",
    "LogBroker/PublishLogs",
];

/// Accepts connections for ever.
pub(crate) async fn listen(lab: Rc<Lab>, listener: TcpListener) {
    let mut number = 0_u64;
    loop {
        let Ok((tcp, peer)) = listener.accept().await else { continue };
        number += 1;
        let connection = lab.executor.spawn(serve(Rc::clone(&lab), tcp, peer));
        let mut connections = lab.connections.borrow_mut();
        connections.retain(|_, connection| !connection.is_finished());
        connections.insert(number, connection);
    }
}

async fn serve(lab: Rc<Lab>, tcp: TcpStream, peer: SocketAddr) {
    let Ok(local) = tcp.local_addr() else { return };
    let evil = lab.evil();
    for (hook, n) in &evil {
        if let Hook::Tcp(instead) = hook {
            return instead(tcp, *n).await;
        }
    }
    let Some(config) = tls_config(&lab, &evil) else {
        return say("no TLS configuration: out of random numbers");
    };
    let Ok(tls) = TlsAcceptor::from(Arc::new(config)).accept(tcp).await else { return };
    for (hook, n) in &evil {
        if let Hook::Wire(instead) = hook {
            return instead(tls, *n).await;
        }
    }
    let shown = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let identity = shown.and_then(|leaf| Facts::of(leaf)).map(|facts| facts.named);
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(1000).initial_connection_window_size(1 << 20);
    let Ok(mut connection) = builder.handshake(TokioIo(tls)).await else { return };
    let mut calls = Vec::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let call = Call {
            path: request.uri().path().replacen("/docker.swarmkit.v1.", "", 1),
            peer: identity.clone(),
            addr: peer.ip(),
            local,
            timeout: grpc::timeout(request.headers()),
            body: Body::new(request.into_body()),
            answer: Answer::new(respond),
        };
        calls.retain(|call: &smol::Task<()>| !call.is_finished());
        calls.push(lab.executor.spawn(answer(Rc::clone(&lab), call)));
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other hook has a moment of its own")]
/// One call: an evil mode that is meant for it, or the real thing.
async fn answer(lab: Rc<Lab>, call: Call) {
    let known = METHODS.iter().find(|method| **method == call.path);
    *lab.calls.borrow_mut().entry(known.copied().unwrap_or("unknown")).or_default() += 1;
    let node = call.peer.as_ref().map(|peer| peer.name.clone()).unwrap_or_default();
    for (hook, n) in lab.evil() {
        match hook {
            Hook::Refuse(refuse) => {
                if let Some(status) = refuse(&call.path, &node, n) {
                    return call.answer.finish(Err(status));
                }
            }
            Hook::Call(path, instead) if path == call.path || path == "*" => {
                return instead(call, n).await;
            }
            _other_moment => {}
        }
    }
    let member = match call.path.split('/').next() {
        Some("CA" | "NodeCA") => Ok(()),
        _ => authorize(&lab, call.peer.as_ref()),
    };
    if let Err(status) = member {
        return call.answer.finish(Err(status));
    }
    match call.path.as_str() {
        "CA/GetRootCACertificate" => node_ca::root_certificate(&lab, call).await,
        "NodeCA/IssueNodeCertificate" => node_ca::issue(&lab, call).await,
        "NodeCA/NodeCertificateStatus" => node_ca::status(&lab, call).await,
        "Dispatcher/Session" => dispatcher::session(&lab, call).await,
        "Dispatcher/Heartbeat" => dispatcher::heartbeat(&lab, call).await,
        "Dispatcher/UpdateTaskStatus" => dispatcher::update_task_status(&lab, call).await,
        "Dispatcher/Assignments" => dispatcher::assignments(&lab, call).await,
        "LogBroker/ListenSubscriptions" => logs::listen(&lab, call).await,
        "LogBroker/PublishLogs" => logs::publish(&lab, call).await,
        path => {
            let message = format!("unknown method {path}");
            call.answer.finish(Err(Status::new(code::UNIMPLEMENTED, message)));
        }
    }
}

/// swarmkit `ca/auth.go`, `AuthorizeOrgAndRole`, with its texts.
pub(crate) fn authorize(lab: &Lab, peer: Option<&Subject>) -> Result<(), Status> {
    let state = lab.state.borrow();
    let denied = |why: String| {
        let message = format!(
            "Permission denied: unauthorized peer role: rpc error: code = PermissionDenied desc = {why}"
        );
        Err(Status::new(code::PERMISSION_DENIED, message))
    };
    let Some(peer) = peer else { return denied("no client certificates in request".into()) };
    if peer.organization != state.cluster {
        let cluster = &state.cluster;
        return denied(format!(
            "Permission denied: remote certificate not part of organization: {cluster}"
        ));
    }
    if state.removed.contains(&peer.name) {
        return denied(format!("Permission denied: node {} was removed from swarm", peer.name));
    }
    if ![Role::Worker.unit(), Role::Manager.unit()].contains(&peer.unit.as_str()) {
        return denied(String::from(
            "Permission denied: remote certificate not part of OUs: [swarm-worker swarm-manager]",
        ));
    }
    Ok(())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other hook has a moment of its own")]
/// Made anew per connection: roots, evil modes and validity may have changed.
fn tls_config(lab: &Lab, evil: &[(Hook, u64)]) -> Option<ServerConfig> {
    let state = lab.state.borrow();
    let key = ca::unpem(&state.manager_key).into_iter().next()?;
    let spki = ca::spki_of(&key).ok()?;
    let now = time::now_s();
    let template =
        Template::node(&state.cluster, &state.manager, Role::Manager, spki, OWN_VALIDITY_S, now);
    let mut own =
        Own { template, root: state.root.clone(), cross: state.cross.clone().unwrap_or_default() };
    let mut changed = None;
    let mut alpn = vec![b"h2".to_vec()];
    for (hook, n) in evil {
        match hook {
            Hook::Show(show) => changed = Some(show(&mut own, *n)),
            Hook::NoAlpn => alpn = Vec::new(),
            _other_moment => {}
        }
    }
    let chain = changed.unwrap_or_else(|| Ok(own.root.sign(&own.template)? + &own.cross)).ok()?;
    let chain = ca::unpem(&chain).into_iter().map(CertificateDer::from).collect();

    let mut roots = RootCertStore::empty();
    for root in ca::unpem(&state.root.certificate) {
        roots.add(CertificateDer::from(root)).ok()?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .ok()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .ok()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key).into())
        .ok()?;
    config.alpn_protocols = alpn;
    Some(config)
}

/// h2 is written against tokio's traits; nothing else of tokio is here.
struct TokioIo(Tls);

impl tokio::io::AsyncRead for TokioIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.0).poll_read(cx, buf.initialize_unfilled()))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for TokioIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
