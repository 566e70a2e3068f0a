//! The owner's last word: what a manager may not have run here, although this node could.
//!
//! What counts is what the process gets, whoever asked for it: the service, the image, or Docker's
//! default. So a rule either refuses, or takes from what the bundle gives; the runner and the node
//! hold it against what only they know, such as numbers of users and links of paths.

use super::{Field, SpecError, resources, security};
use crate::model::{
    ContainerSpec, MountKind, Policy, Propagation, SeccompChoice, capability_name,
    default_capabilities, matches,
};

const LEAVE_OUT: &str = "leave it out, or ask the owner of the device to allow it in agent.json";

fn refused(
    rule: &'static str,
    field: Field,
    what: impl Into<String>,
    remedy: &'static str,
) -> SpecError {
    SpecError::NotAdmitted { field, rule, what: what.into(), remedy }
}

/// Refuses an image; `canonical` is its whole reference.
///
/// # Errors
/// [`SpecError::NotAdmitted`].
pub fn admit_image(policy: &Policy, canonical: &str, by_digest: bool) -> Result<(), SpecError> {
    if policy.digests_only && !by_digest {
        return Err(refused(
            "digests-only",
            Field::Image,
            format!("image {canonical} without a digest"),
            "name it as NAME@sha256:DIGEST, without --no-resolve-image",
        ));
    }
    match &policy.images {
        Some(images) if !images.iter().any(|pattern| matches(pattern, canonical)) => Err(refused(
            "images",
            Field::Image,
            format!("image {canonical}"),
            "use one that the rule lists, or ask the owner of the device to list it in agent.json",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Refuses a path of this host, links already followed.
///
/// # Errors
/// [`SpecError::NotAdmitted`].
pub fn admit_bind(policy: &Policy, source: &str) -> Result<(), SpecError> {
    let Some(folders) = &policy.bind_sources else { return Ok(()) };
    let inside = |folder: &String| {
        source
            .strip_prefix(folder.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // A device that the owner lets containers use may be brought to them.
    let device = policy.devices.iter().any(|pattern| matches(pattern, source));
    if device || folders.iter().any(inside) {
        Ok(())
    } else {
        Err(refused(
            "bind-sources",
            Field::Mount,
            format!("bind mount of {source}"),
            "use a volume or a folder below those of the rule, or ask the owner of the device to \
             list it in agent.json",
        ))
    }
}

/// Refuses what the task itself asks for, as far as it shows without its image.
pub(super) fn check(
    policy: &Policy,
    spec: &ContainerSpec,
    host_network: bool,
) -> Result<(), SpecError> {
    if policy.no_host_network && host_network {
        return Err(refused(
            "host-network",
            Field::Network,
            "--network host",
            "use the network bridge, and --publish mode=host (compose: ports with mode: host)",
        ));
    }
    if policy.no_unconfined && !matches!(spec.privileges.seccomp, SeccompChoice::Default) {
        let what = "another seccomp profile than the default";
        return Err(refused("unconfined", Field::Seccomp, what, LEAVE_OUT));
    }
    if policy.no_apparmor_unconfined && spec.privileges.apparmor_disabled {
        let what = "a container without its AppArmor profile";
        return Err(refused("apparmor-unconfined", Field::AppArmor, what, LEAVE_OUT));
    }
    capabilities(policy, spec)?;
    oom_score_adj(policy, spec.oom_score_adj)?;
    pids(policy, spec.pids_limit)?;
    Ok(())
}

/// The capabilities that the container gets.
pub(super) fn capabilities(policy: &Policy, spec: &ContainerSpec) -> Result<u64, SpecError> {
    let wanted = security::capabilities(&spec.capability_add, &spec.capability_drop)?;
    let Some(allowed) = policy.capabilities else { return Ok(wanted) };
    let asked = wanted & security::named(&spec.capability_add)?;
    // The default ones are nobody's wish, so they are taken without a word.
    let over = wanted & !allowed & !default_capabilities() | asked & policy.withheld_capabilities;
    match capability_name(over) {
        Some(name) => {
            Err(refused("capabilities", Field::CapAdd, format!("capability {name}"), LEAVE_OUT))
        }
        None => Ok(wanted & !policy.withheld_capabilities),
    }
}

/// Refuses kernel parameters; `dotted` are those that the service names.
pub(super) fn sysctls<'a>(
    policy: &Policy,
    dotted: impl Iterator<Item = &'a String>,
) -> Result<(), SpecError> {
    let Some(patterns) = &policy.sysctls else { return Ok(()) };
    let listed = |name: &String| patterns.iter().any(|pattern| matches(pattern, name));
    match dotted.into_iter().find(|name| !listed(name)) {
        Some(name) => {
            Err(refused("sysctls", Field::Sysctl, format!("kernel parameter {name}"), LEAVE_OUT))
        }
        None => Ok(()),
    }
}

/// The OOM killer's preference. A service that names none, which is 0, gets the least that the
/// owner allows.
pub(super) fn oom_score_adj(policy: &Policy, score: i64) -> Result<i32, SpecError> {
    let score = resources::oom_score_adj(score)?;
    match policy.oom_score_min {
        Some(least) if score == 0 => Ok(least.max(0)),
        Some(least) if score < least => Err(refused(
            "oom-score",
            Field::OomScoreAdj,
            format!("OOM score {score}, below {least},"),
            LEAVE_OUT,
        )),
        Some(_) | None => Ok(score),
    }
}

/// The limit of processes; a service that names none gets the owner's.
pub(super) fn pids(policy: &Policy, limit: i64) -> Result<Option<u64>, SpecError> {
    let limit = u64::try_from(limit).ok().filter(|pids| 0 < *pids);
    match (policy.pids_max, limit) {
        (Some(most), Some(pids)) if most < pids => Err(refused(
            "pids-limit",
            Field::LimitPids,
            format!("a limit of {pids} processes, above {most},"),
            LEAVE_OUT,
        )),
        (most, limit) => Ok(limit.or(most)),
    }
}

/// Refuses a mount that the owner does not want, also that of a volume with `o=bind`. The node asks
/// again where its source leads.
pub(super) fn mount(policy: &Policy, kind: &MountKind, target: &str) -> Result<(), SpecError> {
    let MountKind::Bind { source, propagation, .. } = kind else { return Ok(()) };
    admit_bind(policy, &source.to_string_lossy())?;
    let travels = !matches!(propagation, Propagation::Private | Propagation::RPrivate);
    match &policy.propagation {
        Some(allowed) if travels && !allowed.contains(propagation) => Err(refused(
            "propagation",
            Field::Propagation,
            format!("propagation {} of {target}", propagation.name()),
            LEAVE_OUT,
        )),
        Some(_) | None => Ok(()),
    }
}

/// Refuses a user, or a group that is named by number. A user's name is refused too, for only the
/// image knows its number; the groups that the image adds are the runner's to look at.
pub(super) fn user(policy: &Policy, user: &str, groups: &[String]) -> Result<(), SpecError> {
    const REMEDY: &str = "name user and group by number, such as 1000:1000";
    let Some(ranges) = &policy.users else { return Ok(()) };
    let admitted = |number: u32| ranges.iter().any(|(from, to)| (*from..=*to).contains(&number));
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let number = if matches!(name, "" | "root") { Ok(0) } else { name.parse::<u32>() };
    let what = match number {
        Ok(number) if admitted(number) => {
            let named = [group].into_iter().chain(groups.iter().map(String::as_str));
            let numbers = named.filter_map(|name| match name {
                "root" => Some(0),
                name => name.parse::<u32>().ok(),
            });
            match numbers.into_iter().find(|number| !admitted(*number)) {
                None => return Ok(()),
                Some(group) => format!("group {group} of user {number}"),
            }
        }
        Ok(number) => format!("user {number}"),
        Err(_) => format!("user {name:?}, which is not a number,"),
    };
    Err(refused("users", Field::User, what, REMEDY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Denied;

    fn rule(result: Result<(), SpecError>) -> &'static str {
        match result {
            Ok(()) => "",
            Err(SpecError::NotAdmitted { rule, .. }) => rule,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn images_are_admitted_by_pattern_and_digest() {
        let policy = Policy {
            images: Some(vec!["docker.io/library/*".into()]),
            digests_only: true,
            ..Policy::default()
        };
        assert_eq!(rule(admit_image(&policy, "docker.io/library/nginx@sha256:00", true)), "");
        assert_eq!(rule(admit_image(&policy, "docker.io/library/nginx:1", false)), "digests-only");
        assert_eq!(rule(admit_image(&policy, "docker.io/evil/nginx@sha256:00", true)), "images");
        assert_eq!(rule(admit_image(&Policy::default(), "x", false)), "");
    }

    #[test]
    fn a_folder_admits_what_is_below_it_and_not_its_neighbours() {
        let policy = Policy {
            bind_sources: Some(vec!["/srv".into()]),
            devices: vec!["/dev/video*".into()],
            ..Policy::default()
        };
        assert_eq!(rule(admit_bind(&policy, "/srv")), "");
        assert_eq!(rule(admit_bind(&policy, "/srv/web/data")), "");
        assert_eq!(rule(admit_bind(&policy, "/srv2")), "bind-sources");
        assert_eq!(rule(admit_bind(&policy, "/")), "bind-sources");
        assert_eq!(rule(admit_bind(&policy, "/dev/video0")), "");
        let none = Policy { bind_sources: Some(Vec::new()), ..Policy::default() };
        assert_eq!(rule(admit_bind(&none, "/srv")), "bind-sources");
    }

    #[test]
    fn the_task_itself_is_looked_at() {
        let plain = ContainerSpec::default();
        let with = |change: fn(&mut ContainerSpec)| {
            let mut spec = ContainerSpec::default();
            change(&mut spec);
            spec
        };
        let policy = Policy {
            no_host_network: true,
            no_unconfined: true,
            no_apparmor_unconfined: true,
            oom_score_min: Some(-5),
            pids_max: Some(100),
            ..Policy::default()
        };
        assert_eq!(rule(check(&policy, &plain, true)), "host-network");
        assert_eq!(rule(check(&policy, &plain, false)), "");
        for (expected, spec) in [
            ("unconfined", with(|spec| spec.privileges.seccomp = SeccompChoice::Unconfined)),
            ("unconfined", with(|spec| spec.privileges.seccomp = SeccompChoice::Custom(vec![]))),
            ("apparmor-unconfined", with(|spec| spec.privileges.apparmor_disabled = true)),
            ("oom-score", with(|spec| spec.oom_score_adj = -6)),
            ("", with(|spec| spec.oom_score_adj = -5)),
            ("pids-limit", with(|spec| spec.pids_limit = 101)),
            ("", with(|spec| spec.pids_limit = 100)),
            ("", with(|spec| spec.pids_limit = -1)),
        ] {
            assert_eq!(rule(check(&policy, &spec, false)), expected, "{spec:?}");
            assert_eq!(rule(check(&Policy::default(), &spec, false)), "");
        }
    }

    #[test]
    fn capabilities_are_those_that_the_process_gets() {
        const DEFAULT: u64 = 0xa804_25fb;
        const NET_RAW: u64 = 1 << 13;
        const NET_ADMIN: u64 = 1 << 12;
        let words =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let policy = Policy {
            capabilities: Some(NET_ADMIN),
            withheld_capabilities: NET_RAW,
            ..Policy::default()
        };
        let got = |policy: &Policy, add: &[&str], drop: &[&str]| {
            let spec = ContainerSpec {
                capability_add: words(add),
                capability_drop: words(drop),
                ..ContainerSpec::default()
            };
            capabilities(policy, &spec).map_err(|error| error.to_string())
        };
        let refused = |add: &[&str], drop: &[&str]| got(&policy, add, drop).unwrap_err();
        assert_eq!(got(&policy, &[], &[]), Ok(DEFAULT & !NET_RAW));
        assert_eq!(got(&policy, &["cap_net_admin"], &["ALL"]), Ok(NET_ADMIN));
        // One of the default ones may be kept when the others are dropped.
        assert_eq!(got(&policy, &["CHOWN"], &["ALL"]), Ok(1));
        assert!(refused(&["SYS_TIME"], &[]).starts_with("capability SYS_TIME is not"));
        assert!(refused(&["net_raw"], &["ALL"]).starts_with("capability NET_RAW is not"));
        assert!(refused(&["ALL"], &[]).contains("(rule admission.capabilities)"));
        // Whoever may add all may not add what is withheld.
        let all = Policy { capabilities: Some(u64::MAX), ..policy.clone() };
        assert!(got(&all, &["ALL"], &[]).unwrap_err().starts_with("capability NET_RAW"));
        assert_eq!(got(&all, &["ALL"], &["NET_RAW"]), Ok(0x1ff_ffff_ffff & !NET_RAW));
        let nothing = Policy { withheld_capabilities: u64::MAX, ..all };
        assert_eq!(got(&nothing, &[], &[]), Ok(0));
        assert_eq!(got(&Policy::default(), &["NET_RAW"], &["ALL"]), Ok(NET_RAW));
    }

    #[test]
    fn what_is_not_said_gets_what_the_owner_says() {
        let policy = Policy { oom_score_min: Some(300), pids_max: Some(64), ..Policy::default() };
        assert_eq!(oom_score_adj(&policy, 0), Ok(300));
        assert_eq!(oom_score_adj(&policy, 500), Ok(500));
        assert!(oom_score_adj(&policy, 299).is_err() && oom_score_adj(&policy, -1000).is_err());
        let below = Policy { oom_score_min: Some(-10), ..Policy::default() };
        assert_eq!(oom_score_adj(&below, 0), Ok(0));
        assert_eq!(oom_score_adj(&Policy::default(), -1000), Ok(-1000));
        assert_eq!(pids(&policy, 0), Ok(Some(64)));
        assert_eq!(pids(&policy, i64::MIN), Ok(Some(64)));
        assert_eq!(pids(&policy, 5), Ok(Some(5)));
        assert_eq!(pids(&Policy::default(), 0), Ok(None));
    }

    #[test]
    fn mounts_travel_as_the_owner_allows() {
        let policy = Policy { propagation: Some(vec![RSlave]), ..Policy::default() };
        let admitted = |policy: &Policy, propagation| {
            let denied = Denied::default();
            let source = "/srv".into();
            let kind =
                MountKind::Bind { source, propagation, recursive: true, populate: false, denied };
            rule(mount(policy, &kind, "/x"))
        };
        use Propagation::{Private, RPrivate, RShared, RSlave, Shared, Slave};
        for allowed in [RPrivate, Private, RSlave] {
            assert_eq!(admitted(&policy, allowed), "");
        }
        for refused in [RShared, Shared, Slave] {
            assert_eq!(admitted(&policy, refused), "propagation");
            assert_eq!(admitted(&Policy::default(), refused), "");
        }
    }

    #[test]
    fn parameters_are_admitted_by_pattern() {
        let policy = Policy {
            sysctls: Some(vec!["net.core.*".into(), "kernel.sem".into()]),
            ..Policy::default()
        };
        let admitted = |name: &str| rule(sysctls(&policy, [name.to_owned()].iter()));
        assert_eq!((admitted("net.core.somaxconn"), admitted("kernel.sem")), ("", ""));
        for name in ["net.ipv4.ip_forward", "kernel.shmmax", "net.cores", "kernel.sema"] {
            assert_eq!(admitted(name), "sysctls", "{name}");
        }
        let none = Policy { sysctls: Some(Vec::new()), ..Policy::default() };
        assert_eq!(rule(sysctls(&none, ["kernel.sem".to_owned()].iter())), "sysctls");
        assert_eq!(rule(sysctls(&none, [].iter())), "");
    }

    #[test]
    fn a_user_is_admitted_by_number_only() {
        let policy = Policy { users: Some(vec![(1000, 1999)]), ..Policy::default() };
        let admitted = |policy: &Policy, name: &str, groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
            rule(user(policy, name, &groups))
        };
        for (name, groups) in [("1000", &[][..]), ("1000:1999", &["1500"]), ("1000:staff", &["x"])]
        {
            assert_eq!(admitted(&policy, name, groups), "", "{name}");
        }
        for refused in [
            "",
            "root",
            "0",
            "999",
            "app",
            "2000",
            "-1",
            "+1000x",
            "1000:0",
            "1000:root",
            "1000:5",
            ":1000",
        ] {
            assert_eq!(admitted(&policy, refused, &[]), "users", "{refused}");
        }
        assert_eq!(admitted(&policy, "1000:1000", &["1000", "0"]), "users");
        assert_eq!(admitted(&policy, "1000:1000", &["root"]), "users");
        assert_eq!(admitted(&Policy::default(), "", &["0"]), "");
    }
}
