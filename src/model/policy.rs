//! What the owner of this device allows, whatever a manager wishes.

use super::Propagation;

/// The owner's rules. What is absent allows everything, as Docker does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `admission.images`: patterns of canonical references, `docker.io/library/nginx:1.27`.
    pub images: Option<Vec<String>>,
    /// `admission.digests-only`: only images that are named by digest.
    pub digests_only: bool,
    /// `admission.bind-sources`: folders that may be mounted, and all below them.
    pub bind_sources: Option<Vec<String>>,
    /// `admission.capabilities`: those that may be added to the default ones, bit by number.
    pub capabilities: Option<u64>,
    /// The same with a minus: those that no container gets.
    pub withheld_capabilities: u64,
    /// `admission.host-network` is false: no container shares the host's network.
    pub no_host_network: bool,
    /// `admission.unconfined` is false: no container goes without a seccomp profile of ours.
    pub no_unconfined: bool,
    /// `admission.apparmor-unconfined` is false: no container goes without the AppArmor profile
    /// that this device has.
    pub no_apparmor_unconfined: bool,
    /// `admission.no-new-privileges`: no container gains any by a set-id program.
    pub no_new_privileges: bool,
    /// `admission.sysctls`: patterns of kernel parameters that may be set, with dots.
    pub sysctls: Option<Vec<String>>,
    /// `admission.oom-score`: the least preference of the OOM killer, -1000 to 1000.
    pub oom_score_min: Option<i32>,
    /// `admission.propagation`: how mounts may travel, beside not at all.
    pub propagation: Option<Vec<Propagation>>,
    /// `admission.pids-limit`: most processes of a container, and what it gets that names none.
    pub pids_max: Option<u64>,
    /// `admission.users`: ranges of numbers that a container may start as.
    pub users: Option<Vec<(u32, u32)>>,
    /// `devices`: patterns of device nodes that a bind mount makes usable.
    pub devices: Vec<String>,
    /// `device-classes`: name of a generic resource, and patterns of the nodes it stands for.
    pub device_classes: Vec<(String, Vec<String>)>,
    /// `limits-without-controller` is `reject`: a task with a memory limit that the kernel can not
    /// enforce is refused, and not run without.
    pub reject_unenforced: bool,
}

/// Whether a text is of a pattern: `*` is any number of characters but `/`, `**` any characters.
/// Takes time proportional to the product of both lengths at most.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    // Bit by bit of `text`: whether the pattern so far matches what is before it.
    let mut reached = vec![false; text.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    let mut rest = pattern;
    while let Some((&byte, after)) = rest.split_first() {
        let across = byte == b'*' && after.first() == Some(&b'*');
        rest = if across { after.get(1..).unwrap_or_default() } else { after };
        let mut next = vec![false; text.len() + 1];
        let mut before = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let here = reached.get(at).copied().unwrap_or(false);
            let last = at.checked_sub(1).and_then(|at| text.get(at)).copied();
            *slot = if byte == b'*' {
                here || (before && (across || last != Some(b'/')))
            } else {
                let previous = at.checked_sub(1).and_then(|at| reached.get(at)).copied();
                last == Some(byte) && previous == Some(true)
            };
            before = *slot;
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stops_at_a_slash_and_two_do_not() {
        for (pattern, text, expected) in [
            ("/dev/video*", "/dev/video0", true),
            ("/dev/video*", "/dev/video", true),
            ("/dev/video*", "/dev/video/0", false),
            ("/dev/*", "/dev/snd/pcm", false),
            ("/dev/**", "/dev/snd/pcm", true),
            ("reg.local/**:1.*", "reg.local/team/app:1.27", true),
            ("reg.local/**:1.*", "reg.local.evil/app:1.27", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("", "", true),
            ("", "x", false),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_time_to_speak_of() {
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
    }
}
