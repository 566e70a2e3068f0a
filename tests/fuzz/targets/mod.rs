//! What outside bytes may reach, one file per parser; each has a folder of seeds in `corpus/`.

mod assignments;
mod assignments_message;
mod certificate;
mod config;
mod grpc_frame;
mod image_config;
mod image_manifest;
mod image_reference;
mod join_token;
mod layer_tar;
mod log_ring;
mod sealed_record;
mod session_message;

/// Every target, by its name.
pub const ALL: &[(&str, fn(&[u8]))] = &[
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
    ("sealed_record", sealed_record::run),
    ("session_message", session_message::run),
];
