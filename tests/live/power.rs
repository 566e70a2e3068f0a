//! Power cuts at random moments of a pull, on an emulated device with a disk of its own.
//!
//! `make vm`. The cut kills qemu: what the device's kernel had not written to its disk is gone, and
//! what it had written is kept in that order. A disk that loses what it said to have written is
//! beyond this; `tests/image_store.rs` takes more away. `EA_SEED` repeats a run.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Read as _,
    os::unix::fs::symlink,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::fixture::{
    ARM64, Device, DeviceOptions, World, capture, folder, run, wait_until, world,
};

/// How often the power goes.
const CUTS: u32 = 10;

/// Layers of the image, so that a cut meets some that are done and one that is not.
const LAYERS: usize = 5;

/// A pull on an emulated device whose machine is shared.
const PULL: Duration = Duration::from_secs(90);

/// One line for all that can be seen of the folder that it is run in.
const SUM: &str = "{ find . | sort | xargs stat -c '%n %a %u %g %F %Y'; find . -type l | sort | \
     xargs readlink; find . -type f | sort | xargs md5sum; } | md5sum | cut -c1-32";

/// Where the device has its images.
const STORE: &str = "/var/lib/edgeagent/images";

/// An image in the registry: its name, and what its layers must look like, by their folders.
struct Image {
    name: String,
    layers: BTreeMap<String, String>,
}

/// Puts a blob into a layout; gives its digest and size.
fn put(layout: &Path, from: &Path) -> (String, u64) {
    let sum = run(&["sha256sum", from.to_str().unwrap()]);
    let hex = sum.split(' ').next().unwrap();
    let size = fs::metadata(from).unwrap().len();
    fs::rename(from, layout.join("blobs/sha256").join(hex)).unwrap();
    (format!("sha256:{hex}"), size)
}

/// Makes an image of layers with a large file, many small ones and links, and pushes it.
fn push(world: &World) -> Image {
    let dir = folder().join("power-image");
    let layout = dir.join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let mut noise = fs::File::open("/dev/urandom").unwrap();
    let mut layers = BTreeMap::new();
    let (mut descriptors, mut diff_ids) = (Vec::new(), Vec::new());
    for n in 0..LAYERS {
        let tree = dir.join(format!("tree{n}"));
        for m in 0..300 {
            let folder = tree.join(format!("layer{n}/d{}", m % 10));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("file{m}")), format!("{n} {m}\n").repeat(m % 90))
                .unwrap();
        }
        let mut large = vec![0; 2 << 20];
        noise.read_exact(&mut large).unwrap();
        fs::write(tree.join(format!("layer{n}/large")), large).unwrap();
        fs::hard_link(tree.join(format!("layer{n}/large")), tree.join("hard")).unwrap();
        symlink(format!("layer{n}/large"), tree.join("link")).unwrap();
        let tar = dir.join("layer.tar");
        let tree = tree.to_str().unwrap();
        run(&["tar", "-C", tree, "--numeric-owner", "-cf", tar.to_str().unwrap(), "."]);
        let (digest, size) = put(&layout, &tar);
        let sum = format!("cd {tree} && {}", SUM.replace("| sort", "| LC_ALL=C sort"));
        let sum = run(&["busybox", "sh", "-c", &sum]);
        layers.insert(digest.strip_prefix("sha256:").unwrap().to_owned(), sum.trim().to_owned());
        diff_ids.push(digest.clone());
        descriptors.push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest,
            "size": size,
        }));
    }
    let write = |value: Value| {
        let path = dir.join("json");
        fs::write(&path, value.to_string()).unwrap();
        put(&layout, &path)
    };
    let (config, size) = write(json!({
        "os": "linux",
        "architecture": ARM64.oci,
        "config": { "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }));
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let (manifest, size) = write(json!({
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config,
            "size": size,
        },
        "layers": descriptors,
    }));
    let entry = json!({ "mediaType": kind, "digest": manifest, "size": size });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let name = format!("{}/power:1", world.registry);
    let mut skopeo = world.manager.host.command("skopeo");
    skopeo.args(["copy", "-q", "--dest-tls-verify=false", &format!("oci:{}", layout.display())]);
    capture(skopeo.arg(format!("docker://{name}"))).ok();
    fs::remove_dir_all(&dir).unwrap();
    Image { name, layers }
}

/// Whether `image ls` says that the image is there as a whole.
fn is_whole(device: &Device) -> bool {
    let images: Value = serde_json::from_str(&device.sh("edgeagent image ls --json")).unwrap();
    images.as_array().unwrap().iter().any(|image| image["state"] == "whole")
}

/// The layers that are visible on the device, with what they look like.
fn visible(device: &Device) -> BTreeMap<String, String> {
    let each = format!("[ -d $l ] && echo ${{l##*/}} $(cd $l && {SUM})");
    let found = device.sh(&format!("for l in {STORE}/layers/*; do {each}; done"));
    let lines = found.lines().filter_map(|line| line.split_once(' '));
    let lines = lines.filter(|(layer, _)| !layer.contains('.'));
    lines.map(|(layer, sum)| (layer.to_owned(), sum.to_owned())).collect()
}

/// Pulls to the end; the image must be there afterwards, entry for entry.
fn pull(device: &Device, image: &Image) -> Duration {
    let begin = Instant::now();
    begin_pull(device, image);
    let ended = || !device.sh("cat /run/end 2>/dev/null").is_empty();
    wait_until("the pull to end", PULL, ended);
    let time = begin.elapsed();
    assert_eq!(device.sh("cat /run/end"), "0", "{}", device.sh("tail -n 5 /run/pull"));
    assert!(is_whole(device));
    let found = visible(device);
    for (layer, sum) in &image.layers {
        assert_eq!(found.get(layer), Some(sum), "layer {layer}");
    }
    time
}

/// Starts a pull that nobody waits for.
fn begin_pull(device: &Device, image: &Image) {
    let pull = format!("edgeagent image pull {} >/run/pull 2>&1; echo $? >/run/end", image.name);
    device.sh(&format!("rm -f /run/end; ( {pull} ) & :"));
}

/// The next of some numbers without order.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
#[ignore = "make vm"]
fn power_cuts_at_random_moments_of_a_pull_leave_nothing_half_written_that_is_trusted() {
    let world = world();
    let seed = env::var("EA_SEED").ok().map_or_else(
        || u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos()) | 1,
        |seed| seed.parse().unwrap(),
    );
    println!("EA_SEED={seed}");
    let mut random = seed;
    let image = push(&world);
    let options = DeviceOptions::of(ARM64);
    let mut device = Device::flash(&world, "vm-power", options, &world.manager.token("worker"));
    device.boot();
    let whole = pull(&device, &image);
    println!("a pull takes {whole:?}");
    let (mut completed, mut begun, mut damaged) = (0, 0, 0);
    for cut in 1..=CUTS {
        if is_whole(&device) {
            device.sh(&format!("edgeagent image rm {} && edgeagent image prune", image.name));
        }
        begin_pull(&device, &image);
        // Some of `whole` went by after its end; a cut after the end is of use, too.
        let span = u64::try_from(whole.as_millis()).unwrap() * 3 / 4;
        let wait = Duration::from_millis(next(&mut random) % span);
        thread::sleep(wait);
        device.cut_power();
        device.boot();
        let said = is_whole(&device);
        let found = visible(&device);
        let good = found.iter().filter(|(layer, sum)| image.layers.get(*layer) == Some(*sum));
        let good = good.count();
        println!("cut {cut} after {wait:?}: whole {said}, layers {good} of {}", found.len());
        // What `image ls` calls whole is whole.
        assert!(!said || good == LAYERS, "{found:?}");
        completed += u32::from(said);
        begun += u32::from(!said && 0 < good);
        damaged += found.len() - good;
        if cut % 3 == 0 {
            pull(&device, &image);
        }
    }
    println!("{completed} were whole, {begun} were begun, {damaged} layers were damaged");
    pull(&device, &image);
    // Nothing is left of all that but what belongs there.
    device.sh("edgeagent image prune");
    let left = device.sh(&format!("ls {STORE}/tmp {STORE}/partial | grep -v : | grep -c ."));
    assert_eq!(left, "0");
    assert_eq!(visible(&device).len(), LAYERS);
}
