//! A seccomp profile of an operator's own, with everything decided but the numbers of its calls.

use serde::{Deserialize, Serialize};

/// Which calls of the kernel a container may make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProfile {
    /// What becomes of a call that no rule is for.
    pub default: SeccompAction,
    /// Whose calls are allowed at all, besides those of the machine itself.
    pub architectures: Vec<SeccompArchitecture>,
    /// In the profile's order.
    pub rules: Vec<SeccompRule>,
    /// The kernel logs what is not allowed.
    pub log: bool,
    /// The processors' mitigation of speculative stores stays as it is.
    pub speculation: bool,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompAction {
    /// It is made.
    Allow,
    /// It is made and logged.
    Log,
    /// It fails with this number.
    Errno(u16),
    /// The tracer is told this number; without one the call does not exist.
    Trace(u16),
    /// The thread gets `SIGSYS`.
    Trap,
    /// The thread dies.
    KillThread,
    /// The process dies.
    KillProcess,
}

/// A set of numbers for calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompArchitecture {
    /// `SCMP_ARCH_X86_64`.
    X86_64,
    /// `SCMP_ARCH_X86`.
    X86,
    /// `SCMP_ARCH_X32`.
    X32,
    /// `SCMP_ARCH_ARM`.
    Arm,
    /// `SCMP_ARCH_AARCH64`.
    Aarch64,
    /// `SCMP_ARCH_RISCV64`.
    Riscv64,
}

/// What becomes of some calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompRule {
    /// Names of calls, with a space between. Those that nobody knows mean nothing.
    pub names: String,
    /// What becomes of them.
    pub action: SeccompAction,
    /// All of these must hold.
    pub conditions: Vec<SeccompCondition>,
}

/// A condition on an argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompCondition {
    /// Which argument, 0 to 5.
    pub argument: u8,
    /// How it is compared with the value.
    pub comparison: SeccompComparison,
    /// The value.
    pub value: u64,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompComparison {
    /// It is another.
    NotEqual,
    /// It is smaller.
    Less,
    /// It is smaller or the same.
    LessOrEqual,
    /// It is the same.
    Equal,
    /// It is larger or the same.
    GreaterOrEqual,
    /// It is larger.
    Greater,
    /// Of the bits in this mask it has those of the value.
    Masked(u64),
}
