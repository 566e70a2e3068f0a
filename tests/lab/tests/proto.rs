//! `src/proto.rs` is what `src/lab.proto` generates; `LAB_BLESS=1 cargo test --test proto` rewrites it.

#![cfg(test)]

use std::path::Path;

const HEADER: &str =
    "// Generated from lab.proto; `LAB_BLESS=1 cargo test --test proto` rewrites it.\n\n";

#[test]
fn generated_messages_match_their_source() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = protox::compile(["lab.proto"], [&folder]).expect("lab.proto compiles");
    let out = std::env::temp_dir().join(format!("lab-proto-{}", std::process::id()));
    std::fs::create_dir_all(&out).unwrap();
    prost_build::Config::new()
        .out_dir(&out)
        .btree_map(["."])
        .disable_comments(["."])
        .compile_fds(files)
        .expect("prost generates");
    let body = std::fs::read_to_string(out.join("lab.rs")).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    let fresh = format!("{HEADER}{body}");

    let path = folder.join("proto.rs");
    if std::env::var_os("LAB_BLESS").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let tokens =
        |text: &str| text.chars().filter(|c| !c.is_whitespace() && *c != ',').collect::<String>();
    assert!(tokens(&kept) == tokens(&fresh), "run LAB_BLESS=1 cargo test --test proto");
}
