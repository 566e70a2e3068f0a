//! Secrets and configs as files (moby `daemon/container_operations_unix.go`, `setupSecretDir`).

use core::fmt;

use super::{
    Field, NodeFacts, SpecError, clean, expand,
    template::{self, Payload},
};
use crate::model::{
    BundleFile, Config, ConfigId, ContainerSpec, FileReference, FileTarget, Secret, SecretBytes,
    SecretId, Task,
};

/// Where the content of secrets and configs comes from.
#[derive(Clone, Copy)]
pub enum Files<'a> {
    /// Nowhere yet: targets and owners are checked, and the bundle has no files.
    Unchecked,
    /// From what managers assigned.
    Given {
        /// Looks a secret up.
        secret: &'a dyn Fn(&SecretId) -> Option<&'a Secret>,
        /// Looks a config up.
        config: &'a dyn Fn(&ConfigId) -> Option<&'a Config>,
    },
}

impl fmt::Debug for Files<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unchecked => "Unchecked",
            Self::Given { .. } => "Given",
        })
    }
}

/// The files of a bundle. `env` is the spec's, expanded, for payload templates.
pub(super) fn build(
    task: &Task,
    spec: &ContainerSpec,
    node: &NodeFacts,
    env: &[String],
    files: Files<'_>,
) -> Result<Vec<BundleFile>, SpecError> {
    let scope = Scope { task, spec, node, env, files };
    let mut built = Vec::new();
    for reference in &spec.secrets {
        let Some(target) = &reference.file else { continue };
        let file = file(target, "/run/secrets", "secret", Field::Secret)?;
        if let Files::Given { secret, .. } = files {
            let found = secret(&reference.id).ok_or_else(|| missing("secret", &reference.id))?;
            let data = found.data.as_ref().ok_or_else(|| no_room("secret", &reference.id))?;
            let content = Content { kind: "secret", data, templating: &found.templating };
            let data = content.expanded(&reference.id, &scope)?;
            built.push(BundleFile { data, ..file });
        }
    }
    for reference in &spec.configs {
        let Some(target) = &reference.file else { continue };
        let file = file(target, "/", "config", Field::Config)?;
        if let Files::Given { config, .. } = files {
            let found = config(&reference.id).ok_or_else(|| missing("config", &reference.id))?;
            let data = found.data.as_ref().ok_or_else(|| no_room("config", &reference.id))?;
            let content = Content { kind: "config", data, templating: &found.templating };
            let data = content.expanded(&reference.id, &scope)?;
            built.push(BundleFile { data, ..file });
        }
    }
    Ok(built)
}

/// A file without its content.
fn file(target: &FileTarget, dir: &str, kind: &str, field: Field) -> Result<BundleFile, SpecError> {
    let name = &target.name;
    let path = if name.starts_with('/') { clean(name) } else { clean(&format!("{dir}/{name}")) };
    if path == "/" || path == dir || name.contains('\0') {
        return Err(SpecError::invalid(
            field,
            format!("invalid target of a {kind}: {name:?} is no file"),
        ));
    }
    let number = |text: &str, what: &str| {
        text.parse::<u32>().ok().filter(|id| *id != u32::MAX).ok_or_else(|| {
            SpecError::invalid(
                field,
                format!("invalid {what} of {kind} {name:?}: {text:?} is no number"),
            )
        })
    };
    Ok(BundleFile {
        target: path,
        uid: number(&target.uid, "uid")?,
        gid: number(&target.gid, "gid")?,
        // Go's file modes keep set-id bits elsewhere, so Docker sets none of these either.
        mode: target.mode & 0o777,
        data: SecretBytes::default(),
    })
}

/// What a template among secrets and configs may name.
struct Scope<'a, 'f> {
    task: &'a Task,
    spec: &'a ContainerSpec,
    node: &'a NodeFacts,
    env: &'a [String],
    files: Files<'f>,
}

/// A secret's or config's content.
struct Content<'a> {
    kind: &'static str,
    data: &'a SecretBytes,
    templating: &'a str,
}

impl Content<'_> {
    /// The content, expanded when it is a template.
    fn expanded(
        &self,
        id: &impl fmt::Display,
        scope: &Scope<'_, '_>,
    ) -> Result<SecretBytes, SpecError> {
        let Scope { task, spec, node, env, files } = *scope;
        match self.templating {
            "" => return Ok(self.data.clone()),
            "golang" => {}
            _ => {
                return Err(SpecError::invalid(
                    Field::TemplateDriver,
                    "unrecognized template type",
                ));
            }
        }
        let secret = |name: &str| match files {
            Files::Given { secret, .. } => {
                by_target(&spec.secrets, name).and_then(secret).and_then(|found| found.data.clone())
            }
            Files::Unchecked => None,
        };
        let config = |name: &str| match files {
            Files::Given { config, .. } => {
                by_target(&spec.configs, name).and_then(config).and_then(|found| found.data.clone())
            }
            Files::Unchecked => None,
        };
        let env = |name: &str| {
            let entries = env.iter().filter_map(|entry| entry.split_once('='));
            entries.into_iter().find(|(other, _)| *other == name).map(|(_, value)| value.to_owned())
        };
        let payload = Payload { secret: &secret, config: &config, env: &env };
        let context = expand::context(task, node);
        template::expand_payload(self.data, &context, &payload)
            .map_err(|source| SpecError::Payload { kind: self.kind, id: id.to_string(), source })
    }
}

/// The reference whose file has this target name.
fn by_target<'a, Id>(references: &'a [FileReference<Id>], name: &str) -> Option<&'a Id> {
    let named = |file: &FileTarget| file.name == name;
    let found = references.iter().find(|reference| reference.file.as_ref().is_some_and(named));
    found.map(|reference| &reference.id)
}

fn missing(kind: &'static str, id: &impl fmt::Display) -> SpecError {
    SpecError::NotFound { kind, id: id.to_string() }
}

fn no_room(kind: &'static str, id: &impl fmt::Display) -> SpecError {
    SpecError::NoRoom { kind, id: id.to_string() }
}
