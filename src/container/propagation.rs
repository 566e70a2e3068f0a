//! Whether mounts of a bind's source can travel at all: Docker refuses what would silently not
//! happen (moby `daemon/oci_linux.go`, `ensureShared`, `ensureSharedOrSlave`).

use std::{fs, path::Path};

use super::errno_text;
use crate::{
    files::mountinfo::{self, Mount},
    model::{BundleMount, MountKind, Propagation},
};

/// Looks at the sources of mounts that are to travel. For a process that still has the mounts of
/// the host, with their peers.
pub(super) fn check(mounts: &[BundleMount]) -> Result<(), String> {
    let mut table = None;
    for mount in mounts {
        let MountKind::Bind { source, propagation, .. } = &mount.kind else { continue };
        let both_ways = match propagation {
            Propagation::RPrivate | Propagation::Private => continue,
            Propagation::RShared | Propagation::Shared => true,
            Propagation::RSlave | Propagation::Slave => false,
        };
        let table = match &table {
            Some(table) => table,
            None => {
                let mounts = mountinfo::mounts()
                    .map_err(|e| format!("read the mounts: {}", errno_text(&e)))?;
                table.insert(mounts)
            }
        };
        // What is not there is told when it is mounted.
        let Ok(real) = fs::canonicalize(source) else { continue };
        travels(table, &real, both_ways)
            .map_err(|why| format!("path {} is mounted on {why}", source.display()))?;
    }
    Ok(())
}

fn travels(table: &[Mount], source: &Path, both_ways: bool) -> Result<(), String> {
    // The last one of a place lies over the others.
    let holds = |mount: &&Mount| source.starts_with(&mount.place);
    let found = table.iter().filter(holds).max_by_key(|mount| mount.place.components().count());
    let Some(mount) = found else { return Ok(()) };
    if mount.shared || mount.slave && !both_ways {
        return Ok(());
    }
    let kind = if both_ways { "shared" } else { "shared or slave" };
    Err(format!("{} but it is not a {kind} mount", mount.place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
        22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
        23 22 8:2 / /srv rw shared:7 - ext4 /dev/sda2 rw\n\
        24 23 8:3 / /srv/my\\040disk rw master:7 propagate_from:2 - ext4 /dev/sda3 rw\n\
        25 24 8:3 / /srv/both rw shared:9 master:7 - ext4 /dev/sda3 rw\n";

    #[test]
    fn the_innermost_mount_of_a_source_decides() {
        let table = mountinfo::parse(TABLE.as_bytes());
        let told = |source: &str, both| travels(&table, Path::new(source), both).err();
        assert_eq!(told("/srv/a", true), None);
        assert_eq!(told("/srv/both/x", true), None);
        assert_eq!(told("/srv/my disk/x", false), None);
        assert_eq!(
            told("/srv/my disk/x", true).unwrap(),
            "/srv/my disk but it is not a shared mount"
        );
        assert_eq!(told("/srv2", true).unwrap(), "/ but it is not a shared mount");
        assert_eq!(told("/srv2", false).unwrap(), "/ but it is not a shared or slave mount");
    }
}
