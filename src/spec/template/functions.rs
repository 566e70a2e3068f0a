//! The functions of a template (Go `text/template/funcs.go`, `fmt`; swarmkit
//! `template/template.go`).

use core::{cmp::Ordering, fmt::Write, str::Chars};

use super::{Payload, TemplateError, exec::Value};
use crate::{limits::TEMPLATE_MAX_BYTES, model::SecretBytes};

const BUILTIN: [&str; 18] = [
    "and", "eq", "ge", "gt", "html", "index", "join", "le", "len", "lt", "ne", "not", "or",
    "print", "printf", "println", "slice", "urlquery",
];

/// Whether templates, or only payloads, have this function.
pub(super) fn exists(name: &str, payload: bool) -> bool {
    BUILTIN.contains(&name) || (payload && matches!(name, "secret" | "config" | "env"))
}

/// Calls a function other than `and` and `or`.
pub(super) fn call(
    name: &str,
    arguments: &[Value],
    payload: Option<&Payload<'_>>,
) -> Result<Value, TemplateError> {
    let text = |text: String| Ok(Value::Text(text.into()));
    match (name, arguments) {
        ("not", [value]) => Ok(Value::Bool(!value.is_true())),
        ("len", [value]) => length(value),
        ("index", [value, keys @ ..]) => {
            keys.iter().try_fold(value.clone(), |value, key| index(&value, key))
        }
        ("slice", [value, bounds @ ..]) => slice(value, bounds),
        ("print", values) => text(print(values)?),
        ("println", values) => {
            let words = values.iter().map(Value::shown).collect::<Result<Vec<_>, _>>()?;
            text(format!("{}\n", words.join(" ")))
        }
        ("printf", [Value::Text(format), values @ ..]) => text(printf(format, values)?),
        ("html", values) => text(html(&print(values)?)),
        ("urlquery", values) => text(url_query(&print(values)?)),
        ("eq", [first, second, others @ ..]) => {
            for other in core::iter::once(second).chain(others) {
                if equal(first, other)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        ("ne", [first, second]) => equal(first, second).map(|equal| Value::Bool(!equal)),
        ("lt", [first, second]) => order(first, second).map(|o| Value::Bool(o == Ordering::Less)),
        ("le", [first, second]) => {
            order(first, second).map(|o| Value::Bool(o != Ordering::Greater))
        }
        ("gt", [first, second]) => {
            order(first, second).map(|o| Value::Bool(o == Ordering::Greater))
        }
        ("ge", [first, second]) => order(first, second).map(|o| Value::Bool(o != Ordering::Less)),
        ("join", [separator, words @ ..]) => {
            let separator = expect_text("join", separator)?;
            let words = words
                .iter()
                .map(|word| expect_text("join", word))
                .collect::<Result<Vec<_>, _>>()?;
            let between = separator.len().saturating_mul(words.len());
            let all = words.iter().map(|word| word.len()).fold(between, usize::saturating_add);
            if TEMPLATE_MAX_BYTES < all {
                return Err(TemplateError::TooLarge);
            }
            text(words.join(separator))
        }
        ("env", [name]) => {
            let name = expect_text("env", name)?;
            text(payload.and_then(|payload| (payload.env)(name)).unwrap_or_default())
        }
        ("secret", [name]) => {
            let name = expect_text("secret", name)?;
            reveal("secret", name, payload.and_then(|payload| (payload.secret)(name)))
        }
        ("config", [name]) => {
            let name = expect_text("config", name)?;
            reveal("config", name, payload.and_then(|payload| (payload.config)(name)))
        }
        _ => Err(TemplateError::evaluation(format!(
            "wrong number or type of args for {name}: got {}",
            arguments.len()
        ))),
    }
}

fn reveal(kind: &str, name: &str, data: Option<SecretBytes>) -> Result<Value, TemplateError> {
    let data = data.ok_or_else(|| {
        TemplateError::evaluation(format!(
            "{kind} target {name} not found: give the service a {kind} with this target (--{kind}; \
             compose: {kind}s)"
        ))
    })?;
    let text = core::str::from_utf8(data.expose()).map_err(|_| TemplateError::NotText)?;
    Ok(Value::Text(text.into()))
}

fn expect_text<'a>(function: &str, value: &'a Value) -> Result<&'a str, TemplateError> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Nil | Value::Bool(_) | Value::Int(_) | Value::Map(_) | Value::Struct(_) => {
            Err(TemplateError::evaluation(format!(
                "wrong type for value of {function}; expected string; got {}",
                value.type_name()
            )))
        }
    }
}

fn length(value: &Value) -> Result<Value, TemplateError> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::Map(map) => map.len(),
        Value::Nil | Value::Bool(_) | Value::Int(_) | Value::Struct(_) => {
            return Err(TemplateError::evaluation(format!("len of type {}", value.type_name())));
        }
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn index(value: &Value, key: &Value) -> Result<Value, TemplateError> {
    match (value, key) {
        // A missing key gives the zero value, unlike a missing field.
        (Value::Map(map), Value::Text(key)) => {
            Ok(Value::Text(map.get(&**key).map_or("", String::as_str).into()))
        }
        (Value::Text(text), Value::Int(at)) => {
            let byte = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
            let byte = byte.ok_or_else(|| TemplateError::evaluation("index out of range"))?;
            Ok(Value::Int(i64::from(*byte)))
        }
        _ => Err(TemplateError::evaluation(format!(
            "can't index item of type {} with type {}",
            value.type_name(),
            key.type_name()
        ))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, TemplateError> {
    let text = expect_text("slice", value)?;
    let bound = |value: &Value| match value {
        Value::Int(at) => usize::try_from(*at).ok(),
        Value::Nil | Value::Bool(_) | Value::Text(_) | Value::Map(_) | Value::Struct(_) => None,
    };
    let range = match bounds {
        [] => Some((0, text.len())),
        [from] => bound(from).map(|from| (from, text.len())),
        [from, to] => bound(from).zip(bound(to)),
        _ => None,
    };
    let part = range.and_then(|(from, to)| text.get(from..to));
    let part = part.ok_or_else(|| TemplateError::evaluation("slice: index out of range"))?;
    Ok(Value::Text(part.into()))
}

/// Go's `Sprint`: a space between two values when neither is text.
fn print(values: &[Value]) -> Result<String, TemplateError> {
    let mut out = String::new();
    let mut last_is_text = true;
    for value in values {
        let is_text = matches!(value, Value::Text(_));
        if !is_text && !last_is_text {
            out.push(' ');
        }
        out.push_str(&match value {
            Value::Nil => "<nil>".to_owned(),
            Value::Bool(_) | Value::Int(_) | Value::Text(_) | Value::Map(_) | Value::Struct(_) => {
                value.shown()?
            }
        });
        last_is_text = is_text;
    }
    Ok(out)
}

fn equal(a: &Value, b: &Value) -> Result<bool, TemplateError> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        (Value::Text(a), Value::Text(b)) => Ok(a == b),
        (Value::Nil, Value::Nil) => Ok(true),
        _ => Err(TemplateError::evaluation(format!(
            "incompatible types for comparison: {} and {}",
            a.type_name(),
            b.type_name()
        ))),
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, TemplateError> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => Ok(a.cmp(b)),
        _ => Err(TemplateError::evaluation(format!(
            "invalid types for comparison: {} and {}",
            a.type_name(),
            b.type_name()
        ))),
    }
}

/// Flags, width and precision of a verb.
#[derive(Default)]
struct Directive {
    minus: bool,
    plus: bool,
    space: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// Widest field; Go takes more, but nobody writes it.
const WIDTH_MAX: usize = 1000;

fn printf(format: &str, values: &[Value]) -> Result<String, TemplateError> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some((text, after)) = rest.split_once('%') {
        out.push_str(text);
        let mut chars = after.chars();
        let mut directive = Directive::default();
        while let Some(flag) = next_if(&mut chars, |c| matches!(c, '-' | '+' | ' ' | '0')) {
            match flag {
                '-' => directive.minus = true,
                '+' => directive.plus = true,
                ' ' => directive.space = true,
                _ => directive.zero = true,
            }
        }
        directive.width = number(&mut chars)?;
        if next_if(&mut chars, |c| c == '.').is_some() {
            directive.precision = Some(number(&mut chars)?);
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some(verb) => {
                let Some(value) = values.next() else {
                    let reason = format!("printf: no value for %{verb}");
                    return Err(TemplateError::evaluation(reason));
                };
                pad(&mut out, &directive, verb, value)?;
            }
            None => return Err(TemplateError::evaluation("printf: no verb after %")),
        }
        if TEMPLATE_MAX_BYTES < out.len() {
            return Err(TemplateError::TooLarge);
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    match values.next() {
        None => Ok(out),
        Some(_) => Err(TemplateError::evaluation("printf: more values than verbs")),
    }
}

fn next_if(chars: &mut Chars<'_>, wanted: impl Fn(char) -> bool) -> Option<char> {
    let next = chars.as_str().chars().next().filter(|c| wanted(*c))?;
    chars.next();
    Some(next)
}

/// Decimal digits; none are 0.
fn number(chars: &mut Chars<'_>) -> Result<usize, TemplateError> {
    let mut number = 0_usize;
    while let Some(digit) = next_if(chars, |c| c.is_ascii_digit()).and_then(|c| c.to_digit(10)) {
        number = number.saturating_mul(10).saturating_add(usize::try_from(digit).unwrap_or(0));
        if WIDTH_MAX < number {
            return Err(TemplateError::unsupported("such a width in printf"));
        }
    }
    Ok(number)
}

/// Appends one value as its verb says.
fn pad(
    out: &mut String,
    directive: &Directive,
    verb: char,
    value: &Value,
) -> Result<(), TemplateError> {
    let is_int = matches!(value, Value::Int(_));
    let integer_flags = directive.plus || directive.space || directive.zero;
    if (integer_flags && !is_int) || (directive.precision.is_some() && is_int) {
        return Err(TemplateError::unsupported("such flags in printf"));
    }
    let mut body = match (verb, value) {
        ('s' | 'v', Value::Text(text)) => cut(text, directive.precision),
        ('q', Value::Text(text)) => quote(&cut(text, directive.precision)),
        ('x', Value::Text(text)) if directive.precision.is_none() => {
            text.bytes().fold(String::new(), |out, byte| out + &format!("{byte:02x}"))
        }
        ('X', Value::Text(text)) if directive.precision.is_none() => {
            text.bytes().fold(String::new(), |out, byte| out + &format!("{byte:02X}"))
        }
        ('d' | 'v', Value::Int(value)) => value.unsigned_abs().to_string(),
        ('x', Value::Int(value)) => format!("{:x}", value.unsigned_abs()),
        ('X', Value::Int(value)) => format!("{:X}", value.unsigned_abs()),
        ('o', Value::Int(value)) => format!("{:o}", value.unsigned_abs()),
        ('b', Value::Int(value)) => format!("{:b}", value.unsigned_abs()),
        ('c', Value::Int(value)) if !integer_flags => {
            let found = u32::try_from(*value).ok().and_then(char::from_u32);
            found.unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
        }
        ('t' | 'v', Value::Bool(value)) => value.to_string(),
        ('v' | 's', Value::Map(_)) if directive.width == 0 => value.shown()?,
        _ => {
            return Err(TemplateError::evaluation(format!(
                "printf: %{verb} does not fit or support a {}",
                value.type_name()
            )));
        }
    };
    if let Value::Int(value) = value
        && verb != 'c'
    {
        let sign = match (*value < 0, directive.plus, directive.space) {
            (true, _, _) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            (false, false, false) => "",
        };
        if directive.zero && !directive.minus {
            let width = directive.width.saturating_sub(sign.len());
            body = format!("{body:0>width$}");
        }
        body = format!("{sign}{body}");
    }
    let width = directive.width;
    // Writing to a string does not fail.
    if directive.minus { write!(out, "{body:<width$}") } else { write!(out, "{body:>width$}") }
        .unwrap_or_default();
    Ok(())
}

fn cut(text: &str, precision: Option<usize>) -> String {
    precision.map_or_else(|| text.to_owned(), |chars| text.chars().take(chars).collect())
}

/// Go's `strconv.Quote`, for what is printable or plainly is not.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || (c.is_whitespace() && c != ' ') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Go's `template.HTMLEscapeString`.
fn html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\0' => out.push(char::REPLACEMENT_CHARACTER),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

/// Go's `url.QueryEscape`.
fn url_query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
