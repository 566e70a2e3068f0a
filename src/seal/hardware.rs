//! Identifiers of the hardware that a node runs on.
//!
//! They must stay the same over reboots and updates, or the node locks itself out. So a card in
//! a slot does not count, only a soldered eMMC, and `/etc/machine-id`, which a read-only image
//! may make anew on each boot and which moves along with a copied disk, counts only where the
//! hardware has no name at all.

use std::{fs, path::Path};

use super::files;
use crate::limits::HARDWARE_ID_MAX_BYTES;

/// What there is of: device tree serial number, DMI product UUID, CIDs of eMMC chips; sorted.
pub(super) fn identifiers(root: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    found.extend(identifier(root, "proc/device-tree/serial-number"));
    found.extend(identifier(root, "sys/class/dmi/id/product_uuid"));
    for entry in fs::read_dir(root.join("sys/block")).into_iter().flatten().flatten() {
        let soldered = |kind: Vec<u8>| kind.ends_with(b"MMC");
        let is_card = entry.file_name().as_encoded_bytes().starts_with(b"mmcblk");
        if is_card && identifier(&entry.path(), "device/type").is_some_and(soldered) {
            found.extend(identifier(&entry.path(), "device/cid"));
        }
    }
    if found.is_empty() {
        found.extend(identifier(root, "etc/machine-id"));
    }
    found.sort();
    // A chip shows its boot areas as block devices of their own.
    found.dedup();
    found
}

/// File name and trimmed content, unless that says nothing.
fn identifier(folder: &Path, path: &str) -> Option<Vec<u8>> {
    let content = files::read(&folder.join(path), HARDWARE_ID_MAX_BYTES).ok().flatten()?;
    let content = content.trim_ascii();
    let content = content.strip_suffix(&[0]).unwrap_or(content);
    let says_nothing = |byte: &u8| matches!(byte, b'0' | b'-' | b'f' | b'F' | b' ');
    if content.iter().all(says_nothing) {
        return None;
    }
    let (_, name) = path.rsplit_once('/')?;
    Some([name.as_bytes(), b"=", content].concat())
}
