//! Trees of Debian packages, unpacked but not configured.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The file of a package in a folder.
fn find(debs: &Path, package: &str) -> Option<PathBuf> {
    let prefix = format!("{package}_");
    let mut files = fs::read_dir(debs).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix))
}

/// Downloads those of the packages that the folder does not have yet.
pub(crate) fn download<'a>(debs: &Path, packages: impl IntoIterator<Item = &'a str>) {
    fs::create_dir_all(debs).unwrap();
    let lacking: Vec<&str> =
        packages.into_iter().filter(|package| find(debs, package).is_none()).collect();
    if lacking.is_empty() {
        return;
    }
    let mut command = Command::new("apt-get");
    command.current_dir(debs).args(["-qq", "download"]).args(lacking).stderr(Stdio::null());
    assert!(command.status().unwrap().success(), "apt-get download");
}

/// Unpacks packages of `debs` into `tree`.
pub(crate) fn install(debs: &Path, packages: &[&str], tree: &Path) {
    fs::create_dir_all(tree).unwrap();
    for package in packages {
        let file = find(debs, package).unwrap();
        let done = Command::new("dpkg").arg("-x").args([&file, tree]).status().unwrap();
        assert!(done.success(), "dpkg -x {}", file.display());
    }
}
