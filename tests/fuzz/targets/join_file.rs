//! The provisioning file: what a factory or an operator writes.

use std::error::Error as _;

use edgeagent::{
    config::{JoinFile, manager_address},
    limits::JOIN_ADDRESSES_MAX,
};

/// A file that is taken names managers, each address whole; and no fault shows the token, wherever
/// it stands.
pub fn run(data: &[u8]) {
    if let Ok(file) = JoinFile::parse(data) {
        assert!((1..=JOIN_ADDRESSES_MAX).contains(&file.addresses.len()));
        for address in &file.addresses {
            assert_eq!(manager_address(address).as_ref(), Some(address));
        }
        assert!(!file.labels.contains_key(""));
    }
    let Ok(text) = core::str::from_utf8(data) else { return };
    for whole in [
        format!("{{\"token\": \"{TOKEN}\", {text}"),
        format!("{{{text}, \"token\": \"{TOKEN}\"}}"),
        format!("{text}\"{TOKEN}\""),
    ] {
        if let Err(fault) = JoinFile::parse(whole.as_bytes()) {
            let mut told = fault.to_string();
            let mut cause = fault.source();
            while let Some(inner) = cause {
                told.push_str(&inner.to_string());
                cause = inner.source();
            }
            let quoted = text.contains(TOKEN) || told.contains("key \"");
            assert!(quoted || !told.contains(TOKEN), "{told}");
        }
    }
}

const TOKEN: &str = "SWMTKN-1-never-to-be-shown";
