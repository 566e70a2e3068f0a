//! Identifiers: short, printable, and safe as a file name.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::ID_MAX_BYTES;

/// Why a string is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// It has no characters.
    Empty,
    /// It is longer than [`ID_MAX_BYTES`].
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It holds something other than ASCII letters, digits, `.`, `-` and `_`, or starts with `.`.
    BadCharacter,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("identifier is empty"),
            Self::TooLong { bytes } => {
                write!(f, "identifier has {bytes} bytes, at most {ID_MAX_BYTES} are allowed")
            }
            Self::BadCharacter => f.write_str("identifier holds a character that is not allowed"),
        }
    }
}

impl core::error::Error for IdError {}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// At most [`ID_MAX_BYTES`] of ASCII letters, digits, `.`, `-` and `_`, never starting
        /// with `.`: such a string is one component of a path and nothing else.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(heapless::String<ID_MAX_BYTES>);

        impl $name {
            /// Checks `text` and keeps it.
            ///
            /// # Errors
            /// [`IdError`] when it is empty, too long or holds other characters.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text)?;
                heapless::String::try_from(text)
                    .map(Self)
                    .map_err(|_| IdError::TooLong { bytes: text.len() })
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                Self::from(id.as_str())
            }
        }
    };
}

id!(/// A task, 25 characters of base 36 in practice.
    TaskId);
id!(/// A node; the common name of its certificate.
    NodeId);
id!(/// A service.
    ServiceId);
id!(/// A secret, or `<secret>.<task>` for one that a driver made for a single task.
    SecretId);
id!(/// A config.
    ConfigId);
id!(/// A session with the dispatcher; never persisted.
    SessionId);
id!(/// A container: 64 lower-case hexadecimal characters, as Docker shows them.
    ContainerId);

fn check(text: &str) -> Result<(), IdError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    match text.as_bytes() {
        [] => Err(IdError::Empty),
        bytes if ID_MAX_BYTES < bytes.len() => Err(IdError::TooLong { bytes: bytes.len() }),
        [b'.', ..] => Err(IdError::BadCharacter),
        bytes if bytes.iter().all(|b| allowed(*b)) => Ok(()),
        _ => Err(IdError::BadCharacter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_always_one_safe_path_component() {
        for bad in ["", ".", "..", ".hidden", "a/b", "a\0", "a b", "ä"] {
            assert!(TaskId::new(bad).is_err(), "{bad:?}");
        }
        assert!(TaskId::new(&"a".repeat(ID_MAX_BYTES + 1)).is_err());
        assert_eq!(TaskId::new("ysevbt5ruttxqod79ng3wdzce").unwrap().as_str().len(), 25);
        assert!(SecretId::new("ysevbt5ruttxqod79ng3wdzce.ysevbt5ruttxqod79ng3wdzcf").is_ok());
    }
}
