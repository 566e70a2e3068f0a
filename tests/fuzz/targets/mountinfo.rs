//! `/proc/self/mountinfo`, with names of whoever may mount.

use std::{os::unix::ffi::OsStrExt, path::Path};

use edgeagent::files::mountinfo;

/// Any bytes: one mount for a line at most, and what it names comes from that line.
pub fn run(data: &[u8]) {
    let mounts = mountinfo::parse(data);
    assert!(mounts.len() <= data.split(|b| *b == b'\n').count());
    for mount in &mounts {
        for name in [&mount.root, &mount.place] {
            assert!(name.as_os_str().len() <= data.len());
        }
        let written = escape(mount.place.as_os_str().as_bytes());
        let line = [b"1 0 0:1 / ", &*written, b" rw - tmpfs x rw"].concat();
        let again = mountinfo::parse(&line);
        assert_eq!(again.len(), 1);
        assert_eq!(again.iter().map(|again| &again.place).next(), Some(&mount.place));
    }
    let all = mountinfo::below(&mounts, Path::new("/")).count();
    let some = mountinfo::below(&mounts, Path::new("/run/a")).inspect(|place| {
        assert!(place.starts_with("/run/a"));
    });
    assert!(some.count() <= all);
}

/// As the kernel writes names (Linux `fs/proc_namespace.c`).
fn escape(name: &[u8]) -> Vec<u8> {
    let one = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
        byte => vec![*byte],
    };
    name.iter().flat_map(one).collect()
}
