//! An open connection to a manager, and the calls to its CA.
//!
//! A channel serves one connection and never dials again; whoever opened it decides that.

use std::{
    fmt, io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_rustls::{TlsConnector, client::TlsStream};
use prost::Message;
use rustls::{ClientConfig, pki_types::ServerName};
use smol::{
    LocalExecutor, Task,
    future::FutureExt,
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, resolve},
};
use tokio::io::ReadBuf;

use super::{
    convert::{self, CertificateAnswer, MessageError},
    error::CallError,
    grpc::{Client, Fault, within},
    proto,
    tls::ALPN,
};
use crate::{
    limits::{
        ADDRESSES_MAX, ANSWER_MAX_BYTES, CA_TIMEOUT, CONNECTION_WINDOW_BYTES, HEADERS_MAX_BYTES,
        READS_PER_TURN, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
    },
    model::{Availability, NodeId},
};

/// A connection to a manager. Dropping it closes the connection and fails its calls.
pub struct Channel {
    pub(super) client: Client,
    /// Drives the connection.
    _connection: Task<()>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("addr", &self.client.addr).finish_non_exhaustive()
    }
}

impl Channel {
    /// Connects to `addr` (`host:port`), makes sure by TLS that it is `name`, and starts HTTP/2.
    /// The name, the connection and the handshake take `timeout` each at most, so that the error
    /// tells which of them got no answer.
    ///
    /// The name is resolved anew; up to [`ADDRESSES_MAX`] addresses are tried in turn, each with
    /// an equal share of the time. IP addresses are not looked up anywhere.
    ///
    /// # Errors
    /// [`CallError::Resolve`], [`CallError::Connect`], [`CallError::Stalled`],
    /// [`CallError::Tls`], [`CallError::Transport`].
    pub async fn open(
        ex: &Rc<LocalExecutor<'static>>,
        addr: &str,
        tls: Arc<ClientConfig>,
        name: &'static str,
        timeout: Duration,
    ) -> Result<Self, CallError> {
        let tcp = dial(addr, timeout).await?;
        let failed = |source| CallError::Tls { addr: addr.to_owned(), source };
        let ready = async {
            let server = ServerName::try_from(name)
                .map_err(|_| CallError::Malformed { what: "the server name is none" })?;
            let tls =
                TlsConnector::from(tls).connect(server, tcp).await.map_err(
                    |error| match tls_fault(&error) {
                        Some(source) => failed(source),
                        None => CallError::Connect { addr: addr.to_owned(), source: error },
                    },
                )?;
            // Managers up to 26.1 select no protocol once their certificate was renewed.
            if tls.get_ref().1.alpn_protocol().is_some_and(|protocol| protocol != ALPN) {
                return Err(failed(rustls::Error::NoApplicationProtocol));
            }
            let fault = Fault::default();
            let io = TokioIo { tls, fault: Rc::clone(&fault), reads: 0 };
            let (http, connection) = h2::client::Builder::new()
                .initial_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_header_list_size(HEADERS_MAX_BYTES)
                .max_send_buffer_size(SEND_BUFFER_BYTES)
                .enable_push(false)
                .handshake(io)
                .await
                .map_err(|source| CallError::Transport { source })?;
            let connection = ex.spawn(async move {
                if let Err(error) = connection.await {
                    // Each call learns it as well, and tells whoever waits for it.
                    log::debug!("connection ended: {error}");
                }
            });
            let client = Client { http, authority: name, addr: addr.into(), fault };
            Ok(Self { client, _connection: connection })
        };
        within(timeout, ready).await.map_err(|error| match error {
            CallError::Deadline => CallError::Stalled { addr: addr.to_owned() },
            other @ (CallError::Resolve { .. }
            | CallError::Connect { .. }
            | CallError::Stalled { .. }
            | CallError::Tls { .. }
            | CallError::Status { .. }
            | CallError::Transport { .. }
            | CallError::TooLarge { .. }
            | CallError::Malformed { .. }
            | CallError::Message { .. }
            | CallError::Closed) => other,
        })
    }

    /// The root CA bundle, PEM, exactly as the manager sends it. Worth nothing until its digest
    /// was compared with the join token.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn root_ca(&self) -> Result<Vec<u8>, CallError> {
        let path = "/docker.swarmkit.v1.CA/GetRootCACertificate";
        let answer = self.ask(path, &proto::Empty {}, CA_TIMEOUT).await?;
        Ok(decode::<proto::GetRootCaCertificateResponse>(&answer)?.certificate)
    }

    /// Asks for a certificate: with the join token as a newcomer, without one as a member who
    /// renews. Each call with a token that is answered makes a new node record at the managers.
    ///
    /// # Errors
    /// [`CallError`]; a bad token is [`CallError::Status`] with `InvalidArgument`.
    pub async fn issue_certificate(
        &self,
        csr_pem: &[u8],
        token: Option<&str>,
        availability: Availability,
    ) -> Result<NodeId, CallError> {
        let path = "/docker.swarmkit.v1.NodeCA/IssueNodeCertificate";
        let mut request = proto::IssueNodeCertificateRequest {
            csr: csr_pem.to_vec(),
            token: token.unwrap_or_default().into(),
            availability: convert::availability_number(availability),
        };
        let answer = self.ask(path, &request, CA_TIMEOUT).await;
        zeroize::Zeroize::zeroize(&mut request.token);
        let answer = decode::<proto::IssueNodeCertificateResponse>(&answer?)?;
        convert::id("node id", &answer.node_id, NodeId::new)
            .map_err(|_| MessageError::Missing("node id").into())
    }

    /// How far the certificate of `node` is. A manager answers when that is decided, so
    /// [`CallError::Deadline`] after `timeout` only means *not yet*.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn certificate_status(
        &self,
        node: &NodeId,
        timeout: Duration,
    ) -> Result<CertificateAnswer, CallError> {
        let path = "/docker.swarmkit.v1.NodeCA/NodeCertificateStatus";
        let request = proto::NodeCertificateStatusRequest { node_id: node.as_str().into() };
        let answer = self.ask(path, &request, timeout).await?;
        Ok(convert::certificate_answer(&answer)?)
    }

    async fn ask(
        &self,
        path: &'static str,
        request: &impl Message,
        timeout: Duration,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, CallError> {
        self.client.unary(path, request, ANSWER_MAX_BYTES, timeout).await
    }
}

pub(super) fn decode<M: Message + Default>(data: &[u8]) -> Result<M, CallError> {
    M::decode(data).map_err(|error| MessageError::from(error).into())
}

async fn dial(addr: &str, timeout: Duration) -> Result<TcpStream, CallError> {
    let fail = |source| CallError::Resolve { addr: addr.to_owned(), source };
    let late = async {
        smol::Timer::after(timeout).await;
        Err(io::Error::new(io::ErrorKind::TimedOut, "no name server answered in time"))
    };
    let mut found = resolve(addr).or(late).await.map_err(fail)?;
    found.truncate(ADDRESSES_MAX);
    let share = u32::try_from(found.len().max(1)).map_or(timeout, |count| timeout / count);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in found {
        let attempt = TcpStream::connect(address).or(async {
            smol::Timer::after(share).await;
            Err(io::ErrorKind::TimedOut.into())
        });
        match attempt.await {
            Ok(stream) => {
                // Heartbeats are small, and must not wait for more to send.
                if let Err(error) = stream.set_nodelay(true) {
                    log::debug!("no TCP_NODELAY: {error}");
                }
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(CallError::Connect { addr: addr.to_owned(), source: last })
}

/// What rustls says within an IO error, if it is from there.
fn tls_fault(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}

/// The stream as h2 wants it, which also keeps what TLS says when it breaks.
struct TokioIo {
    tls: TlsStream<TcpStream>,
    fault: Fault,
    /// Reads in a row that found something.
    reads: u8,
}

impl TokioIo {
    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && let Some(fault) = tls_fault(error)
        {
            self.fault.borrow_mut().get_or_insert(fault);
        }
        result
    }
}

impl tokio::io::AsyncRead for TokioIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // h2 goes on for as long as there is something to read. Under a flood nothing else of
        // this thread would run, and what h2 has queued for the calls would pile up unread.
        if READS_PER_TURN <= self.reads {
            self.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = match Pin::new(&mut self.tls).poll_read(cx, buf.initialize_unfilled()) {
            Poll::Ready(read) => read,
            Poll::Pending => {
                self.reads = 0;
                return Poll::Pending;
            }
        };
        self.reads += 1;
        // rustls answers an abrupt end with the address of its documentation.
        let read = self.noted(read).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                io::Error::new(error.kind(), "the manager closed the connection without a word")
            } else {
                error
            }
        })?;
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
        let written = ready!(Pin::new(&mut self.tls).poll_write(cx, buf));
        Poll::Ready(self.noted(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.tls).poll_flush(cx));
        Poll::Ready(self.noted(flushed))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_close(cx)
    }
}
