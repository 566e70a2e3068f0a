//! References: what is accepted is stable and bounded.

use edgeagent::image::Reference;

/// Parses the bytes as a reference.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let Ok(reference) = Reference::parse(text) else { return };
    let again = Reference::parse(&reference.to_string());
    assert_eq!(again.as_ref(), Ok(&reference), "the familiar form means the same");
    let canonical = Reference::parse(&reference.canonical());
    let same = canonical.map(|canonical| canonical.canonical());
    assert_eq!(same, Ok(reference.canonical()), "the canonical form is canonical");
    for part in [reference.domain(), reference.path(), reference.tag()].into_iter().flatten() {
        assert!(part.bytes().all(|b| b.is_ascii_graphic()), "{part:?}");
    }
    // A tag may hold two dots, and is never a path.
    for part in [reference.domain(), reference.path()].into_iter().flatten() {
        assert!(!part.contains(".."), "{part:?}");
    }
}
