//! Capabilities of Linux, as sets of bits by number.

/// Names by number, without `CAP_` (Linux `include/uapi/linux/capability.h`).
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's default capabilities (moby `oci/caps/defaults.go`).
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The bit of a name, with or without `CAP_` and in any case; nothing when there is no such
/// capability.
#[must_use]
pub fn capability_bit(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let number = CAPABILITIES.iter().position(|known| *known == short)?;
    1_u64.checked_shl(u32::try_from(number).ok()?)
}

/// The name of the lowest capability of a set, without `CAP_`.
#[must_use]
pub fn capability_name(set: u64) -> Option<&'static str> {
    CAPABILITIES.get(usize::try_from(set.trailing_zeros()).ok()?).copied()
}

/// Those that Docker gives every container.
#[must_use]
pub fn default_capabilities() -> u64 {
    DEFAULT_CAPABILITIES.iter().filter_map(|name| capability_bit(name)).fold(0, |a, b| a | b)
}

/// All that there are.
pub const EVERY_CAPABILITY: u64 = (1 << CAPABILITIES.len()) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_bit_and_a_bit_a_name() {
        assert_eq!(capability_bit("cap_net_raw"), Some(1 << 13));
        assert_eq!(capability_name(1 << 13 | 1 << 21), Some("NET_RAW"));
        assert_eq!(
            (capability_bit(""), capability_bit("ALL"), capability_name(0)),
            (None, None, None)
        );
        assert_eq!(default_capabilities(), 0xa804_25fb);
        assert_eq!(EVERY_CAPABILITY, 0x1ff_ffff_ffff);
    }
}
