//! Docker's `config.json`: any bytes are a file with credentials, without, or a reason.

use edgeagent::image::said::credential_file;

/// Reads the bytes as the file.
pub fn run(data: &[u8]) {
    for domain in ["docker.io", "reg:5000", "helped:1"] {
        if let Err(why) = credential_file(data, domain) {
            assert!(!why.is_empty());
        }
    }
}
