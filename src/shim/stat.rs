//! What the kernel tells of a process in one line (`proc_pid_stat(5)`).

use std::{fs, str::FromStr};

use rustix::process::Pid;

/// The number of the parent, counted from the state.
pub(super) const PARENT: usize = 1;

/// When the process was made, in ticks since the start of the system.
pub(super) const STARTED: usize = 19;

/// One number of a process; none when it is gone.
pub(super) fn number<T: FromStr>(pid: Pid, field: usize) -> Option<T> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    parse(&stat, field)
}

fn parse<T: FromStr>(stat: &str, field: usize) -> Option<T> {
    // The name stands in brackets and may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(field)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10";
        assert_eq!(parse(stat, STARTED), Some(4711));
        assert_eq!(parse(stat, PARENT), Some(1));
        assert_eq!(parse::<u64>("7", STARTED), None);
    }
}
