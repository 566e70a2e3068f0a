//! Which devices a container may use: Docker's default list, as v1 rules and as a v2 program.

use core::fmt;

use crate::model::BundleDevice;

/// One allowed device. Everything else is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Block = 1,
    Character = 2,
}

/// What may be done, as the kernel's bits (`BPF_DEVCG_ACC_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Mknod = 1,
    Read = 2,
    ReadWrite = 6,
    All = 7,
}

const fn node(major: u32, minor: Option<u32>) -> Rule {
    Rule { kind: Kind::Character, major: Some(major), minor, access: Access::All }
}

const fn making(kind: Kind) -> Rule {
    Rule { kind, major: None, minor: None, access: Access::Mknod }
}

/// The default list, and what this container was given.
pub(crate) fn rules(devices: &[BundleDevice]) -> impl Iterator<Item = Rule> {
    ALLOWED.into_iter().chain(devices.iter().map(|device| Rule {
        kind: if device.block { Kind::Block } else { Kind::Character },
        major: Some(device.major),
        minor: Some(device.minor),
        access: if device.read_only { Access::Read } else { Access::ReadWrite },
    }))
}

/// moby `oci/defaults.go` and runc `libcontainer/specconv` (`AllowedDevices`): nodes of any kind
/// may be made; null, zero, full, tty, random, urandom, console, terminals and ptmx be used, and
/// tun, which is of use only to one who may administer its network.
const ALLOWED: [Rule; 12] = [
    making(Kind::Character),
    making(Kind::Block),
    node(1, Some(3)),
    node(1, Some(5)),
    node(1, Some(7)),
    node(1, Some(8)),
    node(1, Some(9)),
    node(5, Some(0)),
    node(5, Some(1)),
    node(5, Some(2)),
    node(136, None),
    node(10, Some(200)),
];

impl fmt::Display for Rule {
    /// As `devices.allow` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Block => 'b',
            Kind::Character => 'c',
        };
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let access = match self.access {
            Access::Mknod => "m",
            Access::Read => "r",
            Access::ReadWrite => "rw",
            Access::All => "rwm",
        };
        write!(f, "{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

// eBPF: operation, registers (destination low, source high), offset, immediate value.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

const fn instruction(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> u64 {
    // Little-endian fields: code, registers, offset, value.
    let [o0, o1] = offset.to_le_bytes();
    let [v0, v1, v2, v3] = value.to_le_bytes();
    u64::from_ne_bytes([code, destination | (source << 4), o0, o1, v0, v1, v2, v3])
}

/// The same list as a program for `BPF_PROG_TYPE_CGROUP_DEVICE`: its context holds kind and
/// access in one word, then major and minor number.
pub(crate) fn program(devices: &[BundleDevice]) -> Vec<u64> {
    let mut code = vec![
        // r2 = kind, r3 = access, r4 = major, r5 = minor
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules(devices) {
        let mut tests = vec![(2, rule.kind as i32)];
        // The kernel's numbers have 12 and 20 bits.
        tests.extend(rule.major.and_then(|n| i32::try_from(n).ok()).map(|n| (4, n)));
        tests.extend(rule.minor.and_then(|n| i32::try_from(n).ok()).map(|n| (5, n)));
        // r6 = what is wanted and not allowed
        code.push(instruction(MOVE, 6, 3, 0, 0));
        code.push(instruction(AND, 6, 0, 0, !(rule.access as i32)));
        tests.push((6, 0));
        let mut left = i16::try_from(tests.len()).unwrap_or_default();
        for (register, value) in tests {
            left -= 1;
            // Past the remaining tests and the two that allow.
            code.push(instruction(JUMP_NOT_EQUAL, register, 0, left + 2, value));
        }
        code.push(instruction(MOVE_VALUE, 0, 0, 0, 1));
        code.push(instruction(EXIT, 0, 0, 0, 0));
    }
    code.push(instruction(MOVE_VALUE, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would, for the few operations that it uses.
    fn run(kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [kind | (access << 16), major, minor];
        let given = BundleDevice { block: false, major: 81, minor: 0, read_only: true, node: None };
        let disk = BundleDevice { block: true, major: 8, minor: 1, read_only: false, node: None };
        let code = program(&[given, disk]);
        let mut register = [0_u64; 11];
        let mut at = 0_usize;
        loop {
            let [op, regs, o0, o1, v0, v1, v2, v3] = code[at].to_ne_bytes();
            let (to, from) = (usize::from(regs & 15), usize::from(regs >> 4));
            let offset = i16::from_le_bytes([o0, o1]);
            // Sign extended, as by the kernel.
            let value = i64::from(i32::from_le_bytes([v0, v1, v2, v3])).cast_unsigned();
            at += 1;
            match op {
                LOAD_WORD => register[to] = context[usize::try_from(offset / 4).unwrap()].into(),
                AND => register[to] &= value,
                SHIFT_RIGHT => register[to] >>= value,
                MOVE => register[to] = register[from],
                MOVE_VALUE => register[to] = value,
                JUMP_NOT_EQUAL => {
                    if register[to] != value {
                        at += usize::try_from(offset).unwrap();
                    }
                }
                EXIT => return register[0],
                other => panic!("operation {other:#x}"),
            }
        }
    }

    #[test]
    fn the_program_allows_what_the_rules_say() {
        let (block, character) = (1, 2);
        let (mknod, read, write) = (1, 2, 4);
        assert_eq!(run(character, read, 1, 3), 1, "null");
        assert_eq!(run(character, read | write, 136, 7), 1, "a terminal");
        assert_eq!(run(character, read, 10, 200), 1, "tun");
        assert_eq!(run(character, read, 10, 201), 0, "a neighbour of tun");
        assert_eq!(run(character, read, 1, 11), 0, "kmsg");
        assert_eq!(run(character, mknod, 1, 11), 1, "making kmsg");
        assert_eq!(run(block, mknod, 8, 0), 1, "making a disk");
        assert_eq!(run(block, read, 8, 0), 0, "a disk");
        assert_eq!(run(block, mknod | write, 8, 0), 0, "a disk while making it");
        assert_eq!(run(character, read, 81, 0), 1, "a camera to look through");
        assert_eq!(run(character, write, 81, 0), 0, "and not to write to");
        assert_eq!(run(character, read | mknod, 81, 0), 0, "nor to make while reading");
        assert_eq!(run(block, read | write, 8, 1), 1, "a disk that was given");
        assert_eq!(run(block, read, 1, 3), 0, "a block device with the numbers of null");
    }

    #[test]
    fn rules_are_written_as_the_kernel_reads_them() {
        assert_eq!(ALLOWED[0].to_string(), "c *:* m");
        assert_eq!(ALLOWED[2].to_string(), "c 1:3 rwm");
        assert_eq!(ALLOWED[10].to_string(), "c 136:* rwm");
    }

    #[test]
    #[cfg_attr(not(root), ignore = "needs root")]
    fn the_kernel_takes_the_program() {
        use std::os::fd::AsFd as _;
        let tree = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .into_iter()
            .find(|dir| std::path::Path::new(dir).join("cgroup.controllers").exists());
        let tree = tree.expect("a hierarchy of version 2");
        let group = format!("{tree}/edgeagent-device-{}", std::process::id());
        std::fs::create_dir(&group).unwrap();
        let dir = std::fs::File::open(&group).unwrap();
        let attached = crate::sys::attach_device_program(dir.as_fd(), &program(&[]));
        std::fs::remove_dir(&group).unwrap();
        attached.unwrap();
    }
}
