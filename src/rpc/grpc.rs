//! gRPC over one HTTP/2 connection: unary calls, server streams and client streams
//! (grpc `doc/PROTOCOL-HTTP2.md`).
//!
//! It offers no compression, sends no pings of its own (managers punish them with
//! `too_many_pings`), and never sends the metadata that managers use among themselves.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use prost::Message;
use smol::{Timer, future};
use zeroize::Zeroizing;

use super::{
    error::{CallError, Code, STATUS_DEADLINE, STATUS_OK},
    frame::{FrameReader, frame},
};
use crate::limits::{REQUEST_MAX_BYTES, STATUS_MESSAGE_MAX_BYTES};

/// Ends with [`CallError::Deadline`] when `call` takes longer than `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    future::or(call, async {
        Timer::after(limit).await;
        Err(CallError::Deadline)
    })
    .await
}

/// What TLS had to say when the connection broke; h2 keeps only its text.
pub(super) type Fault = Rc<RefCell<Option<rustls::Error>>>;

/// Makes calls on one connection. Clones share it; they do not keep it alive.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) http: SendRequest<Bytes>,
    /// The name that the manager's certificate shows.
    pub(super) authority: &'static str,
    pub(super) addr: Rc<str>,
    pub(super) fault: Fault,
}

impl Client {
    pub(super) fn broken(&self, source: h2::Error) -> CallError {
        match self.fault.borrow().clone() {
            Some(source) => CallError::Tls { addr: self.addr.to_string(), source },
            None => CallError::Transport { source },
        }
    }

    async fn start(
        &self,
        path: &'static str,
        timeout: Option<Duration>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), CallError> {
        let malformed = |_| CallError::Malformed { what: "the request can not be built" };
        let uri = Uri::builder()
            .scheme("https")
            .authority(self.authority)
            .path_and_query(path)
            .build()
            .map_err(malformed)?;
        let mut request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, concat!("edgeagent/", env!("CARGO_PKG_VERSION")));
        if let Some(timeout) = timeout {
            // At most eight digits: a day and three hours of milliseconds.
            let millis = timeout.as_millis().min(99_999_999);
            request = request.header("grpc-timeout", format!("{millis}m"));
        }
        let request = request.body(()).map_err(malformed)?;
        let mut http = self.http.clone().ready().await.map_err(|error| self.broken(error))?;
        http.send_request(request, false).map_err(|error| self.broken(error))
    }

    async fn call(
        &self,
        path: &'static str,
        request: &impl Message,
        limit: usize,
        timeout: Option<Duration>,
    ) -> Result<Incoming, CallError> {
        let body = outgoing(request)?;
        let (response, mut send) = self.start(path, timeout).await?;
        send.send_data(body, true).map_err(|error| self.broken(error))?;
        Ok(Incoming::new(self.clone(), response, limit))
    }

    /// One request, one answer of up to `limit` bytes. An answer without a message is an empty
    /// one: managers of 20.10 answer status reports so.
    pub(super) async fn unary(
        &self,
        path: &'static str,
        request: &impl Message,
        limit: usize,
        timeout: Duration,
    ) -> Result<Zeroizing<Vec<u8>>, CallError> {
        within(timeout, async {
            let mut incoming = self.call(path, request, limit, Some(timeout)).await?;
            let Some(message) = incoming.next().await? else { return Ok(Zeroizing::default()) };
            match incoming.next().await? {
                None => Ok(message),
                Some(_) => Err(CallError::Malformed { what: "it has more than one message" }),
            }
        })
        .await
    }

    /// One request, then messages of up to `limit` bytes each, for as long as it lasts.
    pub(super) async fn server_stream(
        &self,
        path: &'static str,
        request: &impl Message,
        limit: usize,
    ) -> Result<Incoming, CallError> {
        self.call(path, request, limit, None).await
    }

    /// Messages from us, one answer at the end.
    pub(super) async fn client_stream(
        &self,
        path: &'static str,
        limit: usize,
    ) -> Result<Outgoing, CallError> {
        let (response, send) = self.start(path, None).await?;
        Ok(Outgoing { send, answer: Incoming::new(self.clone(), response, limit) })
    }
}

fn outgoing(message: &impl Message) -> Result<Bytes, CallError> {
    let bytes = message.encoded_len();
    if REQUEST_MAX_BYTES < bytes {
        return Err(CallError::TooLarge { bytes, limit: REQUEST_MAX_BYTES });
    }
    // It may hold the join token.
    Ok(Bytes::from_owner(frame(message)))
}

/// Messages from the manager. Dropping it cancels the call.
pub(super) struct Incoming {
    client: Client,
    state: State,
    reader: FrameReader,
    /// Received, and not yet read.
    piece: Bytes,
}

enum State {
    Headers(ResponseFuture),
    Body(RecvStream),
    Ended,
}

impl Incoming {
    fn new(client: Client, response: ResponseFuture, limit: usize) -> Self {
        let reader = FrameReader::new(limit);
        Self { client, state: State::Headers(response), reader, piece: Bytes::new() }
    }

    /// The next message; nothing when the manager ended the stream with `OK`.
    pub(super) async fn next(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, CallError> {
        self.read(|frames, piece| Ok(frames.take(piece)?)).await
    }

    /// What `take` makes of the next message, which it gets in pieces as they come.
    pub(super) async fn read<T>(
        &mut self,
        mut take: impl FnMut(&mut FrameReader, &mut &[u8]) -> Result<Option<T>, CallError>,
    ) -> Result<Option<T>, CallError> {
        loop {
            let body = match &mut self.state {
                State::Headers(response) => {
                    let response = response.await.map_err(|error| self.client.broken(error))?;
                    self.state = match accepted(response)? {
                        Some(body) => State::Body(body),
                        None => State::Ended,
                    };
                    continue;
                }
                State::Body(body) => body,
                State::Ended => return Ok(None),
            };
            let mut rest = &*self.piece;
            let before = rest.len();
            let message = take(&mut self.reader, &mut rest)?;
            let read = before - rest.len();
            // What was read may be sent again: this is the back-pressure on the manager.
            drop(self.piece.split_to(read));
            body.flow_control()
                .release_capacity(read)
                .map_err(|error| self.client.broken(error))?;
            if message.is_some() {
                return Ok(message);
            }
            match body.data().await {
                Some(piece) => self.piece = piece.map_err(|error| self.client.broken(error))?,
                None => {
                    let trailers =
                        body.trailers().await.map_err(|error| self.client.broken(error))?;
                    self.state = State::Ended;
                    return match trailers.as_ref().and_then(status) {
                        None => Err(CallError::Malformed { what: "it ends without a status" }),
                        Some(Err(error)) => Err(error),
                        Some(Ok(())) if self.reader.is_between() => Ok(None),
                        Some(Ok(())) => {
                            Err(CallError::Malformed { what: "it ends within a message" })
                        }
                    };
                }
            }
        }
    }
}

/// Looks at the headers of an answer: a body to read, or nothing for `OK` without one.
fn accepted(response: Response<RecvStream>) -> Result<Option<RecvStream>, CallError> {
    let (head, body) = response.into_parts();
    if let Some(status) = status(&head.headers) {
        return status.map(|()| None);
    }
    if head.status != StatusCode::OK {
        return Err(CallError::Malformed { what: "its HTTP status is not 200" });
    }
    let grpc = head.headers.get(header::CONTENT_TYPE);
    if !grpc.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return Err(CallError::Malformed { what: "its content type is not application/grpc" });
    }
    Ok(Some(body))
}

/// The gRPC status in these headers or trailers, if there is one.
fn status(headers: &HeaderMap) -> Option<Result<(), CallError>> {
    let number = headers.get("grpc-status")?;
    let Some(number) = number.to_str().ok().and_then(|number| number.parse::<u32>().ok()) else {
        return Some(Err(CallError::Malformed { what: "its status is not a number" }));
    };
    Some(match number {
        STATUS_OK => Ok(()),
        STATUS_DEADLINE => Err(CallError::Deadline),
        number => {
            let message = headers.get("grpc-message").map_or(&b""[..], |text| text.as_bytes());
            Err(CallError::Status {
                code: Code::from_number(number),
                message: status_text(message),
            })
        }
    })
}

/// Undoes the percent encoding of `grpc-message`, and makes the text fit for a terminal: no control
/// characters, at most [`STATUS_MESSAGE_MAX_BYTES`].
#[must_use]
pub fn status_text(encoded: &[u8]) -> String {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut bytes = Vec::with_capacity(encoded.len().min(STATUS_MESSAGE_MAX_BYTES));
    let mut rest = encoded;
    while let [first, tail @ ..] = rest {
        if STATUS_MESSAGE_MAX_BYTES <= bytes.len() {
            break;
        }
        rest = tail;
        if let (b'%', [high, low, tail @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            bytes.push(high << 4 | low);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    let mut text = String::from_utf8_lossy(&bytes).replace(char::is_control, " ");
    // A byte that is no text became a mark of three.
    text.truncate(text.floor_char_boundary(STATUS_MESSAGE_MAX_BYTES));
    text
}

/// Messages to the manager. Dropping it cancels the call.
pub(super) struct Outgoing {
    send: SendStream<Bytes>,
    answer: Incoming,
}

impl Outgoing {
    /// Sends one message; waits while the manager takes no more.
    pub(super) async fn send(&mut self, message: &impl Message) -> Result<(), CallError> {
        let mut body = outgoing(message)?;
        while !body.is_empty() {
            self.send.reserve_capacity(body.len());
            let sent = match poll_fn(|cx| self.send.poll_capacity(cx)).await {
                Some(Ok(capacity)) => {
                    let part = body.split_to(capacity.min(body.len()));
                    self.send.send_data(part, false)
                }
                Some(Err(error)) => Err(error),
                None => return Err(self.refusal().await),
            };
            if sent.is_err() {
                return Err(self.refusal().await);
            }
        }
        Ok(())
    }

    /// Why the manager takes no more: it has answered already, or the connection is gone.
    async fn refusal(&mut self) -> CallError {
        match self.answer.next().await {
            Err(error) => error,
            Ok(_) => CallError::Closed,
        }
    }

    /// Ends the stream and waits for the answer, so that nothing is cancelled on its way.
    pub(super) async fn finish(mut self) -> Result<(), CallError> {
        if self.send.send_data(Bytes::new(), true).is_err() {
            return Err(self.refusal().await);
        }
        while self.answer.next().await?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_texts_are_decoded_and_can_not_steer_a_terminal() {
        assert_eq!(
            status_text(b"session%20invalid %C3%A4 100% %zz"),
            "session invalid \u{e4} 100% %zz"
        );
        assert_eq!(status_text(b"a%1B[2J%0Ab"), "a [2J b");
        assert_eq!(status_text(&[b'x'; 5000]).len(), STATUS_MESSAGE_MAX_BYTES);
        assert_eq!(status_text(b"%"), "%");
        for byte in [0xff, 0x01, 0xc3] {
            assert!(status_text(&[byte; 5000]).len() <= STATUS_MESSAGE_MAX_BYTES, "{byte}");
        }
    }
}
