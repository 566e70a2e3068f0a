//! Credentials as swarm hands them out or a file has them, and the challenges of registries.
//!
//! `registry` decides where a credential may go. Sources: moby `api/types/registry/authconfig.go`;
//! docker/cli `cli/config/configfile/file.go`; RFC 9110 §11; distribution
//! `docs/spec/auth/token.md`.

use std::{
    collections::BTreeMap, fs::File, io::Read as _, os::unix::fs::MetadataExt as _, path::Path,
};

use http_auth::ChallengeParser;
use serde::Deserialize;
use zeroize::Zeroize;

use super::{pull::PullError, reference::DOCKER_HUB};
use crate::limits::AUTH_FILE_MAX_BYTES;

/// What a user may show a registry. Empty fields mean nothing.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    username: String,
    password: String,
    pub(super) identitytoken: String,
    pub(super) registrytoken: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthConfig {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// Docker's `config.json`, as far as it is about credentials.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, AuthConfig>,
    #[serde(default)]
    creds_store: String,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.password.zeroize();
        self.identitytoken.zeroize();
        self.registrytoken.zeroize();
    }
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("<credentials>")
    }
}

impl Credentials {
    /// Reads the base64url JSON of `pull_options.registry_auth`. Undecodable ones are none, as in
    /// dockerd, with a warning.
    pub(super) fn read(encoded: &[u8]) -> Self {
        if encoded.is_empty() {
            return Self::default();
        }
        let json = zeroize::Zeroizing::new(base64_decode(encoded).unwrap_or_default());
        let Ok(config) = serde_json::from_slice::<AuthConfig>(&json) else {
            log::warn!("registry credentials are malformed, pulling without them");
            return Self::default();
        };
        Self::of(config)
    }

    /// What a file in the form of Docker's `config.json` has for `host[:port]`; none when there is
    /// no file.
    ///
    /// # Errors
    /// [`PullError::AuthFile`] when it can not be used, or wants a credential helper asked.
    pub(super) fn from_file(path: &Path, domain: &str) -> Result<Self, PullError> {
        let fault = |why: String| PullError::AuthFile { path: path.to_owned(), why };
        let mut json = zeroize::Zeroizing::new(Vec::new());
        let read = File::open(path).and_then(|file| {
            if file.metadata().is_ok_and(|data| data.mode() & 0o077 != 0) {
                log::warn!(
                    "registry-auth-file {} can be read by others than root: chmod 600 it",
                    path.display()
                );
            }
            file.take(AUTH_FILE_MAX_BYTES + 1).read_to_end(&mut json)
        });
        match read {
            Ok(_) if AUTH_FILE_MAX_BYTES < json.len() as u64 => {
                return Err(fault(format!("it is larger than {AUTH_FILE_MAX_BYTES} bytes")));
            }
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(fault(e.to_string())),
        }
        Self::in_file(&json, domain).map_err(fault)
    }

    fn in_file(json: &[u8], domain: &str) -> Result<Self, String> {
        let file: AuthFile = serde_json::from_slice(json)
            .map_err(|e| format!("it is not Docker's config.json: {e}"))?;
        let helped = |helper: &str| {
            format!(
                "it leaves the credentials of {domain} to the helper docker-credential-{helper}, \
                 and helpers are not run here: log in without one, so that the file has an \"auth\""
            )
        };
        let mine = |key: &str| names(key, domain);
        if let Some((_, helper)) = file.cred_helpers.iter().find(|(key, _)| mine(key)) {
            return Err(helped(helper));
        }
        match file.auths.into_iter().find(|(key, _)| mine(key)) {
            None => Ok(Self::default()),
            Some((_, config)) => {
                let credentials = Self::of(config);
                // A login through a store leaves an empty entry behind.
                if credentials.is_empty() && !file.creds_store.is_empty() {
                    return Err(helped(&file.creds_store));
                }
                Ok(credentials)
            }
        }
    }

    /// Whether there is nothing to show.
    pub(super) const fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identitytoken.is_empty() && self.registrytoken.is_empty()
    }

    fn of(config: AuthConfig) -> Self {
        let auth = zeroize::Zeroizing::new(config.auth);
        let mut credentials = Self {
            username: config.username,
            password: config.password,
            identitytoken: config.identitytoken,
            registrytoken: config.registrytoken,
        };
        if credentials.username.is_empty() {
            let pair = base64_decode(auth.as_bytes())
                .and_then(|pair| String::from_utf8(pair).ok())
                .map(zeroize::Zeroizing::new);
            if let Some((user, password)) = pair.as_ref().and_then(|pair| pair.split_once(':')) {
                credentials.username = user.to_owned();
                credentials.password = password.trim_end_matches('\0').to_owned();
            }
        }
        credentials
    }

    /// The value of a Basic authorization header; none without a user name.
    pub(super) fn basic(&self) -> Option<zeroize::Zeroizing<String>> {
        (!self.username.is_empty()).then(|| {
            let pair = zeroize::Zeroizing::new(format!("{}:{}", self.username, self.password));
            zeroize::Zeroizing::new(format!("Basic {}", base64_encode(pair.as_bytes())))
        })
    }
}

/// Whether a key of `auths` is the registry `domain`. Docker Hub has names of its own, and old
/// files have URLs (docker/cli `cli/config/credentials/file_store.go`, `ConvertToHostname`).
fn names(key: &str, domain: &str) -> bool {
    let host = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    host == domain
        || (domain == DOCKER_HUB && matches!(host, "index.docker.io" | "registry-1.docker.io"))
}

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password.
    Basic,
    /// A token of a token server.
    Bearer {
        /// The token server's URL.
        realm: String,
        /// How it knows the registry; may be empty.
        service: String,
        /// What the token should be good for; empty: we know best.
        scope: String,
    },
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header, which may hold several (RFC 9110 §11.6.1). Schemes that
    /// are not known or make no sense are left out.
    pub(super) fn parse(header: &str) -> Vec<Self> {
        let mut known = Vec::new();
        for text in one_by_one(header) {
            let Some(Ok(challenge)) = ChallengeParser::new(&text).next() else { continue };
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                known.push(Self::Basic);
            } else if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let value = |name: &str| {
                    let mut named =
                        challenge.params.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
                    named.next().map(|(_, value)| value.to_unescaped()).unwrap_or_default()
                };
                let realm = value("realm");
                if !realm.is_empty() {
                    known.push(Self::Bearer {
                        realm,
                        service: value("service"),
                        scope: value("scope"),
                    });
                }
            }
        }
        known
    }
}

/// The token servers that a `WWW-Authenticate` header names, and whether a password will do.
#[must_use]
pub fn realms(header: &str) -> (Vec<String>, bool) {
    let (mut realms, mut basic) = (Vec::new(), false);
    for challenge in Challenge::parse(header) {
        match challenge {
            Challenge::Basic => basic = true,
            Challenge::Bearer { realm, .. } => realms.push(realm),
        }
    }
    (realms, basic)
}

/// Whether a file in the form of Docker's `config.json` has credentials for `host[:port]`.
///
/// # Errors
/// Why it cannot be used, in words that hold nothing of the file but the name of a helper.
pub fn credential_file(json: &[u8], domain: &str) -> Result<bool, String> {
    Credentials::in_file(json, domain).map(|found| !found.is_empty())
}

/// The challenges of a header, each as text that the parser takes. It gives up at what is no
/// challenge by the letter of RFC 9110, and registries are not so strict: values with colons and
/// slashes stand without quotes, spaces are doubled, and other schemes bring data (`token68`) that
/// is not looked at here. One that makes no sense must not cost us the next one.
fn one_by_one(header: &str) -> Vec<String> {
    let mut challenges: Vec<String> = Vec::new();
    for element in elements(header) {
        if let Some(parameter) = parameter(element) {
            if let Some(last) = challenges.last_mut() {
                last.push_str(if last.contains(' ') { ", " } else { " " });
                last.push_str(&parameter);
            }
            continue;
        }
        let (scheme, rest) = element.split_once([' ', '\t']).unwrap_or((element, ""));
        let first = parameter(rest.trim()).map(|parameter| format!(" {parameter}"));
        challenges.push(format!("{scheme}{}", first.unwrap_or_default()));
    }
    challenges
}

/// The elements of a list: commas within quotes do not count (RFC 9110 §5.6.1, §5.6.4).
fn elements(header: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let list = header.split(move |c: char| {
        let ends = c == ',' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        ends
    });
    list.map(str::trim).filter(|element| !element.is_empty())
}

/// `name=value` in the strictest form; none for what is no parameter.
fn parameter(text: &str) -> Option<String> {
    let (name, value) = text.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() || !name.bytes().all(is_token_byte) || value.trim_matches('=').is_empty() {
        return None;
    }
    if value.starts_with('"') || value.bytes().all(is_token_byte) {
        return Some(format!("{name}={value}"));
    }
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    Some(format!("{name}=\"{escaped}\""))
}

/// RFC 9110 §5.6.2.
const fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Percent-encodes all but unreserved characters (RFC 3986 §2.3).
pub(super) fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
        out
    })
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().chain([0, 0].iter()).take(3).fold(0, |n, b| n << 8 | usize::from(*b));
        for i in 0..4 {
            let symbol = ALPHABET.get(group >> (18 - 6 * i) & 63).copied().unwrap_or(b'=');
            out.push(if i <= chunk.len() { char::from(symbol) } else { '=' });
        }
    }
    out
}

/// Both alphabets, with or without padding.
fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let end = text.iter().rposition(|b| *b != b'=').map_or(0, |last| last + 1);
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.get(..end)?.chunks(4) {
        if chunk.len() == 1 {
            return None;
        }
        let mut group = 0_u32;
        for b in chunk {
            let value = match b {
                b'A'..=b'Z' => b - b'A',
                b'a'..=b'z' => b - b'a' + 26,
                b'0'..=b'9' => b - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            group = group << 6 | u32::from(value);
        }
        let [_, bytes @ ..] = (group << (6 * (4 - chunk.len()))).to_be_bytes();
        out.extend_from_slice(bytes.get(..chunk.len() - 1)?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64_encode(plain.as_bytes()), coded);
            assert_eq!(base64_decode(coded.as_bytes()).unwrap(), plain.as_bytes());
        }
        assert_eq!(base64_decode(b"-_8"), base64_decode(b"+/8="));
        assert_eq!(base64_decode(b"a"), None);
        assert_eq!(base64_decode(b"a b="), None);
    }

    #[test]
    fn credentials_come_as_pair_or_as_auth() {
        let read = |json: &str| Credentials::read(base64_encode(json.as_bytes()).as_bytes());
        let pair = read(r#"{"username":"u","password":"p:q","serveraddress":"x"}"#);
        let auth = read(&format!(r#"{{"auth":"{}"}}"#, base64_encode(b"u:p:q")));
        for credentials in [&pair, &auth] {
            assert_eq!(credentials.basic().unwrap().as_str(), "Basic dTpwOnE=");
        }
        assert_eq!(read(r#"{"identitytoken":"t"}"#).identitytoken, "t");
        for bad in [&b""[..], b"!!", b"e30"] {
            assert!(Credentials::read(bad).basic().is_none());
        }
        assert_eq!(format!("{pair:?}"), "<credentials>");
    }

    #[test]
    fn a_file_has_credentials_by_registry() {
        let file = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{}"}},
            "reg:5000":{{"auth":"{}"}},"tok":{{"identitytoken":"t"}},"stored":{{}}}},
            "credsStore":"pass","credHelpers":{{"helped:1":"ecr-login"}},"other":1}}"#,
            base64_encode(b"hub:1"),
            base64_encode(b"reg:2")
        );
        let user = |domain: &str| {
            Credentials::in_file(file.as_bytes(), domain).map(|found| found.username.clone())
        };
        assert_eq!(user("docker.io").unwrap(), "hub");
        assert_eq!(user("reg:5000").unwrap(), "reg");
        assert_eq!(user("reg").unwrap(), "");
        assert_eq!(user("reg:50000").unwrap(), "");
        assert_eq!(Credentials::in_file(file.as_bytes(), "tok").unwrap().identitytoken, "t");
        for (domain, helper) in [("stored", "pass"), ("helped:1", "ecr-login")] {
            let why = user(domain).unwrap_err();
            assert!(why.contains(&format!("docker-credential-{helper}")), "{why}");
        }
        assert!(Credentials::in_file(b"7", "reg").is_err());
        assert!(Credentials::from_file(Path::new("/nonexistent"), "reg").unwrap().is_empty());
    }

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: &str, scope: &str| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.to_owned(),
            scope: scope.to_owned(),
        };
        let token = bearer("https://a/t", "s", "");
        let query = bearer("https://a/t?x=y", "s", "");
        for (header, want) in [
            (r#"Basic realm="x""#, vec![Challenge::Basic]),
            (r#"basic"#, vec![Challenge::Basic]),
            (
                r#"Bearer realm="https://a/t",service="r.d",scope="repository:a,b:pull""#,
                vec![bearer("https://a/t", "r.d", "repository:a,b:pull")],
            ),
            (r#"BEARER Service=s, realm="https://a/t""#, vec![token.clone()]),
            (r#"Bearer realm="https://a/t" , service=s"#, vec![token.clone()]),
            (r#"Bearer realm=https://a/t,service=s"#, vec![token.clone()]),
            (r#"Bearer   realm = "https://a/t" ,, service = "s","#, vec![token.clone()]),
            (r#"Bearer realm="https:\/\/a\/t",service=s"#, vec![token.clone()]),
            (
                r#"Negotiate YII+/x==, Bearer realm="https://a/t",service=s, NTLM"#,
                vec![token.clone()],
            ),
            (
                r#"Digest realm="x, \"y", Bearer realm="https://a/t",service="s""#,
                vec![token.clone()],
            ),
            (r#"Broken ;;; , Basic realm="x""#, vec![Challenge::Basic]),
            (r#"Basic, Bearer realm=https://a/t?x=y, service=s"#, vec![Challenge::Basic, query]),
            (
                r#"Basic realm="x", Bearer realm="https://a/t",service="s""#,
                vec![Challenge::Basic, token.clone()],
            ),
            (
                r#"Bearer realm="https://a/t",service="s", Basic realm="x""#,
                vec![token.clone(), Challenge::Basic],
            ),
            (
                r#"Negotiate, Digest realm="a, b", nonce="c", Bearer realm="https://a/t",service=s"#,
                vec![token],
            ),
            (
                r#"Bearer realm="https://a/\"t\"",service="a\\b""#,
                vec![bearer("https://a/\"t\"", "a\\b", "")],
            ),
            (r#"Bearer service="x""#, vec![]),
            (r#"Bearer realm="x"#, vec![]),
            ("Negotiate", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(Challenge::parse(header), want, "{header}");
        }
    }
}
