//! `agent.json`.

use edgeagent::config::Config;

/// A configuration that is taken has sound folders; a fault has a message.
pub fn run(data: &[u8]) {
    match Config::parse(data) {
        Ok(config) => {
            assert!(config.data_root.is_absolute() && config.exec_root.is_absolute());
            assert!(!config.cgroup_parent.contains(".."));
        }
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
}
