//! Images: names, registries, archives, and the store of unpacked layers.
//!
//! The agent holds a [`Store`] and starts a [`Fetch`] for each pull or load: a child process of
//! the same binary ([`fetch_main`]) that streams one image into the store and exits, so that its
//! memory and its mistakes go with it. Nothing here decides whether to pull.

mod archive;
mod auth;
mod blob;
mod calls;
mod child;
mod confine;
mod digest;
mod entropy;
mod fetch;
mod garbage;
mod http;
mod json;
mod layer;
mod manifest;
mod packing;
mod partial;
mod platform;
mod protocol;
mod pull;
mod reference;
mod registry;
mod remote;
mod sparse;
mod store;
mod sums;
mod tar;
mod transport;
mod tree;
mod url;
mod window;
mod wire;
mod zstd;

pub use child::fetch_main;
pub use confine::{Lacks, lacks as confinement_lacks};
pub use digest::{Digest, DigestError};
pub use fetch::{FETCH_ARGV0, Fetch, FetchError, fetch};
pub use garbage::{Needed, Pruned};
pub use manifest::{
    Configuration, Descriptor, Document, Index, IndexEntry, Manifest, ManifestError,
};
pub use platform::{fitness, host_platform, platform_name, platform_of_machine};
pub use protocol::{FetchEvent, FetchFailure, FetchRequest, What};
pub use reference::{DOCKER_HUB, Reference, ReferenceError};
pub use store::{Listed, Store, StoreError};
pub use tar::{Archive, Entry, EntryKind, TarError};
pub use url::{resolve, shown};

/// Readers of what registries say, for the fuzz targets.
#[doc(hidden)]
pub mod said {
    pub use super::{
        auth::{credential_file, realms},
        registry::{continues, http_date},
        transport::may_follow,
    };
}
pub use zstd::Zstd;
