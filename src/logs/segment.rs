//! The names of a ring's segments.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The file of segment `number`.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(number.to_string())
}

/// The numbers of the segments in `dir`, rising; other files do not count. A folder that does
/// not exist holds none.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.parse::<u64>().ok().filter(|number| number.to_string() == name));
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// `Ok` also when the file was not there.
pub(super) fn delete(dir: &Path, number: u64) -> io::Result<()> {
    match fs::remove_file(path(dir, number)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
