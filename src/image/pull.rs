//! Why an image could not be fetched, in words that help a reader of `docker service ps`.
//!
//! One error for pull and load alike: their readers and remedies are the same.

use core::fmt;
use std::{io, path::PathBuf, time::Duration};

use super::{
    digest::Digest, http::may_pass, layer::LayerError, manifest::ManifestError,
    protocol::FetchFailure, reference::ReferenceError, store::StoreError,
};
use crate::model::chain;

/// Why an image was not fetched.
#[derive(Debug)]
pub(super) enum PullError {
    /// The name is malformed.
    Reference(ReferenceError),
    /// The registry has no such image, or there is none to pull by id.
    NotFound {
        /// The reference.
        image: String,
    },
    /// The registry wants other credentials.
    Denied {
        /// The reference.
        image: String,
        /// `host[:port]`.
        registry: String,
        /// Where credentials may be put.
        file: PathBuf,
    },
    /// The file with credentials can not be used.
    AuthFile {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The registry shows a certificate that is not accepted.
    Certificate {
        /// `host[:port]`.
        registry: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// No connection.
    Refused {
        /// `host[:port]`.
        registry: String,
    },
    /// No answer, or the connection broke.
    Unreachable {
        /// `host[:port]`.
        registry: String,
        /// What went wrong.
        source: io::Error,
    },
    /// A layer broke off, again and again.
    Broken {
        /// `host[:port]`.
        registry: String,
        /// What went wrong at last.
        source: io::Error,
    },
    /// Another part of a blob than was asked for.
    Range {
        /// `host[:port]`.
        registry: String,
    },
    /// A blob of another length than its manifest says.
    Length {
        /// The blob.
        digest: Digest,
        /// Bytes that it must have.
        size: u64,
    },
    /// An answer that means nothing here.
    Answer {
        /// `host[:port]`.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// How long it wants to be left alone (`Retry-After`), zero when it does not say.
        pause: Duration,
    },
    /// Where a registry sent us on to does not give what it should. Only the registry itself may
    /// ask for a login, so that of another is never answered with one.
    Elsewhere {
        /// `host[:port]` of the registry.
        registry: String,
        /// `host[:port]` that it leads to.
        place: String,
        /// The HTTP status.
        status: u16,
        /// How long it wants to be left alone, zero when it does not say.
        pause: Duration,
    },
    /// Content in an encoding that nobody asked for and that is not read here.
    Coding {
        /// `host[:port]`.
        registry: String,
        /// Its name, at most some characters of it.
        coding: String,
    },
    /// The token server gives no token in a form that is understood.
    NoToken {
        /// `host[:port]`.
        registry: String,
        /// `host[:port]` of the token server.
        server: String,
        /// The HTTP status; 200 when only the form is wrong.
        status: u16,
        /// How long it wants to be left alone, zero when it does not say.
        pause: Duration,
    },
    /// A redirect or a token server that must not be followed.
    Unsafe {
        /// `host[:port]`.
        registry: String,
        /// Where it leads, at most some characters of it.
        place: String,
    },
    /// Content that does not match its digest.
    Digest {
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A manifest, index or configuration.
    Manifest(ManifestError),
    /// A layer's content.
    Layer(LayerError),
    /// The archive can not be read.
    Archive {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The archive is of neither known kind, or lacks a part.
    NoImage {
        /// What is missing.
        missing: String,
    },
    /// The local store.
    Store(StoreError),
    /// A CA file that can not be used.
    CaFile {
        /// Which.
        path: PathBuf,
    },
}

impl PullError {
    /// What helps.
    pub(super) fn kind(&self) -> FetchFailure {
        match self {
            Self::NotFound { .. } => FetchFailure::NotFound,
            Self::Denied { .. } | Self::AuthFile { .. } => FetchFailure::Denied,
            Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Certificate { .. }
            | Self::Broken { .. }
            | Self::Range { .. }
            | Self::Answer { .. }
            | Self::Elsewhere { .. }
            | Self::Coding { .. }
            | Self::NoToken { .. }
            | Self::Unsafe { .. } => FetchFailure::Unreachable,
            Self::Manifest(ManifestError::Platform { .. }) => FetchFailure::WrongPlatform,
            Self::Layer(cause) if cause.is_of_storage() => FetchFailure::Storage,
            Self::Store(_) | Self::CaFile { .. } => FetchFailure::Storage,
            Self::Reference(_)
            | Self::Digest { .. }
            | Self::Length { .. }
            | Self::Manifest(_)
            | Self::Layer(_)
            | Self::Archive { .. }
            | Self::NoImage { .. } => FetchFailure::Invalid,
        }
    }

    /// Whether the same request may well succeed a little later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } | Self::Broken { source, .. } => may_pass(source),
            Self::Refused { .. } => true,
            Self::Answer { status, .. }
            | Self::Elsewhere { status, .. }
            | Self::NoToken { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Reference(_)
            | Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::AuthFile { .. }
            | Self::Certificate { .. }
            | Self::Range { .. }
            | Self::Length { .. }
            | Self::Coding { .. }
            | Self::Unsafe { .. }
            | Self::Digest { .. }
            | Self::Manifest(_)
            | Self::Layer(_)
            | Self::Archive { .. }
            | Self::NoImage { .. }
            | Self::Store(_)
            | Self::CaFile { .. } => false,
        }
    }

    /// How long the registry wants to be left alone.
    pub(super) const fn pause(&self) -> Duration {
        if let Self::Answer { pause, .. }
        | Self::Elsewhere { pause, .. }
        | Self::NoToken { pause, .. } = self
        {
            *pause
        } else {
            Duration::ZERO
        }
    }

    /// The whole chain of causes on one line.
    pub(super) fn chain(&self) -> String {
        chain(self)
    }
}

impl fmt::Display for PullError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(_) => f.write_str("image name is not valid"),
            Self::NotFound { image } => write!(f, "No such image: {image} (manifest unknown)"),
            Self::Denied { image, registry, file } => write!(
                f,
                "registry {registry} denies access to {image}; give credentials with \
                 --with-registry-auth or in {}, or check that the image exists",
                file.display()
            ),
            Self::AuthFile { path, why } => {
                write!(f, "registry-auth-file {} can not be used: {why}", path.display())
            }
            Self::Certificate { registry, .. } => write!(
                f,
                "registry {registry} shows a certificate that is not trusted; name its CA in \
                 registry-ca"
            ),
            Self::Refused { registry } => write!(f, "registry {registry}: connection refused"),
            Self::Unreachable { registry, .. } => write!(f, "registry {registry}"),
            Self::Broken { registry, .. } => {
                write!(f, "registry {registry}: connection broke within a layer; what came is kept")
            }
            Self::Range { registry } => {
                write!(f, "registry {registry} sends another part of a layer than was asked for")
            }
            Self::Length { digest, size } => {
                write!(
                    f,
                    "image content is damaged: {digest} has not the {size} bytes it must have"
                )
            }
            Self::Answer { registry, status, .. } => {
                write!(f, "registry {registry} answers with HTTP status {status}")
            }
            Self::Elsewhere { registry, place, status, .. } => {
                write!(
                    f,
                    "registry {registry} leads to {place}, which answers with HTTP status {status}"
                )?;
                if matches!(status, 401 | 403) {
                    f.write_str(": the address that the registry gives has expired or is wrong")?;
                }
                Ok(())
            }
            Self::Coding { registry, coding } => write!(
                f,
                "registry {registry} sends content in the encoding {coding:?}, which it was not \
                 asked for; have its server or proxy send content as it is"
            ),
            Self::NoToken { registry, server, status: 200, .. } => write!(
                f,
                "registry {registry} wants a token of {server}, which answers without one"
            ),
            Self::NoToken { registry, server, status, .. } => write!(
                f,
                "registry {registry} wants a token of {server}, which answers with HTTP status \
                 {status}"
            ),
            Self::Unsafe { registry, place } => {
                write!(f, "registry {registry} leads to {place:?}, which is not safe to follow")
            }
            Self::Digest { expected, found } => {
                write!(f, "image content is damaged: {expected} was expected, {found} came")
            }
            Self::Manifest(cause) => cause.fmt(f),
            Self::Layer(cause) => cause.fmt(f),
            Self::Store(cause) => cause.fmt(f),
            Self::Archive { path, .. } => {
                write!(f, "image archive can not be read: {}", path.display())
            }
            Self::NoImage { missing } => {
                write!(f, "archive is no docker or OCI image archive: it lacks {missing}")
            }
            Self::CaFile { path } => {
                write!(f, "CA file {} has no certificate in PEM form", path.display())
            }
        }
    }
}

impl core::error::Error for PullError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Reference(cause) => Some(cause),
            Self::Unreachable { source, .. } | Self::Certificate { source, .. } => Some(source),
            Self::Broken { source, .. } => Some(source),
            Self::Archive { source, .. } => Some(source),
            Self::Manifest(cause) => cause.source(),
            Self::Layer(cause) => cause.source(),
            Self::Store(cause) => cause.source(),
            Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::AuthFile { .. }
            | Self::Refused { .. }
            | Self::Range { .. }
            | Self::Length { .. }
            | Self::Answer { .. }
            | Self::Elsewhere { .. }
            | Self::Coding { .. }
            | Self::NoToken { .. }
            | Self::Unsafe { .. }
            | Self::Digest { .. }
            | Self::NoImage { .. }
            | Self::CaFile { .. } => None,
        }
    }
}
