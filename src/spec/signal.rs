//! Names and numbers of signals, as Docker reads them (moby `sys/signal`).

/// Gentle end.
pub(super) const SIGTERM: i32 = 15;

/// Seconds between the stop signal and SIGKILL when the spec does not say.
pub(super) const DEFAULT_GRACE_SECONDS: u32 = 10;

/// Numbers of Linux on ARM, x86 and RISC-V.
const NAMES: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// First and last real-time signal as Docker counts them, whatever the C library reserves.
const REAL_TIME: (i32, i32) = (34, 64);

/// The signal with this name (with or without `SIG`, in any case) or number.
pub(super) fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=REAL_TIME.1).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let (first, last) = REAL_TIME;
    match name {
        "RTMIN" => return Some(first),
        "RTMAX" => return Some(last),
        _ => {}
    }
    if let Some(above) = name.strip_prefix("RTMIN+") {
        return above.parse().ok().filter(|n| (1..=15).contains(n)).map(|n: i32| first + n);
    }
    if let Some(below) = name.strip_prefix("RTMAX-") {
        return below.parse().ok().filter(|n| (1..=14).contains(n)).map(|n: i32| last - n);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read_as_docker_reads_them() {
        let table = [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("sigquit", Some(3)),
            ("9", Some(9)),
            ("64", Some(64)),
            ("0", None),
            ("65", None),
            ("-1", None),
            ("", None),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN+15", Some(49)),
            ("RTMIN+16", None),
            ("RTMAX-14", Some(50)),
            ("RTMAX", Some(64)),
            ("RTMAX-15", None),
            ("SIGSIGTERM", None),
            ("NONSENSE", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
