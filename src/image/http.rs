//! HTTP/1.1 as a registry's client needs it: one request, one answer, its body as a stream.
//!
//! The protocol is `hyper`'s; connections, proxies and time are ours. No redirects, cookies or
//! pipelining. A connection whose answer was read to its end serves the next request to the same
//! place. Every wait has a bound, and so has every head: [`REGISTRY_HEADER_MAX_BYTES`], and the
//! hundred lines that hyper takes. Sources: RFC 9110, RFC 9112; `HTTPS_PROXY` and its kin as curl
//! reads them.

use std::{
    error::Error,
    fmt,
    future::Future,
    io::{self, ErrorKind, Read},
    net::{TcpStream, ToSocketAddrs as _},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, Uri,
    header::{self, HeaderName, HeaderValue},
    uri::PathAndQuery,
};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1::{self, SendRequest},
};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

use super::{
    auth::base64_encode,
    blob::now,
    wire::{Line, Wire, time_left},
};
use crate::limits::{
    REGISTRY_ANSWER_TIMEOUT, REGISTRY_CONNECT_TIMEOUT, REGISTRY_HEADER_MAX_BYTES,
    REGISTRY_IDLE_MAX, REGISTRY_STALL_BYTES, REGISTRY_STALL_TIMEOUT,
};

/// Bytes of a body that nobody wants which are read so that the connection can be kept.
const REST_MAX_BYTES: usize = 64 << 10;

/// What is wrong with what a server or proxy says; inside of an [`io::Error`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No answer in time, or a body that hardly comes.
    Silent,
    /// The answer is not HTTP.
    Head,
    /// The head of the answer is larger than it may be.
    HeadTooLarge,
    /// The body is not framed as HTTP wants it.
    Body,
    /// A server that was to speak TLS does not.
    NoTls,
    /// What we would say is no request.
    Request,
    /// The name of the host cannot be in a certificate.
    Name,
    /// The proxy of the environment does not let us through.
    Proxy(u16),
    /// The proxy of the environment is not `http://host:port`.
    ProxyUrl,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no answer in time"),
            Self::Head => f.write_str("the answer is not HTTP"),
            Self::HeadTooLarge => {
                write!(
                    f,
                    "the answer's header is larger than {REGISTRY_HEADER_MAX_BYTES} bytes or has \
                     too many lines"
                )
            }
            Self::Body => f.write_str("the answer's content is not framed as HTTP wants it"),
            Self::NoTls => f.write_str(
                "it does not speak TLS; if that is meant to be so, list it in insecure-registries",
            ),
            Self::Request => f.write_str("what it gave us cannot be sent back to it"),
            Self::Name => f.write_str("the name of the host cannot be in a certificate"),
            Self::Proxy(status) => {
                write!(f, "the proxy of HTTPS_PROXY answers with HTTP status {status}")
            }
            Self::ProxyUrl => {
                f.write_str("HTTPS_PROXY or HTTP_PROXY is not of the form http://host:port")
            }
        }
    }
}

impl Error for Fault {}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        let kind = match fault {
            Fault::Silent => ErrorKind::TimedOut,
            Fault::Head | Fault::HeadTooLarge | Fault::Body | Fault::NoTls => {
                ErrorKind::InvalidData
            }
            Fault::Request | Fault::Name | Fault::ProxyUrl => ErrorKind::InvalidInput,
            Fault::Proxy(_) => ErrorKind::PermissionDenied,
        };
        Self::new(kind, fault)
    }
}

/// Whether a failed request may well succeed a little later. What is wrong in its form, or in how
/// this device is set up, will be so again.
pub(super) fn may_pass(e: &io::Error) -> bool {
    match e.get_ref().and_then(|e| e.downcast_ref::<Fault>()) {
        Some(Fault::Silent) => true,
        Some(Fault::Proxy(status)) => matches!(status, 408 | 429 | 500..),
        Some(
            Fault::Head
            | Fault::HeadTooLarge
            | Fault::Body
            | Fault::NoTls
            | Fault::Request
            | Fault::Name
            | Fault::ProxyUrl,
        ) => false,
        None => e.kind() != ErrorKind::InvalidData,
    }
}

/// Scheme, host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) tls: bool,
    /// `host[:port]`, as written.
    pub(super) authority: String,
    /// In lower case; an IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    /// Of an `http` or `https` URL without a name and password: those would be credentials of
    /// somebody else's choice.
    pub(super) fn of(url: &Uri) -> Option<Self> {
        let tls = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = url.authority()?.as_str();
        if authority.contains('@') {
            return None;
        }
        let port = port(url, if tls { 443 } else { 80 })?;
        let host = url.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
        Some(Self { tls, authority: authority.to_owned(), host, port })
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }
}

/// The port of a URL, or the usual one. One that is too large is none, and must not be taken for the
/// usual one.
fn port(url: &Uri, usual: u16) -> Option<u16> {
    if let Some(port) = url.port_u16() {
        return Some(port);
    }
    let authority = url.authority()?.as_str();
    let host_and_port = authority.rsplit('@').next()?;
    matches!(host_and_port.strip_prefix(url.host()?)?, "" | ":").then_some(usual)
}

/// One request, ready to be sent.
pub(super) struct Message<'a> {
    /// `GET` or `POST`.
    pub(super) method: &'static str,
    pub(super) url: &'a Uri,
    /// Names in lower case, and values, besides those of the connection.
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: &'a str,
}

impl Message<'_> {
    fn request(&self, origin: &Origin) -> Option<Request<String>> {
        let path = self.url.path_and_query().map_or("/", PathAndQuery::as_str);
        let agent = concat!("edgeagent/", env!("CARGO_PKG_VERSION"));
        let mut request = Request::new(self.body.to_owned());
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).ok()?;
        *request.uri_mut() = path.parse().ok()?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_str(&origin.authority).ok()?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        for (name, value) in self.headers {
            // What would begin another header comes from a registry, never from us.
            let value = HeaderValue::from_str(value).ok()?;
            headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
        }
        Some(request)
    }
}

/// Connections with one idea of whom to believe. Clones share those that are idle.
#[derive(Clone)]
pub(super) struct Client {
    tls: Arc<ClientConfig>,
    idle: Idle,
}

#[expect(clippy::disallowed_types, reason = "a body gives its connection back from another place")]
type Idle = Arc<std::sync::Mutex<Vec<(Origin, Connection)>>>;

impl Client {
    pub(super) fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls, idle: Idle::default() }
    }

    /// Sends a request to the origin of its URL and reads the head of its answer.
    ///
    /// # Errors
    /// Those of the system, [`rustls::Error`] and faults of the answer, each inside of the former.
    pub(super) fn send(&self, origin: &Origin, message: &Message<'_>) -> io::Result<Answer> {
        if let Some(connection) = self.take(origin) {
            match self.exchange(connection, origin, message) {
                // The server had closed it meanwhile.
                Err(e) if was_closed(&e) => {}
                result => return result,
            }
        }
        let wire = connect(origin, &self.tls)?;
        self.exchange(Connection::new(wire.0, wire.1)?, origin, message)
    }

    fn exchange(
        &self,
        mut connection: Connection,
        origin: &Origin,
        message: &Message<'_>,
    ) -> io::Result<Answer> {
        let request = message.request(origin).ok_or(Fault::Request)?;
        let answer = connection.ask(request, now() + REGISTRY_ANSWER_TIMEOUT)?;
        let (parts, incoming) = answer.into_parts();
        let body = Body {
            length: incoming.size_hint().exact(),
            incoming,
            connection: Some(connection),
            chunk: Bytes::new(),
            trickle: Trickle { since: now(), bytes: 0 },
            idle: Arc::clone(&self.idle),
            origin: origin.clone(),
        };
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.idle.lock().ok()?;
        let place = idle.iter().position(|(to, _)| to.is(origin))?;
        let mut connection = idle.remove(place).1;
        connection.is_ready().then_some(connection)
    }
}

/// Whether a connection that served before ended, and not this request.
fn was_closed(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

/// A connection, and the part of the library that serves it.
struct Connection {
    line: Arc<Line>,
    /// None once it ended.
    driver: Option<Pin<Box<http1::Connection<Wire, String>>>>,
    sender: SendRequest<String>,
    /// Why it ended.
    fault: Option<io::Error>,
}

impl Connection {
    fn new(line: Arc<Line>, wire: Wire) -> io::Result<Self> {
        let mut builder = http1::Builder::new();
        builder
            .max_buf_size(REGISTRY_HEADER_MAX_BYTES)
            .max_header_size(REGISTRY_HEADER_MAX_BYTES)
            // RFC 9112 §5.2: what continues a line is a space.
            .allow_obsolete_multiline_headers_in_responses(true);
        // Nothing is said before the first request.
        let made = pin!(builder.handshake(wire)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Ok((sender, driver))) = made else { return Err(Fault::Request.into()) };
        Ok(Self { line, driver: Some(Box::pin(driver)), sender, fault: None })
    }

    /// Sends a request and waits for the head of its answer.
    fn ask(&mut self, request: Request<String>, until: Instant) -> io::Result<Response<Incoming>> {
        let mut answer = pin!(self.sender.send_request(request));
        self.until(until, |context| answer.as_mut().poll(context))
    }

    /// Goes on until `step` has what it wants.
    fn until<T>(
        &mut self,
        until: Instant,
        mut step: impl FnMut(&mut Context<'_>) -> Poll<hyper::Result<T>>,
    ) -> io::Result<T> {
        let waker = Waker::from(Arc::clone(&self.line));
        let mut context = Context::from_waker(&waker);
        loop {
            time_left(until)?;
            let ended = !self.goes_on(&mut context);
            match step(&mut context) {
                Poll::Ready(Ok(value)) => return Ok(value),
                Poll::Ready(Err(e)) => return Err(self.why(&e)),
                Poll::Pending if ended => {
                    return Err(self.fault.take().unwrap_or_else(closed));
                }
                Poll::Pending => {}
            }
            if !self.line.take_wake() {
                self.line.wait(until)?;
            }
        }
    }

    /// Lets the library do what it can do now; false when the connection has ended.
    fn goes_on(&mut self, context: &mut Context<'_>) -> bool {
        let Some(driver) = self.driver.as_mut() else { return false };
        let Poll::Ready(end) = driver.as_mut().poll(context) else { return true };
        self.driver = None;
        if let Err(e) = end {
            self.fault = Some(self.why(&e));
        }
        false
    }

    /// Whether it can serve another request.
    fn is_ready(&mut self) -> bool {
        let waker = Waker::from(Arc::clone(&self.line));
        self.goes_on(&mut Context::from_waker(&waker)) && self.sender.is_ready()
    }

    /// An error of the library in the system's words, or ours.
    fn why(&mut self, e: &hyper::Error) -> io::Error {
        if let Some(fault) = self.fault.take().or_else(|| self.line.take_fault()) {
            return fault;
        }
        if e.is_parse() {
            // The library tells a client no other way; a test holds it to its word.
            let large = e.to_string().contains("too large");
            return if large { Fault::HeadTooLarge } else { Fault::Head }.into();
        }
        if e.is_incomplete_message() || e.is_canceled() || e.is_closed() {
            return closed();
        }
        if e.is_user() {
            return Fault::Request.into();
        }
        let source = e.source().and_then(|e| e.downcast_ref::<io::Error>());
        if source.is_some_and(|e| e.kind() == ErrorKind::UnexpectedEof) {
            return closed();
        }
        Fault::Body.into()
    }
}

fn closed() -> io::Error {
    ErrorKind::UnexpectedEof.into()
}

/// An answer; its body is not read yet.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    pub(super) body: Body,
}

impl Answer {
    /// The first header of that name, which is in lower case; none when it is not of ASCII.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Every header of that name that is of ASCII.
    pub(super) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// Where a redirect leads, in whatever characters.
    pub(super) fn location(&self) -> Option<String> {
        let value = self.headers.get(header::LOCATION)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// In what the content is packed beside its own form, in lower case; none of that is asked for.
    pub(super) fn codings(&self) -> Vec<String> {
        let names = [header::CONTENT_ENCODING, header::TRANSFER_ENCODING];
        let values = names.iter().flat_map(|name| self.headers.get_all(name));
        let words = values.flat_map(|value| value.to_str().unwrap_or("unreadable").split(','));
        words
            .map(|word| word.trim().to_ascii_lowercase())
            .filter(|word| !matches!(word.as_str(), "" | "identity" | "chunked"))
            .collect()
    }
}

/// Finds out a server that sends a byte now and then, for ever.
struct Trickle {
    since: Instant,
    bytes: u64,
}

impl Trickle {
    /// Takes `bytes` in that came by `now`; false when it is too little to go on.
    fn goes_on(&mut self, bytes: u64, now: Instant) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        if now.saturating_duration_since(self.since) < REGISTRY_STALL_TIMEOUT {
            return true;
        }
        let enough = REGISTRY_STALL_BYTES <= self.bytes;
        *self = Self { since: now, bytes: 0 };
        enough
    }
}

/// The body of an answer. Read to its end, it gives its connection back.
pub(super) struct Body {
    incoming: Incoming,
    /// None after an error, and when it was given back.
    connection: Option<Connection>,
    /// What came and was not read.
    chunk: Bytes,
    length: Option<u64>,
    trickle: Trickle,
    idle: Idle,
    origin: Origin,
}

impl Body {
    /// Its length, when the answer says it.
    pub(super) const fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes; none after the last ones.
    fn next(&mut self) -> io::Result<Bytes> {
        let Some(connection) = self.connection.as_mut() else { return Ok(Bytes::new()) };
        let until = now() + REGISTRY_STALL_TIMEOUT;
        let incoming = &mut self.incoming;
        let chunk = connection.until(until, |context| next_chunk(incoming, context))?;
        let Some(chunk) = chunk else {
            self.give_back();
            return Ok(Bytes::new());
        };
        if self.trickle.goes_on(chunk.len() as u64, now()) {
            Ok(chunk)
        } else {
            Err(Fault::Silent.into())
        }
    }

    fn give_back(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && connection.is_ready()
            && let Ok(mut idle) = self.idle.lock()
        {
            if REGISTRY_IDLE_MAX <= idle.len() {
                idle.remove(0);
            }
            idle.push((self.origin.clone(), connection));
        }
    }
}

/// The next bytes of a body, of which there are some; none after the last ones.
fn next_chunk(
    incoming: &mut Incoming,
    context: &mut Context<'_>,
) -> Poll<hyper::Result<Option<Bytes>>> {
    loop {
        match Pin::new(&mut *incoming).poll_frame(context) {
            // What follows the last chunk is of no interest.
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(chunk) if !chunk.is_empty() => return Poll::Ready(Ok(Some(chunk))),
                Ok(_) | Err(_) => {}
            },
            Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(e)),
            Poll::Ready(None) => return Poll::Ready(Ok(None)),
            Poll::Pending => return Poll::Pending,
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.chunk.is_empty() {
            self.chunk = match self.next() {
                Ok(chunk) => chunk,
                Err(e) => {
                    self.connection = None;
                    return Err(e);
                }
            };
        }
        let chunk = self.chunk.split_to(self.chunk.len().min(buffer.len()));
        buffer.get_mut(..chunk.len()).unwrap_or_default().copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}

impl Drop for Body {
    /// The few words below a status that nobody reads are mostly here already.
    fn drop(&mut self) {
        let mut rest = 0;
        while rest < REST_MAX_BYTES {
            let Some(connection) = self.connection.as_mut() else { return };
            let waker = Waker::from(Arc::clone(&connection.line));
            let mut context = Context::from_waker(&waker);
            connection.goes_on(&mut context);
            match next_chunk(&mut self.incoming, &mut context) {
                Poll::Ready(Ok(Some(chunk))) => rest += chunk.len(),
                Poll::Ready(Ok(None)) => return self.give_back(),
                Poll::Ready(Err(_)) => return,
                Poll::Pending if connection.line.take_wake() => rest += 1,
                Poll::Pending => return,
            }
        }
    }
}

fn connect(origin: &Origin, config: &Arc<ClientConfig>) -> io::Result<(Arc<Line>, Wire)> {
    let until = now() + REGISTRY_CONNECT_TIMEOUT;
    let proxy = Proxy::of_environment(origin)?;
    let (host, port) = match &proxy {
        Some(proxy) => (proxy.host.as_str(), proxy.port),
        None => (origin.host.as_str(), origin.port),
    };
    let line = Line::new(reach(host, port, until)?)?;
    if let Some(proxy) = &proxy {
        proxy.lead(&line, origin, until)?;
    }
    if !origin.tls {
        return Ok((Arc::clone(&line), Wire::plain(line)));
    }
    let name = ServerName::try_from(origin.host.clone()).map_err(|_| Fault::Name)?;
    let tls = ClientConnection::new(Arc::clone(config), name)
        .map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
    let wire = Wire::secure(Arc::clone(&line), Box::new(tls), until).map_err(|e| {
        let tls = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        let foreign = matches!(tls, Some(rustls::Error::InvalidMessage(_)));
        if foreign { Fault::NoTls.into() } else { e }
    })?;
    Ok((line, wire))
}

/// Tries every address of a host. Each has its share of the time: one that leads nowhere, as IPv6
/// often does, must not use up that of the others.
fn reach(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let mut last = io::Error::from(ErrorKind::NotFound);
    for (i, address) in addresses.iter().enumerate() {
        let others = u32::try_from(addresses.len() - i).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, time_left(deadline)? / others) {
            Ok(socket) => return Ok(socket),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// A proxy that is asked for a tunnel.
#[derive(Debug, PartialEq, Eq)]
struct Proxy {
    host: String,
    port: u16,
    /// Value of `Proxy-Authorization`.
    authorization: Option<String>,
}

impl Proxy {
    fn of_environment(origin: &Origin) -> Result<Option<Self>, Fault> {
        let either = |name: &str| {
            let value = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase()));
            value.ok().filter(|value| !value.is_empty())
        };
        let name = if origin.tls { "HTTPS_PROXY" } else { "HTTP_PROXY" };
        let Some(url) = either(name).or_else(|| either("ALL_PROXY")) else { return Ok(None) };
        if either("NO_PROXY").is_some_and(|list| is_listed(&origin.host, &list)) {
            return Ok(None);
        }
        Self::parse(&url).map(Some).ok_or(Fault::ProxyUrl)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url: Uri = text.parse().ok()?;
        if url.scheme_str() != Some("http") {
            return None;
        }
        let user = url.authority()?.as_str().rsplit_once('@').map(|(user, _)| user);
        let authorization = user.map(|user| format!("Basic {}", base64_encode(user.as_bytes())));
        let host = url.host()?.trim_matches(['[', ']']).to_owned();
        Some(Self { host, port: port(&url, 80)?, authorization })
    }

    /// Asks for a tunnel, on a line that then goes on behind the proxy.
    fn lead(&self, line: &Arc<Line>, origin: &Origin, until: Instant) -> io::Result<()> {
        let v6 = origin.host.contains(':');
        let (open, close) = if v6 { ("[", "]") } else { ("", "") };
        let to = format!("{open}{}{close}:{}", origin.host, origin.port);
        let mut request = Request::new(String::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = to.parse().map_err(|_| Fault::Request)?;
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Fault::ProxyUrl);
        request.headers_mut().insert(header::HOST, value(&to)?);
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, value(authorization)?);
        }
        // The server behind speaks after us, so nothing of it is read too early.
        let mut connection = Connection::new(Arc::clone(line), Wire::plain(Arc::clone(line)))?;
        let status = connection.ask(request, until)?.status();
        if status.is_success() { Ok(()) } else { Err(Fault::Proxy(status.as_u16()).into()) }
    }
}

/// Whether a host is in a list such as `.local,10.0.0.5,example.com`: itself, or a domain above it.
fn is_listed(host: &str, list: &str) -> bool {
    list.split(',').map(str::trim).any(|entry| {
        let entry = entry.trim_start_matches('.').to_ascii_lowercase();
        entry == "*"
            || (!entry.is_empty()
                && host
                    .strip_suffix(&entry)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_trickle_is_no_progress() {
        let start = now();
        let mut trickle = Trickle { since: start, bytes: 0 };
        let second = Duration::from_secs(1);
        assert!(trickle.goes_on(1, start + second));
        assert!(!trickle.goes_on(1, start + REGISTRY_STALL_TIMEOUT));
        let later = start + REGISTRY_STALL_TIMEOUT;
        assert!(trickle.goes_on(REGISTRY_STALL_BYTES, later + second));
        assert!(trickle.goes_on(1, later + REGISTRY_STALL_TIMEOUT));
    }

    #[test]
    fn an_origin_has_one_host_and_one_port() {
        for (url, want) in [
            ("https://A", Some((true, "a", 443))),
            ("http://a:/x", Some((false, "a", 80))),
            ("https://a:5000/x", Some((true, "a", 5000))),
            ("https://[::1]:5000", Some((true, "::1", 5000))),
            ("http://[::1]/", Some((false, "::1", 80))),
            ("https://a:99999/x", None),
            ("https://a:65536", None),
            ("https://u:p@a/x", None),
            ("https:///x", None),
            ("ftp://a/x", None),
            ("/x", None),
        ] {
            let origin = url.parse().ok().and_then(|url| Origin::of(&url));
            let found = origin.as_ref().map(|o| (o.tls, o.host.as_str(), o.port));
            assert_eq!(found, want, "{url}");
        }
    }

    #[test]
    fn a_proxy_is_a_plain_url_and_spares_what_is_listed() {
        let proxy = |host: &str, port, authorization: Option<&str>| {
            let authorization = authorization.map(String::from);
            Some(Proxy { host: host.to_owned(), port, authorization })
        };
        assert_eq!(Proxy::parse("http://proxy:3128"), proxy("proxy", 3128, None));
        assert_eq!(Proxy::parse("proxy:3128/"), proxy("proxy", 3128, None));
        assert_eq!(Proxy::parse("http://[::1]:3128"), proxy("::1", 3128, None));
        assert_eq!(Proxy::parse("http://u:p@proxy"), proxy("proxy", 80, Some("Basic dTpw")));
        assert_eq!(Proxy::parse("socks5://proxy:1080"), None);
        assert_eq!(Proxy::parse("http://"), None);
        assert_eq!(Proxy::parse("http://u:p@proxy:99999"), None);
        for (host, list, listed) in [
            ("example.com", "example.com", true),
            ("a.example.com", " .Example.com ,b", true),
            ("notexample.com", "example.com", false),
            ("10.0.0.5", "10.0.0.5", true),
            ("anything", "*", true),
            ("anything", "", false),
        ] {
            assert_eq!(is_listed(host, list), listed, "{host} {list}");
        }
    }
}
