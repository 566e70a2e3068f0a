//! What is mounted: the one reader of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
//!
//! Names in it are of whoever may mount, also of a container whose mounts travel to the host: any
//! bytes but NUL. A line that is not understood is left out, for the others hold all the same.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The folder of the file system that is mounted.
    pub root: PathBuf,
    /// Where.
    pub place: PathBuf,
    /// Mounts below it go to its peers.
    pub shared: bool,
    /// Mounts below its master come here.
    pub slave: bool,
    /// The kind of file system.
    pub kind: String,
    /// Options of the file system, between commas.
    pub options: String,
}

/// The mounts that this process sees, in the order in which they were made.
///
/// # Errors
/// When the kernel's list can not be read.
pub fn mounts() -> io::Result<Vec<Mount>> {
    fs::read("/proc/self/mountinfo").map(|list| parse(&list))
}

/// Reads the kernel's list.
#[must_use]
pub fn parse(list: &[u8]) -> Vec<Mount> {
    list.split(|b| *b == b'\n').filter_map(mount).collect()
}

/// The mounts at or below `folder`, outermost first.
pub fn below<'a>(mounts: &'a [Mount], folder: &'a Path) -> impl Iterator<Item = &'a Path> {
    mounts.iter().map(|mount| mount.place.as_path()).filter(move |at| at.starts_with(folder))
}

/// Number, parent, device, root, place, options of the mount, optional fields, a dash, kind, source,
/// options of the file system.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let (root, place) = (fields.nth(3)?, fields.next()?);
    let mut mount = Mount {
        root: path(root),
        place: path(place),
        shared: false,
        slave: false,
        kind: String::new(),
        options: String::new(),
    };
    fields.next()?;
    loop {
        match fields.next()? {
            b"-" => break,
            field => {
                mount.shared |= field.starts_with(b"shared:");
                mount.slave |= field.starts_with(b"master:");
            }
        }
    }
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    mount.kind = text(fields.next()?);
    mount.options = text(fields.nth(1).unwrap_or_default());
    Some(mount)
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
            }
            _ => None,
        };
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_those_that_were_mounted() {
        let list = b"1 0 0:1 / / rw - ext4 x rw\n\
            2 1 0:2 /a\\040b /run/a rw,nosuid shared:7 - tmpfs none rw,size=1k\n\
            3 2 0:3 / /run/a/b\\040c\\134040\\011\xff rw shared:9 master:7 propagate_from:2 - fuse.x\\040y z rw\n\
            broken\n\
            4 1 0:4 / /run/ab rw master:1 - tmpfs x\n\
            5 1 0:5 / /no/kind rw -\n";
        let mounts = parse(list);
        assert_eq!(mounts.len(), 4, "{mounts:?}");
        assert_eq!(mounts[1].root, Path::new("/a b"));
        assert_eq!((mounts[1].shared, mounts[1].slave), (true, false));
        assert_eq!((mounts[1].kind.as_str(), mounts[1].options.as_str()), ("tmpfs", "rw,size=1k"));
        let odd = PathBuf::from(OsString::from_vec(b"/run/a/b c\\040\t\xff".to_vec()));
        assert_eq!((mounts[2].shared, mounts[2].slave), (true, true));
        assert_eq!(mounts[2].kind, "fuse.x y");
        assert_eq!(mounts[3].options, "");
        let found: Vec<&Path> = below(&mounts, Path::new("/run/a")).collect();
        assert_eq!(found, [Path::new("/run/a"), odd.as_path()]);
        assert!(!super::mounts().unwrap().is_empty());
    }
}
