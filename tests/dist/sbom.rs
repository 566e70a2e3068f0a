//! The SBOM: what Cargo.lock has for the target, nothing that only tests need, the same every time.
//!
//! Its tool is compiled by `make dist`; until that ran once there is nothing to examine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
};

use serde_json::Value;

use super::{done, root};

const TRIPLE: &str = "armv7-unknown-linux-musleabihf";

/// cargo-cyclonedx, where `targets/build` puts it.
fn tool() -> Option<PathBuf> {
    // …/debug/edgeagent
    let tools =
        PathBuf::from(env!("CARGO_BIN_EXE_edgeagent")).parent()?.parent()?.join("dist-tools");
    let found = fs::read_dir(tools).ok()?.flatten().map(|e| e.path().join("bin/cargo-cyclonedx"));
    found.into_iter().find(|path| path.is_file())
}

fn sbom(tool: &PathBuf) -> String {
    let mut command = Command::new(root().join("targets/sbom"));
    command.arg(tool).arg(TRIPLE).env("SOURCE_DATE_EPOCH", "1795370000");
    done(&mut command)
}

/// What cargo says of the target: `name version` of each crate along such edges.
fn tree(edges: &str) -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root()).args(["tree", "--locked", "--target", TRIPLE, "--prefix", "none"]);
    let said = done(command.args(["--quiet", "--format", "{p}", "--edges", edges]));
    let name = |line: &str| {
        let mut words = line.split(' ');
        Some(format!("{} {}", words.next()?, words.next()?.strip_prefix('v')?))
    };
    said.lines().filter_map(name).filter(|name| !name.starts_with("edgeagent ")).collect()
}

/// Checksums of Cargo.lock, by `name version`.
fn locked() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let value = |package: &str, key: &str| {
        let start = format!("{key} = \"");
        let line = package.lines().find_map(|line| line.strip_prefix(&start))?;
        line.strip_suffix('"').map(String::from)
    };
    text.split("[[package]]")
        .filter_map(|package| {
            let name = format!("{} {}", value(package, "name")?, value(package, "version")?);
            Some((name, value(package, "checksum")?))
        })
        .collect()
}

#[test]
#[cfg_attr(
    not(program = "cargo-cyclonedx"),
    ignore = "needs the program cargo-cyclonedx, which make dist compiles"
)]
fn the_sbom_says_what_is_linked() {
    let tool = tool().unwrap();
    let text = sbom(&tool);
    assert_eq!(text, sbom(&tool), "two SBOMs of one source differ");
    assert!(!text.contains(root().to_str().unwrap()), "it names a folder of this machine");
    let sbom: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let subject = &sbom["metadata"]["component"];
    assert_eq!(subject["name"], "edgeagent");
    assert_eq!(subject["version"], env!("CARGO_PKG_VERSION"));

    let locked = locked();
    let mut named = BTreeSet::new();
    for component in sbom["components"].as_array().unwrap() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = format!("{} {}", text(&component["name"]), text(&component["version"]));
        assert_eq!(
            Some(&text(&component["hashes"][0]["content"])),
            locked.get(&name),
            "{name} is not as in Cargo.lock"
        );
        assert!(component["licenses"][0].is_object(), "{name} has no licence");
        named.insert(name);
    }
    let linked = tree("normal");
    assert!(20 < linked.len(), "{linked:?}");
    let missing: Vec<_> = linked.difference(&named).collect();
    assert!(missing.is_empty(), "linked and not named: {missing:?}");
    let tests: BTreeSet<_> = tree("all").difference(&linked).cloned().collect();
    assert!(tests.iter().any(|name| name.starts_with("protox ")), "{tests:?}");
    let wrong: Vec<_> = tests.intersection(&named).collect();
    assert!(wrong.is_empty(), "named, and only tests or builds need it: {wrong:?}");
}
