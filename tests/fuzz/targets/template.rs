//! A template of a spec: any text expands within its bounds or is refused, always the same way.

use edgeagent::{
    limits::TEMPLATE_MAX_BYTES,
    spec::template::{Context, expand},
};

/// Expands `data`.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let mut context = Context { service_name: "web".to_owned(), ..Context::default() };
    for (key, value) in [("a", "1"), ("b.c", "x"), ("empty", "")] {
        context.service_labels.insert(key.to_owned(), value.to_owned());
    }
    let first = expand(text, &context);
    if let Ok(expanded) = &first {
        assert!(expanded.len() <= TEMPLATE_MAX_BYTES.max(text.len()));
    }
    assert!(first == expand(text, &context), "the same text expands the same way");
}
