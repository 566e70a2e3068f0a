//! A registry of our own that can be told to misbehave.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use edgeagent::image::Digest;

use crate::support::Image;

/// A request, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// First byte asked for, if there was a `Range`.
    pub(crate) from: Option<u64>,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

impl Asked {
    /// It is for the image's layer with this number.
    pub(crate) fn is_layer(&self, image: &Image, n: usize) -> bool {
        self.path.ends_with(&format!("/blobs/{}", Digest::of(&image.layers[n])))
    }
}

/// Where an answer goes; counts bytes of bodies.
pub(crate) struct Wire<'a> {
    stream: &'a TcpStream,
    sent: &'a AtomicU64,
}

impl Wire<'_> {
    /// Sends bytes of a body; false when the client is gone.
    pub(crate) fn body(&mut self, bytes: &[u8]) -> bool {
        let sent = self.stream.write_all(bytes).is_ok();
        if sent {
            self.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        }
        sent
    }

    /// Sends a status line and headers.
    pub(crate) fn head(&mut self, status: u16, headers: &[(&str, &str)]) {
        let mut text = format!("HTTP/1.1 {status} X\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("Connection: close\r\n\r\n");
        let _gone = self.stream.write_all(text.as_bytes());
    }

    /// Sends bytes that are no answer.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The right answer: all, or what a `Range` asks for.
    pub(crate) fn blob(&mut self, bytes: &[u8], from: Option<u64>) {
        self.cut(bytes, from, usize::MAX);
    }

    /// The right answer that breaks off after so many bytes.
    pub(crate) fn cut(&mut self, bytes: &[u8], from: Option<u64>, after: usize) {
        let start = from.unwrap_or(0).try_into().unwrap();
        let rest = &bytes[start..];
        let length = rest.len().to_string();
        let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        match from {
            Some(_) => self.head(206, &[("Content-Length", &length), ("Content-Range", &range)]),
            None => self.head(200, &[("Content-Length", &length)]),
        }
        for piece in rest[..after.min(rest.len())].chunks(16 << 10) {
            if !self.body(piece) {
                return;
            }
        }
    }
}

type Behave = dyn Fn(&Asked, &mut Wire<'_>) -> bool + Send + Sync;

/// Serves one image under any name; `behave` goes first and says whether it has answered.
pub(crate) struct Server {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    sent: Arc<AtomicU64>,
}

impl Server {
    pub(crate) fn start(
        image: &Image,
        behave: impl Fn(&Asked, &mut Wire<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::on("127.0.0.1:0", image, behave)
    }

    pub(crate) fn on(
        address: &str,
        image: &Image,
        behave: impl Fn(&Asked, &mut Wire<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        let mut content = BTreeMap::new();
        for bytes in image.layers.iter().chain([&image.config]) {
            content.insert(format!("blobs/{}", Digest::of(bytes)), bytes.clone());
        }
        content.insert(String::from("manifests/"), image.manifest.clone());
        let content = Arc::new(content);
        let behave: Arc<Behave> = Arc::new(behave);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::new(AtomicU64::new(0));
        let listener = TcpListener::bind(address).unwrap();
        let server = Self {
            address: listener.local_addr().unwrap().to_string(),
            asked: Arc::clone(&asked),
            sent: Arc::clone(&sent),
        };
        // It ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let (content, behave) = (Arc::clone(&content), Arc::clone(&behave));
                let (asked, sent) = (Arc::clone(&asked), Arc::clone(&sent));
                thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    asked.lock().unwrap().push(request.clone());
                    let mut wire = Wire { stream: &stream, sent: &sent };
                    if !behave(&request, &mut wire) {
                        answer(&request, &content, &mut wire);
                    }
                });
            }
        });
        server
    }

    /// Serves the image as it should.
    pub(crate) fn good(image: &Image) -> Self {
        Self::start(image, |_, _| false)
    }

    /// A name of the image.
    pub(crate) fn name(&self) -> String {
        format!("{}/x:1", self.address)
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Bytes of bodies that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

fn answer(request: &Asked, content: &BTreeMap<String, Vec<u8>>, wire: &mut Wire<'_>) {
    if request.path.ends_with("/v2/") {
        return wire.head(200, &[("Content-Length", "0")]);
    }
    let found = content.iter().find(|(path, _)| request.path.contains(path.as_str()));
    match found {
        Some((_, bytes)) => wire.blob(bytes, request.from),
        None => wire.head(404, &[("Content-Length", "0")]),
    }
}

/// Reads a request; none for what is no HTTP, such as the beginning of TLS.
fn read(mut stream: &TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
        if head.len() == 1 && !head[0].is_ascii_uppercase() {
            return None;
        }
    }
    let text = String::from_utf8(head).ok()?;
    let mut words = text.split(' ');
    let mut asked = Asked {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        ..Asked::default()
    };
    let mut length = 0;
    for line in text.lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let from = value.strip_prefix("bytes=")?.strip_suffix('-')?;
                asked.from = Some(from.parse().ok()?);
            }
            "authorization" => asked.authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).ok()?;
    Some(asked)
}
