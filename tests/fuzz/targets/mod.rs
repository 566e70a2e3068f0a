//! What outside bytes may reach, one file per parser; each has a folder of seeds in `corpus/`.

pub mod assignments;
pub mod assignments_message;
pub mod certificate;
pub mod certificate_status;
pub mod challenge;
pub mod config;
pub mod content_range;
pub mod control_line;
pub mod credential_file;
pub mod grpc_frame;
pub mod grpc_status;
pub mod image_config;
pub mod image_manifest;
pub mod image_reference;
pub mod interpreter;
pub mod join_file;
pub mod join_token;
pub mod layer_merge;
pub mod layer_tar;
pub mod lease_record;
pub mod log_ring;
pub mod log_subscription;
pub mod mountinfo;
pub mod netlink_answer;
pub mod policy_pattern;
pub mod redirect;
pub mod resolv_conf;
pub mod route_table;
pub mod sealed_record;
pub mod seccomp_profile;
pub mod session_message;
pub mod shim_frame;
pub mod task_spec;
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
    ("challenge", challenge::run),
    ("config", config::run),
    ("content_range", content_range::run),
    ("credential_file", credential_file::run),
    ("certificate_status", certificate_status::run),
    ("control_line", control_line::run),
    ("grpc_frame", grpc_frame::run),
    ("grpc_status", grpc_status::run),
    ("image_config", image_config::run),
    ("image_manifest", image_manifest::run),
    ("image_reference", image_reference::run),
    ("interpreter", interpreter::run),
    ("join_token", join_token::run),
    ("layer_merge", layer_merge::run),
    ("layer_tar", layer_tar::run),
    ("lease_record", lease_record::run),
    ("log_ring", log_ring::run),
    ("mountinfo", mountinfo::run),
    ("join_file", join_file::run),
    ("log_subscription", log_subscription::run),
    ("netlink_answer", netlink_answer::run),
    ("redirect", redirect::run),
    ("resolv_conf", resolv_conf::run),
    ("route_table", route_table::run),
    ("policy_pattern", policy_pattern::run),
    ("sealed_record", sealed_record::run),
    ("seccomp_profile", seccomp_profile::run),
    ("session_message", session_message::run),
    ("shim_frame", shim_frame::run),
    ("task_spec", task_spec::run),
    ("template", template::run),
    ("tpm_response", tpm_response::run),
    ("user", user::run),
    ("volume_options", volume_options::run),
    ("zstd_frame", zstd_frame::run),
];
