//! The process: arguments, environment, folder, user.

use std::collections::BTreeMap;

use super::{Field, SpecError, clean};
use crate::model::{ContainerSpec, GenericResource, ImageConfig};

/// moby `oci.DefaultPathEnv`.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Program and arguments (moby `daemon/commit.go` `merge`, `daemon/create.go`).
pub(super) fn argv(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, SpecError> {
    let images = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
    let (mut argv, rest) = if !spec.command.is_empty() {
        (spec.command.clone(), spec.args.clone())
    } else if !spec.args.is_empty() {
        (images(&image.entrypoint), spec.args.clone())
    } else {
        (images(&image.entrypoint), images(&image.cmd))
    };
    // One empty word is how an entrypoint is taken away.
    if argv == [""] {
        argv.clear();
    }
    argv.extend(rest);
    if argv.is_empty() {
        return Err(SpecError::NoCommand);
    }
    no_nul(Field::Command, "argument", &argv)?;
    Ok(argv)
}

/// The environment (moby `container.CreateDaemonEnvironment`, `ReplaceOrAppendEnvValues`):
/// defaults, the spec's, the image's where the spec does not name it. A spec's entry without `=`
/// takes a variable away.
pub(super) fn env(
    spec: &[String],
    tty: bool,
    image: &ImageConfig,
    hostname: &str,
    generic: &[GenericResource],
) -> Result<Vec<String>, SpecError> {
    let wanted = configured(spec, image, generic)?;
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    let defaults = env.len();
    for entry in wanted {
        let place = env.iter().take(defaults).position(|other| name(other) == name(&entry));
        match (place.and_then(|place| env.get_mut(place)), entry.contains('=')) {
            (Some(default), true) => *default = entry,
            // Without its value it goes below, and the other default keeps its place until then.
            (Some(default), false) => default.truncate(name(&entry).len()),
            (None, true) => env.push(entry),
            (None, false) => {}
        }
    }
    env.retain(|entry| entry.contains('='));
    no_nul(Field::Env, "environment variable", &env)?;
    Ok(env)
}

/// The same without the defaults: what Docker keeps as the container's configuration.
pub(super) fn configured(
    spec: &[String],
    image: &ImageConfig,
    generic: &[GenericResource],
) -> Result<Vec<String>, SpecError> {
    no_nul(Field::Env, "environment variable", spec)?;
    let images = image.env.clone().unwrap_or_default();
    let mut wanted = spec.to_vec();
    wanted.extend(resources(generic));
    for entry in &wanted {
        if name(entry).is_empty() {
            return Err(SpecError::invalid(
                Field::Env,
                format!("invalid environment variable: {entry}"),
            ));
        }
    }
    let own = wanted.len();
    for entry in images {
        if !wanted.iter().take(own).any(|other| name(other) == name(&entry)) {
            wanted.push(entry);
        }
    }
    Ok(wanted)
}

/// `DOCKER_RESOURCE_<KIND>` for what the scheduler assigned
/// (swarmkit `api/genericresource/string.go`, `EnvFormat`).
fn resources(generic: &[GenericResource]) -> Vec<String> {
    let mut kinds = BTreeMap::<String, Vec<String>>::new();
    for resource in generic {
        let (kind, value) = match resource {
            GenericResource::Named { kind, value } => (kind, value.clone()),
            GenericResource::Discrete { kind, value } => (kind, value.to_string()),
        };
        kinds.entry(kind.to_uppercase()).or_default().push(value);
    }
    kinds
        .into_iter()
        .map(|(kind, values)| format!("DOCKER_RESOURCE_{kind}={}", values.join(",")))
        .collect()
}

/// The working directory.
pub(super) fn cwd(spec: &str, image: &str) -> Result<String, SpecError> {
    let dir = or(spec, image);
    if dir.is_empty() {
        return Ok("/".to_owned());
    }
    if !dir.starts_with('/') || dir.contains('\0') {
        return Err(SpecError::invalid(
            Field::Workdir,
            format!("the working directory '{dir}' is invalid, it needs to be an absolute path"),
        ));
    }
    Ok(clean(&dir))
}

/// The spec's value, else the image's.
pub(super) fn or(spec: &str, image: &str) -> String {
    if spec.is_empty() { image.to_owned() } else { spec.to_owned() }
}

fn name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

pub(super) fn no_nul(field: Field, what: &str, words: &[String]) -> Result<(), SpecError> {
    match words.iter().any(|word| word.contains('\0')) {
        true => Err(SpecError::invalid(field, format!("{what} contains a zero byte"))),
        false => Ok(()),
    }
}
