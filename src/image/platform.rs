//! Which platform this device is, and which images run on it.
//!
//! Rules: containerd `platforms/{database,compare}.go`. The variants of amd64 above v1 are the
//! levels of the x86-64 psABI, which the CPU's features decide.

use crate::model::Platform;

/// The platform of this device, from `uname`.
#[must_use]
pub fn host_platform() -> Platform {
    let name = rustix::system::uname();
    let mut platform = platform_of_machine(&name.machine().to_string_lossy());
    if platform.architecture == "amd64" {
        amd64_level().clone_into(&mut platform.variant);
    }
    platform
}

/// The highest level that this CPU has; none for v1 (x86-64 psABI, "Micro-Architecture Levels").
#[cfg(target_arch = "x86_64")]
fn amd64_level() -> &'static str {
    use std::arch::is_x86_feature_detected as has;
    let v2 = has!("cmpxchg16b") && has!("popcnt") && has!("sse4.2") && has!("ssse3");
    let v3 = v2
        && has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("f16c")
        && has!("fma")
        && has!("lzcnt")
        && has!("movbe");
    let v4 = v3
        && has!("avx512f")
        && has!("avx512bw")
        && has!("avx512cd")
        && has!("avx512dq")
        && has!("avx512vl");
    match (v2, v3, v4) {
        (.., true) => "v4",
        (_, true, _) => "v3",
        (true, ..) => "v2",
        _ => "",
    }
}

#[cfg(not(target_arch = "x86_64"))]
const fn amd64_level() -> &'static str {
    ""
}

/// The platform of a kernel's machine name; an unknown name stands for itself.
#[must_use]
pub fn platform_of_machine(machine: &str) -> Platform {
    let (architecture, variant) = match machine {
        "armv5l" | "armv5tel" | "armv5tejl" => ("arm", "v5"),
        "armv6l" => ("arm", "v6"),
        "armv7l" | "armv7" => ("arm", "v7"),
        "armv8l" => ("arm", "v8"),
        "i486" | "i586" | "i686" => ("386", ""),
        other => return normal("linux", other, ""),
    };
    platform(architecture, variant)
}

/// How well an image of platform `image` suits `host`: 0 is best, none means that it does not
/// run. An ARM device runs lower variants, a 64-bit one also those of its 32-bit mode.
#[must_use]
pub fn fitness(host: &Platform, image: &Platform) -> Option<usize> {
    let image = normal(&image.os, &image.architecture, &image.variant);
    candidates(host).iter().position(|candidate| *candidate == image)
}

/// `os/architecture[/variant]`, as people write it.
#[must_use]
pub fn platform_name(platform: &Platform) -> String {
    let Platform { os, architecture, variant } = platform;
    if variant.is_empty() {
        format!("{os}/{architecture}")
    } else {
        format!("{os}/{architecture}/{variant}")
    }
}

fn platform(architecture: &str, variant: &str) -> Platform {
    Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.to_owned(),
    }
}

fn candidates(host: &Platform) -> Vec<Platform> {
    let host = normal(&host.os, &host.architecture, &host.variant);
    let arm = |from: &str| {
        ["v8", "v7", "v6", "v5"]
            .into_iter()
            .skip_while(|v| *v != from)
            .map(|v| platform("arm", v))
            .collect::<Vec<_>>()
    };
    match (host.architecture.as_str(), host.variant.as_str()) {
        ("arm", variant) => arm(variant),
        ("arm64", _) => core::iter::once(host).chain(arm("v8")).collect(),
        ("amd64", variant) => {
            let levels = ["v4", "v3", "v2"].into_iter().skip_while(|v| *v != variant);
            let levels = levels.chain([""]).map(|v| platform("amd64", v));
            levels.chain([platform("386", "")]).collect()
        }
        _ => vec![host],
    }
}

/// Spelling as in image indexes. An ARM without variant means v7 there.
fn normal(os: &str, architecture: &str, variant: &str) -> Platform {
    let lower = |text: &str| text.to_ascii_lowercase();
    let (os, architecture, variant) = (lower(os), lower(architecture), lower(variant));
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
        ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64", ""),
        ("i386", _) => ("386", ""),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    Platform {
        os: if os.is_empty() { "linux" } else { &os }.to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_names_become_platforms() {
        for (machine, name) in [
            ("x86_64", "linux/amd64"),
            ("aarch64", "linux/arm64"),
            ("armv8l", "linux/arm/v8"),
            ("armv7l", "linux/arm/v7"),
            ("armv6l", "linux/arm/v6"),
            ("armv5tejl", "linux/arm/v5"),
            ("i686", "linux/386"),
            ("riscv64", "linux/riscv64"),
        ] {
            assert_eq!(platform_name(&platform_of_machine(machine)), name);
        }
    }

    #[test]
    fn a_device_runs_its_own_and_lower_variants_only() {
        let p = |a: &str, v: &str| platform(a, v);
        for (host, image, fits) in [
            ("armv7l", p("arm", "v7"), Some(0)),
            ("armv7l", p("arm", ""), Some(0)),
            ("armv7l", p("arm", "v6"), Some(1)),
            ("armv7l", p("arm", "v8"), None),
            ("armv7l", p("arm64", ""), None),
            ("armv6l", p("arm", "v7"), None),
            ("armv6l", p("arm", "v5"), Some(1)),
            ("aarch64", p("arm64", "v8"), Some(0)),
            ("aarch64", p("arm", "v7"), Some(2)),
            ("aarch64", p("amd64", ""), None),
            ("x86_64", p("amd64", ""), Some(0)),
            ("x86_64", p("amd64", "v3"), None),
            ("x86_64", p("386", ""), Some(1)),
            ("riscv64", p("riscv64", ""), Some(0)),
        ] {
            assert_eq!(fitness(&platform_of_machine(host), &image), fits, "{host} {image:?}");
        }
        for (level, image, fits) in [
            ("v3", "v4", None),
            ("v3", "v3", Some(0)),
            ("v3", "v2", Some(1)),
            ("v3", "V1", Some(2)),
            ("v2", "v3", None),
            ("", "v2", None),
        ] {
            assert_eq!(fitness(&p("amd64", level), &p("AMD64", image)), fits, "{level} {image}");
        }
        for name in ["AMD64", "X86_64", "x86-64", "amd64"] {
            assert_eq!(fitness(&p("amd64", ""), &p(name, "")), Some(0), "{name}");
        }
        for (name, variant) in [("AArch64", ""), ("ARM64", "V8"), ("arm64", "8")] {
            assert_eq!(fitness(&p("arm64", ""), &p(name, variant)), Some(0), "{name}");
        }
        let linux = Platform { os: "Linux".to_owned(), ..p("amd64", "") };
        assert_eq!(fitness(&p("amd64", ""), &linux), Some(0));
        let windows = Platform { os: "windows".to_owned(), ..p("amd64", "") };
        assert_eq!(fitness(&platform_of_machine("x86_64"), &windows), None);
    }
}
