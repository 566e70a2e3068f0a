//! Which platform this device is, and which images run on it.
//!
//! Rules: containerd `platforms/{database,compare}.go`. It does not ask the CPU for its
//! features: the variants of amd64 above v1 are not chosen.

use crate::model::Platform;

/// The platform of this device, from `uname`.
#[must_use]
pub fn host_platform() -> Platform {
    let name = rustix::system::uname();
    platform_of_machine(&name.machine().to_string_lossy())
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
        ("amd64", _) => vec![host, platform("386", "")],
        _ => vec![host],
    }
}

/// Spelling as in image indexes. An ARM without variant means v7 there.
fn normal(os: &str, architecture: &str, variant: &str) -> Platform {
    let (architecture, variant) = match (architecture, variant) {
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
        os: if os.is_empty() { "linux" } else { os }.to_owned(),
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
        let windows = Platform { os: "windows".to_owned(), ..p("amd64", "") };
        assert_eq!(fitness(&platform_of_machine("x86_64"), &windows), None);
    }
}
