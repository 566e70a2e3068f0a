//! Manifests, indexes and configurations: bytes from outside become checked values.
//!
//! It fetches and verifies nothing; callers compare digests first. `urls` of layers are ignored,
//! for they made other clients send credentials elsewhere (CVE-2020-15157). Formats: OCI
//! image-spec `manifest.md`, `image-index.md`, `config.md`; Docker image manifest v2 schema 2.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::{
    digest::Digest,
    json,
    platform::{fitness, platform_name},
};
use crate::{
    limits::{IMAGE_CONFIG_MAX_BYTES, IMAGE_LAYERS_MAX, INDEX_ENTRIES_MAX, MANIFEST_MAX_BYTES},
    model::{ImageConfig, Platform},
};

/// Media types that a registry is asked for.
pub(super) const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json";

const INDEX_TYPES: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
];

/// What stands for a configuration: the types of the two formats, and what old registries and
/// clients wrote instead (moby `distribution/registry.go`, `ImageTypes`).
const CONFIG_TYPES: [&str; 6] = [
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/octet-stream",
    "application/json",
    "text/html",
    "",
];

/// Most indexes that lead to an image, one naming the next. More fail the pull.
pub(super) const INDEX_DEPTH_MAX: usize = 4;

/// Why a manifest, index or configuration is not used.
#[derive(Debug)]
pub enum ManifestError {
    /// It exceeds its bound.
    TooLarge {
        /// The bound in bytes.
        max: usize,
    },
    /// It is not the JSON that it should be.
    Json(serde_json::Error),
    /// Its media type is another, or contradicts its fields.
    MediaType {
        /// What it says, at most some characters of it.
        found: String,
    },
    /// The registry serves it under another media type than it has.
    ServedAs {
        /// What the registry says, at most some characters of it.
        claim: String,
        /// What it says itself.
        own: String,
    },
    /// It has the fields of a manifest and of an index (CVE-2021-41190).
    Ambiguous,
    /// Something else than an image, such as a Helm chart.
    NoImage {
        /// What it says that it is, at most some characters of it.
        media_type: String,
    },
    /// Indexes in indexes beyond [`INDEX_DEPTH_MAX`].
    TooDeep,
    /// It is an image of the format that Docker gave up in 2017.
    SchemaOne,
    /// Too many layers or entries.
    TooMany {
        /// How many there are.
        found: usize,
        /// How many are allowed.
        max: usize,
    },
    /// Manifest and configuration disagree about the number of layers.
    LayerCount {
        /// In the manifest.
        manifest: usize,
        /// In the configuration.
        config: usize,
    },
    /// No image for this device.
    Platform {
        /// What there is.
        found: String,
        /// What this device is.
        host: String,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { max } => {
                write!(f, "image manifest or configuration exceeds {max} bytes")
            }
            Self::Json(_) => f.write_str("image manifest or configuration is malformed"),
            Self::MediaType { found } if found.is_empty() => {
                f.write_str("image manifest is neither a manifest nor an index")
            }
            Self::MediaType { found } => {
                write!(f, "image manifest is not what its media type {found:?} says, or no image")
            }
            Self::ServedAs { claim, own } => write!(
                f,
                "registry serves the image manifest with the media type {claim:?}, and the manifest \
                 says {own:?}; push the image again"
            ),
            Self::Ambiguous => f.write_str("image manifest is a manifest and an index at once"),
            Self::NoImage { media_type } => {
                write!(f, "is no image: media type {media_type}; name an image instead")
            }
            Self::TooDeep => write!(
                f,
                "image index leads to more than {INDEX_DEPTH_MAX} others, one within the other"
            ),
            Self::SchemaOne => {
                f.write_str("image has the old schema 1 format; push it again with a newer docker")
            }
            Self::TooMany { found, max } => {
                write!(f, "image has {found} layers or entries, at most {max} are allowed")
            }
            Self::LayerCount { manifest, config } => {
                write!(f, "image manifest has {manifest} layers, its configuration {config}")
            }
            Self::Platform { found, host } => {
                write!(f, "image is {found}, this device is {host}")
            }
        }
    }
}

impl core::error::Error for ManifestError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Json(cause) => Some(cause),
            Self::TooLarge { .. }
            | Self::MediaType { .. }
            | Self::ServedAs { .. }
            | Self::Ambiguous
            | Self::NoImage { .. }
            | Self::TooDeep
            | Self::SchemaOne
            | Self::TooMany { .. }
            | Self::LayerCount { .. }
            | Self::Platform { .. } => None,
        }
    }
}

/// A blob as a manifest refers to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its media type.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What a registry keeps under a name: one image, or one per platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Images to choose from.
    Index(Index),
}

/// One image: its configuration and its layers, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    #[serde(default)]
    pub schema_version: u32,
    /// Its own media type, when it says one.
    #[serde(default)]
    pub media_type: String,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, at most [`IMAGE_LAYERS_MAX`].
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

/// Images to choose from, at most [`INDEX_ENTRIES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// In the order of the index.
    pub entries: Vec<IndexEntry>,
}

/// An image of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its platform, when the index says so.
    pub platform: Option<Platform>,
    /// Its name in an OCI archive (`io.containerd.image.name`, else
    /// `org.opencontainers.image.ref.name`).
    pub name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    artifact_type: String,
    config: Option<RawConfig>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<Vec<RawEntry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawConfig {
    #[serde(default)]
    media_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    #[serde(default)]
    size: u64,
    platform: Option<RawPlatform>,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl From<RawPlatform> for Platform {
    fn from(raw: RawPlatform) -> Self {
        Self { os: raw.os, architecture: raw.architecture, variant: raw.variant }
    }
}

/// Types under which a server gives bytes that it knows nothing of.
const NO_CLAIM: [&str; 5] =
    ["", "application/json", "application/octet-stream", "binary/octet-stream", "text/plain"];

impl Document {
    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// [`ManifestError`], except for the variants about configurations and platforms.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        Self::read(bytes).map(|(document, _)| document)
    }

    /// Reads what a registry serves as `content_type`. When the bytes name a type of their own,
    /// it must be that one (distribution-spec 1.1, "Pulling manifests"): who sees only one of the two
    /// must not see another thing than we do. A type that claims nothing, as that of a file server,
    /// contradicts nothing.
    ///
    /// # Errors
    /// Those of [`Self::parse`], and [`ManifestError::ServedAs`].
    pub fn served(bytes: &[u8], content_type: &str) -> Result<Self, ManifestError> {
        let (document, own) = Self::read(bytes)?;
        let claim = content_type.split(';').next().unwrap_or_default().trim();
        if NO_CLAIM.iter().any(|none| claim.eq_ignore_ascii_case(none)) {
            return Ok(document);
        }
        if own.is_empty() {
            return document.check_type(claim).map(|()| document);
        }
        if claim.eq_ignore_ascii_case(&own) {
            return Ok(document);
        }
        Err(ManifestError::ServedAs { claim: claim.chars().take(80).collect(), own })
    }

    /// The document, and the media type that it gives itself.
    fn read(bytes: &[u8]) -> Result<(Self, String), ManifestError> {
        if MANIFEST_MAX_BYTES < bytes.len() {
            return Err(ManifestError::TooLarge { max: MANIFEST_MAX_BYTES });
        }
        let probe: Probe = json::from_slice(bytes).map_err(ManifestError::Json)?;
        let single = probe.config.is_some() || probe.layers.is_some();
        let known = |types: [&str; 2]| {
            probe.media_type.is_empty() || types.contains(&probe.media_type.as_str())
        };
        if probe.schema_version == 1 {
            return Err(ManifestError::SchemaOne);
        }
        match probe.manifests {
            Some(_) if single => Err(ManifestError::Ambiguous),
            Some(entries) if known(INDEX_TYPES) => {
                check_count(entries.len(), INDEX_ENTRIES_MAX)?;
                let entries = entries.into_iter().map(IndexEntry::from).collect();
                Ok((Self::Index(Index { entries }), probe.media_type))
            }
            None if single && known(MANIFEST_TYPES) => {
                let media_type = probe.config.map(|config| config.media_type).unwrap_or_default();
                let other = !CONFIG_TYPES.contains(&media_type.as_str());
                if other || !probe.artifact_type.is_empty() {
                    let says = [probe.artifact_type, media_type];
                    let says = says.into_iter().find(|text| !text.is_empty());
                    let media_type = says.unwrap_or_default().chars().take(80).collect();
                    return Err(ManifestError::NoImage { media_type });
                }
                let manifest: Manifest = json::from_slice(bytes).map_err(ManifestError::Json)?;
                check_count(manifest.layers.len(), IMAGE_LAYERS_MAX)?;
                Ok((Self::Manifest(manifest), probe.media_type))
            }
            Some(_) | None => {
                Err(ManifestError::MediaType { found: probe.media_type.chars().take(80).collect() })
            }
        }
    }
}

impl Document {
    /// Checks the media type that somebody else gives it, a registry or an index: the same bytes
    /// must not be a manifest to one reader and an index to another (CVE-2021-41190).
    ///
    /// # Errors
    /// [`ManifestError::MediaType`] when that is the type of the other kind.
    pub fn check_type(&self, media_type: &str) -> Result<(), ManifestError> {
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let other = match self {
            Self::Manifest(_) => INDEX_TYPES,
            Self::Index(_) => MANIFEST_TYPES,
        };
        if other.contains(&media_type) {
            return Err(ManifestError::MediaType { found: media_type.to_owned() });
        }
        Ok(())
    }
}

impl From<RawEntry> for IndexEntry {
    fn from(raw: RawEntry) -> Self {
        let mut notes = raw.annotations.unwrap_or_default();
        let name = notes
            .remove("io.containerd.image.name")
            .or_else(|| notes.remove("org.opencontainers.image.ref.name"));
        let RawEntry { media_type, digest, size, .. } = raw;
        let manifest = Descriptor { media_type, digest, size };
        Self { manifest, platform: raw.platform.map(Platform::from), name }
    }
}

impl Index {
    /// The entry that suits `host` best; the first of equals. One without a platform is taken
    /// only when nothing else suits, and its configuration decides then.
    ///
    /// # Errors
    /// [`ManifestError::Platform`] when there is none.
    pub fn choose(&self, host: &Platform) -> Result<&IndexEntry, ManifestError> {
        let rank = |entry: &IndexEntry| match &entry.platform {
            Some(platform) => fitness(host, platform),
            None => Some(usize::MAX),
        };
        self.entries
            .iter()
            .filter_map(|entry| rank(entry).map(|rank| (rank, entry)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| entry)
            .ok_or_else(|| ManifestError::Platform {
                found: self.platforms(),
                host: platform_name(host),
            })
    }

    fn platforms(&self) -> String {
        let mut names: Vec<String> = self
            .entries
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
            .map(platform_name)
            .collect();
        names.dedup();
        if names.is_empty() {
            return "of no known platform".to_owned();
        }
        let more = names.len().saturating_sub(12);
        names.truncate(12);
        let mut text = names.join(", ");
        if 0 < more {
            text.push_str(", …");
        }
        text
    }
}

/// An image configuration, as far as it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// What the image was built for.
    pub platform: Platform,
    /// What containers start from.
    pub config: ImageConfig,
    /// Digests of the unpacked layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawConfiguration {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
    config: Option<ImageConfig>,
    rootfs: Option<RawRootFs>,
}

#[derive(Deserialize)]
struct RawRootFs {
    diff_ids: Option<Vec<Digest>>,
}

impl Configuration {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`ManifestError`] when it is too large, malformed or has too many layers.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if IMAGE_CONFIG_MAX_BYTES < bytes.len() {
            return Err(ManifestError::TooLarge { max: IMAGE_CONFIG_MAX_BYTES });
        }
        let raw: RawConfiguration = json::from_slice(bytes).map_err(ManifestError::Json)?;
        let diff_ids = raw.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
        check_count(diff_ids.len(), IMAGE_LAYERS_MAX)?;
        let platform =
            Platform { os: raw.os, architecture: raw.architecture, variant: raw.variant };
        Ok(Self { platform, config: raw.config.unwrap_or_default(), diff_ids })
    }

    /// Checks that this device can run it and that `manifest` has the same number of layers.
    ///
    /// # Errors
    /// [`ManifestError::Platform`] or [`ManifestError::LayerCount`].
    pub fn check(&self, manifest: &Manifest, host: &Platform) -> Result<(), ManifestError> {
        let layers = manifest.layers.len();
        if layers != self.diff_ids.len() {
            return Err(ManifestError::LayerCount {
                manifest: layers,
                config: self.diff_ids.len(),
            });
        }
        // Images of long ago name no architecture, and ARM ones often no variant.
        let image = &self.platform;
        let vague = image.architecture.is_empty()
            || (image.architecture == "arm"
                && image.variant.is_empty()
                && host.architecture == "arm");
        if vague || fitness(host, image).is_some() {
            Ok(())
        } else {
            Err(ManifestError::Platform { found: platform_name(image), host: platform_name(host) })
        }
    }
}

fn check_count(found: usize, max: usize) -> Result<(), ManifestError> {
    if found <= max { Ok(()) } else { Err(ManifestError::TooMany { found, max }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::platform::platform_of_machine;

    fn digest(n: u8) -> String {
        Digest::of(&[n]).to_string()
    }

    fn entry(n: u8, platform: &str) -> String {
        let mut parts = platform.split('/');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (os, arch, variant) = (part(), part(), part());
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":7,
            "platform":{{"os":"{os}","architecture":"{arch}","variant":"{variant}"}}}}"#,
            digest(n)
        )
    }

    fn index(platforms: &[&str]) -> Index {
        let entries: Vec<String> =
            platforms.iter().zip(0..).map(|(platform, n)| entry(n, platform)).collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        match Document::parse(text.as_bytes()).unwrap() {
            Document::Index(index) => index,
            Document::Manifest(_) => panic!("not an index"),
        }
    }

    #[test]
    fn the_best_platform_of_an_index_is_chosen() {
        let all = [
            "unknown/unknown",
            "linux/amd64",
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm64/v8",
        ];
        for (machine, want) in
            [("x86_64", 1), ("armv7l", 4), ("armv6l", 3), ("armv8l", 4), ("aarch64", 5)]
        {
            let index = index(&all);
            let chosen = index.choose(&platform_of_machine(machine)).unwrap();
            assert_eq!(chosen.manifest.digest.to_string(), digest(want), "{machine}");
        }
        let error = index(&all).choose(&platform_of_machine("riscv64")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "image is linux/amd64, linux/arm/v5, linux/arm/v6, linux/arm/v7, linux/arm64/v8, \
             this device is linux/riscv64"
        );
    }

    #[test]
    fn a_document_that_can_be_read_two_ways_is_refused() {
        let d = digest(1);
        let descriptor = format!(r#"{{"digest":"{d}","size":1}}"#);
        let parse = |text: String| Document::parse(text.as_bytes());
        let both =
            format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[],"manifests":[]}}"#);
        assert!(matches!(parse(both), Err(ManifestError::Ambiguous)));
        let lying = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":{descriptor},"layers":[]}}"#
        );
        assert!(matches!(parse(lying), Err(ManifestError::MediaType { .. })));
        // As in Go, so that the digest means the same image everywhere.
        let twice = format!(
            r#"{{"schemaVersion":2,"config":{descriptor},"layers":[],"Layers":[{descriptor}]}}"#
        );
        let Document::Manifest(twice) = parse(twice).unwrap() else { panic!("no manifest") };
        assert_eq!(twice.layers.len(), 1);
        let hidden = format!(r#"{{"CONFIG":{descriptor},"manifests":[]}}"#);
        assert!(matches!(parse(hidden), Err(ManifestError::Ambiguous)));
        for layers in ["", r#","layers":null"#, r#","LAYERS":[]"#] {
            let text = format!(r#"{{"schemaVersion":2,"config":{descriptor}{layers}}}"#);
            let Document::Manifest(none) = parse(text).unwrap() else { panic!("no manifest") };
            assert!(none.layers.is_empty());
        }
        assert!(matches!(
            parse(r#"{"schemaVersion":1,"fsLayers":[]}"#.into()),
            Err(ManifestError::SchemaOne)
        ));
        assert!(matches!(parse("{}".into()), Err(ManifestError::MediaType { .. })));
        assert!(matches!(
            parse(r#"{"schemaVersion":2}"#.into()),
            Err(ManifestError::MediaType { .. })
        ));
        let one = parse(format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#));
        let one = one.unwrap();
        one.check_type("application/vnd.oci.image.manifest.v1+json; charset=utf-8").unwrap();
        one.check_type("text/plain").unwrap();
        let oci = MANIFEST_TYPES.iter().find(|kind| kind.contains("oci")).unwrap();
        let docker = MANIFEST_TYPES.iter().find(|kind| kind.contains("docker")).unwrap();
        let named = format!(
            r#"{{"schemaVersion":2,"mediaType":"{oci}","config":{descriptor},"layers":[]}}"#
        );
        let mute = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#);
        let list = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, INDEX_TYPES[0]);
        for (body, claim, want) in [
            (&named, *oci, true),
            (&named, "Application/vnd.OCI.image.manifest.v1+JSON ; charset=utf-8", true),
            (&named, "application/json", true),
            (&named, "text/plain; charset=utf-8", true),
            (&named, "", true),
            (&named, *docker, false),
            (&named, INDEX_TYPES[0], false),
            (&named, INDEX_TYPES[1], false),
            (&named, "application/vnd.docker.distribution.manifest.v1+prettyjws", false),
            (&named, "text/html", false),
            (&mute, *docker, true),
            (&mute, INDEX_TYPES[1], false),
            (&list, INDEX_TYPES[0], true),
            (&list, INDEX_TYPES[1], false),
            (&list, *oci, false),
        ] {
            let served = Document::served(body.as_bytes(), claim);
            assert_eq!(served.is_ok(), want, "{claim} {body} {served:?}");
        }
        one.check_type(INDEX_TYPES[0]).unwrap_err();
        parse(r#"{"manifests":[]}"#.into()).unwrap().check_type(MANIFEST_TYPES[1]).unwrap_err();
        let many = vec![descriptor.clone(); 128].join(",");
        let many = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{many}]}}"#);
        assert!(matches!(parse(many), Err(ManifestError::TooMany { found: 128, max: 127 })));
        let traversal =
            r#"{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":1},"layers":[]}"#;
        assert!(matches!(parse(traversal.into()), Err(ManifestError::Json(_))));
    }

    #[test]
    fn what_is_no_image_says_what_it_is() {
        let d = digest(1);
        for (config, more, says) in [
            ("application/vnd.cncf.helm.config.v1+json", "", "helm"),
            ("application/vnd.oci.empty.v1+json", r#","artifactType":"application/x""#, "n/x"),
            ("application/vnd.oci.empty.v1+json", "", "oci.empty"),
            ("application/vnd.docker.plugin.v1+json", "", "plugin"),
        ] {
            let text = format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","digest":"{d}","size":2}},
                "layers":[]{more}}}"#
            );
            let error = Document::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("is no image: media type application/"), "{error}");
            assert!(error.contains(says), "{error}");
        }
        for config in CONFIG_TYPES {
            let text = format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","digest":"{d}","size":2}}}}"#
            );
            Document::parse(text.as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_configuration_must_match_device_and_manifest() {
        let text = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{{"Cmd":["sh"],"Env":null,"User":"1"}},
            "rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            digest(9)
        );
        let config = Configuration::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!(config.config.user, "1");
        let layer = Descriptor { media_type: String::new(), digest: Digest::of(b""), size: 0 };
        let manifest = Manifest {
            schema_version: 2,
            media_type: String::new(),
            config: layer.clone(),
            layers: vec![layer],
        };
        assert!(config.check(&manifest, &platform_of_machine("x86_64")).is_ok());
        let error = config.check(&manifest, &platform_of_machine("armv7l")).unwrap_err();
        assert_eq!(error.to_string(), "image is linux/amd64, this device is linux/arm/v7");
        let none = Manifest { layers: Vec::new(), ..manifest };
        assert!(matches!(
            config.check(&none, &platform_of_machine("x86_64")),
            Err(ManifestError::LayerCount { manifest: 0, config: 1 })
        ));
    }
}
