//! Image configurations: what is accepted is bounded.

use edgeagent::{image::Configuration, limits::IMAGE_LAYERS_MAX};

/// Parses the bytes as an image configuration.
pub fn run(data: &[u8]) {
    match Configuration::parse(data) {
        Ok(configuration) => assert!(configuration.diff_ids.len() <= IMAGE_LAYERS_MAX),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}
