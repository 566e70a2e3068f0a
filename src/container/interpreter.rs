//! Which file a program needs to be run: the interpreter of a script, the loader of a binary.
//!
//! The kernel says "no such file" of the program when it is that one which is missing. Read here
//! only to tell so (Linux `fs/binfmt_script.c`, `fs/binfmt_elf.c`).

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::unix::ffi::OsStringExt,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// What the kernel reads of a script's first line (`BINPRM_BUF_SIZE`).
const LINE_MAX: usize = 256;
/// Interpreters that are scripts themselves: the kernel goes no further.
const DEPTH_MAX: usize = 5;
/// Program headers that are looked at: linkers write a dozen.
const HEADERS_MAX: u64 = 64;
/// Program header of the loader's name (`PT_INTERP`), elf(5).
const LOADER: u32 = 3;

/// The interpreter that is missing, when `program` is there and one of those that it needs is not.
pub(super) fn missing(program: &Path) -> Option<PathBuf> {
    let mut program = program.to_owned();
    for _ in 0..DEPTH_MAX {
        let file = File::open(&program).ok().filter(|f| f.metadata().is_ok_and(|m| m.is_file()))?;
        let needed = needed(&|at, buffer| file.read_at(buffer, at))?;
        match std::fs::metadata(&needed) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Some(needed),
            Ok(_) | Err(_) => program = needed,
        }
    }
    None
}

/// The file that a program names, whose bytes `read` gives from an offset on.
fn needed(read: &dyn Fn(u64, &mut [u8]) -> io::Result<usize>) -> Option<PathBuf> {
    let mut line = [0; LINE_MAX];
    let length = fill(read, 0, &mut line)?;
    let begin = line.get(..length)?;
    let name = match begin.strip_prefix(b"#!") {
        Some(script) => {
            let line = script.split(|b| *b == b'\n').next()?;
            let words = line.split(|b| matches!(b, b' ' | b'\t'));
            words.into_iter().find(|word| !word.is_empty())?.to_vec()
        }
        None => loader(read, begin)?,
    };
    (!name.is_empty()).then(|| PathBuf::from(OsString::from_vec(name)))
}

/// Little endian, as all machines are that this runs on.
fn loader(read: &dyn Fn(u64, &mut [u8]) -> io::Result<usize>, header: &[u8]) -> Option<Vec<u8>> {
    if !header.starts_with(b"\x7fELF") {
        return None;
    }
    let wide = match header.get(4)? {
        1 => false,
        2 => true,
        _ => return None,
    };
    let (table, size, count) = if wide {
        (number(header, 0x20, 8)?, number(header, 0x36, 2)?, number(header, 0x38, 2)?)
    } else {
        (number(header, 0x1c, 4)?, number(header, 0x2a, 2)?, number(header, 0x2c, 2)?)
    };
    for at in 0..count.min(HEADERS_MAX) {
        let mut entry = [0; 56];
        let length = fill(read, table.checked_add(at.checked_mul(size)?)?, &mut entry)?;
        let entry = entry.get(..length)?;
        if number(entry, 0, 4)? != u64::from(LOADER) {
            continue;
        }
        let (offset, length) = if wide {
            (number(entry, 8, 8)?, number(entry, 32, 8)?)
        } else {
            (number(entry, 4, 4)?, number(entry, 16, 4)?)
        };
        let mut name = vec![0; usize::try_from(length).ok()?.min(LINE_MAX)];
        let length = fill(read, offset, &mut name)?;
        name.truncate(length);
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        name.truncate(end);
        return Some(name);
    }
    None
}

fn fill(
    read: &dyn Fn(u64, &mut [u8]) -> io::Result<usize>,
    at: u64,
    buffer: &mut [u8],
) -> Option<usize> {
    // Beyond what an offset can be there is nothing.
    i64::try_from(at).ok()?;
    read(at, buffer).ok()
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(length)?)?;
    Some(part.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// For the fuzzer: the bytes of a program. What it names is part of them, and short.
pub(crate) fn fuzz(data: &[u8]) {
    let read = |at: u64, buffer: &mut [u8]| {
        let rest = usize::try_from(at).ok().and_then(|at| data.get(at..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(length)
    };
    if let Some(name) = needed(&read) {
        let name = name.into_os_string().into_vec();
        assert!(!name.is_empty() && name.len() <= LINE_MAX, "{name:?}");
        assert!(data.windows(name.len()).any(|part| part == name), "{name:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(bytes: &[u8]) -> Option<PathBuf> {
        fuzz(bytes);
        needed(&|at, buffer| {
            let rest = bytes.get(usize::try_from(at).unwrap()..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        })
    }

    #[test]
    fn scripts_name_their_interpreter() {
        for (script, name) in [
            ("#!/bin/bash\necho", Some("/bin/bash")),
            ("#! \t/usr/bin/env  -S python3", Some("/usr/bin/env")),
            ("#!/bin/sh\r\n", Some("/bin/sh\r")),
            ("#!\n/bin/sh", None),
            ("echo", None),
            ("", None),
        ] {
            assert_eq!(of(script.as_bytes()), name.map(PathBuf::from), "{script}");
        }
    }

    #[test]
    fn programs_name_their_loader() {
        let mut narrow = vec![0; 0x54];
        narrow[..5].copy_from_slice(b"\x7fELF\x01");
        narrow[0x1c] = 0x34;
        narrow[0x2a] = 32;
        narrow[0x2c] = 1;
        narrow[0x34] = 3;
        narrow[0x38] = 0x54;
        narrow[0x44] = 12;
        narrow.extend(b"/lib/ld.so\0x");
        assert_eq!(of(&narrow), Some(PathBuf::from("/lib/ld.so")));
        for cut in 0..narrow.len() {
            of(&narrow[..cut]);
        }
        // This test's own, or the system's shell.
        let loaders = ["/proc/self/exe", "/bin/sh"].map(|path| of(&fs::read(path).unwrap()));
        for loader in loaders.into_iter().flatten() {
            assert!(loader.exists(), "{}", loader.display());
        }
    }

    #[test]
    fn the_one_that_is_missing_is_named() {
        let dir = std::env::temp_dir().join(format!("edgeagent-needs-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let write = |name: &str, to: &Path| {
            fs::write(dir.join(name), format!("#!{}\n", to.display())).unwrap();
            dir.join(name)
        };
        let first = write("first", Path::new("/nonexistent/bash"));
        let second = write("second", &first);
        assert_eq!(missing(&second), Some(PathBuf::from("/nonexistent/bash")));
        let itself = write("loop", &dir.join("loop"));
        assert_eq!(missing(&itself), None);
        assert_eq!(missing(&dir), None);
        assert_eq!(missing(&dir.join("nothing")), None);
        crate::files::remove_tree(&dir).unwrap();
    }
}
