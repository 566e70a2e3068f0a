//! gRPC over h2, the server's half: frames, statuses, and answers that can be anything.

use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response};
use prost::Message;

use crate::ca::Subject;

/// Status codes of gRPC that swarm's managers use.
pub(crate) mod code {
    pub(crate) const UNKNOWN: u32 = 2;
    pub(crate) const INVALID_ARGUMENT: u32 = 3;
    pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
    pub(crate) const NOT_FOUND: u32 = 5;
    pub(crate) const PERMISSION_DENIED: u32 = 7;
    pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(crate) const UNIMPLEMENTED: u32 = 12;
    pub(crate) const UNAVAILABLE: u32 = 14;
    pub(crate) const INTERNAL: u32 = 13;
}

/// Largest message that is taken, in bytes, as managers do; a larger one ends the call.
const MESSAGE_MAX_BYTES: usize = 4 << 20;

/// How a call ends badly.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) code: u32,
    pub(crate) message: String,
}

impl Status {
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The other side closed the stream or the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone;

/// A call as it came in.
#[derive(Debug)]
pub(crate) struct Call {
    /// `CA/GetRootCACertificate` and so on, without the package.
    pub(crate) path: String,
    /// What the client's certificate says, if it showed one.
    pub(crate) peer: Option<Subject>,
    pub(crate) addr: IpAddr,
    /// Our address as the client dialled it.
    pub(crate) local: SocketAddr,
    /// The client's patience.
    pub(crate) timeout: Option<Duration>,
    pub(crate) body: Body,
    pub(crate) answer: Answer,
}

/// The messages of a call.
#[derive(Debug)]
pub(crate) struct Body {
    stream: RecvStream,
    buffer: BytesMut,
}

impl Body {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next message; `None` when the client has said everything.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.take()? {
                let message = M::decode(message);
                let message =
                    message.map_err(|error| Status::new(code::INTERNAL, error.to_string()));
                return message.map(Some);
            }
            let piece = match self.stream.data().await {
                None => return Ok(None),
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Err(Status::new(code::INTERNAL, error.to_string())),
            };
            self.buffer.extend_from_slice(&piece);
            // The window of a stream that has ended needs nothing.
            drop(self.stream.flow_control().release_capacity(piece.len()));
        }
    }

    /// The one message of a unary call.
    pub(crate) async fn only<M: Message + Default>(&mut self) -> Result<M, Status> {
        self.next().await?.ok_or_else(|| Status::new(code::INTERNAL, "no message"))
    }

    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(mut head) = self.buffer.get(..5) else { return Ok(None) };
        let compressed = head.get_u8() != 0;
        let length = usize::try_from(head.get_u32()).unwrap_or(usize::MAX);
        if compressed || MESSAGE_MAX_BYTES < length {
            return Err(Status::new(code::RESOURCE_EXHAUSTED, "compressed or too large"));
        }
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// The way back.
#[derive(Debug)]
pub(crate) struct Answer {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
}

impl Answer {
    pub(crate) const fn new(respond: SendResponse<Bytes>) -> Self {
        Self { respond, stream: None }
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, message: &impl Message) -> Result<(), Gone> {
        self.send_bytes(framed(&message.encode_to_vec())).await
    }

    /// Sends bytes as they are, waiting for the client to make room.
    pub(crate) async fn send_bytes(&mut self, mut data: Bytes) -> Result<(), Gone> {
        let stream = self.open()?;
        while !data.is_empty() {
            stream.reserve_capacity(data.len().min(1 << 16));
            let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                return Err(Gone);
            };
            let piece = data.split_to(room.min(data.len()));
            stream.send_data(piece, false).map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Resets the stream.
    pub(crate) fn reset(mut self) {
        self.respond.send_reset(h2::Reason::INTERNAL_ERROR);
    }

    /// Sends the headers, once.
    pub(crate) fn open(&mut self) -> Result<&mut SendStream<Bytes>, Gone> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.respond.send_response(head(), false).map_err(|_| Gone)?,
        };
        Ok(self.stream.insert(stream))
    }

    /// Waits until the client closes the stream.
    pub(crate) async fn gone(&mut self) {
        if let Ok(stream) = self.open() {
            drop(poll_fn(|cx| stream.poll_reset(cx)).await);
        }
    }

    /// Ends the call.
    pub(crate) fn finish(mut self, result: Result<(), Status>) {
        let status = result.err().unwrap_or_else(|| Status::new(0, ""));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(status.code));
        if let Ok(text) = HeaderValue::from_str(&status.message) {
            trailers.insert("grpc-message", text);
        }
        // Whoever is gone needs no answer.
        if let Some(mut stream) = self.stream {
            drop(stream.send_trailers(trailers));
        } else {
            let mut head = head();
            head.headers_mut().extend(trailers);
            drop(self.respond.send_response(head, true));
        }
    }
}

fn head() -> Response<()> {
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    head
}

/// A message with its prefix.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(message);
    out.freeze()
}

/// `grpc-timeout`, such as `5S` or `4999m`.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.checked_mul(3600)?),
        "M" => Duration::from_secs(number.checked_mul(60)?),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}
