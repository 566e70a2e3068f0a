//! Why an image could not be fetched, in words that help a reader of `docker service ps`.
//!
//! One error for pull and load alike: their readers and remedies are the same.

use core::fmt;
use std::{io, path::PathBuf};

use super::{
    digest::Digest, layer::LayerError, manifest::ManifestError, protocol::FetchFailure,
    reference::ReferenceError, store::StoreError,
};

/// Why an image was not fetched.
#[derive(Debug)]
pub enum PullError {
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
        source: Box<ureq::Error>,
    },
    /// A layer broke off.
    Broken {
        /// `host[:port]`.
        registry: String,
        /// What went wrong.
        source: LayerError,
    },
    /// An answer that means nothing here.
    Answer {
        /// `host[:port]`.
        registry: String,
        /// The HTTP status.
        status: u16,
    },
    /// A redirect or a token server that must not be followed.
    Unsafe {
        /// `host[:port]`.
        registry: String,
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
    pub(super) const fn kind(&self) -> FetchFailure {
        match self {
            Self::NotFound { .. } => FetchFailure::NotFound,
            Self::Denied { .. } => FetchFailure::Denied,
            Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Answer { .. }
            | Self::Unsafe { .. } => FetchFailure::Unreachable,
            Self::Manifest(ManifestError::Platform { .. }) => FetchFailure::WrongPlatform,
            Self::Layer(LayerError::Entry { .. }) | Self::Store(_) | Self::CaFile { .. } => {
                FetchFailure::Storage
            }
            Self::Reference(_)
            | Self::Digest { .. }
            | Self::Manifest(_)
            | Self::Layer(_)
            | Self::Archive { .. }
            | Self::NoImage { .. } => FetchFailure::Invalid,
        }
    }

    /// The whole chain of causes on one line.
    pub(super) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = core::error::Error::source(self);
        while let Some(e) = cause {
            text.push_str(": ");
            text.push_str(&e.to_string());
            cause = e.source();
        }
        text
    }
}

impl fmt::Display for PullError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(_) => f.write_str("image name is not valid"),
            Self::NotFound { image } => write!(f, "No such image: {image} (manifest unknown)"),
            Self::Denied { image, registry } => write!(
                f,
                "registry {registry} denies access to {image}; give credentials with \
                 --with-registry-auth, or check that the image exists"
            ),
            Self::Refused { registry } => write!(f, "registry {registry}: connection refused"),
            Self::Unreachable { registry, .. } => write!(f, "registry {registry}"),
            Self::Broken { registry, .. } => {
                write!(f, "registry {registry}: connection broke within a layer")
            }
            Self::Answer { registry, status } => {
                write!(f, "registry {registry} answers with HTTP status {status}")
            }
            Self::Unsafe { registry } => {
                write!(f, "registry {registry} redirects to a place that is not safe to follow")
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
            Self::Unreachable { source, .. } => Some(source),
            Self::Broken { source, .. } => Some(source),
            Self::Archive { source, .. } => Some(source),
            Self::Manifest(cause) => cause.source(),
            Self::Layer(cause) => cause.source(),
            Self::Store(cause) => cause.source(),
            Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::Refused { .. }
            | Self::Answer { .. }
            | Self::Unsafe { .. }
            | Self::Digest { .. }
            | Self::NoImage { .. }
            | Self::CaFile { .. } => None,
        }
    }
}
