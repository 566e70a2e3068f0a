//! Volumes of the driver `local` with options: `type`, `device` and `o`, as for `mount` (moby
//! `volume/local/`).
//!
//! A folder of the host (`type=none`, `o=bind`) and memory (`type=tmpfs`) are made; what needs the
//! network or a disk is for the host to mount. Memory belongs to one container here: Docker would
//! show the same to all containers that use the volume at a time.

use std::collections::BTreeMap;

use super::{Field, SpecError, clean};
use crate::model::{Denied, MountKind, Propagation, byte_size};

const MOUNT_ON_HOST: &str = "mount it on the host and use a bind mount";

/// The words of mount(8) that are flags (moby/sys `mount/flags_linux.go`), as they stand at the
/// end: a later word wins over an earlier one.
#[derive(Default)]
struct Flags {
    read_only: bool,
    denied: Denied,
    bound: bool,
    recursive: bool,
}

impl Flags {
    /// Takes a word in; `false` when it is none of these.
    fn take(&mut self, word: &str) -> bool {
        match word {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "noexec" => self.denied.programs = true,
            "exec" => self.denied.programs = false,
            "nosuid" => self.denied.set_id = true,
            "suid" => self.denied.set_id = false,
            "nodev" => self.denied.devices = true,
            "dev" => self.denied.devices = false,
            "bind" => self.bound = true,
            "rbind" => (self.bound, self.recursive) = (true, true),
            "defaults" => {
                (self.read_only, self.denied) = (false, Denied::default());
            }
            // How the file system writes and keeps times: a bind has them from the host's mount,
            // and in memory they change nothing that a program sees.
            "sync" | "async" | "dirsync" | "atime" | "noatime" | "diratime" | "nodiratime"
            | "relatime" | "norelatime" | "strictatime" | "nostrictatime" | "mand" | "nomand" => {}
            // Between the host's mounts; the container's own stays private, as under Docker.
            "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" => {}
            _ => return false,
        }
        true
    }
}

/// The mount of a volume with `options`, and whether it is read-only.
pub(super) fn build(
    options: &BTreeMap<String, String>,
    populate: bool,
) -> Result<(MountKind, bool), SpecError> {
    if let Some(unknown) =
        options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device"))
    {
        if unknown == "size" {
            return Err(SpecError::unsupported(
                Field::VolumeOption,
                "volume-opt size",
                "leave it out",
            ));
        }
        return Err(SpecError::invalid(
            Field::VolumeOption,
            format!("invalid option: {unknown:?}"),
        ));
    }
    let get = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    let (mut flags, mut rest) = (Flags::default(), Vec::new());
    for word in get("o").split(',').filter(|word| !word.is_empty()) {
        if !flags.take(word) {
            rest.push(word);
        }
    }
    let device = get("device");
    match get("type") {
        // The kernel looks at no type then.
        _ if flags.bound => {
            if let Some(word) = rest.first() {
                return Err(unsupported(word));
            }
            bind(device, &flags, populate).map(|kind| (kind, flags.read_only))
        }
        "tmpfs" => tmpfs(&rest, flags.denied).map(|kind| (kind, flags.read_only)),
        "" | "none" | "bind" => {
            absolute(device)?;
            Err(SpecError::unsupported(
                Field::VolumeOption,
                format!("volume-opt device={device} without o=bind"),
                "say o=bind, or mount it on the host and use a bind mount",
            ))
        }
        kind => Err(SpecError::unsupported(
            Field::VolumeOption,
            format!("volume-opt type={kind}"),
            MOUNT_ON_HOST,
        )),
    }
}

fn absolute(device: &str) -> Result<(), SpecError> {
    if device.starts_with('/') && !device.contains('\0') {
        return Ok(());
    }
    let reason = format!("invalid device of a volume: {device:?} is no absolute path");
    Err(SpecError::invalid(Field::VolumeOption, reason))
}

fn bind(device: &str, flags: &Flags, populate: bool) -> Result<MountKind, SpecError> {
    absolute(device)?;
    Ok(MountKind::Bind {
        source: clean(device).into(),
        propagation: Propagation::RPrivate,
        recursive: flags.recursive,
        populate,
        denied: flags.denied,
    })
}

/// Empty, for what dockerd copies into such a volume goes with the copying mount. Set-id programs
/// and devices never work in it.
fn tmpfs(words: &[&str], denied: Denied) -> Result<MountKind, SpecError> {
    let (mut size_bytes, mut mode) = (None, 0o1777);
    let (mut uid, mut gid) = (None, None);
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let wrong = || {
            let reason = format!("invalid option of a tmpfs volume: {word:?}");
            SpecError::invalid(Field::VolumeOption, reason)
        };
        let id = || value.parse::<u32>().ok().filter(|id| *id != u32::MAX).ok_or_else(wrong);
        match key {
            "size" => size_bytes = Some(byte_size(value).ok_or_else(wrong)?),
            "mode" => {
                mode = u32::from_str_radix(value, 8).map_err(|_| wrong())? & 0o7777;
            }
            "uid" => uid = Some(id()?),
            "gid" => gid = Some(id()?),
            _ => return Err(unsupported(word)),
        }
    }
    let owner = (uid.is_some() || gid.is_some()).then(|| (uid.unwrap_or(0), gid.unwrap_or(0)));
    Ok(MountKind::Tmpfs { size_bytes, mode: Some(mode), exec: !denied.programs, owner })
}

fn unsupported(word: &str) -> SpecError {
    SpecError::unsupported(
        Field::VolumeOption,
        format!("volume-opt o={word}"),
        "leave the word out, or mount it on the host and use a bind mount",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(options: &[(&str, &str)]) -> Result<(MountKind, bool), String> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        build(&options, true).map_err(|error| error.to_string())
    }

    fn made(options: &[(&str, &str)]) -> Result<MountKind, String> {
        built(options).map(|(kind, _)| kind)
    }

    #[test]
    fn the_words_of_mount_are_taken_and_the_last_one_wins() {
        let with = |words: &str| built(&[("type", "none"), ("o", words), ("device", "/x")]);
        let none = Denied::default();
        let programs = Denied { programs: true, ..none };
        let all = Denied { programs: true, set_id: true, devices: true };
        for (words, read_only, recursive, denied) in [
            ("bind", false, false, none),
            ("bind,ro", true, false, none),
            ("ro,bind", true, false, none),
            ("bind,ro,rw", false, false, none),
            ("rbind,ro", true, true, none),
            ("bind,noexec,nosuid,nodev", false, false, all),
            ("bind,noexec,exec,noexec", false, false, programs),
            ("bind,noexec,ro,defaults", false, false, none),
            ("bind,noatime,nodiratime,relatime,sync,dirsync", false, false, none),
            (",bind,,rshared,", false, false, none),
        ] {
            let (kind, ro) = with(words).unwrap();
            let MountKind::Bind { propagation, recursive: below, denied: less, .. } = kind else {
                panic!("{words}: {kind:?}");
            };
            assert_eq!((ro, below, less), (read_only, recursive, denied), "{words}");
            assert_eq!(propagation, Propagation::RPrivate, "{words}");
        }
        // Whatever type is said beside it.
        assert!(built(&[("type", "nfs"), ("o", "bind"), ("device", "/x")]).is_ok());
        let (kind, ro) = built(&[("type", "tmpfs"), ("o", "ro,noexec,noatime,size=1m")]).unwrap();
        assert!(ro && matches!(kind, MountKind::Tmpfs { exec: false, .. }), "{kind:?}");
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
            (&[("o", "bind,size=1m"), ("device", "/x")], "o=size=1m"),
            (&[("o", "bind,remount"), ("device", "/x")], "o=remount"),
            (&[("o", "bind,unbindable"), ("device", "/x")], "o=unbindable"),
            (&[("o", "BIND"), ("device", "/x")], "without o=bind"),
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
