//! Image references as Docker writes them: `busybox`, `host:5000/a/b:tag@sha256:…`, `sha256:…`.
//!
//! It only reads and normalises text; whether such an image exists is for the store and the
//! registry to say. Rules: distribution `reference/{regexp,normalize}.go`.

use core::{fmt, str::FromStr};

use super::digest::{Digest, DigestError};
use crate::limits::{IMAGE_NAME_MAX_BYTES, IMAGE_TAG_MAX_BYTES};

/// The registry that a name without a host means.
pub const DOCKER_HUB: &str = "docker.io";

/// A normalised image reference.
///
/// A digest decides identity: with one, the tag is only remembered for display.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference(Kind);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Named { domain: String, path: String, tag: Option<String>, digest: Option<Digest> },
    Id(Digest),
}

/// Why a text is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReferenceError {
    /// Nothing was given.
    Empty,
    /// Host and path together exceed [`IMAGE_NAME_MAX_BYTES`].
    TooLong {
        /// Their length in bytes.
        bytes: usize,
    },
    /// The repository holds capital letters.
    UpperCase,
    /// The host part is not `host[:port]`.
    BadHost,
    /// The repository path breaks the rules.
    BadPath,
    /// The tag breaks the rules.
    BadTag,
    /// The part after `@` is not a digest.
    BadDigest(DigestError),
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("image reference is empty; write name[:tag][@digest]"),
            Self::TooLong { bytes } => {
                write!(
                    f,
                    "image name has {bytes} bytes, at most {IMAGE_NAME_MAX_BYTES} are allowed"
                )
            }
            Self::UpperCase => {
                f.write_str("invalid reference format: repository name must be lowercase")
            }
            Self::BadHost => f.write_str("invalid reference format: bad registry host"),
            Self::BadPath => f.write_str("invalid reference format: bad repository name"),
            Self::BadTag => f.write_str("invalid reference format: bad tag"),
            Self::BadDigest(_) => f.write_str("invalid reference format: bad digest"),
        }
    }
}

impl core::error::Error for ReferenceError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::BadDigest(cause) => Some(cause),
            Self::Empty
            | Self::TooLong { .. }
            | Self::UpperCase
            | Self::BadHost
            | Self::BadPath
            | Self::BadTag => None,
        }
    }
}

impl Reference {
    /// Reads and normalises a reference. Sixty-four hexadecimal characters, with or without
    /// `sha256:`, are an image id.
    ///
    /// # Errors
    /// [`ReferenceError`] says which part breaks the rules.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if let Ok(id) = Digest::parse(text).or_else(|_| Digest::parse(&format!("sha256:{text}"))) {
            return Ok(Self(Kind::Id(id)));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(Digest::parse(digest).map_err(ReferenceError::BadDigest)?))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            Some(_) | None => (rest, None),
        };
        let (domain, path) = split_domain(name);
        check_domain(&domain)?;
        check_path(&path)?;
        let bytes = domain.len() + 1 + path.len();
        if IMAGE_NAME_MAX_BYTES < bytes {
            return Err(ReferenceError::TooLong { bytes });
        }
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self(Kind::Named { domain, path, tag, digest }))
    }

    /// The registry, `docker.io` or `host[:port]`; none for an image id.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        match &self.0 {
            Kind::Named { domain, .. } => Some(domain),
            Kind::Id(_) => None,
        }
    }

    /// The repository within the registry, such as `library/busybox`; none for an image id.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match &self.0 {
            Kind::Named { path, .. } => Some(path),
            Kind::Id(_) => None,
        }
    }

    /// The tag; `latest` was filled in when there was neither tag nor digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match &self.0 {
            Kind::Named { tag, .. } => tag.as_deref(),
            Kind::Id(_) => None,
        }
    }

    /// The manifest digest that the name is pinned to.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        match &self.0 {
            Kind::Named { digest, .. } => digest.as_ref(),
            Kind::Id(_) => None,
        }
    }

    /// The image id, when this is one. Such an image is never pulled.
    #[must_use]
    pub const fn image_id(&self) -> Option<&Digest> {
        match &self.0 {
            Kind::Id(id) => Some(id),
            Kind::Named { .. } => None,
        }
    }

    /// What decides identity: `domain/path@digest`, else `domain/path:tag`, else the image id.
    #[must_use]
    pub fn canonical(&self) -> String {
        match &self.0 {
            Kind::Id(id) => id.to_string(),
            Kind::Named { domain, path, digest: Some(digest), .. } => {
                format!("{domain}/{path}@{digest}")
            }
            Kind::Named { domain, path, tag, digest: None } => {
                format!("{domain}/{path}:{}", tag.as_deref().unwrap_or("latest"))
            }
        }
    }
}

impl fmt::Display for Reference {
    /// Writes the form that people type: without `docker.io/` and `library/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Id(id) => write!(f, "{id}"),
            Kind::Named { domain, path, tag, digest } => {
                if domain == DOCKER_HUB {
                    f.write_str(familiar(path))?;
                } else {
                    write!(f, "{domain}/{path}")?;
                }
                if let Some(tag) = tag {
                    write!(f, ":{tag}")?;
                }
                if let Some(digest) = digest {
                    write!(f, "@{digest}")?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

/// `library/busybox` is shown as `busybox`, unless that would read as something else.
fn familiar(path: &str) -> &str {
    match path.strip_prefix("library/") {
        Some(short) if !short.contains('/') => short,
        Some(_) | None => path,
    }
}

fn split_domain(name: &str) -> (String, String) {
    let hub = |path: &str| {
        let path = if path.contains('/') { path.to_owned() } else { format!("library/{path}") };
        (DOCKER_HUB.to_owned(), path)
    };
    match name.split_once('/') {
        Some((first, rest)) if first == DOCKER_HUB || first == "index.docker.io" => hub(rest),
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first.to_owned(), rest.to_owned())
        }
        Some(_) | None => hub(name),
    }
}

fn check_domain(domain: &str) -> Result<(), ReferenceError> {
    let (host, port) = if domain.starts_with('[') {
        match domain.split_once(']') {
            Some((host, rest)) => {
                (host, rest.strip_prefix(':').or_else(|| (!rest.is_empty()).then_some("-")))
            }
            None => return Err(ReferenceError::BadHost),
        }
    } else {
        match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        }
    };
    let port_ok = port.is_none_or(|port| port.parse::<u16>().is_ok() && !port.starts_with('+'));
    let host_ok = match host.strip_prefix('[') {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            !label.is_empty()
                && label.bytes().all(ok)
                && !label.starts_with('-')
                && !label.ends_with('-')
        }),
    };
    if port_ok && host_ok { Ok(()) } else { Err(ReferenceError::BadHost) }
}

fn check_path(path: &str) -> Result<(), ReferenceError> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase);
    }
    if path.split('/').all(is_path_component) { Ok(()) } else { Err(ReferenceError::BadPath) }
}

/// Runs of letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separators_ok = text
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|run| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|b| b == b'-'));
    separators_ok
        && text.bytes().next().is_some_and(alnum)
        && text.bytes().next_back().is_some_and(alnum)
}

fn check_tag(tag: &str) -> Result<(), ReferenceError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = tag.len() <= IMAGE_TAG_MAX_BYTES
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if ok { Ok(()) } else { Err(ReferenceError::BadTag) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_reference_is_normalised_like_docker_does() {
        let pinned = format!("docker.io/library/busybox@{D}");
        let table: &[(&str, &str, &str)] = &[
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("localhost:5000/a:b", "localhost:5000/a:b", "localhost:5000/a:b"),
            ("10.0.0.1:5000/a/b", "10.0.0.1:5000/a/b:latest", "10.0.0.1:5000/a/b:latest"),
            ("[::1]:5000/a:x", "[::1]:5000/a:x", "[::1]:5000/a:x"),
            ("Host/a", "Host/a:latest", "Host/a:latest"),
            ("a__b/c-d.e--f:T.1-x_", "docker.io/a__b/c-d.e--f:T.1-x_", "a__b/c-d.e--f:T.1-x_"),
            ("gcr.io/x", "gcr.io/x:latest", "gcr.io/x:latest"),
            (&format!("busybox:1@{D}"), &pinned, &format!("busybox:1@{D}")),
            (&format!("busybox@{D}"), &pinned, &format!("busybox@{D}")),
            (D, D, D),
            (&D[7..], D, D),
        ];
        for (text, canonical, display) in table {
            let r = Reference::parse(text).unwrap();
            assert_eq!(r.canonical(), *canonical, "{text}");
            assert_eq!(r.to_string(), *display, "{text}");
            assert_eq!(Reference::parse(&r.to_string()).unwrap(), r, "{text} round trip");
        }
    }

    #[test]
    fn a_reference_may_be_pinned_by_sha512() {
        let long = format!("sha512:{}", "ab".repeat(64));
        let named = Reference::parse(&format!("a:1@{long}")).unwrap();
        assert_eq!(named.canonical(), format!("docker.io/library/a@{long}"));
        assert_eq!(Reference::parse(&long).unwrap().to_string(), long);
        assert!(Reference::parse(&format!("a@sha512:{}", "ab".repeat(32))).is_err());
    }

    #[test]
    fn a_bad_reference_is_refused_with_the_part_that_is_wrong() {
        use ReferenceError as E;
        let long = format!("{}/a", "a".repeat(300));
        for (text, want) in [
            ("", E::Empty),
            ("Busybox", E::UpperCase),
            ("a/Bb", E::UpperCase),
            ("a//b", E::BadPath),
            ("/a", E::BadPath),
            ("a/", E::BadPath),
            ("a..b", E::BadPath),
            ("a___b", E::BadPath),
            ("-a", E::BadPath),
            ("../../etc", E::BadHost),
            ("a/../b", E::BadPath),
            ("h:99999/a", E::BadHost),
            ("h:/a", E::BadHost),
            ("[::g]:1/a", E::BadHost),
            ("[::1]x/a", E::BadHost),
            ("a:", E::BadTag),
            ("a:-x", E::BadTag),
            ("a:b c", E::BadTag),
            ("a b", E::BadPath),
            ("a\n", E::BadPath),
            ("ä", E::BadPath),
        ] {
            assert_eq!(Reference::parse(text), Err(want), "{text:?}");
        }
        assert!(matches!(Reference::parse(&long), Err(E::TooLong { .. })));
        assert!(matches!(Reference::parse("a@sha256:12"), Err(E::BadDigest(_))));
        assert!(matches!(Reference::parse("a@md5:12"), Err(E::BadDigest(_))));
    }
}
