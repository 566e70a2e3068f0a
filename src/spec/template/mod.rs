//! The part of Go's `text/template` that swarm's templates use, with the same results.
//!
//! Fields, variables, pipelines, `if`, `with`, `range`, `break`, `continue`, comments, trim
//! markers and the functions of [`expand`] work as in Go with `missingkey=error`. What is left
//! out is an error, never text: `define`, `template`, `block`, `call`, `js`, fractional numbers,
//! printing of whole structs, exotic verbs of `printf`. Work, output and nesting are bounded.
//!
//! Sources: Go `text/template`, `text/template/parse`; swarmkit `template/{context,template}.go`.

mod exec;
mod functions;
mod lex;
mod parse;

use core::fmt;
use std::collections::BTreeMap;

use crate::model::SecretBytes;

/// What a template may name.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// `.Service.ID`.
    pub service_id: String,
    /// `.Service.Name`.
    pub service_name: String,
    /// `.Service.Labels`.
    pub service_labels: BTreeMap<String, String>,
    /// `.Node.ID`.
    pub node_id: String,
    /// `.Node.Hostname`.
    pub node_hostname: String,
    /// `.Node.Platform.Architecture`.
    pub node_architecture: String,
    /// `.Node.Platform.OS`.
    pub node_os: String,
    /// `.Task.ID`.
    pub task_id: String,
    /// `.Task.Name`.
    pub task_name: String,
    /// `.Task.Slot`, text.
    pub task_slot: String,
}

/// The functions that only payloads of secrets and configs have.
#[derive(Clone, Copy)]
pub struct Payload<'a> {
    /// `secret "target"`.
    pub secret: &'a dyn Fn(&str) -> Option<SecretBytes>,
    /// `config "target"`.
    pub config: &'a dyn Fn(&str) -> Option<SecretBytes>,
    /// `env "NAME"`; nothing means empty.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payload")
    }
}

/// Why a template does not expand. It names places and names of the template, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// It is no template in Go either.
    Syntax {
        /// From 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Go could expand it, we can not.
    Unsupported {
        /// What.
        feature: String,
    },
    /// It is a template, but its values do not fit.
    Evaluation {
        /// What is wrong.
        reason: String,
    },
    /// It takes too much work, makes too much text, or is nested too deeply.
    TooLarge,
    /// The content of a secret or config is not UTF-8.
    NotText,
}

impl TemplateError {
    fn syntax(line: usize, reason: impl Into<String>) -> Self {
        Self::Syntax { line, reason: reason.into() }
    }

    fn unsupported(feature: impl Into<String>) -> Self {
        Self::Unsupported { feature: feature.into() }
    }

    fn evaluation(reason: impl Into<String>) -> Self {
        Self::Evaluation { reason: reason.into() }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, reason } => write!(f, "template: line {line}: {reason}"),
            Self::Unsupported { feature } => {
                write!(f, "template: edgeagent does not support {feature}")
            }
            Self::Evaluation { reason } => write!(f, "template: {reason}"),
            Self::TooLarge => f.write_str("template: too much work, text or nesting"),
            Self::NotText => f.write_str("template: the content is not UTF-8 text"),
        }
    }
}

impl core::error::Error for TemplateError {}

/// Expands a template of a spec.
///
/// Functions: `and or not len index slice print printf println html urlquery eq ne lt le gt ge`,
/// and swarm's `join` with the separator first.
///
/// # Errors
/// [`TemplateError`].
pub fn expand(text: &str, context: &Context) -> Result<String, TemplateError> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    exec::run(&parse::parse(text, false)?, context, None)
}

/// Expands the content of a secret or config, which also has `secret`, `config` and `env`.
///
/// # Errors
/// [`TemplateError`].
pub fn expand_payload(
    content: &SecretBytes,
    context: &Context,
    payload: &Payload<'_>,
) -> Result<SecretBytes, TemplateError> {
    let text = core::str::from_utf8(content.expose()).map_err(|_| TemplateError::NotText)?;
    let text = exec::run(&parse::parse(text, true)?, context, Some(payload))?;
    Ok(SecretBytes::new(text.into_bytes()))
}

#[cfg(test)]
mod tests;
