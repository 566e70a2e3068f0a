//! HTTP to registries: which certificates each host may show, and where redirects may lead.
//!
//! Plain HTTP goes to hosts declared insecure only, an authorization to the origin that it is meant
//! for only. Redirects are followed here and not by the HTTP library, so that both hold.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use ureq::{
    Agent, Body,
    http::{Response, Uri, header},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem},
};

use super::pull::PullError;
use crate::{
    crypto,
    limits::{
        REGISTRY_ANSWER_TIMEOUT, REGISTRY_CONNECT_TIMEOUT, REGISTRY_HEADER_MAX_BYTES,
        REGISTRY_REDIRECTS_MAX, REGISTRY_STALL_TIMEOUT,
    },
    model::RegistrySettings,
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

/// Connections to registries and to where they send us.
#[derive(Clone)]
pub(super) struct Transport {
    settings: Arc<RegistrySettings>,
    public: Agent,
    /// By `host[:port]`, for those that may show other certificates. They are tried in order until
    /// one accepts what is shown.
    special: BTreeMap<String, Vec<Agent>>,
}

impl Transport {
    pub(super) fn new(settings: Arc<RegistrySettings>) -> Self {
        let public = agent(RootCerts::WebPki, false);
        Self { settings, public, special: BTreeMap::new() }
    }

    pub(super) fn settings(&self) -> &RegistrySettings {
        &self.settings
    }

    /// Sends a request and follows where it is sent on to.
    pub(super) fn get(&mut self, request: Request<'_>) -> Result<Response<Body>, PullError> {
        let mut url = request.url.to_owned();
        let first = origin(&url);
        for _ in 0..=REGISTRY_REDIRECTS_MAX {
            let place = origin(&url).ok_or_else(|| not_safe(request.url, &url))?;
            if !place.tls && !self.settings.is_insecure(&place.authority) {
                return Err(not_safe(request.url, &url));
            }
            let same = first.as_ref().is_some_and(|first| first.is(&place));
            let authorization = request.authorization.filter(|_| same);
            let answer = self.call(&place, Request { url: &url, authorization, ..request })?;
            if request.form.is_some()
                || !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308)
            {
                return Ok(answer);
            }
            let location = answer.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
            url = location
                .and_then(|to| redirect(&url, to))
                .ok_or_else(|| not_safe(request.url, location.unwrap_or("nowhere")))?;
        }
        Err(not_safe(request.url, &url))
    }

    fn call(&mut self, place: &Origin, request: Request<'_>) -> Result<Response<Body>, PullError> {
        let mut last = ureq::Error::ConnectionFailed;
        for agent in self.agents(&place.authority)? {
            let sent = match request.form {
                Some(form) => {
                    let kind = "application/x-www-form-urlencoded";
                    agent.post(request.url).header(header::CONTENT_TYPE, kind).send(form)
                }
                None => {
                    let mut call = agent.get(request.url).header(header::ACCEPT, request.accept);
                    if let Some(value) = request.authorization {
                        call = call.header(header::AUTHORIZATION, value);
                    }
                    if 0 < request.from {
                        call = call.header(header::RANGE, format!("bytes={}-", request.from));
                    }
                    call.call()
                }
            };
            match sent {
                Ok(answer) => return Ok(answer),
                // The next agent may know the server's certificate.
                Err(e) if is_certificate(&e) => last = e,
                Err(e) => return Err(unreachable(&place.authority, e)),
            }
        }
        Err(unreachable(&place.authority, last))
    }

    fn agents(&mut self, authority: &str) -> Result<Vec<Agent>, PullError> {
        if let Some(agents) = self.special.get(authority) {
            return Ok(agents.clone());
        }
        let agents = if self.settings.is_insecure(authority) {
            vec![agent(RootCerts::WebPki, true)]
        } else if let Some(path) = self.settings.ca_files.get(authority) {
            vec![agent(roots(path)?, false), self.public.clone()]
        } else {
            return Ok(vec![self.public.clone()]);
        };
        self.special.insert(authority.to_owned(), agents.clone());
        Ok(agents)
    }
}

/// Scheme, host and port of a URL.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    tls: bool,
    /// `host[:port]`, as written.
    authority: String,
    host: String,
    port: u16,
}

impl Origin {
    fn is(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }
}

fn origin(url: &str) -> Option<Origin> {
    let uri: Uri = url.parse().ok()?;
    let tls = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let authority = uri.authority()?.as_str();
    // A name and password in a URL would be credentials of somebody else's choice.
    if authority.contains('@') {
        return None;
    }
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let host = uri.host()?.to_ascii_lowercase();
    Some(Origin { tls, authority: authority.to_owned(), host, port })
}

/// Where a redirect leads; none when it gives up TLS or makes no sense.
fn redirect(from: &str, to: &str) -> Option<String> {
    let source = origin(from)?;
    let target = if to.starts_with('/') && !to.starts_with("//") {
        let scheme = if source.tls { "https" } else { "http" };
        format!("{scheme}://{}{to}", source.authority)
    } else {
        to.to_owned()
    };
    let tls = origin(&target)?.tls;
    (tls || !source.tls).then_some(target)
}

fn not_safe(from: &str, to: &str) -> PullError {
    let registry = origin(from).map_or_else(|| from.to_owned(), |origin| origin.authority);
    PullError::Unsafe { registry, place: to.chars().take(200).collect() }
}

pub(super) fn unreachable(registry: &str, e: ureq::Error) -> PullError {
    let registry = registry.to_owned();
    if matches!(&e, ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused) {
        PullError::Refused { registry }
    } else if is_certificate(&e) {
        PullError::Certificate { registry, source: Box::new(e) }
    } else {
        PullError::Unreachable { registry, source: Box::new(e) }
    }
}

/// Whether it is the server's certificate that is not accepted.
fn is_certificate(e: &ureq::Error) -> bool {
    let refused = |e: &rustls::Error| matches!(e, rustls::Error::InvalidCertificate(_));
    if let ureq::Error::Io(e) = e {
        return e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()).is_some_and(refused);
    }
    matches!(e, ureq::Error::Rustls(e) if refused(e))
}

fn agent(roots: RootCerts, unverified: bool) -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(crypto::provider())
        .root_certs(roots)
        .disable_verification(unverified)
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(REGISTRY_HEADER_MAX_BYTES)
        .timeout_connect(Some(REGISTRY_CONNECT_TIMEOUT))
        .timeout_recv_response(Some(REGISTRY_ANSWER_TIMEOUT))
        .timeout_per_read(Some(REGISTRY_STALL_TIMEOUT))
        .user_agent(concat!("edgeagent/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

fn roots(path: &Path) -> Result<RootCerts, PullError> {
    let unusable = || PullError::CaFile { path: path.to_owned() };
    let pem = std::fs::read(path).map_err(|_| unusable())?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            Ok(_) | Err(_) => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(unusable());
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("https://a/x", "//b/y", None),
            ("https://a/x", "", None),
        ] {
            assert_eq!(redirect(from, to).as_deref(), want, "{from} {to}");
        }
        let same = |a: &str, b: &str| origin(a).unwrap().is(&origin(b).unwrap());
        assert!(same("https://A/x", "https://a:443/y"));
        assert!(!same("https://a/x", "https://a:444/x"));
        assert!(!same("https://a:80/x", "http://a:80/x"));
    }
}
