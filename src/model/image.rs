//! What is known of an image.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::limits::{IMAGE_DEFAULT_MAX_AGE, IMAGE_DEFAULT_MIN_FREE_BYTES};

/// Operating system, architecture and variant in OCI spelling: `linux`, `arm`, `v7`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// GOARCH spelling: `amd64`, `arm64`, `arm`, `riscv64`.
    pub architecture: String,
    /// `v6`, `v7`, `v8` or empty.
    pub variant: String,
}

/// What `agent.json` says of the image store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSettings {
    /// `additional-image-stores`: read-only stores, or OCI layouts.
    pub additional_stores: Vec<PathBuf>,
    /// `image-max-age`: pulled images not used for so long are removed; absent: never.
    pub max_age: Option<Duration>,
    /// `image-min-free`: with less free bytes beside them, unused pulled images are removed.
    pub min_free_bytes: u64,
    /// `any-platform`: an image is taken whatever platform its configuration names.
    pub any_platform: bool,
    /// `image-quota`: most unpacked bytes of all layers.
    pub quota_bytes: Option<u64>,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self {
            additional_stores: Vec::new(),
            max_age: Some(IMAGE_DEFAULT_MAX_AGE),
            min_free_bytes: IMAGE_DEFAULT_MIN_FREE_BYTES,
            any_platform: false,
            quota_bytes: None,
        }
    }
}

/// An image that is complete in the local store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalImage {
    /// Digest of the manifest, `sha256:…`.
    pub manifest: String,
    /// Digest of the configuration: the image id.
    pub id: String,
    /// Its platform.
    pub platform: Platform,
    /// Unpacked layers as folders, lowest first.
    pub layers: Vec<PathBuf>,
    /// Unpacked size in bytes.
    pub size_bytes: u64,
    /// The `config` part of the image configuration.
    pub config: ImageConfig,
}

/// The `config` part of an OCI image configuration (image-spec `config.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user[:group]`.
    pub user: String,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// Entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Command, or arguments of the entrypoint.
    pub cmd: Option<Vec<String>>,
    /// Paths that want a volume.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Working directory.
    pub working_dir: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Stop signal.
    pub stop_signal: String,
    /// Docker's health check.
    pub healthcheck: Option<ImageHealth>,
    /// Docker's shell for `CMD-SHELL`.
    pub shell: Option<Vec<String>>,
}

/// The empty object that JSON maps of this format hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Docker's `Healthcheck` of an image; durations in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageHealth {
    /// As in [`super::HealthSpec`].
    pub test: Option<Vec<String>>,
    /// Nanoseconds.
    pub interval: i64,
    /// Nanoseconds.
    pub timeout: i64,
    /// Nanoseconds.
    pub start_period: i64,
    /// Nanoseconds.
    pub start_interval: i64,
    /// Failures in a row.
    pub retries: i64,
}
