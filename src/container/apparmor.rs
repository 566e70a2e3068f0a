//! AppArmor: the program gets Docker's profile where the kernel has it, and none otherwise.
//!
//! A profile is made by AppArmor's own compiler, so none is loaded from here: dockerd or the
//! system's packages do that.

use std::{fs, io, io::Read as _, io::Write as _, path::Path};

use super::errno_text;
use crate::limits::APPARMOR_PROFILES_MAX_BYTES;

/// Docker's profile (moby `profiles/apparmor`).
const PROFILE: &str = "docker-default";

/// What this kernel does for a container that is not told to do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppArmor {
    /// It has no AppArmor, or has it switched off.
    Absent,
    /// Nobody has loaded Docker's profile: containers are not confined by one.
    NoProfile,
    /// Docker's profile confines them.
    Default,
}

/// Looks at the kernel below `root`.
#[must_use]
pub fn apparmor(root: &Path) -> AppArmor {
    let enabled = fs::read_to_string(root.join("sys/module/apparmor/parameters/enabled"));
    if !enabled.is_ok_and(|text| text.starts_with('Y')) {
        return AppArmor::Absent;
    }
    let mut profiles = Vec::new();
    let read = fs::File::open(root.join("sys/kernel/security/apparmor/profiles"))
        .and_then(|file| file.take(APPARMOR_PROFILES_MAX_BYTES).read_to_end(&mut profiles));
    match read {
        Ok(_) if is_loaded(&String::from_utf8_lossy(&profiles)) => AppArmor::Default,
        // Without securityfs Docker does without, too.
        Ok(_) | Err(_) => AppArmor::NoProfile,
    }
}

/// Lines are a name and, in brackets, a mode.
fn is_loaded(profiles: &str) -> bool {
    profiles.lines().any(|line| line.rsplit_once(" (").is_some_and(|(name, _)| name == PROFILE))
}

/// The way to tell the kernel of the profile that begins with the next exec. Opened before the
/// host's procfs is out of sight, for what lies at `/proc` in a container may be anything
/// (CVE-2019-16884); only the process that opened it can use it.
#[derive(Debug)]
pub(super) struct Transition(Option<fs::File>);

impl Transition {
    /// Nothing to do when it is not wanted or the profile is not there.
    pub(super) fn prepare(wanted: bool) -> Result<Self, String> {
        if !wanted || apparmor(Path::new("/")) != AppArmor::Default {
            return Ok(Self(None));
        }
        let open = |path: &str| fs::OpenOptions::new().write(true).open(path);
        // Before Linux 5.8 there was one file for all such modules.
        open("/proc/self/attr/apparmor/exec")
            .or_else(|_| open("/proc/self/attr/exec"))
            .map(|file| Self(Some(file)))
            .map_err(|e| format!("find AppArmor's file: {}", errno_text(&e)))
    }

    pub(super) fn on_exec(self) -> io::Result<()> {
        let Some(mut file) = self.0 else { return Ok(()) };
        file.write_all(format!("exec {PROFILE}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_found_among_others_by_its_whole_name() {
        assert!(is_loaded("/usr/sbin/ntpd (enforce)\ndocker-default (enforce)\n"));
        assert!(is_loaded("docker-default (complain)"));
        assert!(!is_loaded("docker-default-2 (enforce)\nmy docker-default (enforce)\n"));
        assert!(!is_loaded("docker-default//child (enforce)\n"));
        assert!(!is_loaded(""));
    }

    #[test]
    fn a_kernel_has_it_or_not_with_the_profile_or_without() {
        let root = std::env::temp_dir().join(format!("edgeagent-apparmor-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(apparmor(&root), AppArmor::Absent);
        write("sys/module/apparmor/parameters/enabled", "N\n");
        assert_eq!(apparmor(&root), AppArmor::Absent);
        write("sys/module/apparmor/parameters/enabled", "Y\n");
        assert_eq!(apparmor(&root), AppArmor::NoProfile, "no securityfs");
        write("sys/kernel/security/apparmor/profiles", "unconfined (unconfined)\n");
        assert_eq!(apparmor(&root), AppArmor::NoProfile);
        write("sys/kernel/security/apparmor/profiles", "docker-default (enforce)\n");
        assert_eq!(apparmor(&root), AppArmor::Default);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn who_is_told_to_do_without_does_without() {
        assert!(Transition::prepare(false).unwrap().0.is_none());
    }
}
