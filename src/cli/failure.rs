//! How a command fails: one message for a person, one exit code for a script.

use std::{error::Error, process::ExitCode};

use crate::{
    config::ConfigError,
    model::chain,
    node::RunError,
    seal::{FileError, LockError, OpenError, SealError},
};

/// A message and the exit code that goes with it.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Exit code 1: it was tried and did not work.
    pub fn failed(what: &str, error: &(dyn Error + 'static)) -> Self {
        Self { code: 1, message: format!("{what}: {}", chain(error)) }
    }

    /// Exit code 1 with a message of its own.
    pub fn plain(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// Exit code 2: the command line or the configuration is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// Exit code 3: the manager, or the check against the token, refused.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into() }
    }

    /// Exit code 4: the sealed state can not be opened.
    pub fn sealed(message: impl Into<String>) -> Self {
        Self { code: 4, message: message.into() }
    }

    /// Exit code 5: this node is in no swarm.
    pub fn not_joined() -> Self {
        Self {
            code: 5,
            message: String::from(
                "this node is not part of a swarm. Join one: edgeagent join --token TOKEN MANAGER",
            ),
        }
    }

    /// Prints the message to standard error.
    #[expect(clippy::print_stderr, reason = "this is where a command speaks to the person")]
    pub fn report(&self) -> ExitCode {
        eprintln!("edgeagent: {}", self.text());
        ExitCode::from(self.code)
    }

    /// The message, in which a manager, a registry or the command line may be quoted: what could
    /// steer a terminal becomes `?`.
    fn text(&self) -> String {
        let lines: Vec<String> = self.message.split('\n').map(super::plain).collect();
        lines.join("\n")
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(chain(&error))
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        let text = chain(&error);
        let passing = matches!(error, SealError::File(_) | SealError::Held);
        if passing { Self::plain(text) } else { Self::sealed(text) }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let text = chain(&error);
        if let OpenError::File(_) = error { Self::plain(text) } else { Self::sealed(text) }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        Self::plain(chain(&error))
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::plain(chain(&error))
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let text = chain(&error);
        match error {
            RunError::Open(cause) => cause.into(),
            RunError::Seal(cause) => cause.into(),
            RunError::Signals(_)
            | RunError::Place { .. }
            | RunError::AlreadyRunning { .. }
            | RunError::Images(_)
            | RunError::Program(_)
            | RunError::Tasks(_)
            | RunError::Tls(_) => Self::plain(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_can_not_steer_a_terminal() {
        let failure = Failure::refused("two lines\nof a \u{1b}[2J manager\r\u{9b}31m");
        assert_eq!(failure.text(), "two lines\nof a ?[2J manager??31m");
    }
}
