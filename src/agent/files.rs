//! Secrets and configs of this node's tasks, in memory only.

use std::{collections::BTreeMap, mem};

use crate::{
    limits::{FILE_OVERHEAD_BYTES, FILES_MAX_BYTES},
    model::{Config, ConfigId, Runtime, Secret, SecretBytes, SecretId, Task, TaskId},
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
        for mut secret in mem::take(&mut diff.secrets) {
            self.remove_secret(&secret.id);
            if !self.charge(secret_bytes(&secret)) {
                log::warn!("no room for a secret; secret.id={}", secret.id);
                secret.data = None;
                if !self.charge(secret_bytes(&secret)) {
                    continue;
                }
            }
            self.secrets.insert(secret.id.clone(), secret);
        }
        for mut config in mem::take(&mut diff.configs) {
            self.remove_config(&config.id);
            if !self.charge(config_bytes(&config)) {
                log::warn!("no room for a config; config.id={}", config.id);
                config.data = None;
                if !self.charge(config_bytes(&config)) {
                    continue;
                }
            }
            self.configs.insert(config.id.clone(), config);
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
    file_bytes(&secret.name, &secret.templating, secret.data.as_ref())
}

fn config_bytes(config: &Config) -> usize {
    file_bytes(&config.name, &config.templating, config.data.as_ref())
}

fn file_bytes(name: &str, templating: &str, data: Option<&SecretBytes>) -> usize {
    let data = data.map_or(0, |data| data.expose().len());
    name.len() + templating.len() + data + FILE_OVERHEAD_BYTES
}
