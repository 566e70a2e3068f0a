//! What outside bytes may reach, one file per parser; each has a folder of seeds in `corpus/`.

pub mod assignments;
pub mod assignments_message;
pub mod certificate;
pub mod config;
pub mod grpc_frame;
pub mod image_config;
pub mod image_manifest;
pub mod image_reference;
pub mod join_token;
pub mod layer_tar;
pub mod log_ring;
pub mod netlink_answer;
pub mod policy_pattern;
pub mod sealed_record;
pub mod session_message;
pub mod shim_frame;
pub mod template;
pub mod tpm_response;
pub mod user;
pub mod volume_options;
pub mod zstd_frame;

/// A fuzz target: takes any bytes, and panics when something is wrong.
pub type Target = fn(&[u8]);

/// Every target, by its name.
pub const ALL: &[(&str, Target)] = &[
    ("assignments", assignments::run),
    ("assignments_message", assignments_message::run),
    ("certificate", certificate::run),
    ("config", config::run),
    ("grpc_frame", grpc_frame::run),
    ("image_config", image_config::run),
    ("image_manifest", image_manifest::run),
    ("image_reference", image_reference::run),
    ("join_token", join_token::run),
    ("layer_tar", layer_tar::run),
    ("log_ring", log_ring::run),
    ("netlink_answer", netlink_answer::run),
    ("policy_pattern", policy_pattern::run),
    ("sealed_record", sealed_record::run),
    ("session_message", session_message::run),
    ("shim_frame", shim_frame::run),
    ("template", template::run),
    ("tpm_response", tpm_response::run),
    ("user", user::run),
    ("volume_options", volume_options::run),
    ("zstd_frame", zstd_frame::run),
];
