//! Addresses that registries send us to.
//!
//! [`resolve`] says where a reference leads, as RFC 3986 §5.2 does; whether anybody goes there is
//! `transport`'s to judge. [`shown`] is what of an address may be told: a query may be a signature
//! that opens what it names, and a user part a password.

/// Longest address that is told, in characters. The rest of a longer one is left out.
const SHOWN_MAX_CHARS: usize = 200;

/// The parts of an address (RFC 3986 appendix B). The fragment is never sent and not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let text = text.split('#').next().unwrap_or_default();
        let (text, query) = match text.split_once('?') {
            Some((text, query)) => (text, Some(query)),
            None => (text, None),
        };
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
            Some(_) | None => (None, text),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (Some(authority), path)
            }
            None => (None, rest),
        };
        Self { scheme, authority, path, query }
    }

    /// Puts parts together (RFC 3986 §5.3).
    fn text(
        scheme: Option<&str>,
        authority: Option<&str>,
        path: &str,
        query: Option<&str>,
    ) -> String {
        let mut text = String::new();
        if let Some(scheme) = scheme {
            text.extend([scheme, ":"]);
        }
        if let Some(authority) = authority {
            text.extend(["//", authority]);
        }
        text.push_str(path);
        if let Some(query) = query {
            text.extend(["?", query]);
        }
        text
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Where `reference`, found at the absolute address `base`, leads, without its fragment (RFC 3986
/// §5.2). Characters that no address may have are encoded, as browsers do. None for control
/// characters, which mean no address at all.
#[must_use]
pub fn resolve(base: &str, reference: &str) -> Option<String> {
    let reference = encode(reference.trim_matches([' ', '\t']))?;
    let (base, to) = (Parts::of(base), Parts::of(&reference));
    if to.scheme.is_some() {
        return Some(Parts::text(to.scheme, to.authority, &without_dots(to.path), to.query));
    }
    if to.authority.is_some() {
        return Some(Parts::text(base.scheme, to.authority, &without_dots(to.path), to.query));
    }
    let (path, query) = if to.path.is_empty() {
        (base.path.to_owned(), to.query.or(base.query))
    } else if to.path.starts_with('/') {
        (without_dots(to.path), to.query)
    } else {
        (without_dots(&merge(&base, to.path)), to.query)
    };
    Some(Parts::text(base.scheme, base.authority, &path, query))
}

/// RFC 3986 §5.2.3.
fn merge(base: &Parts<'_>, path: &str) -> String {
    if base.authority.is_some() && base.path.is_empty() {
        return format!("/{path}");
    }
    let folder = base.path.rfind('/').map_or("", |last| base.path.split_at(last + 1).0);
    format!("{folder}{path}")
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let (mut input, mut output) = (path, String::with_capacity(path.len()));
    // Every turn takes some of the input away.
    while !input.is_empty() {
        if let Some(rest) = input.strip_prefix("../").or_else(|| input.strip_prefix("./")) {
            input = rest;
        } else if input.starts_with("/./") {
            input = input.strip_prefix("/.").unwrap_or_default();
        } else if input.starts_with("/../") {
            input = input.strip_prefix("/..").unwrap_or_default();
            output.truncate(output.rfind('/').unwrap_or(0));
        } else if input == "/." {
            input = "/";
        } else if input == "/.." {
            input = "/";
            output.truncate(output.rfind('/').unwrap_or(0));
        } else if matches!(input, "." | "..") {
            input = "";
        } else {
            let from = usize::from(input.starts_with('/'));
            let end = input.get(from..).and_then(|rest| rest.find('/')).map(|at| at + from);
            let (segment, rest) = input.split_at(end.unwrap_or(input.len()));
            output.push_str(segment);
            input = rest;
        }
    }
    output
}

/// Encodes what no address may have (RFC 3986 §2); none when there are control characters.
fn encode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            0..=0x1f | 0x7f => return None,
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                out.push_str(&format!("%{byte:02X}"));
            }
            _ => out.push(char::from(byte)),
        }
    }
    Some(out)
}

/// What of an address may be told in errors and logs: neither query nor fragment nor user part, and
/// a bounded number of characters.
#[must_use]
pub fn shown(address: &str) -> String {
    let parts = Parts::of(address);
    let authority = parts.authority.map(|it| it.rsplit('@').next().unwrap_or_default());
    let text = Parts::text(parts.scheme, authority, parts.path, None);
    text.chars().filter(|c| !c.is_control()).take(SHOWN_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3986 §5.4, without fragments, which are never sent.
    #[test]
    fn references_are_resolved_as_the_rfc_does() {
        for (reference, want) in [
            // §5.4.1
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            ("g?y#s", "http://a/b/c/g?y"),
            (";x", "http://a/b/c/;x"),
            ("g;x", "http://a/b/c/g;x"),
            ("g;x?y#s", "http://a/b/c/g;x?y"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../", "http://a/"),
            ("../../g", "http://a/g"),
            // §5.4.2
            ("../../../g", "http://a/g"),
            ("../../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            (".g", "http://a/b/c/.g"),
            ("g..", "http://a/b/c/g.."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/./h", "http://a/b/c/g/h"),
            ("g/../h", "http://a/b/c/h"),
            ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/./x", "http://a/b/c/g?y/./x"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("g#s/../x", "http://a/b/c/g"),
            ("http:g", "http:g"),
        ] {
            let found = resolve("http://a/b/c/d;p?q", reference);
            assert_eq!(found.as_deref(), Some(want), "{reference}");
        }
    }

    #[test]
    fn neighbours_of_the_rfc() {
        for (base, reference, want) in [
            ("https://a", "g", Some("https://a/g")),
            ("https://a?x", "g?y", Some("https://a/g?y")),
            ("https://a:5000/v2/x", "//b:1/y?sig=/../", Some("https://b:1/y?sig=/../")),
            ("https://a/v2/", " /with space?q=ä ", Some("https://a/with%20space?q=%C3%A4")),
            ("https://a/v2/", "\\\\b\\y", Some("https://a/v2/%5C%5Cb%5Cy")),
            ("https://a/v2/", "/a%2e%2e/b", Some("https://a/a%2e%2e/b")),
            ("https://a/v2/", "/x\r\nX: y", None),
        ] {
            assert_eq!(resolve(base, reference).as_deref(), want, "{reference:?}");
        }
    }

    #[test]
    fn what_is_shown_has_no_secret() {
        for (address, want) in [
            ("https://u:pass@host:1/p/q?sig=secret#f", "https://host:1/p/q"),
            ("https://u@p@host/x", "https://host/x"),
            ("/x?sig=secret", "/x"),
            ("?sig=secret", ""),
            ("//u:p@h/x?y", "//h/x"),
            ("x\u{1b}[2J", "x[2J"),
        ] {
            assert_eq!(shown(address), want, "{address}");
        }
        assert_eq!(shown(&"x".repeat(5000)).len(), SHOWN_MAX_CHARS);
    }
}
