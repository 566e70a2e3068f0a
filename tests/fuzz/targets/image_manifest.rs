//! Manifests and indexes: what is accepted is bounded and unambiguous.

use edgeagent::{
    image::{Document, platform_of_machine},
    limits::{IMAGE_LAYERS_MAX, INDEX_ENTRIES_MAX},
};

/// Parses the bytes as a manifest or an index.
pub fn run(data: &[u8]) {
    match Document::parse(data) {
        Ok(Document::Manifest(manifest)) => assert!(manifest.layers.len() <= IMAGE_LAYERS_MAX),
        Ok(Document::Index(index)) => {
            assert!(index.entries.len() <= INDEX_ENTRIES_MAX);
            for machine in ["x86_64", "aarch64", "armv7l", "riscv64"] {
                if let Ok(chosen) = index.choose(&platform_of_machine(machine)) {
                    assert!(index.entries.contains(chosen));
                }
            }
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}
