//! `src/rpc/proto.rs` is what `src/rpc/swarm.proto` generates; `EDGEAGENT_BLESS=1` rewrites it.

#![cfg(test)]

use std::path::Path;

const HEADER: &str =
    "// Generated from swarm.proto; `EDGEAGENT_BLESS=1 cargo test --test proto` rewrites it.\n\n";

#[test]
fn generated_messages_match_their_source() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rpc");
    let files = protox::compile(["swarm.proto"], [&folder]).expect("swarm.proto compiles");
    let out = std::env::temp_dir().join(format!("edgeagent-proto-{}", std::process::id()));
    std::fs::create_dir_all(&out).unwrap();
    prost_build::Config::new()
        .out_dir(&out)
        .skip_debug(["."])
        .disable_comments(["."])
        .compile_fds(files)
        .expect("prost generates");
    let body = std::fs::read_to_string(out.join("swarm.rs")).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    let fresh = format!("{HEADER}{body}");

    let path = folder.join("proto.rs");
    if std::env::var_os("EDGEAGENT_BLESS").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    // Formatting is rustfmt's; only the tokens count.
    let tokens =
        |text: &str| text.chars().filter(|c| !c.is_whitespace() && *c != ',').collect::<String>();
    assert!(tokens(&kept) == tokens(&fresh), "run EDGEAGENT_BLESS=1 cargo test --test proto");
}
