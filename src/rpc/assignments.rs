//! AssignmentsMessage → the model.
//!
//! It is read as it comes, field by field and change by change: a complete set may be much larger
//! than what this node takes of it, and prost would build all of it first. A change that can not
//! be used costs no other: a task is refused, with the reason for its status; a secret or config
//! is marked as left out; all else is dropped, told in the log.

use std::mem;

use log::{debug, warn};
use prost::{
    Message,
    encoding::{WireType, decode_key, decode_varint},
};
use zeroize::Zeroizing;

use super::{
    convert::{Dropped, MessageError, id, state, text},
    error::CallError,
    frame::{FrameReader, append},
    proto, task,
};
use crate::{
    limits::{
        ASSIGNMENT_HEAD_BYTES, ASSIGNMENT_MAX_BYTES, ASSIGNMENTS_MAX_CHANGES,
        ASSIGNMENTS_MAX_TASK_BYTES, ASSIGNMENTS_MAX_WHOLE, FILES_MAX_BYTES, TASK_MAX_BYTES,
    },
    model::{
        AssignmentSet, Change, Config, ConfigId, Secret, SecretBytes, SecretId, SetKind, TaskId,
    },
};

/// Longest head of a field: two numbers.
const FIELD_HEAD_BYTES: usize = 20;
const CUT: MessageError = MessageError::Missing("end of a field");

/// Reads a whole AssignmentsMessage.
///
/// Changes that can not be used cost no other, as the module says; volumes of CSI drivers are
/// dropped silently, for this node offers none.
///
/// # Errors
/// [`MessageError`] when it can not be decoded, or holds more than [`ASSIGNMENTS_MAX_CHANGES`].
pub fn assignments(data: &[u8]) -> Result<AssignmentSet, MessageError> {
    let mut reader = SetReader::default();
    reader.add(data)?;
    reader.finish()
}

/// Reads AssignmentsMessages as they come.
pub(super) struct SetReader {
    set: AssignmentSet,
    changes: usize,
    task_bytes: usize,
    file_bytes: usize,
    /// Of the field that begins.
    head: heapless::Vec<u8, FIELD_HEAD_BYTES>,
    field: Option<Field>,
    /// What is kept of the field.
    item: Zeroizing<Vec<u8>>,
}

/// A field with a length, whose content comes.
#[derive(Clone, Copy)]
struct Field {
    /// 0: of no use.
    tag: u32,
    length: usize,
    missing: usize,
}

impl Field {
    /// How many bytes of it are kept.
    const fn kept(&self) -> usize {
        match self.tag {
            4 if self.length <= ASSIGNMENT_MAX_BYTES => self.length,
            2..=4 => ASSIGNMENT_HEAD_BYTES,
            _ => 0,
        }
    }
}

impl Default for SetReader {
    fn default() -> Self {
        Self {
            set: AssignmentSet {
                kind: SetKind::Complete,
                applies_to: String::new(),
                results_in: String::new(),
                changes: Vec::new(),
            },
            changes: 0,
            task_bytes: 0,
            file_bytes: 0,
            head: heapless::Vec::new(),
            field: None,
            item: Zeroizing::default(),
        }
    }
}

impl SetReader {
    /// Takes bytes off the front of `piece` until a message is complete or the piece is used up.
    pub(super) fn take(
        &mut self,
        frames: &mut FrameReader,
        piece: &mut &[u8],
    ) -> Result<Option<AssignmentSet>, CallError> {
        let Some(part) = frames.part(piece)? else { return Ok(None) };
        self.add(part.bytes)?;
        Ok(if part.last { Some(mem::take(self).finish()?) } else { None })
    }

    fn add(&mut self, mut bytes: &[u8]) -> Result<(), MessageError> {
        loop {
            if let Some(field) = &mut self.field {
                let (part, rest) = bytes.split_at_checked(field.missing).unwrap_or((bytes, &[]));
                let room = field.kept().saturating_sub(self.item.len());
                append(&mut self.item, part.get(..room).unwrap_or(part), field.kept());
                field.missing -= part.len();
                bytes = rest;
                if field.missing != 0 {
                    return Ok(());
                }
                let field = *field;
                self.field = None;
                self.close(field)?;
            }
            let Some((byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            self.head.push(*byte).map_err(|_| CUT)?;
            self.open()?;
        }
    }

    /// Looks whether the head of a field is complete.
    fn open(&mut self) -> Result<(), MessageError> {
        let ends = |bytes: &[u8]| bytes.last().is_some_and(|byte| *byte < 0x80);
        let mut head = self.head.as_slice();
        if !head.iter().any(|byte| *byte < 0x80) {
            return Ok(());
        }
        let (tag, wire_type) = decode_key(&mut head)?;
        let (tag, length) = match wire_type {
            WireType::Varint | WireType::LengthDelimited if !ends(head) => return Ok(()),
            WireType::LengthDelimited => {
                (tag, usize::try_from(decode_varint(&mut head)?).unwrap_or(usize::MAX))
            }
            WireType::Varint => {
                let value = decode_varint(&mut head)?;
                if tag == 1 {
                    // An unknown kind is read as a set that must fit to the one before.
                    let complete = value == 0;
                    self.set.kind = if complete { SetKind::Complete } else { SetKind::Incremental };
                }
                (0, 0)
            }
            WireType::SixtyFourBit => (0, 8),
            WireType::ThirtyTwoBit => (0, 4),
            WireType::StartGroup | WireType::EndGroup => {
                return Err(MessageError::Missing("kind of field"));
            }
        };
        self.head.clear();
        self.field = Some(Field { tag, length, missing: length });
        Ok(())
    }

    /// A field is complete.
    fn close(&mut self, field: Field) -> Result<(), MessageError> {
        let item = mem::take(&mut self.item);
        let whole = item.len() == field.length;
        match field.tag {
            2 | 3 if !whole => {
                Err(MessageError::TooMany { what: "bytes of a name", limit: ASSIGNMENT_HEAD_BYTES })
            }
            2 => {
                self.set.applies_to = text(item.to_vec());
                Ok(())
            }
            3 => {
                self.set.results_in = text(item.to_vec());
                Ok(())
            }
            4 => {
                self.changes += 1;
                if ASSIGNMENTS_MAX_CHANGES < self.changes {
                    return Err(MessageError::TooMany {
                        what: "assignments",
                        limit: ASSIGNMENTS_MAX_CHANGES,
                    });
                }
                match if whole { self.change(&item) } else { cut(&item) } {
                    Ok(Some(change)) => self.set.changes.push(change),
                    Ok(None) => debug!("assignment of an unknown kind dropped"),
                    Err(why) => warn!("assignment dropped: {why}"),
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The set, when it is complete.
    fn finish(self) -> Result<AssignmentSet, MessageError> {
        if self.field.is_some() || !self.head.is_empty() { Err(CUT) } else { Ok(self.set) }
    }

    /// One change; nothing when it is about something that this node does not deal in.
    fn change(&mut self, data: &[u8]) -> Result<Option<Change>, Dropped> {
        use proto::assignment::Item;

        let wire = proto::AssignmentChange::decode(data).map_err(|_| Dropped::Undecodable)?;
        let Some(item) = wire.assignment.and_then(|assignment| assignment.item) else {
            return Ok(None);
        };
        Ok(Some(match (wire.action, item) {
            (0, Item::Task(wire)) => self.task(&wire)?,
            (1, Item::Task(wire)) => Change::RemoveTask(head(&wire)?.0),
            (0, Item::Secret(wire)) => {
                let id = id("secret id", &wire.id, SecretId::new)?;
                let (name, data, templating) = self.payload(wire);
                Change::UpdateSecret(Secret { id, name, data, templating })
            }
            (1, Item::Secret(wire)) => {
                Change::RemoveSecret(id("secret id", &wire.id, SecretId::new)?)
            }
            (0, Item::Config(wire)) => {
                let id = id("config id", &wire.id, ConfigId::new)?;
                let (name, data, templating) = self.payload(wire);
                Change::UpdateConfig(Config { id, name, data, templating })
            }
            (1, Item::Config(wire)) => {
                Change::RemoveConfig(id("config id", &wire.id, ConfigId::new)?)
            }
            (_, Item::Task(_) | Item::Secret(_) | Item::Config(_) | Item::Volume(_)) => {
                return Ok(None);
            }
        }))
    }

    /// A task, or why there is none.
    fn task(&mut self, wire: &[u8]) -> Result<Change, Dropped> {
        let (id, over) = head(wire)?;
        let bytes = self.task_bytes + wire.len();
        let full = self.is_full() || ASSIGNMENTS_MAX_TASK_BYTES < bytes;
        if full && over {
            return Ok(Change::KeepTask(id));
        }
        let why = if TASK_MAX_BYTES < wire.len() {
            Dropped::TooLarge(TASK_MAX_BYTES)
        } else if full {
            Dropped::TooMany("tasks at once")
        } else {
            let wire = proto::Task::decode(wire).map_err(|_| Dropped::Undecodable);
            match wire.and_then(task::task) {
                Ok(task) => {
                    self.task_bytes = bytes;
                    return Ok(Change::UpdateTask(Box::new(task)));
                }
                Err(why) => why,
            }
        };
        Ok(refusal(id, &why))
    }

    /// Name, content and template language of a secret or config; no content when there is no
    /// room for it.
    fn payload(&mut self, wire: proto::Secret) -> (String, Option<SecretBytes>, String) {
        let spec = wire.spec.unwrap_or_default();
        let data = SecretBytes::new(spec.data);
        let name = spec.annotations.unwrap_or_default().name;
        let templating = spec.templating.unwrap_or_default().name;
        let bytes = self.file_bytes + data.expose().len() + name.len() + templating.len();
        if self.is_full() || FILES_MAX_BYTES < bytes {
            return (String::new(), None, String::new());
        }
        self.file_bytes = bytes;
        (text(name), Some(data), text(templating))
    }

    /// Nothing more is taken over whole.
    const fn is_full(&self) -> bool {
        ASSIGNMENTS_MAX_WHOLE <= self.set.changes.len()
    }
}

/// Identifier of a task, and whether it is over.
fn head(wire: &[u8]) -> Result<(TaskId, bool), Dropped> {
    let head = proto::TaskHead::decode(wire).map_err(|_| Dropped::Undecodable)?;
    let over = state(head.status.unwrap_or_default().state).is_terminal();
    Ok((id("task id", &head.id, TaskId::new)?, over))
}

fn refusal(id: TaskId, why: &Dropped) -> Change {
    let remedy = match why {
        Dropped::TooLarge(_) => "; shorten its environment, arguments or labels",
        Dropped::TooMany(_) | Dropped::Undecodable | Dropped::Id(..) => "",
    };
    Change::RefuseTask { id, why: format!("this node can not take the task: {why}{remedy}") }
}

/// What is known of a change that is too large from its beginning alone: the assignment, in it the
/// item, in it the identifier; each stands first.
fn cut(mut data: &[u8]) -> Result<Option<Change>, Dropped> {
    let mut next = || {
        let (tag, _) = decode_key(&mut data).ok()?;
        let length = usize::try_from(decode_varint(&mut data).ok()?).ok()?;
        Some((tag, data.get(..length)))
    };
    let why = Dropped::TooLarge(ASSIGNMENT_MAX_BYTES);
    let (Some((1, _)), Some((kind, _)), Some((1, Some(bytes)))) = (next(), next(), next()) else {
        return Err(why);
    };
    let (name, templating) = (String::new(), String::new());
    Ok(Some(match kind {
        1 => refusal(id("task id", bytes, TaskId::new)?, &why),
        2 => {
            let id = id("secret id", bytes, SecretId::new)?;
            Change::UpdateSecret(Secret { id, name, data: None, templating })
        }
        3 => {
            let id = id("config id", bytes, ConfigId::new)?;
            Change::UpdateConfig(Config { id, name, data: None, templating })
        }
        _ => return Err(why),
    }))
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

    fn task(id: &str, state: i32, name: &[u8]) -> proto::AssignmentChange {
        let annotations = proto::Annotations { name: name.to_vec(), labels: Vec::new() };
        let task = proto::Task {
            id: id.into(),
            service_id: b"service".to_vec(),
            node_id: b"node".to_vec(),
            annotations: Some(annotations),
            status: Some(proto::TaskStatus { state, ..Default::default() }),
            ..Default::default()
        };
        let item = Some(proto::assignment::Item::Task(task.encode_to_vec()));
        proto::AssignmentChange { assignment: Some(proto::Assignment { item }), action: 0 }
    }

    #[test]
    fn what_does_not_fit_is_named_and_costs_no_other() {
        let big = vec![b'x'; ASSIGNMENT_MAX_BYTES + 1];
        let long = vec![b'x'; TASK_MAX_BYTES];
        let spec = Some(proto::SecretSpec { data: big.clone(), ..Default::default() });
        let huge = proto::Secret { id: b"huge".to_vec(), spec };
        let config = Some(proto::assignment::Item::Config(huge));
        let mut unreadable = proto::Task { id: b"odd".to_vec(), ..Default::default() };
        unreadable.networks = vec![b"\xff".to_vec()];
        let unreadable = Some(proto::assignment::Item::Task(unreadable.encode_to_vec()));
        let change = |item| proto::AssignmentChange {
            assignment: Some(proto::Assignment { item }),
            action: 0,
        };
        let data = set(&[
            task("long", 512, &long),
            task("huge", 512, &big),
            change(unreadable),
            change(config),
            task("good", 512, b"web.1"),
        ]);
        let read = assignments(&data).unwrap();
        let [long, huge, odd, config, good] = read.changes.as_slice() else { panic!("{read:?}") };
        for (change, name, told) in [
            (long, "long", "more than 131072 bytes; shorten"),
            (huge, "huge", "more than 1228800 bytes; shorten"),
            (odd, "odd", "bad service id"),
        ] {
            let Change::RefuseTask { id, why } = change else { panic!("{change:?}") };
            assert_eq!(id.as_str(), name);
            assert!(why.contains(told), "{why}");
        }
        let Change::UpdateConfig(config) = config else { panic!("{config:?}") };
        assert_eq!((config.id.as_str(), &config.data), ("huge", &None));
        assert!(matches!(good, Change::UpdateTask(task) if task.name == "web.1"), "{good:?}");

        // The same in pieces of any size.
        for step in [1, 7, 16 << 10] {
            let mut reader = SetReader::default();
            for piece in data.chunks(step) {
                reader.add(piece).unwrap();
                assert!(reader.item.capacity() <= ASSIGNMENT_MAX_BYTES);
            }
            assert_eq!(reader.finish().unwrap(), read, "{step}");
        }
    }

    #[test]
    fn history_without_end_leaves_room_for_what_runs() {
        let finished = |number| task(&format!("old{number}"), 704, b"old");
        let mut changes: Vec<_> = (0..ASSIGNMENTS_MAX_WHOLE + 1000).map(finished).collect();
        changes.push(task("new", 64, b"new"));
        changes.push(secret("gone", 1));
        let read = assignments(&set(&changes)).unwrap();
        assert_eq!(read.changes.len(), changes.len());
        let count = |wanted: fn(&Change) -> bool| {
            read.changes.iter().filter(|change| wanted(change)).count()
        };
        assert_eq!(count(|change| matches!(change, Change::UpdateTask(_))), ASSIGNMENTS_MAX_WHOLE);
        assert_eq!(count(|change| matches!(change, Change::KeepTask(_))), 1000);
        assert_eq!(count(|change| matches!(change, Change::RefuseTask { .. })), 1);
        assert_eq!(count(|change| matches!(change, Change::RemoveSecret(_))), 1);
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
