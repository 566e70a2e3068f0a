//! AssignmentsMessage → the model.
//!
//! It is read field by field, and its changes one by one: prost would first build all of them,
//! and a change of two bytes takes more than a thousand in memory. One that can not be used is
//! dropped, told in the log, and costs no other.

use log::{debug, warn};
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use super::{
    convert::{Dropped, MessageError, id, text},
    proto, task,
};
use crate::{
    limits::{ASSIGNMENT_MAX_BYTES, ASSIGNMENTS_MAX_CHANGES, TASK_MAX_BYTES},
    model::{
        AssignmentSet, Change, Config, ConfigId, Secret, SecretBytes, SecretId, SetKind, TaskId,
    },
};

/// Reads an AssignmentsMessage.
///
/// Changes that can not be used are dropped with a warning; volumes of CSI drivers are dropped
/// silently, for this node offers none.
///
/// # Errors
/// [`MessageError`] when it can not be decoded, or holds more than [`ASSIGNMENTS_MAX_CHANGES`].
pub fn assignments(mut data: &[u8]) -> Result<AssignmentSet, MessageError> {
    let mut set = AssignmentSet {
        kind: SetKind::Complete,
        applies_to: String::new(),
        results_in: String::new(),
        changes: Vec::new(),
    };
    let mut seen = 0_usize;
    while !data.is_empty() {
        let (tag, wire_type) = decode_key(&mut data)?;
        match (tag, wire_type) {
            (1, WireType::Varint) => {
                // An unknown kind is read as a set that must fit to the one before.
                let complete = decode_varint(&mut data)? == 0;
                set.kind = if complete { SetKind::Complete } else { SetKind::Incremental };
            }
            (2, WireType::LengthDelimited) => set.applies_to = text(field(&mut data)?.to_vec()),
            (3, WireType::LengthDelimited) => set.results_in = text(field(&mut data)?.to_vec()),
            (4, WireType::LengthDelimited) => {
                let bytes = field(&mut data)?;
                seen += 1;
                if ASSIGNMENTS_MAX_CHANGES < seen {
                    return Err(MessageError::TooMany {
                        what: "assignments",
                        limit: ASSIGNMENTS_MAX_CHANGES,
                    });
                }
                match change(bytes) {
                    Ok(Some(change)) => set.changes.push(change),
                    Ok(None) => debug!("assignment of an unknown kind dropped"),
                    Err(why) => warn!("assignment dropped: {why}"),
                }
            }
            (
                _,
                WireType::Varint
                | WireType::LengthDelimited
                | WireType::SixtyFourBit
                | WireType::ThirtyTwoBit
                | WireType::StartGroup
                | WireType::EndGroup,
            ) => skip_field(wire_type, tag, &mut data, DecodeContext::default())?,
        }
    }
    Ok(set)
}

/// Takes a length and as many bytes off the front of `data`.
fn field<'a>(data: &mut &'a [u8]) -> Result<&'a [u8], MessageError> {
    let length = usize::try_from(decode_varint(data)?).unwrap_or(usize::MAX);
    let (field, rest) =
        data.split_at_checked(length).ok_or(MessageError::Missing("length of a field"))?;
    *data = rest;
    Ok(field)
}

/// One change; nothing when it is about something that this node does not deal in.
fn change(data: &[u8]) -> Result<Option<Change>, Dropped> {
    use proto::assignment::Item;

    if ASSIGNMENT_MAX_BYTES < data.len() {
        return Err(Dropped::TooLarge(ASSIGNMENT_MAX_BYTES));
    }
    let wire = proto::AssignmentChange::decode(data).map_err(|_| Dropped::Undecodable)?;
    let Some(item) = wire.assignment.and_then(|assignment| assignment.item) else {
        return Ok(None);
    };
    let change = match (wire.action, item) {
        (0, Item::Task(wire)) => Change::UpdateTask(Box::new(task::task(decoded(&wire)?)?)),
        (1, Item::Task(wire)) => {
            Change::RemoveTask(id("task id", &decoded(&wire)?.id, TaskId::new)?)
        }
        (0, Item::Secret(wire)) => {
            let id = id("secret id", &wire.id, SecretId::new)?;
            let (name, data, templating) = payload(wire);
            Change::UpdateSecret(Secret { id, name, data, templating })
        }
        (1, Item::Secret(wire)) => Change::RemoveSecret(id("secret id", &wire.id, SecretId::new)?),
        (0, Item::Config(wire)) => {
            let id = id("config id", &wire.id, ConfigId::new)?;
            let (name, data, templating) = payload(wire);
            Change::UpdateConfig(Config { id, name, data, templating })
        }
        (1, Item::Config(wire)) => Change::RemoveConfig(id("config id", &wire.id, ConfigId::new)?),
        (_, Item::Task(_) | Item::Secret(_) | Item::Config(_) | Item::Volume(_)) => {
            return Ok(None);
        }
    };
    Ok(Some(change))
}

/// A task, unless it is so large that its lists might be a burden.
fn decoded(wire: &[u8]) -> Result<proto::Task, Dropped> {
    if TASK_MAX_BYTES < wire.len() {
        return Err(Dropped::TooLarge(TASK_MAX_BYTES));
    }
    proto::Task::decode(wire).map_err(|_| Dropped::Undecodable)
}

/// Name, content and template language of a secret or config.
fn payload(wire: proto::Secret) -> (String, SecretBytes, String) {
    let spec = wire.spec.unwrap_or_default();
    (
        text(spec.annotations.unwrap_or_default().name),
        SecretBytes::new(spec.data),
        text(spec.templating.unwrap_or_default().name),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
        prost::encoding::bytes::encode(tag, &bytes.to_vec(), out);
    }

    fn set(changes: &[proto::AssignmentChange]) -> Vec<u8> {
        let mut data = Vec::new();
        for change in changes {
            put(4, &change.encode_to_vec(), &mut data);
        }
        data
    }

    fn secret(id: &str, action: i32) -> proto::AssignmentChange {
        let secret = proto::Secret { id: id.into(), spec: None };
        let item = Some(proto::assignment::Item::Secret(secret));
        proto::AssignmentChange { assignment: Some(proto::Assignment { item }), action }
    }

    #[test]
    fn one_bad_change_costs_only_itself() {
        let mut data = set(&[secret("a/b", 0), secret("good", 1), secret("odd", 7)]);
        put(4, b"\xff\xff", &mut data);
        put(4, &[], &mut data);
        put(4, &vec![0; ASSIGNMENT_MAX_BYTES + 1], &mut data);
        put(99, b"from the future", &mut data);
        put(3, b"2", &mut data);
        let set = assignments(&data).unwrap();
        assert_eq!(set.changes, [Change::RemoveSecret(SecretId::new("good").unwrap())]);
        assert_eq!((set.kind, &*set.results_in), (SetKind::Complete, "2"));
    }

    #[test]
    fn a_set_of_too_many_changes_is_refused() {
        let data = b"\x22\0".repeat(ASSIGNMENTS_MAX_CHANGES);
        assert!(assignments(&data).unwrap().changes.is_empty());
        let data = b"\x22\0".repeat(ASSIGNMENTS_MAX_CHANGES + 1);
        assert!(matches!(assignments(&data), Err(MessageError::TooMany { .. })));
    }

    #[test]
    fn a_set_cut_anywhere_is_an_error_or_a_shorter_set() {
        let whole = set(&[secret("one", 0), secret("two", 0)]);
        let mut errors = 0;
        for end in 0..whole.len() {
            match assignments(whole.get(..end).unwrap()) {
                Ok(set) => assert!(set.changes.len() < 2),
                Err(_) => errors += 1,
            }
        }
        assert_eq!(errors, whole.len() - 2);
        // A length that no memory could hold.
        assert!(assignments(b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").is_err());
    }
}
