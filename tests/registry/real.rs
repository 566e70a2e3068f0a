//! The real `docker-registry`: with TLS, passwords and tokens, and as a mirror of Docker Hub.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use edgeagent::{image::FetchFailure, model::RegistrySettings};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};

use crate::{
    server::Server,
    support::{Image, Scratch, alone, assert_failed, assert_here, finish, run, start},
};

/// Of `user` and `secret`.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
/// base64url of `{"username":"user","password":"secret"}`, and of one with `wrong`.
const LOGIN: &str = "eyJ1c2VybmFtZSI6InVzZXIiLCJwYXNzd29yZCI6InNlY3JldCJ9";
const WRONG: &str = "eyJ1c2VybmFtZSI6InVzZXIiLCJwYXNzd29yZCI6Indyb25nIn0=";

/// A `docker-registry`, killed with the test.
struct Registry(Child);

impl Registry {
    /// `more` is put behind `http.addr`.
    fn start(scratch: &Scratch, address: &str, more: &str) -> Self {
        let config = scratch.path(&format!("{address}.yml"));
        let root = scratch.path("blobs");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {address}\n{more}",
            root.display()
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::create(scratch.path("registry.log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let registry = Self(child);
        for _ in 0..400 {
            if TcpStream::connect(address).is_ok() {
                return registry;
            }
            thread::sleep(Duration::from_millis(25));
        }
        panic!("{}", fs::read_to_string(scratch.path("registry.log")).unwrap());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Puts an image into the storage that all registries of the test share.
fn push(scratch: &Scratch, image: &Image, name: &str) {
    let registry = Registry::start(scratch, "10.99.0.1:5999", "");
    image.layout(&scratch.path("layout"));
    let source = format!("oci:{}:img", scratch.path("layout").display());
    let target = format!("docker://10.99.0.1:5999/{name}");
    run("skopeo", &["copy", "-q", "--dest-tls-verify=false", &source, &target]);
    drop(registry);
}

/// A CA and, signed by it, a certificate for `names`; as the `tls` section of a registry.
fn certificate(scratch: &Scratch, name: &str, names: &str) -> (PathBuf, String) {
    let file = |kind: &str| scratch.path(&format!("{name}.{kind}"));
    let (ca, ca_key, key, pem) = (file("ca"), file("cakey"), file("key"), file("pem"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let make = |subject: &str, key: &Path, out: &Path, more: &[&str]| {
        let mut all = vec![
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            subject,
            "-keyout",
        ];
        let (key, out) = (text(key), text(out));
        all.extend([key.as_str(), "-out", out.as_str()]);
        all.extend(more);
        run("openssl", &all);
    };
    make("/CN=test CA", &ca_key, &ca, &["-addext", "keyUsage=critical,keyCertSign"]);
    let names = format!("subjectAltName={names}");
    let (ca_text, ca_key_text) = (text(&ca), text(&ca_key));
    let signed = [
        "-CA",
        &ca_text,
        "-CAkey",
        &ca_key_text,
        "-addext",
        &names,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    make("/CN=registry", &key, &pem, &signed);
    let tls = format!("  tls:\n    certificate: {}\n    key: {}\n", text(&pem), text(&key));
    (ca, tls)
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_registry_with_its_own_ca_and_passwords() {
    if !alone("real::a_registry_with_its_own_ca_and_passwords") {
        return;
    }
    let scratch = Scratch::new("tls");
    let image = Image::new(&[100_000, 50_000]);
    push(&scratch, &image, "a/x:1");
    let (ca, tls) = certificate(&scratch, "one", "IP:10.99.0.1");
    let (other_ca, _) = certificate(&scratch, "two", "IP:10.99.0.2");
    fs::write(scratch.path("htpasswd"), HTPASSWD).unwrap();
    let auth = format!(
        "{tls}auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
        scratch.path("htpasswd").display()
    );
    let _registry = Registry::start(&scratch, "10.99.0.1:5000", &auth);
    let (name, store) = ("10.99.0.1:5000/a/x:1", scratch.path("store"));
    let with = |ca: &Path, auth: &str, file: &str| {
        let auth_file = scratch.path("auth.json");
        fs::write(&auth_file, file).unwrap();
        let ca_files = [(String::from("10.99.0.1:5000"), ca.to_owned())].into();
        let settings = RegistrySettings { ca_files, auth_file, ..Default::default() };
        finish(start(&store, name, auth, &settings))
    };
    // A certificate that nobody vouches for, also when the CA is somebody else's.
    let unknown = finish(start(&store, name, LOGIN, &RegistrySettings::default()));
    assert_failed(&unknown, FetchFailure::Unreachable, "registry-ca");
    assert_failed(&with(&other_ca, LOGIN, "{}"), FetchFailure::Unreachable, "is not trusted");
    assert_failed(&with(Path::new("/none"), LOGIN, "{}"), FetchFailure::Storage, "/none");
    // Passwords: none, wrong, in a form that is not run here.
    assert_failed(&with(&ca, "", "{}"), FetchFailure::Denied, "denies access");
    assert_failed(&with(&ca, WRONG, "{}"), FetchFailure::Denied, "--with-registry-auth");
    let stored = r#"{"auths":{"10.99.0.1:5000":{}},"credsStore":"pass"}"#;
    assert_failed(&with(&ca, "", stored), FetchFailure::Denied, "docker-credential-pass");
    assert_failed(&with(&ca, "", "{"), FetchFailure::Denied, "auth.json can not be used");
    // From the file, where `docker login` writes base64 of `user:secret`.
    let file = r#"{"auths":{"10.99.0.1:5000":{"auth":"dXNlcjpzZWNyZXQ="}}}"#;
    assert_here(&with(&ca, "", file), &store, name, &image);
    // From the manager, which goes before the file.
    let store = scratch.path("second");
    let auth_file = scratch.path("auth.json");
    fs::write(&auth_file, file.replace("ZXQ=", "ZXg=")).unwrap();
    let ca_files = [(String::from("10.99.0.1:5000"), ca)].into();
    let settings = RegistrySettings { ca_files, auth_file, ..Default::default() };
    assert_here(&finish(start(&store, name, LOGIN, &settings)), &store, name, &image);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_registry_with_a_token_server() {
    if !alone("real::a_registry_with_a_token_server") {
        return;
    }
    let scratch = Scratch::new("bearer");
    let image = Image::new(&[100_000]);
    push(&scratch, &image, "x:1");
    certificate(&scratch, "token", "DNS:token");
    let pem = |kind: &str| scratch.path(&format!("token.{kind}")).to_str().unwrap().to_owned();
    let (key, der) = (pem("p8"), pem("der"));
    run(
        "openssl",
        &["pkcs8", "-topk8", "-nocrypt", "-in", &pem("key"), "-outform", "DER", "-out", &key],
    );
    run("openssl", &["x509", "-in", &pem("pem"), "-outform", "DER", "-out", &der]);
    let random = SystemRandom::new();
    let key = fs::read(key).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &random).unwrap();
    // RFC 7515; the certificate in `x5c` is signed by the registry's `rootcertbundle`.
    let certificate = base64(&fs::read(der).unwrap(), true);
    let token = move || {
        let head = format!(r#"{{"typ":"JWT","alg":"ES256","x5c":["{certificate}"]}}"#);
        let claims = r#"{"iss":"test","sub":"user","aud":"reg","exp":32503680000,"nbf":1,"iat":1,
            "jti":"1","access":[{"type":"repository","name":"x","actions":["pull"]}]}"#;
        let text =
            format!("{}.{}", base64(head.as_bytes(), false), base64(claims.as_bytes(), false));
        let signature = pair.sign(&random, text.as_bytes()).unwrap();
        format!("{text}.{}", base64(signature.as_ref(), false))
    };
    // Passwords get a token, and so does the identity token that `docker login` stores.
    let tokens = Server::on("10.99.0.2:80", &image, move |asked, wire| {
        let login = asked.authorization.as_deref() == Some("Basic dXNlcjpzZWNyZXQ=");
        let refresh = asked.method == "POST" && asked.body.contains("refresh_token=ident%2Fity");
        if login || refresh {
            let text = format!(r#"{{"token":"{}"}}"#, token());
            wire.head(200, &[("Content-Length", &text.len().to_string())]);
            wire.body(text.as_bytes());
        } else {
            wire.head(401, &[("Content-Length", "0")]);
        }
        true
    });
    let auth = format!(
        "auth:\n  token:\n    realm: http://10.99.0.2/token\n    service: reg\n    issuer: test\n    \
         rootcertbundle: {}\n",
        pem("ca")
    );
    let _registry = Registry::start(&scratch, "10.99.0.1:5000", &auth);
    let name = "10.99.0.1:5000/x:1";
    let pull = |store: &Path, login: &str, insecure: &[&str]| {
        let auth_file = scratch.path("auth.json");
        let file = r#"{"auths":{"http://10.99.0.1:5000/v2/":{"identitytoken":"ident/ity"}}}"#;
        fs::write(&auth_file, file).unwrap();
        let insecure = insecure.iter().map(|s| (*s).to_owned()).collect();
        let settings = RegistrySettings { insecure, auth_file, ..Default::default() };
        finish(start(store, name, login, &settings))
    };
    let store = scratch.path("store");
    // A registry without TLS must be declared, and so must the place where the password goes.
    assert_failed(&pull(&store, LOGIN, &[]), FetchFailure::Unreachable, "registry 10.99.0.1:5000");
    let half = pull(&store, LOGIN, &["10.99.0.1"]);
    assert_failed(&half, FetchFailure::Unreachable, "http://10.99.0.2/token");
    assert_eq!(tokens.asked().len(), 0);
    let network = ["10.99.0.0/24"];
    assert_failed(&pull(&store, WRONG, &network), FetchFailure::Denied, "denies access");
    for (login, folder) in [(LOGIN, "password"), ("", "identity")] {
        let store = scratch.path(folder);
        assert_here(&pull(&store, login, &network), &store, name, &image);
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn mirrors_go_before_docker_hub() {
    if !alone("real::mirrors_go_before_docker_hub") {
        return;
    }
    let scratch = Scratch::new("mirror");
    let image = Image::new(&[100_000, 1_000_000]);
    push(&scratch, &image, "library/x:1");
    // Docker Hub, as far as this namespace knows.
    let hosts = scratch.path("hosts");
    fs::write(&hosts, "10.99.0.2 registry-1.docker.io\n").unwrap();
    run("mount", &["--bind", hosts.to_str().unwrap(), "/etc/hosts"]);
    let (ca, tls) = certificate(&scratch, "hub", "DNS:registry-1.docker.io");
    fs::write(scratch.path("htpasswd"), HTPASSWD).unwrap();
    let auth = format!(
        "{tls}auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
        scratch.path("htpasswd").display()
    );
    let hub = Registry::start(&scratch, "10.99.0.2:443", &auth);
    let image = std::sync::Arc::new(image);
    let broken = {
        let image = std::sync::Arc::clone(&image);
        Server::on("10.99.0.1:5001", &std::sync::Arc::clone(&image), move |asked, wire| {
            // It breaks off in the second layer, and does not come back.
            if asked.is_layer(&image, 1) {
                match asked.from {
                    None => wire.cut(&image.layers[1], None, 600_000),
                    Some(_) => wire.head(404, &[("Content-Length", "0")]),
                }
                return true;
            }
            false
        })
    };
    let good = Server::on("10.99.0.1:5002", &image, |_, _| false);
    let settings = |mirrors: &[&str]| RegistrySettings {
        insecure: vec![String::from("10.99.0.0/24")],
        mirrors: mirrors.iter().map(|s| (*s).to_owned()).collect(),
        ca_files: [(String::from("registry-1.docker.io"), ca.clone())].into(),
        layers_at_once: 1,
        ..Default::default()
    };
    // The next one goes on where a mirror broke off; a mirror gets no password of Docker Hub.
    let store = scratch.path("both");
    let mirrors = ["http://10.99.0.1:5001", "http://10.99.0.1:5002"];
    let event = finish(start(&store, "x:1", LOGIN, &settings(&mirrors)));
    assert_here(&event, &store, "x:1", &image);
    let rest: Vec<_> = good
        .asked()
        .into_iter()
        .filter(|a| a.path.contains("/blobs/") && a.from.is_some())
        .collect();
    assert_eq!(rest.len(), 1, "{:?}", good.asked());
    assert_eq!(rest[0].from, Some(600_000));
    let seen = [broken.asked(), good.asked()].concat();
    assert!(seen.iter().all(|asked| asked.authorization.is_none()), "{seen:?}");
    assert!(seen.iter().all(|asked| asked.path.starts_with("/v2/library/x/")), "{seen:?}");
    // The hub serves when no mirror does, with its password; and is not asked when one does.
    let store = scratch.path("hub");
    let event = finish(start(&store, "x:1", LOGIN, &settings(&["http://10.99.0.1:9"])));
    assert_here(&event, &store, "x:1", &image);
    drop(hub);
    let store = scratch.path("mirror");
    let event = finish(start(&store, "docker.io/library/x:1", "", &settings(&mirrors[1..])));
    assert_here(&event, &store, "x:1", &image);
    // What is not of Docker Hub never goes to a mirror.
    let before = good.asked().len();
    let event = finish(start(&store, "10.99.0.3:5000/x:1", "", &settings(&mirrors[1..])));
    assert_failed(&event, FetchFailure::Unreachable, "registry 10.99.0.3:5000");
    assert_eq!(good.asked().len(), before);
    run("umount", &["/etc/hosts"]);
}

fn base64(bytes: &[u8], padded: bool) -> String {
    let alphabet: &[u8; 64] = if padded {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    } else {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    };
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for n in 0..=chunk.len() {
            text.push(alphabet[(group >> (18 - 6 * n) & 63) as usize].into());
        }
        if padded {
            text.push_str(&"=="[..3 - chunk.len()]);
        }
    }
    text
}
