//! A client for one repository of a registry: manifests and blobs, read only.
//!
//! Credentials go to the registry itself and to the token server that it names, nowhere else, and
//! over plain HTTP only to registries declared insecure. Redirects are followed here and not by
//! the HTTP library, so that this holds. Source: OCI distribution-spec 1.1, "Pull".

use std::{
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use serde::Deserialize;
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, Uri, header},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem},
};
use zeroize::Zeroizing;

use super::{
    auth::{Challenge, Credentials, percent_encode},
    digest::Digest,
    manifest::{ACCEPT, ManifestError},
    pull::PullError,
    reference::{DOCKER_HUB, Reference},
};
use crate::{
    crypto,
    limits::{
        MANIFEST_MAX_BYTES, REGISTRY_ANSWER_TIMEOUT, REGISTRY_CONNECT_TIMEOUT,
        REGISTRY_HEADER_MAX_BYTES, REGISTRY_REDIRECTS_MAX, REGISTRY_STALL_TIMEOUT,
        REGISTRY_TOKEN_MAX_BYTES,
    },
};

/// Where the images of `docker.io` really are.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// A repository of a registry.
pub(super) struct Registry {
    /// Tried in order until one accepts the server's certificate.
    agents: Vec<Agent>,
    /// `https://host[:port]`.
    base: String,
    /// For messages: `host[:port]`.
    name: String,
    /// For messages: the reference.
    image: String,
    path: String,
    insecure: bool,
    credentials: Credentials,
    authorization: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Registry {
    /// Prepares for the repository of `image`; connects only to a registry declared insecure, to
    /// learn whether it speaks TLS.
    pub(super) fn new(
        image: &Reference,
        credentials: Credentials,
        insecure_registries: &[String],
        ca_file: Option<&Path>,
    ) -> Result<Self, PullError> {
        let not_found = || PullError::NotFound { image: image.to_string() };
        let domain = image.domain().ok_or_else(not_found)?;
        let path = image.path().ok_or_else(not_found)?;
        let host = if domain == DOCKER_HUB { DOCKER_HUB_HOST } else { domain };
        let insecure = is_insecure(domain, insecure_registries);
        let mut agents = Vec::new();
        if insecure {
            agents.push(agent(RootCerts::WebPki, true));
        } else {
            agents.push(agent(RootCerts::WebPki, false));
            if let Some(path) = ca_file {
                agents.push(agent(roots(path)?, false));
            }
        }
        let authorization = (!credentials.registrytoken.is_empty())
            .then(|| Zeroizing::new(format!("Bearer {}", credentials.registrytoken.as_str())));
        let mut registry = Self {
            agents,
            base: format!("https://{host}"),
            name: domain.to_owned(),
            image: image.to_string(),
            path: path.to_owned(),
            insecure,
            credentials,
            authorization,
        };
        if insecure && !registry.speaks_tls()? {
            registry.base = format!("http://{host}");
        }
        Ok(registry)
    }

    fn speaks_tls(&self) -> Result<bool, PullError> {
        let url = format!("{}/v2/", self.base);
        match self.call(&url, "*/*", None) {
            Ok(_) => Ok(true),
            Err(e @ (PullError::Refused { .. } | PullError::NotFound { .. })) => Err(e),
            Err(PullError::Unreachable { source, registry })
                if matches!(*source, ureq::Error::HostNotFound | ureq::Error::Timeout(_)) =>
            {
                Err(PullError::Unreachable { source, registry })
            }
            Err(_) => Ok(false),
        }
    }

    /// The registry for messages: `host[:port]`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The manifest or index under a tag or digest; the caller compares digests.
    pub(super) fn manifest(&mut self, tag_or_digest: &str) -> Result<Vec<u8>, PullError> {
        let url = format!("{}/v2/{}/manifests/{tag_or_digest}", self.base, self.path);
        let mut answer = self.get(&url, ACCEPT)?;
        self.read_all(&mut answer, MANIFEST_MAX_BYTES)
    }

    /// A small blob as a whole; the caller compares digests.
    pub(super) fn small_blob(&mut self, digest: &Digest, max: usize) -> Result<Vec<u8>, PullError> {
        let mut answer = self.get(&self.blob_url(digest), "*/*")?;
        self.read_all(&mut answer, max)
    }

    /// A blob as a stream.
    pub(super) fn blob(&mut self, digest: &Digest) -> Result<impl Read + use<>, PullError> {
        let answer = self.get(&self.blob_url(digest), "*/*")?;
        Ok(answer.into_body().into_reader())
    }

    fn blob_url(&self, digest: &Digest) -> String {
        format!("{}/v2/{}/blobs/{digest}", self.base, self.path)
    }

    fn read_all(&self, answer: &mut Response<Body>, max: usize) -> Result<Vec<u8>, PullError> {
        let mut bytes = Vec::new();
        let body = answer.body_mut().as_reader();
        body.take(max as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| self.unreachable(ureq::Error::Io(e)))?;
        if max < bytes.len() {
            return Err(PullError::Manifest(ManifestError::TooLarge { max }));
        }
        Ok(bytes)
    }

    /// Gets `url` of this registry, logging in when it asks for that.
    fn get(&mut self, url: &str, accept: &str) -> Result<Response<Body>, PullError> {
        let mut answer = self.follow(url, accept)?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.log_in(&answer)?;
            answer = self.follow(url, accept)?;
        }
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.denied()),
            StatusCode::NOT_FOUND => Err(PullError::NotFound { image: self.image.clone() }),
            status => Err(self.answer(status)),
        }
    }

    fn follow(&self, url: &str, accept: &str) -> Result<Response<Body>, PullError> {
        let mut url = url.to_owned();
        for _ in 0..=REGISTRY_REDIRECTS_MAX {
            let same = origin(&url).is_some_and(|origin| Some(origin) == self::origin(&self.base));
            let authorization = self.authorization.as_ref().filter(|_| same);
            let answer = self.call(&url, accept, authorization.map(|text| text.as_str()))?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let location = answer.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
            url = location.and_then(|to| redirect(&url, to)).ok_or_else(|| self.not_safe())?;
        }
        Err(self.not_safe())
    }

    fn call(
        &self,
        url: &str,
        accept: &str,
        authorization: Option<&str>,
    ) -> Result<Response<Body>, PullError> {
        let mut last = ureq::Error::ConnectionFailed;
        for agent in &self.agents {
            let mut request = agent.get(url).header(header::ACCEPT, accept);
            if let Some(value) = authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            match request.call() {
                Ok(answer) => return Ok(answer),
                // The next agent may know the server's certificate.
                Err(e @ (ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::Io(_)))
                    if !is_refusal(&e) =>
                {
                    last = e;
                }
                Err(e) => return Err(self.unreachable(e)),
            }
        }
        Err(self.unreachable(last))
    }

    fn log_in(&mut self, answer: &Response<Body>) -> Result<(), PullError> {
        let challenges = answer.headers().get_all(header::WWW_AUTHENTICATE);
        let mut challenges =
            challenges.iter().filter_map(|v| v.to_str().ok()).filter_map(Challenge::parse);
        let authorization = match challenges.next() {
            Some(Challenge::Basic) => self.credentials.basic().ok_or_else(|| self.denied())?,
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, &service)?,
            None => return Err(self.denied()),
        };
        self.authorization = Some(authorization);
        Ok(())
    }

    fn token(&self, realm: &str, service: &str) -> Result<Zeroizing<String>, PullError> {
        let safe = realm.starts_with("https://") || (self.insecure && realm.starts_with("http://"));
        if !safe {
            return Err(self.not_safe());
        }
        let scope = percent_encode(&format!("repository:{}:pull", self.path));
        let query = format!("service={}&scope={scope}", percent_encode(service));
        let refresh = Zeroizing::new(percent_encode(&self.credentials.identitytoken));
        let mut last = ureq::Error::ConnectionFailed;
        for agent in &self.agents {
            let sent = if refresh.is_empty() {
                let mark = if realm.contains('?') { '&' } else { '?' };
                let mut request = agent.get(format!("{realm}{mark}{query}"));
                if let Some(basic) = self.credentials.basic() {
                    request = request.header(header::AUTHORIZATION, basic.as_str());
                }
                request.call()
            } else {
                let form = Zeroizing::new(format!(
                    "grant_type=refresh_token&client_id=edgeagent&{query}&refresh_token={}",
                    refresh.as_str()
                ));
                let kind = "application/x-www-form-urlencoded";
                agent.post(realm).header(header::CONTENT_TYPE, kind).send(form.as_str())
            };
            match sent {
                Ok(answer) => return self.read_token(answer),
                Err(e) => last = e,
            }
        }
        Err(self.unreachable(last))
    }

    fn read_token(&self, mut answer: Response<Body>) -> Result<Zeroizing<String>, PullError> {
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied()),
            status => return Err(self.answer(status)),
        }
        let mut json = Zeroizing::new(Vec::new());
        answer
            .body_mut()
            .as_reader()
            .take(REGISTRY_TOKEN_MAX_BYTES)
            .read_to_end(&mut json)
            .map_err(|e| self.unreachable(ureq::Error::Io(e)))?;
        let answer: TokenAnswer = serde_json::from_slice(&json).map_err(|_| self.denied())?;
        let token = Zeroizing::new(answer.token);
        let other = Zeroizing::new(answer.access_token);
        let token = if token.is_empty() { other } else { token };
        if token.is_empty() {
            return Err(self.denied());
        }
        Ok(Zeroizing::new(format!("Bearer {}", token.as_str())))
    }

    fn denied(&self) -> PullError {
        PullError::Denied { image: self.image.clone(), registry: self.name.clone() }
    }

    fn not_safe(&self) -> PullError {
        PullError::Unsafe { registry: self.name.clone() }
    }

    fn answer(&self, status: StatusCode) -> PullError {
        PullError::Answer { registry: self.name.clone(), status: status.as_u16() }
    }

    fn unreachable(&self, e: ureq::Error) -> PullError {
        let registry = self.name.clone();
        if is_refusal(&e) {
            PullError::Refused { registry }
        } else {
            PullError::Unreachable { registry, source: Box::new(e) }
        }
    }
}

fn is_refusal(e: &ureq::Error) -> bool {
    matches!(e, ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused)
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

/// Scheme, host and port, with the port filled in.
fn origin(url: &str) -> Option<(bool, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let tls = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Some((tls, uri.host()?.to_ascii_lowercase(), port))
}

/// Where a redirect leads; none when it gives up TLS or makes no sense.
fn redirect(from: &str, to: &str) -> Option<String> {
    let (tls, ..) = origin(from)?;
    let target = if to.starts_with('/') && !to.starts_with("//") {
        let uri: Uri = from.parse().ok()?;
        format!("{}://{}{to}", uri.scheme_str()?, uri.authority()?)
    } else {
        to.to_owned()
    };
    let (target_tls, ..) = origin(&target)?;
    (target_tls || !tls).then_some(target)
}

/// Whether plain HTTP and unknown certificates are accepted: loopback always, as in Docker, and
/// what is listed as `host[:port]`, `host` or network.
fn is_insecure(domain: &str, listed: &[String]) -> bool {
    let host = match domain.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => domain.split(':').next().unwrap_or_default(),
    };
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    listed.iter().any(|entry| {
        entry == domain
            || entry == host
            || address.is_some_and(|address| in_network(entry, address))
    })
}

fn in_network(network: &str, address: IpAddr) -> bool {
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            let shift = Ipv4Addr::BITS.checked_sub(length);
            shift.is_some_and(|s| {
                (base.to_bits() ^ address.to_bits()).checked_shr(s).unwrap_or(0) == 0
            })
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => {
            let shift = Ipv6Addr::BITS.checked_sub(length);
            shift.is_some_and(|s| {
                (base.to_bits() ^ address.to_bits()).checked_shr(s).unwrap_or(0) == 0
            })
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_listed_registries_are_insecure() {
        let listed =
            ["10.1.0.0/16", "reg:5000", "other", "fd00::/8", "192.168.1.1:80"].map(str::to_owned);
        for (domain, want) in [
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("localhost:1", true),
            ("[::1]:5000", true),
            ("10.1.2.3:5000", true),
            ("10.2.2.3:5000", false),
            ("reg:5000", true),
            ("reg:5001", false),
            ("other:99", true),
            ("[fd00::1]:5", true),
            ("[fe00::1]:5", false),
            ("192.168.1.1:80", true),
            ("192.168.1.1:81", false),
            ("docker.io", false),
            ("127.0.0.1.evil.com", false),
        ] {
            assert_eq!(is_insecure(domain, &listed), want, "{domain}");
        }
        assert!(in_network("0.0.0.0/0", [1, 2, 3, 4].into()));
        assert!(!in_network("0.0.0.0/33", [1, 2, 3, 4].into()));
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
            ("https://a/x", "//b/y", None),
            ("https://a/x", "", None),
        ] {
            assert_eq!(redirect(from, to).as_deref(), want, "{from} {to}");
        }
        assert_eq!(origin("https://A/x"), origin("https://a:443/y"));
        assert_ne!(origin("https://a/x"), origin("https://a:444/x"));
        assert_ne!(origin("https://a:80/x"), origin("http://a:80/x"));
    }
}
