//! Archives of `docker save` (old and new) and in OCI layout.
//!
//! An archive is read once, for it may be a pipe, and its parts come in any order: they are
//! spooled into the store's temporary folder, with their digests, and put together afterwards.
//! An OCI layout that lies unpacked in a folder is read where it is.
//! Sources: moby `image/tarexport`; OCI image-spec `image-layout.md`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    child::{Install, verify},
    digest::{Digest, HashReader},
    layer::LayerError,
    manifest::{Descriptor, Document, INDEX_DEPTH_MAX, Index, IndexEntry, Manifest, ManifestError},
    packing::Unpacked,
    pull::PullError,
    reference::Reference,
    store::Store,
    tar::{Archive, EntryKind, TarError},
};
use crate::limits::{
    ARCHIVE_MEMBERS_MAX, IMAGE_CONFIG_MAX_BYTES, INDEX_ENTRIES_MAX, LAYER_MAX_BYTES,
    LAYER_MAX_PACKED_BYTES, MANIFEST_MAX_BYTES,
};

/// The parts of an archive.
pub(super) struct Spool<'a> {
    members: BTreeMap<String, Member>,
    /// Where they lie until this is dropped, when they are copies.
    _copies: Option<Copies<'a>>,
}

/// A temporary folder of a store.
struct Copies<'a> {
    store: &'a Store,
    folder: PathBuf,
}

impl Drop for Copies<'_> {
    fn drop(&mut self) {
        self.store.discard(&self.folder);
    }
}

#[derive(Clone)]
enum Member {
    File {
        path: PathBuf,
        digest: Digest,
        size: u64,
    },
    /// Old archives hold a repeated layer as a link.
    Link(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl<'a> Spool<'a> {
    /// Reads the archive that was at `path` into a temporary folder of `store`.
    pub(super) fn read(path: &Path, file: File, store: &'a Store) -> Result<Self, PullError> {
        let failed = |source| PullError::Archive { path: path.to_owned(), source };
        let malformed = |e| PullError::Layer(LayerError::Tar(e));
        let folder = store.temporary_folder().map_err(PullError::Store)?;
        let copies = Copies { store, folder: folder.clone() };
        let plain = HashReader::new(Unpacked::new(file, &folder).map_err(failed)?, LAYER_MAX_BYTES);
        let mut archive = Archive::new(plain);
        let mut members = BTreeMap::new();
        while let Some(entry) = archive.next_entry().map_err(malformed)? {
            if ARCHIVE_MEMBERS_MAX <= members.len() {
                let found = members.len() + 1;
                return Err(too_many(found, ARCHIVE_MEMBERS_MAX));
            }
            let name = clean(&String::from_utf8_lossy(&entry.path));
            let member = match entry.kind {
                EntryKind::File => {
                    let path = folder.join(members.len().to_string());
                    let mut content = HashReader::new(&mut archive, LAYER_MAX_PACKED_BYTES);
                    copy(&mut content, &path)?;
                    let (digest, size) = content.finish();
                    if size < entry.size {
                        return Err(malformed(TarError::Truncated));
                    }
                    Member::File { path, digest, size }
                }
                EntryKind::Symlink => {
                    let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                    let target = String::from_utf8_lossy(&entry.link).into_owned();
                    Member::Link(clean(&format!("{parent}/{target}")))
                }
                EntryKind::HardLink => Member::Link(clean(&String::from_utf8_lossy(&entry.link))),
                EntryKind::Folder
                | EntryKind::CharDevice
                | EntryKind::BlockDevice
                | EntryKind::Fifo => continue,
            };
            members.insert(name, member);
        }
        Ok(Self { members, _copies: Some(copies) })
    }

    /// Takes an OCI layout in a folder as it is. The names of its blobs are believed only until
    /// they are read.
    pub(super) fn layout(folder: &Path) -> Result<Self, PullError> {
        let failed = |source| PullError::Archive { path: folder.to_owned(), source };
        let mut members = BTreeMap::new();
        let path = folder.join("index.json");
        let index = std::fs::read(&path).map_err(failed)?;
        let (digest, size) = (Digest::of(&index), index.len() as u64);
        members.insert("index.json".to_owned(), Member::File { path, digest, size });
        let blobs = |algorithm| std::fs::read_dir(folder.join("blobs").join(algorithm));
        let (short, long) = match (blobs("sha256"), blobs("sha512")) {
            (Err(e), Err(_)) => return Err(failed(e)),
            (short, long) => (short.into_iter().flatten(), long.into_iter().flatten()),
        };
        let blobs = short.chain(long);
        for entry in blobs {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(digest) = name.to_str().and_then(|name| Digest::from_hex(name).ok()) else {
                continue;
            };
            if ARCHIVE_MEMBERS_MAX <= members.len() {
                return Err(too_many(members.len() + 1, ARCHIVE_MEMBERS_MAX));
            }
            let size = entry.metadata().map_err(failed)?.len();
            let member = Member::File { path: entry.path(), digest: digest.clone(), size };
            members.insert(blob_name(&digest), member);
        }
        Ok(Self { members, _copies: None })
    }

    /// Puts the image that `reference` means into the store, under that name. Returns its
    /// manifest; none when the layout does not have it.
    pub(super) fn install_named(
        &self,
        reference: &Reference,
        install: &mut Install<'_>,
    ) -> Result<Option<Digest>, PullError> {
        let Document::Index(index) = self.index()? else { return Ok(None) };
        let named = |entry: &IndexEntry| {
            let name = entry.name.as_deref().and_then(|name| Reference::parse(name).ok());
            let same = name.is_some_and(|name| {
                (name.domain(), name.path()) == (reference.domain(), reference.path())
                    && name.tag().unwrap_or("latest") == reference.tag().unwrap_or("latest")
            });
            reference.digest().map_or(same, |digest| *digest == entry.manifest.digest)
        };
        let entries: Vec<IndexEntry> = index.entries.into_iter().filter(named).collect();
        let Some(target) = entries.first().map(|entry| entry.manifest.digest.clone()) else {
            return Ok(None);
        };
        let (bytes, manifest) = self.choose(&Index { entries }, install, 0)?;
        let config = self.small(&blob_name(&manifest.config.digest), IMAGE_CONFIG_MAX_BYTES)?;
        let id = self.unpack(install, &bytes, &manifest, &config)?;
        let digest = Digest::of(&bytes);
        install.name(&reference.canonical(), target, &digest, &id)?;
        Ok(Some(digest))
    }

    /// Puts every image of the archive into the store. Returns their names, and the digest of the
    /// last one's manifest.
    pub(super) fn install(
        &self,
        install: &mut Install<'_>,
    ) -> Result<(Vec<String>, Digest), PullError> {
        if self.members.contains_key("manifest.json") {
            self.docker(install)
        } else {
            self.oci(install)
        }
    }

    fn docker(&self, install: &mut Install<'_>) -> Result<(Vec<String>, Digest), PullError> {
        let json = self.small("manifest.json", MANIFEST_MAX_BYTES)?;
        let images: Vec<SavedImage> = super::json::from_slice(&json)
            .map_err(|e| PullError::Manifest(ManifestError::Json(e)))?;
        if INDEX_ENTRIES_MAX < images.len() {
            return Err(too_many(images.len(), INDEX_ENTRIES_MAX));
        }
        let mut names = Vec::new();
        let mut last = None;
        for image in images {
            let config = self.small(&image.config, IMAGE_CONFIG_MAX_BYTES)?;
            let describe = |name: &str, media_type: &str| {
                self.file(name).map(|(_, digest, size)| Descriptor {
                    media_type: media_type.to_owned(),
                    digest: digest.clone(),
                    size,
                })
            };
            // Such archives have no manifest; this one gives the image an identity here.
            let manifest = Manifest {
                schema_version: 2,
                media_type: "application/vnd.docker.distribution.manifest.v2+json".to_owned(),
                config: describe(&image.config, "application/vnd.docker.container.image.v1+json")?,
                layers: image
                    .layers
                    .unwrap_or_default()
                    .iter()
                    .map(|name| describe(name, "application/vnd.docker.image.rootfs.diff.tar"))
                    .collect::<Result<_, _>>()?,
            };
            let bytes = serde_json::to_vec(&manifest)
                .map_err(|e| PullError::Manifest(ManifestError::Json(e)))?;
            Document::parse(&bytes).map_err(PullError::Manifest)?;
            let tags = image.repo_tags.unwrap_or_default();
            self.one(install, &bytes, &manifest, &config, &tags, &mut names)?;
            last = Some(Digest::of(&bytes));
        }
        last.map(|last| (names, last)).ok_or_else(|| missing("an image in manifest.json"))
    }

    fn oci(&self, install: &mut Install<'_>) -> Result<(Vec<String>, Digest), PullError> {
        let Document::Index(index) = self.index()? else {
            return Err(missing("an index in index.json"));
        };
        let mut groups: BTreeMap<Option<String>, Index> = BTreeMap::new();
        for entry in index.entries {
            let group = groups.entry(entry.name.clone());
            group.or_insert_with(|| Index { entries: Vec::new() }).entries.push(entry);
        }
        let mut names = Vec::new();
        let mut last = None;
        for (name, index) in groups {
            let (bytes, manifest) = self.choose(&index, install, 0)?;
            let config_name = blob_name(&manifest.config.digest);
            let config = self.small(&config_name, IMAGE_CONFIG_MAX_BYTES)?;
            let tags: Vec<String> = name.into_iter().collect();
            self.one(install, &bytes, &manifest, &config, &tags, &mut names)?;
            last = Some(Digest::of(&bytes));
        }
        last.map(|last| (names, last)).ok_or_else(|| missing("an image in index.json"))
    }

    fn index(&self) -> Result<Document, PullError> {
        let json = self
            .small("index.json", MANIFEST_MAX_BYTES)
            .map_err(|_| missing("manifest.json or index.json"))?;
        Document::parse(&json).map_err(PullError::Manifest)
    }

    fn choose(
        &self,
        index: &Index,
        install: &Install<'_>,
        depth: usize,
    ) -> Result<(Vec<u8>, Manifest), PullError> {
        let chosen = install.choose(index)?;
        let digest = &chosen.manifest.digest;
        let bytes = self.small(&blob_name(digest), MANIFEST_MAX_BYTES)?;
        verify(digest, &bytes)?;
        match Document::parse(&bytes).map_err(PullError::Manifest)? {
            Document::Manifest(manifest) => Ok((bytes, manifest)),
            Document::Index(inner) if depth + 1 < INDEX_DEPTH_MAX => {
                self.choose(&inner, install, depth + 1)
            }
            Document::Index(_) => Err(PullError::Manifest(ManifestError::TooDeep)),
        }
    }

    fn one(
        &self,
        install: &mut Install<'_>,
        bytes: &[u8],
        manifest: &Manifest,
        config: &[u8],
        tags: &[String],
        names: &mut Vec<String>,
    ) -> Result<(), PullError> {
        let id = self.unpack(install, bytes, manifest, config)?;
        let manifest = Digest::of(bytes);
        let before = names.len();
        for tag in tags {
            // A tag alone, as BuildKit writes it into annotations, names nothing.
            if let Ok(reference) = Reference::parse(tag) {
                install.name(&reference.canonical(), manifest.clone(), &manifest, &id)?;
                names.push(reference.to_string());
            }
        }
        if names.len() == before {
            install.name(&id.to_string(), manifest.clone(), &manifest, &id)?;
            names.push(id.to_string());
        }
        Ok(())
    }

    fn unpack(
        &self,
        install: &mut Install<'_>,
        bytes: &[u8],
        manifest: &Manifest,
        config: &[u8],
    ) -> Result<Digest, PullError> {
        let by_digest: BTreeMap<&Digest, &PathBuf> = self
            .members
            .values()
            .filter_map(|member| match member {
                Member::File { path, digest, .. } => Some((digest, path)),
                Member::Link(_) => None,
            })
            .collect();
        install.image(bytes, manifest, config, &mut |layer| {
            // Copies are known by their SHA-256; what has another digest is there by its name.
            let path = match by_digest.get(&layer.digest) {
                Some(path) => *path,
                None => self.file(&blob_name(&layer.digest))?.0,
            };
            let file = File::open(path)
                .map_err(|source| PullError::Archive { path: path.clone(), source })?;
            Ok(Box::new(file))
        })
    }

    fn small(&self, name: &str, max: usize) -> Result<Vec<u8>, PullError> {
        let (path, _, size) = self.file(name)?;
        if max as u64 <= size {
            return Err(PullError::Manifest(ManifestError::TooLarge { max }));
        }
        std::fs::read(path).map_err(|source| PullError::Archive { path: path.clone(), source })
    }

    fn file(&self, name: &str) -> Result<(&PathBuf, &Digest, u64), PullError> {
        let mut name = clean(name);
        // A link may point to a link, but not for ever.
        for _ in 0..8 {
            match self.members.get(&name) {
                Some(Member::File { path, digest, size }) => return Ok((path, digest, *size)),
                Some(Member::Link(target)) => name.clone_from(target),
                None => break,
            }
        }
        Err(missing(&name))
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn missing(what: &str) -> PullError {
    PullError::NoImage { missing: what.chars().take(200).collect() }
}

const fn too_many(found: usize, max: usize) -> PullError {
    PullError::Manifest(ManifestError::TooMany { found, max })
}

/// The plain form of a member's name; it is only ever a key.
fn clean(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.join("/")
}

fn copy(content: &mut impl Read, path: &Path) -> Result<(), PullError> {
    let at =
        |source| PullError::Store(super::store::StoreError::Io { path: path.to_owned(), source });
    let mut file = File::create_new(path).map_err(at)?;
    let mut buffer = [0; 32 << 10];
    loop {
        let n = match content.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(PullError::Layer(LayerError::Tar(TarError::Read(e)))),
        };
        file.write_all(buffer.get(..n).unwrap_or_default()).map_err(at)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_members_are_keys_and_nothing_else() {
        assert_eq!(clean("./a//b/"), "a/b");
        assert_eq!(clean("x/../../y"), "y");
        assert_eq!(clean("/id1/../id0/layer.tar"), "id0/layer.tar");
    }
}
