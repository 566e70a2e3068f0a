//! HTTP to registries: which certificates each host may show, and where redirects may lead.
//!
//! Plain HTTP goes to hosts declared insecure only, an authorization to the origin that it is meant
//! for only. Redirects are followed here and not by the HTTP library, so that both hold.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use http::Uri;
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::{
    http::{Answer, Client, Message, Origin},
    pull::PullError,
    url::{resolve, shown},
};
use crate::{
    crypto::{self, Unverified},
    limits::REGISTRY_REDIRECTS_MAX,
    model::{RegistrySettings, is_loopback},
};

/// A request; the answer's body is not read yet.
#[derive(Clone, Copy, Default)]
pub(super) struct Request<'a> {
    pub(super) url: &'a str,
    pub(super) accept: &'a str,
    /// Goes to the origin of `url` alone.
    pub(super) authorization: Option<&'a str>,
    /// First byte that is wanted; 0 asks for all without a `Range`.
    pub(super) from: u64,
    /// A form to post.
    pub(super) form: Option<&'a str>,
}

/// An answer, and who gave it.
pub(super) struct Reply {
    pub(super) answer: Answer,
    /// `host[:port]` of who gave it, when that is not who was asked or the request was somewhere
    /// else on its way. Whatever such an answer asks for, it is not whom we asked
    /// (CVE-2020-15157).
    pub(super) elsewhere: Option<String>,
}

/// Connections to registries and to where they send us.
#[derive(Clone)]
pub(super) struct Transport {
    settings: Arc<RegistrySettings>,
    /// The reference or the configuration names this machine's own loopback as the registry.
    at_loopback: bool,
    public: Client,
    /// By `host[:port]`, for those that may show other certificates. They are tried in order until
    /// one accepts what is shown.
    special: BTreeMap<String, Vec<Client>>,
}

impl Transport {
    /// For the registry at the URL `home`.
    pub(super) fn new(settings: Arc<RegistrySettings>, home: &str) -> Self {
        let public = client(Some(public_roots()));
        let at_loopback = origin(home).is_some_and(|home| is_loopback(&home.authority));
        Self { settings, at_loopback, public, special: BTreeMap::new() }
    }

    /// Whether plain HTTP and any certificate will do. Loopback is taken at its word only when
    /// who typed the reference named it: no registry elsewhere may send us there.
    fn is_insecure(&self, authority: &str) -> bool {
        self.settings.is_listed_insecure(authority) || (self.at_loopback && is_loopback(authority))
    }

    pub(super) fn settings(&self) -> &RegistrySettings {
        &self.settings
    }

    /// Sends a request and follows where it is sent on to.
    pub(super) fn get(&mut self, request: Request<'_>) -> Result<Reply, PullError> {
        let mut url = request.url.to_owned();
        let first = origin(&url);
        let mut same = true;
        for _ in 0..=REGISTRY_REDIRECTS_MAX {
            let place = origin(&url).ok_or_else(|| not_safe(request.url, &url))?;
            if !place.tls && !self.is_insecure(&place.authority) {
                return Err(not_safe(request.url, &url));
            }
            // Who is sent back has been elsewhere all the same.
            same &= first.as_ref().is_some_and(|first| first.is(&place));
            let authorization = request.authorization.filter(|_| same);
            let hop = Request { url: &url, authorization, ..request };
            let answer = self.call(&place, hop)?;
            if request.form.is_some() || !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                let elsewhere = (!same).then_some(place.authority);
                return Ok(Reply { answer, elsewhere });
            }
            let to = answer.location().and_then(|to| resolve(&url, &to));
            let to = to.ok_or_else(|| not_safe(request.url, "nowhere"))?;
            if !is_safe_step(&place, &to) {
                return Err(not_safe(request.url, &to));
            }
            url = to;
        }
        Err(not_safe(request.url, &url))
    }

    fn call(&mut self, place: &Origin, request: Request<'_>) -> Result<Answer, PullError> {
        let not_url = || not_safe(request.url, request.url);
        let url: Uri = request.url.parse().map_err(|_| not_url())?;
        let range = format!("bytes={}-", request.from);
        let mut headers = Vec::new();
        if request.form.is_some() {
            headers.push(("content-type", "application/x-www-form-urlencoded"));
        } else {
            headers.push(("accept", request.accept));
            headers.extend(request.authorization.map(|value| ("authorization", value)));
            headers.extend((0 < request.from).then_some(("range", range.as_str())));
        }
        let method = if request.form.is_some() { "POST" } else { "GET" };
        let body = request.form.unwrap_or_default();
        let message = Message { method, url: &url, headers: &headers, body };
        let mut last = io::Error::from(io::ErrorKind::NotConnected);
        for client in self.clients(&place.authority)? {
            match client.send(place, &message) {
                Ok(answer) => return Ok(answer),
                // The next one may know the server's certificate.
                Err(e) if is_certificate(&e) => last = e,
                Err(e) => return Err(unreachable(&place.authority, e)),
            }
        }
        Err(unreachable(&place.authority, last))
    }

    fn clients(&mut self, authority: &str) -> Result<Vec<Client>, PullError> {
        if let Some(clients) = self.special.get(authority) {
            return Ok(clients.clone());
        }
        let clients = if self.is_insecure(authority) {
            vec![client(None)]
        } else if let Some(path) = self.settings.ca_files.get(authority) {
            vec![client(Some(roots(path)?)), self.public.clone()]
        } else {
            return Ok(vec![self.public.clone()]);
        };
        self.special.insert(authority.to_owned(), clients.clone());
        Ok(clients)
    }
}

fn origin(url: &str) -> Option<Origin> {
    Origin::of(&url.parse().ok()?)
}

/// Whether a redirect from `place` may lead to `to`: TLS is never given up, and nobody else chooses
/// our name and password.
fn is_safe_step(place: &Origin, to: &str) -> bool {
    origin(to).is_some_and(|target| target.tls || !place.tls)
}

/// Where a redirect found at `from` may be followed to; none when it may not.
#[must_use]
pub fn may_follow(from: &str, to: &str) -> Option<String> {
    let place = origin(from)?;
    resolve(from, to).filter(|to| is_safe_step(&place, to))
}

fn not_safe(from: &str, to: &str) -> PullError {
    let registry = origin(from).map_or_else(|| shown(from), |origin| origin.authority);
    PullError::Unsafe { registry, place: shown(to) }
}

pub(super) fn unreachable(registry: &str, source: io::Error) -> PullError {
    let registry = registry.to_owned();
    if source.kind() == io::ErrorKind::ConnectionRefused {
        PullError::Refused { registry }
    } else if is_certificate(&source) {
        PullError::Certificate { registry, source }
    } else {
        PullError::Unreachable { registry, source }
    }
}

/// Whether it is the server's certificate that is not accepted.
fn is_certificate(e: &io::Error) -> bool {
    let e = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    e.is_some_and(|e| matches!(e, rustls::Error::InvalidCertificate(_)))
}

/// Believes certificates of these roots; without any, whoever answers.
fn client(roots: Option<RootCertStore>) -> Client {
    let provider = crypto::provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    #[expect(clippy::expect_used, reason = "the provider has suites of both versions")]
    let builder = builder.with_safe_default_protocol_versions().expect("suites");
    let builder = match roots {
        Some(roots) => builder.with_root_certificates(roots),
        None => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        }
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A connection is kept instead; tickets would cost memory for little.
    config.resumption = Resumption::disabled();
    Client::new(Arc::new(config))
}

fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

fn roots(path: &Path) -> Result<RootCertStore, PullError> {
    let unusable = || PullError::CaFile { path: path.to_owned() };
    let pem = std::fs::read(path).map_err(|_| unusable())?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots
        .add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if added == 0 { Err(unusable()) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_an_address_lets_nobody_in() {
        for place in ["https://u:secret@b/x?sig=secret", "//u:secret@b/x#secret", "/x?sig=secret"] {
            let error = not_safe("https://a/v2/", place).chain();
            assert!(!error.contains("secret") && error.contains("/x"), "{error}");
        }
    }

    #[test]
    fn loopback_is_believed_only_when_the_reference_names_it() {
        let settings = Arc::new(RegistrySettings::default());
        let at = |home: &str| Transport::new(Arc::clone(&settings), home);
        for place in ["127.0.0.1", "localhost:5000", "[::1]:5000", "127.9.9.9:1"] {
            assert!(at("https://127.0.0.1:5000").is_insecure(place), "{place}");
            assert!(!at("https://registry.example").is_insecure(place), "{place}");
        }
        assert!(!at("https://127.0.0.1:5000").is_insecure("registry.example"));
    }

    #[test]
    fn redirects_never_give_up_tls() {
        for (from, to, want) in [
            ("https://a/v2/x", "/y?z", Some("https://a/y?z")),
            ("http://a:5/v2/x", "/y", Some("http://a:5/y")),
            ("https://a/x", "https://b/y", Some("https://b/y")),
            ("http://a/x", "https://b/y", Some("https://b/y")),
            ("https://a/x", "http://a/y", None),
            ("https://a/x", "file:///etc/passwd", None),
            ("https://a/x", "https://user:pass@b/y", None),
            ("https://a/x", "//b/y", Some("https://b/y")),
            ("https://a/v2/x/1?q", "../y#f", Some("https://a/v2/y")),
            ("https://a/v2/x?q", "?sig=1", Some("https://a/v2/x?sig=1")),
            ("https://a/v2/x?q", "", Some("https://a/v2/x?q")),
            ("https://a", "y", Some("https://a/y")),
            ("https://a/x", "mailto:b", None),
        ] {
            assert_eq!(may_follow(from, to).as_deref(), want, "{from}");
        }
        let same = |a: &str, b: &str| origin(a).unwrap().is(&origin(b).unwrap());
        assert!(same("https://A/x", "https://a:443/y"));
        assert!(!same("https://a/x", "https://a:444/x"));
        assert!(!same("https://a:80/x", "http://a:80/x"));
    }
}
