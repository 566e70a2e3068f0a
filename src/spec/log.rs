//! What the log options `labels` and `env` add to every line: `docker service logs --details`
//! shows it (moby `daemon/logger/loginfo.go`, `ExtraAttributes`).

use std::collections::BTreeMap;

use super::{NodeFacts, container_name, container_spec, expand, process};
use crate::model::{LocalImage, Task};

/// Most bytes of names and values together, for each line carries them; what comes after is left
/// out.
const ATTRIBUTES_MAX_BYTES: usize = 4 << 10;

/// The attributes of a task's lines, in the order of their names; none when its log options name
/// none. Without its image, what the image says is not known.
#[must_use]
pub fn log_attributes(
    task: &Task,
    image: Option<&LocalImage>,
    node: &NodeFacts,
) -> Vec<(String, String)> {
    let Some(driver) = &task.log_driver else { return Vec::new() };
    let named = |option: &str| -> Vec<&str> {
        driver.options.get(option).into_iter().flat_map(|names| names.split(',')).collect()
    };
    let (labels, env) = (named("labels"), named("env"));
    let mut found = BTreeMap::new();
    if !labels.is_empty() {
        let mut all = self::labels(task, image);
        found.extend(labels.into_iter().filter_map(|name| all.remove_entry(name)));
    }
    if !env.is_empty() {
        let all = environment(task, image, node);
        let value = |name: &str| {
            let mut entries = all.iter().rev().filter_map(|entry| entry.split_once('='));
            // As in a container, the last one counts.
            entries.find(|(other, _)| *other == name)
        };
        let pairs = env.into_iter().filter_map(value);
        found.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let mut room = ATTRIBUTES_MAX_BYTES;
    let fits = |(name, value): &(String, String)| {
        let left = room.checked_sub(name.len().saturating_add(value.len()));
        room = left.unwrap_or(room);
        left.is_some()
    };
    found.into_iter().filter(fits).collect()
}

/// The container's labels (moby `daemon/cluster/executor/container/container.go`, `labels`).
fn labels(task: &Task, image: Option<&LocalImage>) -> BTreeMap<String, String> {
    let mut labels = image.and_then(|image| image.config.labels.clone()).unwrap_or_default();
    if let Ok(spec) = container_spec(task) {
        labels.extend(spec.labels.clone());
    }
    labels.extend(task.labels.clone());
    let of_system = [
        ("task", String::new()),
        ("task.id", task.id.to_string()),
        ("task.name", container_name(task)),
        ("node.id", task.node_id.to_string()),
        ("service.id", task.service_id.to_string()),
        ("service.name", task.service_name.clone()),
    ];
    labels.extend(of_system.map(|(name, value)| (format!("com.docker.swarm.{name}"), value)));
    labels
}

/// The container's environment without what every container has; nothing when its templates do not expand, for then it never ran.
fn environment(task: &Task, image: Option<&LocalImage>, node: &NodeFacts) -> Vec<String> {
    let config = image.map(|image| image.config.clone()).unwrap_or_default();
    let made = container_spec(task).and_then(|spec| {
        let expanded = expand::expand(task, spec, node)?;
        process::configured(&expanded.env, &config, &task.generic_resources)
    });
    made.unwrap_or_default()
}
