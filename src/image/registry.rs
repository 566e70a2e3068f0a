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

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    auth::{Challenge, Credentials, percent_encode},
    digest::Digest,
    http::Answer,
    manifest::{ACCEPT, ManifestError},
    pull::PullError,
    reference::{DOCKER_HUB, Reference},
    transport::{Reply, Request, Transport, unreachable},
    url::shown,
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

/// Challenges of one answer that are tried. Those that follow are not looked at.
const CHALLENGES_MAX: usize = 8;

/// How gzip begins (RFC 1952 §2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

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
            // Whatever it says, it says it in TLS.
            Ok(_) | Err(PullError::Unsafe { .. }) => Ok(true),
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
                    thread::sleep(pause_after(&e, failures));
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
            Err(
                PullError::Answer { status: 404, .. } | PullError::Elsewhere { status: 404, .. },
            ) => Err(missing),
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
            Err(
                PullError::Answer { status: 416, .. } | PullError::Elsewhere { status: 416, .. },
            ) if 0 < from => self.get(&url, "*/*", 0)?,
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
        let length = answer.body.length();
        // A layer is often stored with the name of its own packing as that of the transfer. Of the
        // right length, it is the layer.
        if length != Some(size - at) && self.is_gzip(&answer)? {
            if 0 < at {
                return Err(PullError::Range { registry: self.name.clone() });
            }
            let body = Box::new(MultiGzDecoder::new(answer.body));
            return Ok(Part { body, at });
        }
        // A part may be shorter than asked for; the rest is asked for then.
        let wrong = length.is_some_and(|length| size - at < length || (at == 0 && length < size));
        if wrong {
            return Err(PullError::Length { digest: digest.clone(), size });
        }
        Ok(Part { body: Box::new(answer.body), at })
    }

    /// Whether the content is packed with gzip beside its own form.
    fn is_gzip(&self, answer: &Answer) -> Result<bool, PullError> {
        match answer.codings().as_slice() {
            [] => Ok(false),
            [coding] if matches!(coding.as_str(), "gzip" | "x-gzip") => Ok(true),
            codings => Err(PullError::Coding {
                registry: self.name.clone(),
                coding: codings.join(", ").chars().take(80).collect(),
            }),
        }
    }

    fn blob_url(&self, digest: &Digest) -> String {
        format!("{}/v2/{}/blobs/{digest}", self.base, self.path)
    }

    /// Reads an answer of at most `max` bytes, and unpacks it when its server packed it.
    fn read_all(&self, answer: Answer, max: usize) -> Result<(Vec<u8>, String), PullError> {
        let kind = answer.header("content-type").unwrap_or_default().to_owned();
        let gzip = self.is_gzip(&answer)?;
        let most = max as u64 + 1;
        let mut bytes = Vec::new();
        let failed = |e| unreachable(&self.name, e);
        answer.body.take(most).read_to_end(&mut bytes).map_err(failed)?;
        if gzip && bytes.len() <= max && bytes.starts_with(&GZIP_MAGIC) {
            let packed = std::mem::take(&mut bytes);
            let unpacked =
                MultiGzDecoder::new(packed.as_slice()).take(most).read_to_end(&mut bytes);
            unpacked.map_err(|e| failed(io::Error::new(io::ErrorKind::InvalidData, e)))?;
        }
        if max < bytes.len() {
            return Err(PullError::Manifest(ManifestError::TooLarge { max }));
        }
        Ok((bytes, kind))
    }

    /// Gets `url` of this registry, logging in when it asks for that: at first, and again when a
    /// token has expired or is for too little.
    fn get(&mut self, url: &str, accept: &str, from: u64) -> Result<Answer, PullError> {
        let mut reply = self.send(url, accept, from)?;
        self.retries = REGISTRY_RETRIES;
        // A token for too little is followed by one for what the registry then asks for. An
        // address that the registry signed for a while may have expired: it gives another.
        let (mut logins, mut detours) = (2, 1);
        loop {
            let left = if wants_login(&reply) {
                self.log_in_again(&mut logins, &reply.answer)?
            } else if reply.elsewhere.is_some() && matches!(reply.answer.status, 401 | 403) {
                take_one(&mut detours)
            } else {
                false
            };
            if !left {
                break;
            }
            // Its connection serves the next request.
            drop(reply);
            reply = self.send(url, accept, from)?;
        }
        let Reply { answer, elsewhere } = reply;
        match (answer.status, elsewhere) {
            (200, _) => Ok(answer),
            (206, _) if 0 < from => Ok(answer),
            (401 | 403, None) => Err(self.denied()),
            (status, place) => {
                let (registry, pause) = (self.name.clone(), retry_after(&answer));
                Err(match place {
                    Some(place) => PullError::Elsewhere { registry, place, status, pause },
                    None => PullError::Answer { registry, status, pause },
                })
            }
        }
    }

    /// Logs in when there are `logins` left.
    fn log_in_again(&mut self, logins: &mut u32, answer: &Answer) -> Result<bool, PullError> {
        if !take_one(logins) {
            return Ok(false);
        }
        self.log_in(answer).map(|()| true)
    }

    fn send(&mut self, url: &str, accept: &str, from: u64) -> Result<Reply, PullError> {
        let authorization = self.authorization.as_ref().map(|text| text.as_str());
        self.transport.get(Request { url, accept, authorization, from, form: None })
    }

    /// Meets the first challenge that can be met, those for a token first: it is worth less to
    /// whoever sees it than a password.
    fn log_in(&mut self, answer: &Answer) -> Result<(), PullError> {
        let all = answer.headers("www-authenticate").flat_map(Challenge::parse);
        let mut challenges: Vec<Challenge> = all.take(CHALLENGES_MAX).collect();
        challenges.sort_by_key(|challenge| *challenge == Challenge::Basic);
        let mut failure = None;
        for challenge in &challenges {
            let met = match challenge {
                Challenge::Bearer { realm, service, scope } => self.token(realm, service, scope),
                Challenge::Basic => self.credentials.basic().ok_or_else(|| self.denied()),
            };
            match met {
                Ok(authorization) => {
                    self.authorization = Some(authorization);
                    return Ok(());
                }
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        Err(failure.unwrap_or_else(|| self.denied()))
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
            let reply = self.transport.get(request)?;
            // A server that knows no OAuth is asked in the older way.
            if !matches!(reply.answer.status, 404 | 405 | 501) {
                return self.read_token(realm, reply);
            }
        }
        let mark = if realm.contains('?') { '&' } else { '?' };
        let basic = self.credentials.basic();
        let reply = self.transport.get(Request {
            url: &format!("{realm}{mark}{query}"),
            accept: "application/json",
            authorization: basic.as_ref().map(|text| text.as_str()),
            ..Request::default()
        })?;
        self.read_token(realm, reply)
    }

    fn read_token(&self, realm: &str, reply: Reply) -> Result<Zeroizing<String>, PullError> {
        let Reply { answer, elsewhere } = reply;
        let server = elsewhere.unwrap_or_else(|| shown(realm.split('/').nth(2).unwrap_or(realm)));
        let fault = |status, pause| {
            let (registry, server) = (self.name.clone(), server.clone());
            PullError::NoToken { registry, server, status, pause }
        };
        match answer.status {
            200 => {}
            401 | 403 => return Err(self.denied()),
            status => return Err(fault(status, retry_after(&answer))),
        }
        let json = Zeroizing::new(self.read_all(answer, REGISTRY_TOKEN_MAX_BYTES)?.0);
        let none = || fault(200, Duration::ZERO);
        let answer: TokenAnswer = serde_json::from_slice(&json).map_err(|_| none())?;
        let token = Zeroizing::new(answer.token.unwrap_or_default());
        let other = Zeroizing::new(answer.access_token.unwrap_or_default());
        let token = if token.is_empty() { other } else { token };
        if token.is_empty() {
            return Err(none());
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
}

/// Whether the registry itself, and nobody to whom it leads, wants a login or a better token
/// (RFC 6750 §3.1).
fn wants_login(reply: &Reply) -> bool {
    let more = || {
        let mut challenges = reply.answer.headers("www-authenticate");
        challenges.any(|challenge| challenge.contains("insufficient_scope"))
    };
    reply.elsewhere.is_none()
        && (reply.answer.status == 401 || (reply.answer.status == 403 && more()))
}

fn take_one(left: &mut u32) -> bool {
    let some = 0 < *left;
    *left = left.saturating_sub(1);
    some
}

/// How long a server wants to be left alone, in seconds or until a date by its own clock (RFC 9110
/// §10.2.3). Ours may be wrong.
fn retry_after(answer: &Answer) -> Duration {
    let Some(text) = answer.header("retry-after").map(str::trim) else { return Duration::ZERO };
    let until = || {
        let now = http_date(answer.header("date")?)?;
        http_date(text)?.checked_sub(now)
    };
    Duration::from_secs(text.parse().ok().or_else(until).unwrap_or(0))
}

/// Seconds of an HTTP date since 1970 (RFC 9110 §5.6.7, the form that may be sent).
#[must_use]
pub fn http_date(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, text) = text.trim().split_once(", ")?;
    let text = text.strip_suffix(" GMT")?;
    let mut words = text.split([' ', ':']);
    let number = |words: &mut std::str::Split<'_, [char; 2]>| -> Option<u64> {
        words.next().filter(|word| word.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
    };
    let day = number(&mut words)?;
    let month = words.next().filter(|name| name.len() == 3)?;
    let month = MONTHS.find(month).filter(|at| at % 3 == 0)? as u64 / 3;
    let year = number(&mut words)?;
    let (hour, minute, second) = (number(&mut words)?, number(&mut words)?, number(&mut words)?);
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) || words.next().is_some() {
        return None;
    }
    // Years that begin in March, so that a leap day is the last one.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    // 719,469 is the first of January 1970 in this count.
    Some((days.checked_sub(719_469)? * 24 + hour) * 3600 + minute * 60 + second)
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
fn retry_pause(failures: u32) -> Duration {
    REGISTRY_RETRY_MIN.saturating_mul(1 << failures.min(16)).min(REGISTRY_RETRY_MAX)
}

/// The pause after a failure: at least what the server asks for, within a bound.
pub(super) fn pause_after(e: &PullError, failures: u32) -> Duration {
    retry_pause(failures).max(e.pause().min(RETRY_AFTER_MAX))
}

/// Whether a `Content-Range` is of a part that begins where the last one ended (RFC 9110 §14.4).
#[must_use]
pub fn continues(range: &str, from: u64, size: u64) -> bool {
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
    fn dates_of_http_are_read() {
        for (text, want) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Tue, 29 Feb 2000 23:59:59 GMT", Some(951_868_799)),
            ("Tue, 01 Dec 2026 02:00:00 GMT", Some(1_796_090_400)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("Sun, 06 anF 1994 08:49:37 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 UTC", None),
            ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", None),
            ("120", None),
            ("", None),
        ] {
            assert_eq!(http_date(text), want, "{text}");
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
