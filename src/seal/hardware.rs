//! Identifiers of the hardware that a node runs on.
//!
//! They must stay the same over reboots and updates, or the node locks itself out. So a card in
//! a slot does not count, only a soldered eMMC, and `/etc/machine-id`, which a read-only image
//! may make anew on each boot and which moves along with a copied disk, counts only where the
//! hardware has no name at all.
//!
//! What follows for copies of a disk: with a name of the hardware, or a TPM, the copy is another
//! machine's and never opens the identity. A machine that has neither can not tell itself from its
//! copy: with `machine-id` alone the copy opens until it gets an id of its own, with nothing until
//! the operator makes it leave. Addresses of network cards would tell them apart, but come and go
//! with drivers and dongles, and would lock the node out.

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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn machine(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("edgeagent-{}-{name}", std::process::id()));
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn found(name: &str, files: &[(&str, &str)]) -> Vec<String> {
        let root = machine(name, files);
        let found = identifiers(&root);
        fs::remove_dir_all(root).unwrap();
        found.into_iter().map(|id| String::from_utf8(id).unwrap()).collect()
    }

    #[test]
    fn soldered_parts_count_and_cards_do_not() {
        let machine_id = ("etc/machine-id", "0123456789abcdef\n");
        let all = found(
            "all",
            &[
                machine_id,
                ("proc/device-tree/serial-number", "10000000abcdef\0"),
                ("sys/class/dmi/id/product_uuid", "uuid\n"),
                ("sys/block/mmcblk0/device/type", "SD\n"),
                ("sys/block/mmcblk0/device/cid", "card\n"),
                ("sys/block/mmcblk1/device/type", "MMC\n"),
                ("sys/block/mmcblk1/device/cid", "chip\n"),
                ("sys/block/mmcblk1boot0/device/type", "MMC\n"),
                ("sys/block/mmcblk1boot0/device/cid", "chip\n"),
                ("sys/block/sda/device/type", "0\n"),
            ],
        );
        assert_eq!(all, ["cid=chip", "product_uuid=uuid", "serial-number=10000000abcdef"]);
    }

    #[test]
    fn the_machine_id_counts_only_where_the_hardware_has_no_name() {
        let machine_id = ("etc/machine-id", "0123456789abcdef\n");
        assert_eq!(found("plain", &[machine_id]), ["machine-id=0123456789abcdef"]);
        let zeros = ("proc/device-tree/serial-number", "0000000000000000\0");
        assert_eq!(found("zeros", &[machine_id, zeros]), ["machine-id=0123456789abcdef"]);
        assert_eq!(found("none", &[("etc/hostname", "x")]), Vec::<String>::new());
    }
}
