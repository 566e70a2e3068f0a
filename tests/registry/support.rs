//! Scratch folders, images made in memory, and pulls.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use edgeagent::{
    image::{
        Digest, Fetch, FetchEvent, FetchFailure, FetchRequest, Reference, Store, What, fetch,
        platform_of_machine,
    },
    model::{RegistrySettings, SecretBytes},
};

/// A folder that goes with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            env::temp_dir().join(format!("edgeagent-registry-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

pub(crate) fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
    output.stdout
}

/// Runs this test again in network and mount namespaces of its own, where the addresses 10.99.0.1
/// to .3 are local. Returns whether this is already the inner run.
pub(crate) fn alone(test: &str) -> bool {
    if env::var_os("EA_ALONE").is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        for host in 1..=3 {
            run("ip", &["address", "add", &format!("10.99.0.{host}/24"), "dev", "lo"]);
        }
        return true;
    }
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env("EA_ALONE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "the inner run failed");
    false
}

/// Bytes without any order, always the same.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// An image for amd64, made in memory.
pub(crate) struct Image {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    /// Packed.
    pub(crate) layers: Vec<Vec<u8>>,
}

impl Image {
    /// Each layer holds one file of so many bytes that can not be packed.
    pub(crate) fn new(sizes: &[usize]) -> Self {
        Self::with(sizes, true)
    }

    /// Without gzip.
    pub(crate) fn plain(sizes: &[usize]) -> Self {
        Self::with(sizes, false)
    }

    fn with(sizes: &[usize], gzip: bool) -> Self {
        let mut layers = Vec::new();
        for (size, n) in sizes.iter().zip(1..) {
            let content = noise(*size, n);
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, format!("file{n}"), &content[..]).unwrap();
            let plain = builder.into_inner().unwrap();
            let diff_id = Digest::of(&plain).to_string();
            if !gzip {
                layers.push((plain, diff_id));
                continue;
            }
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
            packer.write_all(&plain).unwrap();
            layers.push((packer.finish().unwrap(), diff_id));
        }
        Self::of(layers, if gzip { "+gzip" } else { "" })
    }

    /// Of packed layers with their diff ids.
    pub(crate) fn of(layers: Vec<(Vec<u8>, String)>, packing: &str) -> Self {
        let (layers, diff_ids): (Vec<_>, Vec<_>) = layers.into_iter().unzip();
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{{"Cmd":["sh"]}},
            "rootfs":{{"type":"layers","diff_ids":{diff_ids:?}}}}}"#
        )
        .into_bytes();
        let descriptors: Vec<String> = layers
            .iter()
            .map(|layer| {
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar{packing}","digest":"{}","size":{}}}"#,
                    Digest::of(layer),
                    layer.len()
                )
            })
            .collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
            "layers":[{}]}}"#,
            Digest::of(&config),
            config.len(),
            descriptors.join(",")
        )
        .into_bytes();
        Self { manifest, config, layers }
    }

    /// Its packed layers' bytes.
    pub(crate) fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.len() as u64).sum()
    }

    /// Writes it as an OCI layout, as `skopeo` reads it under the name `img`.
    pub(crate) fn layout(&self, dir: &Path) {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for bytes in self.layers.iter().chain([&self.config, &self.manifest]) {
            fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
        }
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "digest":"{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"img"}}}}]}}"#,
            Digest::of(&self.manifest),
            self.manifest.len()
        );
        fs::write(dir.join("index.json"), index).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

pub(crate) fn start(store: &Path, name: &str, auth: &str, settings: &RegistrySettings) -> Fetch {
    let what = What::Pull {
        reference: name.to_owned(),
        auth: SecretBytes::new(auth.as_bytes().to_vec()),
        registries: settings.clone(),
    };
    let platform = platform_of_machine("x86_64");
    let request = FetchRequest {
        store: store.to_owned(),
        additional_stores: Vec::new(),
        quota_bytes: None,
        min_free_bytes: 0,
        any_platform: false,
        platform,
        what,
    };
    fetch(&program(), &request).unwrap()
}

pub(crate) fn program() -> PathBuf {
    env::var_os("EDGEAGENT_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_edgeagent").into(), PathBuf::from)
}

pub(crate) fn finish(mut fetch: Fetch) -> FetchEvent {
    smol::block_on(async {
        loop {
            match fetch.next().await.unwrap() {
                FetchEvent::Progress { done, total } => assert!(done <= total, "{done} of {total}"),
                last @ (FetchEvent::Done { .. } | FetchEvent::Failed { .. }) => return last,
            }
        }
    })
}

pub(crate) fn pull(store: &Path, name: &str) -> FetchEvent {
    finish(start(store, name, "", &RegistrySettings::default()))
}

#[track_caller]
pub(crate) fn assert_failed(event: &FetchEvent, want: FetchFailure, part: &str) {
    match event {
        FetchEvent::Failed { kind, message } => {
            assert!(*kind == want && message.contains(part), "{kind:?} {message}");
        }
        FetchEvent::Done { .. } | FetchEvent::Progress { .. } => panic!("{event:?}"),
    }
}

/// The image is here as a whole, and no partial file is left.
#[track_caller]
pub(crate) fn assert_here(event: &FetchEvent, store: &Path, name: &str, image: &Image) {
    assert!(matches!(event, FetchEvent::Done { .. }), "{event:?}");
    let found = Store::open(store).unwrap().find(&Reference::parse(name).unwrap()).unwrap();
    let found = found.unwrap();
    assert_eq!(found.layers.len(), image.layers.len());
    for (folder, n) in found.layers.iter().zip(1..) {
        let content = fs::read(folder.join(format!("file{n}"))).unwrap();
        assert!(content == noise(content.len(), n) && !content.is_empty(), "layer {n}");
    }
    assert_eq!(partial_bytes(store), 0);
    assert_eq!(partials(store).len(), 0);
}

/// The folder in `/proc` of the fetch child that works on this store, if there is one.
pub(crate) fn child_of(store: &Path) -> Option<PathBuf> {
    child_with(|path| {
        let files = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
        let mut files = files.filter_map(|entry| fs::read_link(entry.path()).ok());
        files.any(|file| file.starts_with(store))
    })
}

fn child_with(wanted: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let own = format!("PPid:\t{}", std::process::id());
    fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).find(|path| {
        // In this order: what has the name now is no copy of this process any more.
        let name = fs::read(path.join("cmdline")).unwrap_or_default();
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let ours = name.starts_with(b"edgeagent-fetch") && status.lines().any(|line| line == own);
        ours && wanted(path)
    })
}

/// Memory of a fetch child of ours in kB without pages of files, if it lives.
pub(crate) fn memory() -> Option<u64> {
    let status = fs::read_to_string(child_with(|_| true)?.join("status")).ok()?;
    let number = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(number("RssAnon:")? + number("RssShmem:")?)
}

pub(crate) fn partials(store: &Path) -> Vec<PathBuf> {
    fs::read_dir(store.join("partial"))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default()
}

/// Bytes in partial files.
pub(crate) fn partial_bytes(store: &Path) -> u64 {
    partials(store).iter().map(|path| fs::metadata(path).map_or(0, |meta| meta.len())).sum()
}
