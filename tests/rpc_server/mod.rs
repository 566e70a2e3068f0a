//! A manager of a few lines: it answers each path as it is told, and remembers what it was asked.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    path::PathBuf,
    pin::Pin,
    process::Command,
    rc::Rc,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_rustls::{TlsAcceptor, server::TlsStream};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use smol::{
    LocalExecutor, Task,
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio::io::ReadBuf;

// --- protobuf and gRPC by hand ---

fn varint(mut number: u64, out: &mut Vec<u8>) {
    let low = |number: u64| u8::try_from(number & 0x7f).unwrap();
    while number >= 0x80 {
        out.push(low(number) | 0x80);
        number >>= 7;
    }
    out.push(low(number));
}

pub(crate) fn number_field(tag: u64, number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(tag << 3, &mut out);
    varint(number, &mut out);
    out
}

pub(crate) fn bytes_field(tag: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(tag << 3 | 2, &mut out);
    varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

pub(crate) fn framed(message: &[u8]) -> Bytes {
    let head = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &head[..], message].concat().into()
}

// --- certificates ---

/// One file of those that `openssl` makes once per run.
pub(crate) fn pki(file: &str) -> Vec<u8> {
    static FILES: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("rpc-pki-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let output = Command::new("sh").arg("-euc").arg(SCRIPT).current_dir(&folder).output();
        let output = output.expect("sh and openssl are needed for this test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read = |entry: io::Result<std::fs::DirEntry>| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        };
        let files = std::fs::read_dir(&folder).unwrap().map(read).collect();
        std::fs::remove_dir_all(&folder).unwrap();
        files
    });
    files.get(file).expect(file).clone()
}

const SCRIPT: &str = r#"
key() { case $2 in
  rsa) openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $1.key ;;
  *) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:$2 -out $1.key ;; esac; }
root() { key $1 $2; openssl req -x509 -new -key $1.key -subj /CN=swarm-ca -days 30 -out $1.pem; }
sign() { # name, CA, extensions
  openssl req -new -key $1.key -subj /O=cluster/OU=role/CN=$1 -out $1.csr
  printf "$3" > $1.ext
  openssl x509 -req -in $1.csr -CA $2.pem -CAkey $2.key -CAcreateserial -days 30 \
    -extfile $1.ext -out $1.pem
  openssl pkcs8 -topk8 -nocrypt -in $1.key -outform DER -out $1.der; }
both='basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName='
leaf() { key $1 P-256; sign $1 $2 "$both$3\n"; }
manager=DNS:swarm-manager,DNS:node0,DNS:swarm-ca
root root P-256; root root-rsa rsa; root root-p384 P-384; root other P-256; root next P-256
leaf manager root $manager; leaf manager-rsa root-rsa $manager; leaf manager-p384 root-p384 $manager
leaf stranger other $manager; leaf worker root DNS:swarm-worker,DNS:node1
leaf rotated next DNS:swarm-worker,DNS:node1
# The new root, signed by the old one.
openssl req -new -key next.key -subj /CN=swarm-ca -out cross.csr
printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n' > cross.ext
openssl x509 -req -in cross.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 \
  -extfile cross.ext -out cross.pem

# --- what the matrix of managers shows ---
leaf only-ca root DNS:swarm-ca; leaf only-manager root DNS:swarm-manager
leaf elsewhere root DNS:localhost; leaf longer root DNS:swarm-manager.example,DNS:swarm-ca.example
leaf address root IP:127.0.0.1
key swarm-manager P-256; sign swarm-manager root 'basicConstraints=CA:FALSE\n'
key client P-256
sign client root "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\nsubjectAltName=$manager\n"
# Subjects of which nothing but the name counts.
subject() { key $1 P-256; openssl req -new -key $1.key -subj "$2" -out $1.csr
  openssl x509 -req -in $1.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 \
    -extfile manager.ext -out $1.pem; }
subject other-ou /O=cluster/OU=swarm-worker/CN=node0
subject other-cluster /O=elsewhere/OU=swarm-manager/CN=node0
# By an intermediate, with it and without it; by a worker, who may not sign.
leaf below next $manager; cat below.pem cross.pem > chained.pem; cp below.key chained.key
leaf by-worker worker $manager; cat worker.pem >> by-worker.pem
# Of another CA that brings its root along; self-signed; a CA itself.
cat stranger.pem other.pem > brought.pem; cp stranger.key brought.key
alone() { key $1 P-256; openssl req -x509 -new -key $1.key -subj /CN=swarm-ca -days 30 \
  -addext "subjectAltName=$manager" -addext basicConstraints=critical,CA:$2 -out $1.pem; }
alone self FALSE; alone self-ca TRUE
key ca-leaf P-256; sign ca-leaf root "basicConstraints=critical,CA:TRUE\nsubjectAltName=$manager\n"
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256
policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n' > ca.cnf; : > index
timed() { key $1 P-256; openssl req -new -key $1.key -subj /CN=node0 -out $1.csr
  openssl ca -config ca.cnf -batch -notext -in $1.csr -cert root.pem -keyfile root.key \
    -startdate $2 -enddate $3 -extfile manager.ext -out $1.pem; }
timed expired 20200101000000Z 20210101000000Z; timed future 20480101000000Z 20490101000000Z
"#;

fn builder(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
}

fn identity(leaf: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = pki(&format!("{leaf}.pem"));
    let chain = CertificateDer::pem_slice_iter(&chain).map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_slice(&pki(&format!("{leaf}.key"))).unwrap())
}

/// Shows `leaf`, asks for no certificate, selects `h2` or nothing.
pub(crate) fn server_config(leaf: &str, alpn: bool) -> Arc<ServerConfig> {
    let (chain, key) = identity(leaf);
    let mut config =
        builder(rustls::ALL_VERSIONS).with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = if alpn { vec![b"h2".to_vec()] } else { Vec::new() };
    Arc::new(config)
}

pub(crate) fn server_config_tls12(leaf: &str) -> Arc<ServerConfig> {
    let (chain, key) = identity(leaf);
    let config = builder(&[&rustls::version::TLS12]).with_no_client_auth();
    Arc::new(config.with_single_cert(chain, key).unwrap())
}

/// Shows `leaf` and takes only clients of `root`.
pub(crate) fn server_config_for_members(leaf: &str, root: &str) -> Arc<ServerConfig> {
    let (chain, key) = identity(leaf);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pki(&format!("{root}.pem"))).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let config = builder(rustls::ALL_VERSIONS)
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key);
    Arc::new(config.unwrap())
}

// --- the server ---

/// How one call is answered.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) http: u16,
    pub(crate) content_type: &'static str,
    pub(crate) pieces: Vec<Bytes>,
    /// `grpc-status` and `grpc-message`.
    pub(crate) status: Option<(u32, &'static str)>,
    /// Status among the headers, and nothing else.
    pub(crate) trailers_only: bool,
    /// Never end the stream.
    pub(crate) stall: bool,
    /// Read the whole request before answering; otherwise its first data only.
    pub(crate) read_all: bool,
}

impl Reply {
    pub(crate) fn pieces(pieces: Vec<Bytes>) -> Self {
        Self {
            http: 200,
            content_type: "application/grpc",
            pieces,
            status: Some((0, "")),
            trailers_only: false,
            stall: false,
            read_all: false,
        }
    }

    pub(crate) fn answer(message: Vec<u8>) -> Self {
        Self::pieces(vec![framed(&message)])
    }

    pub(crate) fn refused(code: u32, message: &'static str) -> Self {
        Self { status: Some((code, message)), trailers_only: true, ..Self::pieces(Vec::new()) }
    }

    fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        if let Some((code, message)) = self.status {
            trailers.insert("grpc-status", code.to_string().parse().unwrap());
            trailers.insert("grpc-message", message.parse().unwrap());
        }
        trailers
    }
}

#[derive(Default)]
struct Seen {
    calls: Vec<String>,
    bodies: Vec<Vec<u8>>,
    closed: usize,
}

pub(crate) struct Server {
    pub(crate) addr: String,
    seen: Rc<RefCell<Seen>>,
    _listener: Task<()>,
}

impl Server {
    pub(crate) async fn start(
        ex: &Rc<LocalExecutor<'static>>,
        config: Arc<ServerConfig>,
        reply: impl Fn(&str) -> Reply + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let seen = Rc::new(RefCell::new(Seen::default()));
        let memory = Rc::clone(&seen);
        let reply: Rc<dyn Fn(&str) -> Reply> = Rc::new(reply);
        let spawner = Rc::clone(ex);
        let listener = ex.spawn(async move {
            let mut connections = Vec::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let serving = serve(
                    Rc::clone(&spawner),
                    tcp,
                    TlsAcceptor::from(Arc::clone(&config)),
                    Rc::clone(&memory),
                    Rc::clone(&reply),
                );
                connections.push(spawner.spawn(serving));
            }
        });
        Self { addr, seen, _listener: listener }
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.seen.borrow().calls.clone()
    }

    /// What was read of each request that was answered.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        self.seen.borrow().bodies.clone()
    }

    /// Waits until so many connections that spoke HTTP/2 are gone.
    pub(crate) async fn until_closed(&self, connections: usize) {
        while self.seen.borrow().closed < connections {
            smol::Timer::after(std::time::Duration::from_millis(5)).await;
        }
    }
}

async fn serve(
    ex: Rc<LocalExecutor<'static>>,
    tcp: TcpStream,
    acceptor: TlsAcceptor,
    seen: Rc<RefCell<Seen>>,
    reply: Rc<dyn Fn(&str) -> Reply>,
) {
    let Ok(tls) = acceptor.accept(tcp).await else { return };
    // As grpc-go does, keep what one stream does not read from stopping the others.
    let mut server = h2::server::Builder::new();
    server.initial_connection_window_size(1 << 20);
    let Ok(mut connection) = server.handshake(TokioIo(tls)).await else { return };
    let mut calls = Vec::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let path = request.uri().path().to_owned();
        seen.borrow_mut().calls.push(path.clone());
        calls.push(ex.spawn(answer(reply(&path), request, respond, Rc::clone(&seen))));
    }
    seen.borrow_mut().closed += 1;
}

async fn answer(
    reply: Reply,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    seen: Rc<RefCell<Seen>>,
) {
    let mut body = request.into_body();
    let mut received = Vec::new();
    if !reply.stall || !reply.pieces.is_empty() {
        while let Some(Ok(piece)) = body.data().await {
            received.extend_from_slice(&piece);
            body.flow_control().release_capacity(piece.len()).unwrap();
            if !reply.read_all {
                break;
            }
        }
    }
    seen.borrow_mut().bodies.push(received);

    let mut head =
        Response::builder().status(reply.http).header("content-type", reply.content_type);
    if reply.trailers_only {
        head.headers_mut().unwrap().extend(reply.trailers());
    }
    let Ok(mut send) = respond.send_response(head.body(()).unwrap(), reply.trailers_only) else {
        return;
    };
    if reply.trailers_only {
        return;
    }
    for piece in reply.pieces.iter().cloned() {
        if send.send_data(piece, false).is_err() {
            return;
        }
    }
    if reply.stall {
        smol::future::pending::<()>().await;
    }
    if reply.status.is_some() {
        drop(send.send_trailers(reply.trailers()));
    } else {
        drop(send.send_data(Bytes::new(), true));
    }
}

struct TokioIo(TlsStream<TcpStream>);

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
