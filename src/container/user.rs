//! Who the program runs as: names looked up in the container's own account files.
//!
//! Both files are the image's and hostile; odd lines are skipped.

/// A resolved user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, the own one first.
    pub(crate) groups: Vec<u32>,
    /// Home folder.
    pub(crate) home: String,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

/// Name, number and members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = number(fields.nth(1)?)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// Highest number that a user or group may have (moby: `minID`, `maxID`).
const ID_MAX: u32 = i32::MAX as u32;

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|id| *id <= ID_MAX)
}

/// Whether somebody meant a number that none may have: with a sign, or too large.
fn is_out_of_range(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// What to do about a user; `docker service create` and a compose file name it so.
const USER: &str = "--user (compose: user) takes a user of the image or a number, and :group";

/// The same about groups beside it, which a compose file cannot name.
const GROUP: &str = "--user (compose: user) and --group take groups of the image or numbers";

fn find_group(text: &str, group: &str) -> Result<u32, String> {
    groups(group)
        .find(|(name, ..)| *name == text)
        .map(|(_, gid, _)| gid)
        .or_else(|| number(text))
        .ok_or_else(|| match is_out_of_range(text) {
            true => format!("uids and gids must be in range 0-{ID_MAX}; {GROUP}, not {text}"),
            false => {
                format!("unable to find group {text}: no matching entries in group file; {GROUP}")
            }
        })
}

/// Resolves `user[:group]` and further groups, as runc does: names win over numbers, a number
/// need not be listed, and the groups that list the user as a member count only when no group
/// was asked for.
pub(crate) fn resolve(
    spec: &str,
    more: &[String],
    passwd: &str,
    group: &str,
) -> Result<User, String> {
    let (user, asked_group) = spec.split_once(':').unwrap_or((spec, ""));
    let wanted = if user.is_empty() { "0" } else { user };
    let id = number(wanted);
    let account = accounts(passwd)
        .find(|a| a.name == wanted)
        .or_else(|| accounts(passwd).find(|a| Some(a.uid) == id));
    let mut found = match (&account, id) {
        (Some(a), _) => {
            User { uid: a.uid, gid: a.gid, groups: Vec::new(), home: a.home.to_owned() }
        }
        (None, Some(uid)) => User { uid, gid: 0, groups: Vec::new(), home: String::new() },
        (None, None) if is_out_of_range(user) => {
            return Err(format!("uids and gids must be in range 0-{ID_MAX}; {USER}, not {user}"));
        }
        (None, None) => {
            return Err(format!(
                "unable to find user {user}: no matching entries in passwd file; {USER}"
            ));
        }
    };
    if found.home.is_empty() {
        "/".clone_into(&mut found.home);
    }
    let mut members = Vec::new();
    if asked_group.is_empty() {
        if let Some(name) = account.map(|a| a.name) {
            let of_user = groups(group).filter(|(.., list)| list.split(',').any(|m| m == name));
            members.extend(of_user.map(|(_, gid, _)| gid));
        }
    } else {
        found.gid = find_group(asked_group, group)?;
    }
    found.groups.push(found.gid);
    for name in more {
        members.push(find_group(name, group)?);
    }
    for gid in members {
        if !found.groups.contains(&gid) {
            found.groups.push(gid);
        }
    }
    Ok(found)
}

/// For the fuzzer: `user[:group]`, a further group, and both account files, split at zero bytes.
/// Whoever is found is nobody that the kernel reads as "no change", and root only when asked.
pub(crate) fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(4, '\0');
    let mut next = || parts.next().unwrap_or_default();
    let (spec, more, passwd, group) = (next(), next().to_owned(), next(), next());
    let Ok(user) = resolve(spec, &[more], passwd, group) else { return };
    assert!(user.uid <= ID_MAX && user.groups.iter().all(|gid| *gid <= ID_MAX), "{user:?}");
    assert_eq!(user.groups.first(), Some(&user.gid), "the own group comes first");
    assert!(!user.home.is_empty(), "there is always a home");
    let name = spec.split(':').next().unwrap_or_default();
    let asked = name.is_empty() || number(name) == Some(0);
    let listed = accounts(passwd).any(|account| account.name == name && account.uid == 0);
    assert!(user.uid != 0 || asked || listed, "{name:?} became root");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nbob:x:1000:1001:B:/home/bob:/x\n\
                          77:x:5:6::/odd:\nnohome:x:9:9\n";
    const GROUP: &str =
        "root:x:0:\nwheel:x:10:root,bob\nbad:x:y:bob\nbob:x:1001:\naudio:x:29:bob\n";

    fn who(spec: &str) -> (u32, u32, Vec<u32>, String) {
        let user = resolve(spec, &[], PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn users_are_found_as_runc_finds_them() {
        assert_eq!(who(""), (0, 0, vec![0, 10], "/root".into()));
        assert_eq!(who("bob"), (1000, 1001, vec![1001, 10, 29], "/home/bob".into()));
        assert_eq!(who("1000"), (1000, 1001, vec![1001, 10, 29], "/home/bob".into()));
        assert_eq!(who("bob:audio"), (1000, 29, vec![29], "/home/bob".into()));
        assert_eq!(who("4242"), (4242, 0, vec![0], "/".into()));
        assert_eq!(who("4242:4343"), (4242, 4343, vec![4343], "/".into()));
        assert_eq!(who("77"), (5, 6, vec![6], "/odd".into()), "a name wins over a number");
        assert_eq!(who(":audio"), (0, 29, vec![29], "/root".into()));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let missing = |spec: &str| resolve(spec, &[], PASSWD, GROUP).unwrap_err();
        for (spec, text) in [
            ("alice", "unable to find user alice: no matching entries in passwd file; --user"),
            ("bob:none", "unable to find group none: no matching entries in group file; --user"),
            ("-", "unable to find user -: "),
        ] {
            assert!(missing(spec).starts_with(text), "{}", missing(spec));
        }
        for spec in [
            "-1",
            "+5",
            "-0",
            "2147483648",
            "4294967295",
            "99999999999999999999",
            "bob:-1",
            "0:4294967295",
        ] {
            let text = missing(spec);
            assert!(text.starts_with("uids and gids must be in range 0-2147483647"), "{text}");
            assert!(text.contains("--user (compose: user)"), "{text}");
        }
        let more = resolve("bob", &["-7".to_owned()], PASSWD, GROUP).unwrap_err();
        assert!(more.contains("0-2147483647") && more.contains("--group"), "{more}");
    }

    #[test]
    fn a_number_that_means_no_change_makes_nobody_root() {
        // setresuid takes -1, which is 4294967295, for "as it is": root (CVE-2026-30892).
        for line in ["evil:x:4294967295:1::/:", "evil:x:1:4294967295::/:", "evil:x:+0:0::/:"] {
            assert!(resolve("evil", &[], line, "").is_err(), "{line}");
        }
        assert!(resolve("1:evil", &[], "", "evil:x:4294967295:").is_err());
    }

    #[test]
    fn further_groups_are_added_once() {
        let more = ["audio".to_owned(), "500".to_owned(), "1001".to_owned()];
        let user = resolve("bob", &more, PASSWD, GROUP).unwrap();
        assert_eq!(user.groups, [1001, 10, 29, 500]);
    }
}
