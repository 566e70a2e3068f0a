//! The names of TPM 2.0 response codes, as tables (TCG *TPM 2.0 Library*, Part 2, 6.6).

/// `TPM_RC_YIELDED`, `TPM_RC_TESTING`, `TPM_RC_NV_RATE`, `TPM_RC_RETRY`: the same command again
/// may succeed.
const AGAIN: [u32; 4] = [0x908, 0x90a, 0x920, 0x922];

/// Bit 7: an error about a parameter, handle or session, whose number is in other bits.
const FORMAT_ONE: u32 = 0x80;

/// `TPM_RC_INTEGRITY` without its place: a private area that this TPM did not make.
const INTEGRITY: u32 = 0x9f;

/// True when the TPM asks to be asked again.
pub(super) fn asks_again(code: u32) -> bool {
    AGAIN.contains(&code)
}

/// True when a loaded object is of another TPM, or its owner hierarchy was cleared.
pub(super) const fn is_integrity(code: u32) -> bool {
    code & 0xffff_f0bf == INTEGRITY
}

/// True when a password of the hierarchy or object is missing: `TPM_RC_AUTH_FAIL`,
/// `TPM_RC_BAD_AUTH`.
pub(super) const fn is_authorization(code: u32) -> bool {
    matches!(code & 0xffff_f0bf, 0x8e | 0xa2)
}

/// The name without `TPM_RC_`; nothing for a code that the specification does not have.
pub(super) fn name(code: u32) -> Option<&'static str> {
    let (table, number) = if code & !0xfff != 0 {
        // A layer above the TPM, such as the kernel's resource manager.
        return None;
    } else if code & FORMAT_ONE != 0 {
        (FORMAT_ONE_NAMES, code & 0x3f)
    } else {
        (PLAIN_NAMES, code)
    };
    table.iter().find(|(at, _)| *at == number).map(|(_, name)| *name)
}

const FORMAT_ONE_NAMES: &[(u32, &str)] = &[
    (0x01, "ASYMMETRIC"),
    (0x02, "ATTRIBUTES"),
    (0x03, "HASH"),
    (0x04, "VALUE"),
    (0x05, "HIERARCHY"),
    (0x07, "KEY_SIZE"),
    (0x08, "MGF"),
    (0x09, "MODE"),
    (0x0a, "TYPE"),
    (0x0b, "HANDLE"),
    (0x0c, "KDF"),
    (0x0d, "RANGE"),
    (0x0e, "AUTH_FAIL"),
    (0x0f, "NONCE"),
    (0x10, "PP"),
    (0x12, "SCHEME"),
    (0x15, "SIZE"),
    (0x16, "SYMMETRIC"),
    (0x17, "TAG"),
    (0x18, "SELECTOR"),
    (0x1a, "INSUFFICIENT"),
    (0x1b, "SIGNATURE"),
    (0x1c, "KEY"),
    (0x1d, "POLICY_FAIL"),
    (0x1f, "INTEGRITY"),
    (0x20, "TICKET"),
    (0x21, "RESERVED_BITS"),
    (0x22, "BAD_AUTH"),
    (0x23, "EXPIRED"),
    (0x24, "POLICY_CC"),
    (0x25, "BINDING"),
    (0x26, "CURVE"),
    (0x27, "ECC_POINT"),
];

const PLAIN_NAMES: &[(u32, &str)] = &[
    (0x01e, "BAD_TAG"),
    (0x100, "INITIALIZE"),
    (0x101, "FAILURE"),
    (0x103, "SEQUENCE"),
    (0x10b, "PRIVATE"),
    (0x119, "HMAC"),
    (0x120, "DISABLED"),
    (0x121, "EXCLUSIVE"),
    (0x124, "AUTH_TYPE"),
    (0x125, "AUTH_MISSING"),
    (0x126, "POLICY"),
    (0x127, "PCR"),
    (0x128, "PCR_CHANGED"),
    (0x12d, "UPGRADE"),
    (0x12e, "TOO_MANY_CONTEXTS"),
    (0x12f, "AUTH_UNAVAILABLE"),
    (0x130, "REBOOT"),
    (0x131, "UNBALANCED"),
    (0x142, "COMMAND_SIZE"),
    (0x143, "COMMAND_CODE"),
    (0x144, "AUTHSIZE"),
    (0x145, "AUTH_CONTEXT"),
    (0x146, "NV_RANGE"),
    (0x147, "NV_SIZE"),
    (0x148, "NV_LOCKED"),
    (0x149, "NV_AUTHORIZATION"),
    (0x14a, "NV_UNINITIALIZED"),
    (0x14b, "NV_SPACE"),
    (0x14c, "NV_DEFINED"),
    (0x150, "BAD_CONTEXT"),
    (0x151, "CPHASH"),
    (0x152, "PARENT"),
    (0x153, "NEEDS_TEST"),
    (0x154, "NO_RESULT"),
    (0x155, "SENSITIVE"),
    (0x901, "CONTEXT_GAP"),
    (0x902, "OBJECT_MEMORY"),
    (0x903, "SESSION_MEMORY"),
    (0x904, "MEMORY"),
    (0x905, "SESSION_HANDLES"),
    (0x906, "OBJECT_HANDLES"),
    (0x907, "LOCALITY"),
    (0x908, "YIELDED"),
    (0x909, "CANCELED"),
    (0x90a, "TESTING"),
    (0x910, "REFERENCE_H0"),
    (0x911, "REFERENCE_H1"),
    (0x912, "REFERENCE_H2"),
    (0x918, "REFERENCE_S0"),
    (0x920, "NV_RATE"),
    (0x921, "LOCKOUT"),
    (0x922, "RETRY"),
    (0x923, "NV_UNAVAILABLE"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_the_specification() {
        for (code, expected) in [
            (0x1df, Some("INTEGRITY")), // parameter 1
            (0x09f, Some("INTEGRITY")),
            (0x98e, Some("AUTH_FAIL")), // session 1
            (0x9a2, Some("BAD_AUTH")),
            (0x18b, Some("HANDLE")), // handle 1
            (0x100, Some("INITIALIZE")),
            (0x922, Some("RETRY")),
            (0x921, Some("LOCKOUT")),
            (0xb_0143, None), // the kernel's resource manager
            (0x1bf, None),
        ] {
            assert_eq!(name(code), expected, "{code:#x}");
        }
    }

    #[test]
    fn the_place_in_a_code_does_not_hide_what_it_says() {
        assert!(is_integrity(0x1df) && is_integrity(0x2df) && is_integrity(0x09f));
        assert!(!is_integrity(0x11f) && !is_integrity(0xb_01df) && !is_integrity(0x1de));
        assert!(is_authorization(0x9a2) && is_authorization(0x98e) && !is_authorization(0x921));
        assert!(asks_again(0x922) && asks_again(0x908) && !asks_again(0x921));
    }
}
