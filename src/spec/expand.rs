//! What of a spec is a template, expanded (swarmkit `template/expand.go`).

use super::{
    Field, NodeFacts, SpecError, container_name, slot,
    template::{self, Context, TemplateError},
};
use crate::model::{ContainerSpec, Mount, MountSource, Task};

/// The templated parts of a spec.
pub(super) struct Expanded {
    pub(super) env: Vec<String>,
    pub(super) mounts: Vec<Mount>,
    pub(super) hostname: String,
}

/// Expands every template of `spec`.
pub(super) fn expand(
    task: &Task,
    spec: &ContainerSpec,
    node: &NodeFacts,
) -> Result<Expanded, SpecError> {
    let context = context(task, node);
    let one = |text: &str| template::expand(text, &context);
    let mut env = Vec::new();
    for entry in &spec.env {
        env.push(match entry.split_once('=') {
            None => entry.clone(),
            Some((name, value)) => {
                let value = one(value).map_err(failed("env", Field::Env, name))?;
                format!("{name}={value}")
            }
        });
    }
    let mut mounts = Vec::new();
    for mount in &spec.mounts {
        let mut mount = mount.clone();
        let target = mount.target.clone();
        mount.target = one(&target).map_err(failed("mounts", Field::Mount, &target))?;
        match &mut mount.source {
            MountSource::Bind { path, .. } => {
                *path = one(path).map_err(failed("mounts", Field::Mount, &target))?;
            }
            MountSource::Volume { name, options } => {
                *name = one(name).map_err(failed("mounts", Field::Mount, &target))?;
                for value in options.labels.values() {
                    one(value).map_err(failed("mounts", Field::Mount, &target))?;
                }
                for value in options.driver.iter_mut().flat_map(|d| d.options.values_mut()) {
                    *value = one(value).map_err(failed("mounts", Field::Mount, &target))?;
                }
            }
            MountSource::Tmpfs { .. }
            | MountSource::NamedPipe
            | MountSource::Cluster
            | MountSource::Unknown(_) => {}
        }
        mounts.push(mount);
    }
    let hostname =
        one(&spec.hostname).map_err(failed("hostname", Field::Hostname, &spec.hostname))?;
    Ok(Expanded { env, mounts, hostname })
}

/// What templates of this task may name. dockerd leaves the node's name and platform empty in
/// secrets and configs, because it gives them no description; here they are filled.
pub(super) fn context(task: &Task, node: &NodeFacts) -> Context {
    Context {
        service_id: task.service_id.to_string(),
        service_name: task.service_name.clone(),
        service_labels: task.service_labels.clone(),
        node_id: task.node_id.to_string(),
        node_hostname: node.hostname.clone(),
        node_architecture: node.architecture.clone(),
        node_os: node.os.clone(),
        task_id: task.id.to_string(),
        task_name: container_name(task),
        task_slot: slot(task),
    }
}

fn failed(part: &'static str, field: Field, item: &str) -> impl FnOnce(TemplateError) -> SpecError {
    let item = item.to_owned();
    move |source| SpecError::Expand { part, field, item, source }
}
