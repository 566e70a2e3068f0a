//! A pattern of the owner's rules against what a manager names: it matches as the plainest matcher
//! says, and a folder admits what is below it alone.

use edgeagent::{
    model::{Policy, matches},
    spec::admit_bind,
};

/// A pattern and a text, split at the first zero byte.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let (pattern, text) = text.split_once('\0').unwrap_or((text, ""));
    // The plain matcher takes time that grows with both.
    if pattern.len() <= 64 && text.len() <= 256 {
        let plain = plainly(pattern.as_bytes(), text.as_bytes());
        assert_eq!(matches(pattern, text), plain, "{pattern:?} {text:?}");
    }
    assert!(matches("**", text) && matches(&text.replace('*', "**"), &text.replace('*', "x")));
    let rules = Policy { bind_sources: Some(vec![pattern.to_owned()]), ..Policy::default() };
    let mut rest = text.strip_prefix(pattern).map(str::chars);
    let below = rest.as_mut().is_some_and(|rest| matches!(rest.next(), None | Some('/')));
    assert_eq!(admit_bind(&rules, text).is_ok(), below, "{pattern:?} {text:?}");
}

/// By the words of the documentation: `*` stops at a `/`, `**` does not.
fn plainly(pattern: &[u8], text: &[u8]) -> bool {
    let mut ends = vec![0];
    let mut rest = pattern;
    while let Some((&byte, after)) = rest.split_first() {
        let mut next = Vec::new();
        if byte == b'*' {
            let across = after.first() == Some(&b'*');
            rest = if across { after.get(1..).unwrap_or_default() } else { after };
            for at in ends {
                let run = text.iter().skip(at).take_while(|&&byte| across || byte != b'/').count();
                next.extend(at..=at + run);
            }
        } else {
            rest = after;
            next.extend(
                ends.into_iter().filter(|&at| text.get(at) == Some(&byte)).map(|at| at + 1),
            );
        }
        next.sort_unstable();
        next.dedup();
        ends = next;
    }
    ends.contains(&text.len())
}
