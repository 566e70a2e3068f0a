//! HTTP/1.1 as a registry's client needs it: one request, one answer, its body as a stream.
//!
//! Ours because of its size: the library that was here before took 118 kB of the 2 MB that a
//! device gets (`targets/README.md`), for one GET at a time.
//!
//! No redirects, cookies, compression or pipelining. A connection whose answer was read to its end
//! serves the next request to the same place. Every wait has a bound, every answer is checked
//! before it is believed. Sources: RFC 9112; `HTTPS_PROXY` and its kin as curl reads them.

use std::{
    error::Error,
    fmt,
    io::{self, BufRead as _, BufReader, ErrorKind, Read, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    sync::Arc,
    time::{Duration, Instant},
};

use http::Uri;
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

use super::{auth::base64_encode, blob::now};
use crate::limits::{
    REGISTRY_ANSWER_TIMEOUT, REGISTRY_CONNECT_TIMEOUT, REGISTRY_HEADER_MAX_BYTES,
    REGISTRY_IDLE_MAX, REGISTRY_STALL_TIMEOUT,
};

/// What is wrong with what a server or proxy says; inside of an [`io::Error`].
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// No answer in time.
    Silent,
    /// The answer is not HTTP.
    Head,
    /// The head of the answer is larger than it may be.
    HeadTooLarge,
    /// The body has no length that makes sense.
    Length,
    /// The name of the host can not be in a certificate.
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
                write!(f, "the answer's header is larger than {REGISTRY_HEADER_MAX_BYTES} bytes")
            }
            Self::Length => f.write_str("the answer's length makes no sense"),
            Self::Name => f.write_str("the name of the host can not be in a certificate"),
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
            Fault::Head | Fault::HeadTooLarge | Fault::Length => ErrorKind::InvalidData,
            Fault::Name | Fault::ProxyUrl => ErrorKind::InvalidInput,
            Fault::Proxy(_) => ErrorKind::PermissionDenied,
        };
        Self::new(kind, fault)
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
        let port = url.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = url.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
        Some(Self { tls, authority: authority.to_owned(), host, port })
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }
}

/// One request, ready to be sent.
pub(super) struct Message<'a> {
    /// `GET` or `POST`.
    pub(super) method: &'static str,
    pub(super) url: &'a Uri,
    /// Names and values, besides those of the connection.
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: &'a str,
}

/// Connections with one idea of whom to believe. Clones share those that are idle.
#[derive(Clone)]
pub(super) struct Client {
    tls: Arc<ClientConfig>,
    idle: Idle,
}

#[expect(clippy::disallowed_types, reason = "a body gives its connection back from another place")]
type Idle = Arc<std::sync::Mutex<Vec<(Origin, BufReader<Stream>)>>>;

impl Client {
    pub(super) fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls, idle: Idle::default() }
    }

    /// Sends a request to the origin of its URL and reads the head of its answer.
    ///
    /// # Errors
    /// Those of the system, [`rustls::Error`] and faults of the answer, each inside of the former.
    pub(super) fn send(&self, origin: &Origin, message: &Message<'_>) -> io::Result<Answer> {
        if let Some(stream) = self.take(origin) {
            match self.exchange(stream, origin, message) {
                // The server had closed it meanwhile.
                Err(e) if was_closed(&e) => {}
                result => return result,
            }
        }
        self.exchange(BufReader::new(connect(origin, &self.tls)?), origin, message)
    }

    fn exchange(
        &self,
        mut stream: BufReader<Stream>,
        origin: &Origin,
        message: &Message<'_>,
    ) -> io::Result<Answer> {
        let path = message.url.path_and_query().map_or("/", |path| path.as_str());
        let mut text = zeroize::Zeroizing::new(format!(
            "{} {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: edgeagent/{}\r\n",
            message.method,
            origin.authority,
            env!("CARGO_PKG_VERSION")
        ));
        for (name, value) in message.headers {
            // What would begin another header comes from a registry, never from us.
            if value.bytes().any(|byte| byte.is_ascii_control()) {
                return Err(Fault::Head.into());
            }
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push_str("\r\n");
        }
        if message.method != "GET" {
            text.push_str(&format!("content-length: {}\r\n", message.body.len()));
        }
        text.push_str("\r\n");
        text.push_str(message.body);
        stream.get_mut().send(text.as_bytes())?;

        stream.get_mut().deadline = Some(now() + REGISTRY_ANSWER_TIMEOUT);
        let mut head = Head::read(&mut stream)?;
        while head.status < 200 {
            head = Head::read(&mut stream)?;
        }
        stream.get_mut().deadline = None;
        let (left, reusable) = head.body()?;
        let idle = reusable.then(|| Arc::clone(&self.idle));
        let body = Body { stream: Some(stream), left, idle, origin: origin.clone() };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    fn take(&self, origin: &Origin) -> Option<BufReader<Stream>> {
        let mut idle = self.idle.lock().ok()?;
        let place = idle.iter().position(|(to, _)| to.is(origin))?;
        Some(idle.remove(place).1)
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

/// An answer; its body is not read yet.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Body,
}

impl Answer {
    /// The first header of that name, which is in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    /// Every header of that name.
    pub(super) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// The first part of an answer.
struct Head {
    status: u16,
    /// Version 1.1 or a later 1.x: the connection goes on unless the answer says otherwise.
    lasting: bool,
    headers: Vec<(String, String)>,
}

impl Head {
    fn read(stream: &mut impl io::BufRead) -> io::Result<Self> {
        let mut left = REGISTRY_HEADER_MAX_BYTES;
        let line = line(stream, &mut left)?;
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(1..5)?.strip_prefix(' '))
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .filter(|status| 100 <= *status)
            .ok_or(Fault::Head)?;
        let lasting = !line.starts_with("HTTP/1.0");
        let mut headers = Vec::new();
        loop {
            let line = self::line(stream, &mut left)?;
            if line.is_empty() {
                return Ok(Self { status, lasting, headers });
            }
            // A line that continues the one before has a space here, and is not for today's servers.
            let (name, value) = line.split_once(':').ok_or(Fault::Head)?;
            if name.is_empty() || name.bytes().any(|byte| !byte.is_ascii_graphic()) {
                return Err(Fault::Head.into());
            }
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// How the body ends, and whether the connection can be used after it (RFC 9112 §6.3).
    fn body(&self) -> Result<(Left, bool), Fault> {
        let all = |name: &'static str| {
            self.headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| value)
        };
        let closes = all("connection").any(|value| value.eq_ignore_ascii_case("close"));
        let lasting = self.lasting && !closes;
        if matches!(self.status, 204 | 304) {
            return Ok((Left::Bytes(0), lasting));
        }
        let mut lengths = all("content-length");
        let length = lengths.next();
        if lengths.any(|other| Some(other) != length) {
            return Err(Fault::Length);
        }
        if let Some(coding) = all("transfer-encoding").next() {
            // Both at once is how requests are smuggled; nothing of ours is, but it is no answer.
            if !coding.eq_ignore_ascii_case("chunked") || length.is_some() {
                return Err(Fault::Length);
            }
            return Ok((Left::Chunk { bytes: 0, first: true }, lasting));
        }
        match length {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok((Left::Bytes(digits.parse().map_err(|_| Fault::Length)?), lasting))
            }
            Some(_) => Err(Fault::Length),
            None => Ok((Left::UntilClosed, false)),
        }
    }
}

/// The next line of a head, without its end. `left` is what the head may still have.
fn line(stream: &mut impl io::BufRead, left: &mut usize) -> io::Result<String> {
    let mut bytes = Vec::new();
    stream.take(*left as u64).read_until(b'\n', &mut bytes)?;
    *left = left.saturating_sub(bytes.len());
    if bytes.pop() != Some(b'\n') {
        let full = *left == 0;
        return Err(if full {
            Fault::HeadTooLarge.into()
        } else {
            ErrorKind::UnexpectedEof.into()
        });
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    // Text of other kinds has no meaning in the headers that are looked at.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What of a body is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Bytes(u64),
    Chunk { bytes: u64, first: bool },
    UntilClosed,
}

/// The body of an answer. Read to its end, it gives its connection back.
pub(super) struct Body {
    /// None after an error, and when it was given back.
    stream: Option<BufReader<Stream>>,
    left: Left,
    idle: Option<Idle>,
    origin: Origin,
}

impl Body {
    /// Its length, when the answer says it.
    pub(super) const fn length(&self) -> Option<u64> {
        match self.left {
            Left::Bytes(bytes) => Some(bytes),
            Left::Chunk { .. } | Left::UntilClosed => None,
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(stream) = self.stream.as_mut() else { return Ok(0) };
        if let Left::Chunk { bytes: 0, first } = self.left {
            self.left = next_chunk(stream, first)?;
        }
        let most = match self.left {
            Left::Bytes(bytes) | Left::Chunk { bytes, .. } => bytes,
            Left::UntilClosed => u64::MAX,
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let n = stream.read(buffer.get_mut(..most).unwrap_or_default())?;
        match &mut self.left {
            Left::UntilClosed => {}
            Left::Bytes(_) | Left::Chunk { .. } if n == 0 => {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            Left::Bytes(bytes) | Left::Chunk { bytes, .. } => {
                *bytes = bytes.saturating_sub(n as u64);
            }
        }
        Ok(n)
    }

    fn give_back(&mut self) {
        if self.left == Left::Bytes(0)
            && let (Some(stream), Some(idle)) = (self.stream.take(), &self.idle)
            && let Ok(mut idle) = idle.lock()
        {
            if REGISTRY_IDLE_MAX <= idle.len() {
                idle.remove(0);
            }
            idle.push((self.origin.clone(), stream));
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.read_some(buffer);
        match result {
            Ok(_) => self.give_back(),
            Err(_) => self.stream = None,
        }
        result
    }
}

impl Drop for Body {
    /// The few words below a status that nobody reads are mostly here already.
    fn drop(&mut self) {
        if let (Some(stream), Left::Bytes(left)) = (self.stream.as_mut(), self.left)
            && let Ok(left) = usize::try_from(left)
            && left <= stream.buffer().len()
        {
            stream.consume(left);
            self.left = Left::Bytes(0);
            self.give_back();
        }
    }
}

/// Reads up to the content of the next chunk; after the last one, up to the body's end
/// (RFC 9112 §7.1).
fn next_chunk(stream: &mut impl io::BufRead, first: bool) -> io::Result<Left> {
    let mut left = REGISTRY_HEADER_MAX_BYTES;
    if !first && !line(stream, &mut left)?.is_empty() {
        return Err(Fault::Length.into());
    }
    let size = line(stream, &mut left)?;
    let size = size.split(';').next().unwrap_or_default().trim();
    if size.bytes().any(|byte| !byte.is_ascii_hexdigit()) {
        return Err(Fault::Length.into());
    }
    let bytes = u64::from_str_radix(size, 16).map_err(|_| Fault::Length)?;
    if 0 < bytes {
        return Ok(Left::Chunk { bytes, first: false });
    }
    while !line(stream, &mut left)?.is_empty() {}
    Ok(Left::Bytes(0))
}

/// A connection.
struct Stream {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Until when reading must have come to an end; else each read may take its time.
    deadline: Option<Instant>,
}

impl Stream {
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => {
                let mut stream = rustls::Stream::new(tls.as_mut(), &mut self.socket);
                io::copy(&mut bytes, &mut stream)?;
                stream.flush()
            }
            None => self.socket.write_all(bytes),
        }
        .map_err(in_time)
    }

    /// Agrees on keys with the server, all of it until the deadline.
    fn shake_hands(&mut self, deadline: Instant) -> io::Result<()> {
        let Some(tls) = self.tls.as_mut() else { return Ok(()) };
        while tls.is_handshaking() || tls.wants_write() {
            let left = time_left(deadline)?;
            self.socket.set_read_timeout(Some(left))?;
            self.socket.set_write_timeout(Some(left))?;
            if tls.wants_write() {
                tls.write_tls(&mut self.socket).map_err(in_time)?;
                continue;
            }
            if tls.read_tls(&mut self.socket).map_err(in_time)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if let Err(e) = tls.process_new_packets() {
                // The server is told why, if it still listens.
                drop(tls.write_tls(&mut self.socket));
                return Err(io::Error::new(ErrorKind::InvalidData, e));
            }
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let patience = match self.deadline {
            Some(deadline) => time_left(deadline)?,
            None => REGISTRY_STALL_TIMEOUT,
        };
        self.socket.set_read_timeout(Some(patience))?;
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.socket).read(buffer),
            None => self.socket.read(buffer),
        }
        .map_err(in_time)
    }
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(now());
    if left.is_zero() { Err(Fault::Silent.into()) } else { Ok(left) }
}

/// The system says of a wait that was too long that it would be one.
fn in_time(e: io::Error) -> io::Error {
    if e.kind() == ErrorKind::WouldBlock { Fault::Silent.into() } else { e }
}

fn connect(origin: &Origin, config: &Arc<ClientConfig>) -> io::Result<Stream> {
    let deadline = now() + REGISTRY_CONNECT_TIMEOUT;
    let proxy = Proxy::of_environment(origin)?;
    let (host, port) = match &proxy {
        Some(proxy) => (proxy.host.as_str(), proxy.port),
        None => (origin.host.as_str(), origin.port),
    };
    let mut socket = reach(host, port, deadline)?;
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(REGISTRY_STALL_TIMEOUT))?;
    if let Some(proxy) = &proxy {
        socket = proxy.lead(socket, origin, deadline)?;
    }
    let tls = if origin.tls {
        let name = ServerName::try_from(origin.host.clone()).map_err(|_| Fault::Name)?;
        let tls = ClientConnection::new(Arc::clone(config), name)
            .map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
        Some(Box::new(tls))
    } else {
        None
    };
    let mut stream = Stream { socket, tls, deadline: None };
    stream.shake_hands(deadline)?;
    stream.socket.set_write_timeout(Some(REGISTRY_STALL_TIMEOUT))?;
    Ok(stream)
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
        Some(Self { host, port: url.port_u16().unwrap_or(80), authorization })
    }

    fn lead(&self, socket: TcpStream, origin: &Origin, deadline: Instant) -> io::Result<TcpStream> {
        let v6 = origin.host.contains(':');
        let (open, close) = if v6 { ("[", "]") } else { ("", "") };
        let to = format!("{open}{}{close}:{}", origin.host, origin.port);
        let mut text = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n");
        if let Some(value) = &self.authorization {
            text.push_str(&format!("proxy-authorization: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut stream = Stream { socket, tls: None, deadline: Some(deadline) };
        stream.send(text.as_bytes())?;
        // The server behind speaks after us, so nothing of it is read too early.
        let mut reader = BufReader::with_capacity(1024, stream);
        let head = Head::read(&mut reader)?;
        if head.status != 200 {
            return Err(Fault::Proxy(head.status).into());
        }
        Ok(reader.into_inner().socket)
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
    use super::*;

    fn head(text: &str) -> Result<Head, String> {
        Head::read(&mut text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_head_is_read_and_anything_else_is_not() {
        let answer = head("HTTP/1.1 206 Partial Content\r\nX-A:  b \r\nx-a: c\n\r\n").unwrap();
        assert_eq!((answer.status, answer.lasting), (206, true));
        let pairs = [("x-a", "b"), ("x-a", "c")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(answer.headers, pairs);
        assert!(!head("HTTP/1.0 200\r\n\r\n").unwrap().lasting);
        for wrong in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 No\r\n\r\n",
            "HTTP/1.1 +20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n continued: here\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        ] {
            assert_eq!(head(wrong).err().as_deref(), Some("the answer is not HTTP"), "{wrong:?}");
        }
        assert_eq!(
            head("HTTP/1.1 200 OK\r\na: b\r\n").err().as_deref(),
            Some("unexpected end of file")
        );
        let long =
            format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(REGISTRY_HEADER_MAX_BYTES));
        assert!(head(&long).err().unwrap().contains("is larger than"));
    }

    #[test]
    fn a_body_has_one_length_or_none() {
        let of = |headers: &str| head(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).unwrap().body();
        let chunked = Left::Chunk { bytes: 0, first: true };
        assert_eq!(of("Content-Length: 7\r\n"), Ok((Left::Bytes(7), true)));
        assert_eq!(of("Content-Length: 7\r\nContent-Length: 7\r\n"), Ok((Left::Bytes(7), true)));
        assert_eq!(of("Content-Length: 7\r\nConnection: Close\r\n"), Ok((Left::Bytes(7), false)));
        assert_eq!(of("Transfer-Encoding: Chunked\r\n"), Ok((chunked, true)));
        assert_eq!(of(""), Ok((Left::UntilClosed, false)));
        for wrong in [
            "Content-Length: 7\r\nContent-Length: 8\r\n",
            "Content-Length: -7\r\n",
            "Content-Length: +7\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n",
        ] {
            assert_eq!(of(wrong), Err(Fault::Length), "{wrong:?}");
        }
    }

    #[test]
    fn chunks_follow_each_other_up_to_the_last() {
        let next = |text: &str, first| next_chunk(&mut text.as_bytes(), first).ok();
        let chunk = |bytes| Some(Left::Chunk { bytes, first: false });
        assert_eq!(next("1f;name=value\r\nx", true), chunk(31));
        assert_eq!(next("\r\nA\r\nx", false), chunk(10));
        assert_eq!(next("\r\n0\r\nTrailer: x\r\n\r\n", false), Some(Left::Bytes(0)));
        for (wrong, first) in [
            ("", true),
            ("\r\n", true),
            ("+5\r\n", true),
            ("g\r\n", true),
            ("ffffffffffffffffff\r\n", true),
            ("x\r\n5\r\n", false),
            ("0\r\nTrailer", true),
        ] {
            assert_eq!(next(wrong, first), None, "{wrong:?}");
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
