//! Volumes of the driver `local` with options: `type`, `device` and `o`, as for `mount` (moby
//! `volume/local/`).
//!
//! A folder of the host (`type=none`, `o=bind`) and memory (`type=tmpfs`) are made; what needs the
//! network or a disk is for the host to mount. Memory belongs to one container here: Docker would
//! show the same to all containers that use the volume at a time.

use std::collections::BTreeMap;

use super::{SpecError, clean, resources::byte_size};
use crate::model::{MountKind, Propagation};

const MOUNT_ON_HOST: &str = "mount it on the host and use a bind mount";

/// The mount of a volume with `options`.
pub(super) fn build(
    options: &BTreeMap<String, String>,
    populate: bool,
) -> Result<MountKind, SpecError> {
    if let Some(unknown) =
        options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device"))
    {
        if unknown == "size" {
            return Err(SpecError::unsupported("volume-opt size", "leave it out"));
        }
        return Err(SpecError::invalid(format!("invalid option: {unknown:?}")));
    }
    let get = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    let words = get("o").split(',').filter(|word| !word.is_empty());
    match get("type") {
        "tmpfs" => tmpfs(words),
        "" | "none" | "bind" => bind(get("device"), words, populate),
        kind => Err(SpecError::unsupported(format!("volume-opt type={kind}"), MOUNT_ON_HOST)),
    }
}

fn bind<'a>(
    device: &str,
    words: impl Iterator<Item = &'a str>,
    populate: bool,
) -> Result<MountKind, SpecError> {
    if !device.starts_with('/') || device.contains('\0') {
        return Err(SpecError::invalid(format!(
            "invalid device of a volume: {device:?} is no absolute path"
        )));
    }
    let (mut bound, mut recursive) = (false, false);
    for word in words {
        match word {
            "bind" => bound = true,
            "rbind" => (bound, recursive) = (true, true),
            "rw" => {}
            other => return Err(unsupported(other)),
        }
    }
    if !bound {
        return Err(SpecError::unsupported(
            format!("volume-opt device={device} without o=bind"),
            MOUNT_ON_HOST,
        ));
    }
    let source = clean(device).into();
    Ok(MountKind::Bind { source, propagation: Propagation::RPrivate, recursive, populate })
}

/// Empty, for what dockerd copies into such a volume goes with the copying mount.
fn tmpfs<'a>(words: impl Iterator<Item = &'a str>) -> Result<MountKind, SpecError> {
    let (mut size_bytes, mut mode, mut exec) = (None, 0o1777, true);
    let (mut uid, mut gid) = (None, None);
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let wrong = || SpecError::invalid(format!("invalid option of a tmpfs volume: {word:?}"));
        let id = || value.parse::<u32>().ok().filter(|id| *id != u32::MAX).ok_or_else(wrong);
        match key {
            "size" => size_bytes = Some(byte_size(value).ok_or_else(wrong)?),
            "mode" => {
                mode = u32::from_str_radix(value, 8).map_err(|_| wrong())? & 0o7777;
            }
            "uid" => uid = Some(id()?),
            "gid" => gid = Some(id()?),
            "noexec" => exec = false,
            // Always so here.
            "nosuid" | "nodev" | "rw" | "exec" => {}
            _ => return Err(unsupported(word)),
        }
    }
    let owner = (uid.is_some() || gid.is_some()).then(|| (uid.unwrap_or(0), gid.unwrap_or(0)));
    Ok(MountKind::Tmpfs { size_bytes, mode: Some(mode), exec, owner })
}

fn unsupported(word: &str) -> SpecError {
    SpecError::unsupported(format!("volume-opt o={word}"), MOUNT_ON_HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(options: &[(&str, &str)]) -> Result<MountKind, String> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        build(&options, true).map_err(|error| error.to_string())
    }

    #[test]
    fn folders_and_memory_are_made() {
        let kind = made(&[("type", "none"), ("o", "bind"), ("device", "/srv/../data")]).unwrap();
        let MountKind::Bind { source, recursive: false, populate: true, .. } = kind else {
            panic!("{kind:?}");
        };
        assert_eq!(source.to_str(), Some("/data"));
        let options =
            [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=100m,uid=1000,mode=0700")];
        let expected = MountKind::Tmpfs {
            size_bytes: Some(100 << 20),
            mode: Some(0o700),
            exec: true,
            owner: Some((1000, 0)),
        };
        assert_eq!(made(&options), Ok(expected));
    }

    #[test]
    fn the_rest_is_refused_by_name() {
        for (options, text) in [
            (&[("type", "nfs"), ("o", "addr=10.0.0.1"), ("device", ":/x")][..], "type=nfs"),
            (&[("type", "ext4"), ("device", "/dev/sda1")], "type=ext4"),
            (&[("type", "none"), ("device", "/x")], "without o=bind"),
            (&[("o", "bind"), ("device", "x")], "no absolute path"),
            (&[("o", "bind,noatime"), ("device", "/x")], "o=noatime"),
            (&[("type", "tmpfs"), ("o", "size=much")], "size=much"),
            (&[("type", "tmpfs"), ("o", "uid=-1")], "uid=-1"),
            (&[("size", "10m")], "size"),
            (&[("colour", "red")], "invalid option: \"colour\""),
        ] {
            let error = made(options).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
