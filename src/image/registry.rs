//! A client for one repository of a registry: manifests and blobs, read only.
//!
//! Credentials go to the registry itself and to the token server that it names, nowhere else.
//! What it fetches is not trusted: callers compare digests. Source: OCI distribution-spec 1.1,
//! "Pull"; distribution `docs/spec/auth/token.md`.

use std::{
    io::{self, Read},
    sync::Arc,
    thread,
    time::Duration,
};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    auth::{Challenge, Credentials, percent_encode},
    digest::Digest,
    http::Answer,
    manifest::{ACCEPT, ManifestError},
    pull::PullError,
    reference::{DOCKER_HUB, Reference},
    transport::{Request, Transport, unreachable},
};
use crate::{
    limits::{
        MANIFEST_MAX_BYTES, REGISTRY_FIRST_RETRIES, REGISTRY_RETRIES, REGISTRY_RETRY_MAX,
        REGISTRY_RETRY_MIN, REGISTRY_TOKEN_MAX_BYTES,
    },
    model::RegistrySettings,
};

/// Where the images of `docker.io` really are.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Longest pause that a registry may ask for (`Retry-After`, RFC 9110 §10.2.3).
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// A repository of a registry. A clone has a login of its own.
#[derive(Clone)]
pub(super) struct Registry {
    transport: Transport,
    /// `https://host[:port]`, for a mirror perhaps with a path.
    base: String,
    /// For messages: `host[:port]`.
    name: String,
    /// For messages: the reference.
    image: String,
    path: String,
    credentials: Credentials,
    authorization: Option<Zeroizing<String>>,
    /// How often what may pass is tried again: often once the registry has answered something.
    retries: u32,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// A part of a blob on its way.
pub(super) struct Part {
    pub(super) body: Box<dyn Read + Send>,
    /// Where in the blob it begins: what was asked for, or 0.
    pub(super) at: u64,
}

impl Registry {
    /// Prepares for the repository of `image`; connects only to a registry declared insecure, to
    /// learn whether it speaks TLS. Not in a `hurry`, a link that is down just now is waited for.
    pub(super) fn new(
        image: &Reference,
        given: Credentials,
        settings: &Arc<RegistrySettings>,
        hurry: bool,
    ) -> Result<Self, PullError> {
        let not_found = || PullError::NotFound { image: image.to_string() };
        let domain = image.domain().ok_or_else(not_found)?;
        let host = if domain == DOCKER_HUB { DOCKER_HUB_HOST } else { domain };
        let credentials = if given.is_empty() {
            Credentials::from_file(&settings.auth_file, domain)?
        } else {
            given
        };
        let base = format!("https://{host}");
        let mut registry = Self::at(image, base, domain, credentials, settings)?;
        registry.retries = if hurry { 0 } else { REGISTRY_FIRST_RETRIES };
        if settings.is_insecure(host) && !registry.patiently(Self::speaks_tls)? {
            registry.base = format!("http://{host}");
        }
        Ok(registry)
    }

    /// The same repository at a mirror. The credentials of the image's own registry do not go
    /// there, only what the local file has for the mirror.
    pub(super) fn mirror(
        image: &Reference,
        url: &str,
        settings: &Arc<RegistrySettings>,
    ) -> Result<Self, PullError> {
        let host = url.split('/').nth(2).unwrap_or(url);
        let credentials = Credentials::from_file(&settings.auth_file, host)?;
        Self::at(image, url.to_owned(), host, credentials, settings)
    }

    fn at(
        image: &Reference,
        base: String,
        name: &str,
        credentials: Credentials,
        settings: &Arc<RegistrySettings>,
    ) -> Result<Self, PullError> {
        let path = image.path().ok_or_else(|| PullError::NotFound { image: image.to_string() })?;
        let authorization = (!credentials.registrytoken.is_empty())
            .then(|| Zeroizing::new(format!("Bearer {}", credentials.registrytoken.as_str())));
        Ok(Self {
            transport: Transport::new(Arc::clone(settings), &base),
            base,
            name: name.to_owned(),
            image: image.to_string(),
            path: path.to_owned(),
            credentials,
            authorization,
            retries: 0,
        })
    }

    fn speaks_tls(&mut self) -> Result<bool, PullError> {
        let url = format!("{}/v2/", self.base);
        match self.transport.get(Request { url: &url, accept: "*/*", ..Request::default() }) {
            Ok(_) => Ok(true),
            // Who is reached and does not understand us.
            Err(PullError::Unreachable { source, .. }) if is_answer(&source) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Tries again what may pass.
    fn patiently<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, PullError>,
    ) -> Result<T, PullError> {
        let mut failures = 0;
        loop {
            match attempt(self) {
                Err(e) if failures < self.retries && self.may_pass(&e) => {
                    log::debug!("{} is tried again: {}", self.name, e.chain());
                    thread::sleep(retry_pause(failures).max(e.pause().min(RETRY_AFTER_MAX)));
                    failures += 1;
                }
                result => return result,
            }
        }
    }

    /// A connection that is refused before there ever was an answer is an answer, and so is half a
    /// minute of silence: what a short try again is for has passed by then.
    fn may_pass(&self, e: &PullError) -> bool {
        let silent = matches!(e, PullError::Unreachable { source, .. }
            if source.kind() == io::ErrorKind::TimedOut);
        let final_at_first = silent || matches!(e, PullError::Refused { .. });
        let answered = REGISTRY_FIRST_RETRIES < self.retries;
        e.may_pass() && (answered || !final_at_first)
    }

    /// The registry for messages: `host[:port]`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How many layers the operator wants to be fetched at a time.
    pub(super) fn layers_at_once(&self) -> usize {
        self.transport.settings().layers_at_once
    }

    /// The manifest or index under a tag or digest, and the media type that the registry gives
    /// it; the caller compares digests.
    pub(super) fn manifest(&mut self, tag_or_digest: &str) -> Result<(Vec<u8>, String), PullError> {
        let url = format!("{}/v2/{}/manifests/{tag_or_digest}", self.base, self.path);
        let missing = PullError::NotFound { image: self.image.clone() };
        match self.small(&url, ACCEPT, MANIFEST_MAX_BYTES) {
            Err(PullError::Answer { status: 404, .. }) => Err(missing),
            result => result,
        }
    }

    /// A small blob as a whole; the caller compares digests.
    pub(super) fn small_blob(&mut self, digest: &Digest, max: usize) -> Result<Vec<u8>, PullError> {
        self.small(&self.blob_url(digest), "*/*", max).map(|(bytes, _)| bytes)
    }

    fn small(
        &mut self,
        url: &str,
        accept: &str,
        max: usize,
    ) -> Result<(Vec<u8>, String), PullError> {
        self.patiently(|registry| {
            registry.get(url, accept, 0).and_then(|answer| registry.read_all(answer, max))
        })
    }

    /// A blob of `size` bytes from byte `from` on, when the registry can do that; tried once.
    pub(super) fn blob(
        &mut self,
        digest: &Digest,
        size: u64,
        from: u64,
    ) -> Result<Part, PullError> {
        let url = self.blob_url(digest);
        let answer = match self.get(&url, "*/*", from) {
            // It gives no parts of this one: from the beginning then.
            Err(PullError::Answer { status: 416, .. }) if 0 < from => self.get(&url, "*/*", 0)?,
            result => result?,
        };
        let at = if answer.status == 206 {
            let range = answer.header("content-range");
            if !range.is_some_and(|range| continues(range, from, size)) {
                return Err(PullError::Range { registry: self.name.clone() });
            }
            from
        } else {
            0
        };
        let body = answer.body;
        // A part may be shorter than asked for; the rest is asked for then.
        let wrong =
            body.length().is_some_and(|length| size - at < length || (at == 0 && length < size));
        if wrong {
            return Err(PullError::Length { digest: digest.clone(), size });
        }
        Ok(Part { body: Box::new(body), at })
    }

    fn blob_url(&self, digest: &Digest) -> String {
        format!("{}/v2/{}/blobs/{digest}", self.base, self.path)
    }

    fn read_all(&self, answer: Answer, max: usize) -> Result<(Vec<u8>, String), PullError> {
        let kind = answer.header("content-type");
        let kind = kind.unwrap_or_default().to_owned();
        let mut bytes = Vec::new();
        let mut body = answer.body.take(max as u64 + 1);
        body.read_to_end(&mut bytes).map_err(|e| unreachable(&self.name, e))?;
        if max < bytes.len() {
            return Err(PullError::Manifest(ManifestError::TooLarge { max }));
        }
        Ok((bytes, kind))
    }

    /// Gets `url` of this registry, logging in when it asks for that: at first, and again when a
    /// token has expired.
    fn get(&mut self, url: &str, accept: &str, from: u64) -> Result<Answer, PullError> {
        let mut answer = match self.send(url, accept, from) {
            // An address that the registry signed for a while may have expired: it gives another.
            Err(PullError::Elsewhere { .. }) => self.send(url, accept, from)?,
            result => result?,
        };
        self.retries = REGISTRY_RETRIES;
        // A token for too little is followed by one for what the registry then asks for.
        for _ in 0..2 {
            if answer.status != 401 {
                break;
            }
            self.log_in(&answer)?;
            // Its connection serves the next request.
            drop(answer);
            answer = self.send(url, accept, from)?;
        }
        match answer.status {
            200 => Ok(answer),
            206 if 0 < from => Ok(answer),
            401 | 403 => Err(self.denied()),
            _ => Err(self.refused(&answer)),
        }
    }

    fn send(&mut self, url: &str, accept: &str, from: u64) -> Result<Answer, PullError> {
        let authorization = self.authorization.as_ref().map(|text| text.as_str());
        self.transport.get(Request { url, accept, authorization, from, form: None })
    }

    fn log_in(&mut self, answer: &Answer) -> Result<(), PullError> {
        let challenges: Vec<Challenge> =
            answer.headers("www-authenticate").flat_map(Challenge::parse).collect();
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service, scope } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        let authorization = match bearer {
            Some((realm, service, scope)) => self.token(realm, service, scope)?,
            None if challenges.contains(&Challenge::Basic) => {
                self.credentials.basic().ok_or_else(|| self.denied())?
            }
            None => return Err(self.denied()),
        };
        self.authorization = Some(authorization);
        Ok(())
    }

    /// A token of the server that the registry names, for what it asks for.
    fn token(
        &mut self,
        realm: &str,
        service: &str,
        scope: &str,
    ) -> Result<Zeroizing<String>, PullError> {
        let ours = format!("repository:{}:pull", self.path);
        let scope = percent_encode(if scope.is_empty() { &ours } else { scope });
        let query = format!("service={}&scope={scope}", percent_encode(service));
        let refresh = Zeroizing::new(percent_encode(&self.credentials.identitytoken));
        if !refresh.is_empty() {
            let form = Zeroizing::new(format!(
                "grant_type=refresh_token&client_id=edgeagent&{query}&refresh_token={}",
                refresh.as_str()
            ));
            let request = Request { url: realm, form: Some(&form), ..Request::default() };
            let answer = self.transport.get(request)?;
            // A server that knows no OAuth is asked in the older way.
            if !matches!(answer.status, 404 | 405) {
                return self.read_token(answer);
            }
        }
        let mark = if realm.contains('?') { '&' } else { '?' };
        let basic = self.credentials.basic();
        let answer = self.transport.get(Request {
            url: &format!("{realm}{mark}{query}"),
            accept: "application/json",
            authorization: basic.as_ref().map(|text| text.as_str()),
            ..Request::default()
        })?;
        self.read_token(answer)
    }

    fn read_token(&self, answer: Answer) -> Result<Zeroizing<String>, PullError> {
        match answer.status {
            200 => {}
            401 | 403 => return Err(self.denied()),
            _ => return Err(self.refused(&answer)),
        }
        let mut json = Zeroizing::new(Vec::new());
        let mut body = answer.body.take(REGISTRY_TOKEN_MAX_BYTES);
        body.read_to_end(&mut json).map_err(|e| unreachable(&self.name, e))?;
        let answer: TokenAnswer = serde_json::from_slice(&json).map_err(|_| self.denied())?;
        let token = Zeroizing::new(answer.token.unwrap_or_default());
        let other = Zeroizing::new(answer.access_token.unwrap_or_default());
        let token = if token.is_empty() { other } else { token };
        if token.is_empty() {
            return Err(self.denied());
        }
        Ok(Zeroizing::new(format!("Bearer {}", token.as_str())))
    }

    fn denied(&self) -> PullError {
        PullError::Denied {
            image: self.image.clone(),
            registry: self.name.clone(),
            file: self.transport.settings().auth_file.clone(),
        }
    }

    fn refused(&self, answer: &Answer) -> PullError {
        // Seconds; as a date it is an answer for people, and the ordinary pauses do.
        let seconds = answer.header("retry-after").and_then(|text| text.trim().parse().ok());
        PullError::Answer {
            registry: self.name.clone(),
            status: answer.status,
            pause: Duration::from_secs(seconds.unwrap_or(0)),
        }
    }
}

/// Whether somebody was there, and the connection failed on what was said.
fn is_answer(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::InvalidData
    )
}

/// The pause after so many failures in a row before another try.
pub(super) fn retry_pause(failures: u32) -> Duration {
    REGISTRY_RETRY_MIN.saturating_mul(1 << failures.min(16)).min(REGISTRY_RETRY_MAX)
}

/// Whether a `Content-Range` is of a part that begins where the last one ended (RFC 9110 §14.4).
fn continues(range: &str, from: u64, size: u64) -> bool {
    let Some((span, total)) = range.strip_prefix("bytes ").and_then(|r| r.split_once('/')) else {
        return false;
    };
    let Some((first, last)) = span.split_once('-') else { return false };
    first.parse() == Ok(from)
        && last.parse::<u64>().is_ok_and(|last| from <= last && last < size)
        && (total == "*" || total.parse() == Ok(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_part_that_fits_continues_a_blob() {
        for (range, want) in [
            ("bytes 100-999/1000", true),
            ("bytes 100-199/1000", true),
            ("bytes 100-999/*", true),
            ("bytes 0-999/1000", false),
            ("bytes 101-999/1000", false),
            ("bytes 100-1000/1001", false),
            ("bytes 100-99/1000", false),
            ("bytes 100-999/2000", false),
            ("bytes */1000", false),
            ("items 100-999/1000", false),
            ("", false),
        ] {
            assert_eq!(continues(range, 100, 1000), want, "{range}");
        }
    }

    #[test]
    fn pauses_double_up_to_their_bound() {
        assert_eq!(retry_pause(0), REGISTRY_RETRY_MIN);
        assert_eq!(retry_pause(1), REGISTRY_RETRY_MIN * 2);
        assert_eq!(retry_pause(REGISTRY_RETRIES), REGISTRY_RETRY_MAX);
        assert_eq!(retry_pause(u32::MAX), REGISTRY_RETRY_MAX);
    }
}
