//! Sizes as Docker reads them.

/// Digits of a fraction that count: the ninth of a terabyte is a kilobyte.
const FRACTION_DIGITS: usize = 9;

/// Bytes of `10m`, `0.5M`, `64 K`, `1.5GiB` and the like; units are powers of 1024, parts of a byte
/// are cut off (docker/go-units `RAMInBytes`).
#[must_use]
pub fn byte_size(text: &str) -> Option<u64> {
    let end = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at_checked(end)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let factor: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        "p" | "pb" | "pib" => 1 << 50,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() };
    let part = part.get(..part.len().min(FRACTION_DIGITS))?;
    let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let below = u128::from(number(part)?) * u128::from(factor) / scale;
    number(whole)?.checked_mul(factor)?.checked_add(u64::try_from(below).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("10", 10),
            ("10b", 10),
            ("10 ", 10),
            ("10B", 10),
            ("64k", 64 << 10),
            ("10m", 10 << 20),
            ("10 MB", 10 << 20),
            ("1GiB", 1 << 30),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
            ("0.5m", 512 << 10),
            ("1.5g", 3 << 29),
            ("1.25 KiB", 1280),
            (".5m", 512 << 10),
            ("1.m", 1 << 20),
            ("2.9", 2),
            ("0.3b", 0),
            ("1.0000000000000000000001k", 1024),
            ("007k", 7 << 10),
        ] {
            assert_eq!(byte_size(text), Some(bytes), "{text:?}");
        }
        for bad in [
            "",
            ".",
            " ",
            "m",
            "-1m",
            "+1m",
            "1,5m",
            "1.2.3m",
            "1..m",
            "10x",
            "10mm",
            "10bb",
            "10mi",
            "10mbb",
            "1  m",
            " 1m",
            "1m ",
            "1e3",
            "99999999999g",
            "18446744073709551616",
        ] {
            assert_eq!(byte_size(bad), None, "{bad:?}");
        }
    }
}
