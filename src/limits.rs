//! Every bound and interval of edgeagent: unit, reason, and source where swarm fixes it.
//!
//! A bound comes with a written answer for *full*. Numbers live here and nowhere else.

/// Longest identifier, in bytes. Swarm's have 25 characters, a container's 64; a longer one is
/// refused where it is read.
pub const ID_MAX_BYTES: usize = 64;

use std::time::Duration;

/// After `exceeded rate limit count of registrations`, wait this long: managers count
/// registrations that follow each other within 8 s (swarmkit `manager/dispatcher/nodes.go`).
pub const REGISTRATION_PAUSE: Duration = Duration::from_secs(9);

// image

/// Longest registry host and repository together, in bytes (distribution `reference/reference.go`,
/// `NameTotalLengthMax`). A longer one is refused where it is read.
pub const IMAGE_NAME_MAX_BYTES: usize = 255;

/// Longest tag, in bytes (distribution `reference/regexp.go`). A longer one is refused.
pub const IMAGE_TAG_MAX_BYTES: usize = 128;

/// Largest manifest or index, in bytes: what registries accept (distribution `manifests.go`,
/// `maxManifestBodySize`, 4 MiB). A larger one fails the pull.
pub const MANIFEST_MAX_BYTES: usize = 4 << 20;

/// Largest image configuration, in bytes; real ones have some 10 kB. A larger one fails the pull.
pub const IMAGE_CONFIG_MAX_BYTES: usize = 4 << 20;

/// Most layers of an image: what Docker allows (moby `layer/layer_store.go`, `maxLayerDepth`
/// 125, and 127 in its documentation). More fail the pull.
pub const IMAGE_LAYERS_MAX: usize = 127;

/// Most entries of an index or an archive's list of images. More fail the pull.
pub const INDEX_ENTRIES_MAX: usize = 256;

/// Largest compressed layer, in bytes: far above real ones, below what wraps any counter.
/// A larger one fails the pull.
pub const LAYER_MAX_PACKED_BYTES: u64 = 16 << 30;

/// Largest unpacked layer, in bytes: stops a decompression bomb before it fills a large disk;
/// a small disk reports that it is full. A larger one fails the pull.
pub const LAYER_MAX_BYTES: u64 = 32 << 30;

/// Most entries of a layer: the largest images seen have some 300 000. More fail the pull.
pub const LAYER_ENTRIES_MAX: u64 = 2_000_000;

/// Longest path in a layer, in bytes: the kernel's `PATH_MAX`. A longer one fails the pull.
pub const LAYER_PATH_MAX_BYTES: usize = 4096;

/// Most bytes of directory names remembered to set their times at the end of a layer. More fail
/// the pull.
pub const LAYER_DIRS_MAX_BYTES: usize = 16 << 20;

/// Largest extended header (PAX or GNU long name) of a tar entry, in bytes: extended attributes
/// have at most 64 KiB each. A larger one fails the pull.
pub const TAR_EXTENSION_MAX_BYTES: u64 = 1 << 20;

/// Largest zstd window, in bytes: what RFC 8878 §3.1.1.1.2 asks every decoder to support.
/// A larger one fails the pull.
pub const ZSTD_WINDOW_MAX_BYTES: u64 = 8 << 20;

/// Most members of an archive given to `image load`. More fail the load.
pub const ARCHIVE_MEMBERS_MAX: usize = 4096;

/// Largest request to a fetch child, in bytes: fits a pipe, so that writing it never waits.
/// A larger one is refused before a child is started.
pub const FETCH_REQUEST_MAX_BYTES: usize = 48 << 10;

/// Largest event of a fetch child, in bytes. A larger one ends the fetch.
pub const FETCH_EVENT_MAX_BYTES: usize = 32 << 10;

/// Longest error message of a fetch child, in bytes; the rest is cut off.
pub const FETCH_MESSAGE_MAX_BYTES: usize = 2 << 10;

/// A fetch child tells its progress each time so many bytes came.
pub const FETCH_PROGRESS_BYTES: u64 = 1 << 20;

/// A registry must accept a connection within this time.
pub const REGISTRY_CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A registry must begin its answer within this time.
pub const REGISTRY_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A registry that sends nothing for so long is given up.
pub const REGISTRY_STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Most redirects in a row, as Docker follows. One more fails the pull.
pub const REGISTRY_REDIRECTS_MAX: usize = 10;

/// Largest header part of a registry's answer, in bytes. A larger one fails the pull.
pub const REGISTRY_HEADER_MAX_BYTES: usize = 32 << 10;

/// Largest answer of a token server, in bytes. A larger one fails the pull.
pub const REGISTRY_TOKEN_MAX_BYTES: u64 = 64 << 10;
