//! Secrets and configs of this node's tasks, in memory only.

use std::{collections::BTreeMap, mem};

use crate::{
    limits::{FILE_OVERHEAD_BYTES, FILES_MAX_BYTES},
    model::{Config, ConfigId, Runtime, Secret, SecretId, Task, TaskId},
};

use super::assignments::Diff;

/// What the managers handed out.
#[derive(Debug, Default)]
pub(super) struct Files {
    secrets: BTreeMap<SecretId, Secret>,
    configs: BTreeMap<ConfigId, Config>,
    bytes: usize,
}

impl Files {
    /// Takes secrets and configs out of `diff`: removals first, then additions.
    pub(super) fn apply(&mut self, diff: &mut Diff) {
        if diff.complete {
            *self = Self::default();
        }
        for id in mem::take(&mut diff.removed_secrets) {
            self.remove_secret(&id);
        }
        for id in mem::take(&mut diff.removed_configs) {
            self.remove_config(&id);
        }
        for secret in mem::take(&mut diff.secrets) {
            self.remove_secret(&secret.id);
            if self.charge(secret_bytes(&secret)) {
                self.secrets.insert(secret.id.clone(), secret);
            } else {
                log::warn!("no room for a secret; secret.id={}", secret.id);
            }
        }
        for config in mem::take(&mut diff.configs) {
            self.remove_config(&config.id);
            if self.charge(config_bytes(&config)) {
                self.configs.insert(config.id.clone(), config);
            } else {
                log::warn!("no room for a config; config.id={}", config.id);
            }
        }
    }

    /// The secret that `task` means by `id`: one made for it alone, else the common one.
    pub(super) fn secret(&self, task: &Task, id: &SecretId) -> Option<&Secret> {
        let Runtime::Container(spec) = &task.runtime else { return None };
        if spec.secrets.iter().all(|reference| reference.id != *id) {
            return None;
        }
        SecretId::new(&format!("{id}.{}", task.id))
            .ok()
            .and_then(|own| self.secrets.get(&own))
            .or_else(|| self.secrets.get(id))
    }

    /// The secrets that `task` refers to as `name`: their name, or that of their file.
    pub(super) fn secrets_called(&self, task: &Task, name: &str) -> impl Iterator<Item = &Secret> {
        let references = match &task.runtime {
            Runtime::Container(spec) => spec.secrets.as_slice(),
            Runtime::Attachment | Runtime::Generic { .. } | Runtime::Unknown => &[],
        };
        references
            .iter()
            .filter(move |reference| {
                let file = reference.file.as_ref().map(|file| file.name.as_str());
                reference.name == name || file == Some(name)
            })
            .filter_map(|reference| self.secret(task, &reference.id))
    }

    /// The config that `task` means by `id`.
    pub(super) fn config(&self, task: &Task, id: &ConfigId) -> Option<&Config> {
        let Runtime::Container(spec) = &task.runtime else { return None };
        let named = spec.configs.iter().any(|reference| reference.id == *id);
        if named { self.configs.get(id) } else { None }
    }

    /// Drops the secrets that were made for `task` alone: no manager tells us to.
    pub(super) fn forget(&mut self, task: &TaskId) {
        let own: Vec<SecretId> = self
            .secrets
            .keys()
            .filter(|id| id.as_str().rsplit_once('.').is_some_and(|(_, of)| of == task.as_str()))
            .cloned()
            .collect();
        for id in own {
            self.remove_secret(&id);
        }
    }

    fn charge(&mut self, bytes: usize) -> bool {
        let sum = self.bytes.saturating_add(bytes);
        let fits = sum <= FILES_MAX_BYTES;
        if fits {
            self.bytes = sum;
        }
        fits
    }

    fn remove_secret(&mut self, id: &SecretId) {
        if let Some(old) = self.secrets.remove(id) {
            self.bytes = self.bytes.saturating_sub(secret_bytes(&old));
        }
    }

    fn remove_config(&mut self, id: &ConfigId) {
        if let Some(old) = self.configs.remove(id) {
            self.bytes = self.bytes.saturating_sub(config_bytes(&old));
        }
    }
}

fn secret_bytes(secret: &Secret) -> usize {
    let text = secret.name.len() + secret.templating.len();
    secret.data.expose().len() + text + FILE_OVERHEAD_BYTES
}

fn config_bytes(config: &Config) -> usize {
    let text = config.name.len() + config.templating.len();
    config.data.expose().len() + text + FILE_OVERHEAD_BYTES
}
