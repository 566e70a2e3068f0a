//! Text and actions, and the tokens of an action (Go `text/template/parse/lex.go`).

use super::TemplateError;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Item {
    Text(String),
    Action(Action),
}

/// What is between `{{` and `}}`.
#[derive(Debug)]
pub(super) struct Action {
    pub(super) line: usize,
    pub(super) tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Spaces separate operands, so they count.
    Space,
    Dot,
    Field(String),
    /// Without the `$`.
    Variable(String),
    Identifier(String),
    Text(String),
    Int(i64),
    Pipe,
    Open,
    Close,
    Comma,
    Declare,
    Assign,
}

/// Splits a template. Comments vanish here, trim markers take their effect here.
pub(super) fn lex(template: &str) -> Result<Vec<Item>, TemplateError> {
    let mut items = Vec::new();
    let mut rest = template;
    let mut trim = false;
    loop {
        let (text, after) = match rest.split_once("{{") {
            Some((text, after)) => (text, Some(after)),
            None => (rest, None),
        };
        let mut text = if trim { text.trim_start_matches(SPACES) } else { text };
        let Some(after) = after else {
            items.push(Item::Text(text.to_owned()));
            return Ok(items);
        };
        let mut lexer = Lexer { template, rest: after, tokens: Vec::new() };
        if lexer.rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(SPACES)) {
            text = text.trim_end_matches(SPACES);
            lexer.skip(1);
            lexer.skip_spaces_before_comment();
        }
        items.push(Item::Text(text.to_owned()));
        if lexer.rest.starts_with("/*") {
            trim = lexer.comment()?;
        } else {
            let line = lexer.line();
            trim = lexer.action()?;
            items.push(Item::Action(Action { line, tokens: lexer.tokens }));
        }
        rest = lexer.rest;
    }
}

/// What trim markers and actions take for space.
const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

struct Lexer<'a> {
    template: &'a str,
    rest: &'a str,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn line(&self) -> usize {
        let done = self.template.len().saturating_sub(self.rest.len());
        self.template.bytes().take(done).filter(|b| *b == b'\n').count().saturating_add(1)
    }

    fn error(&self, reason: impl Into<String>) -> TemplateError {
        TemplateError::syntax(self.line(), reason)
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// The space that belongs to a trim marker.
    fn skip_spaces_before_comment(&mut self) {
        let trimmed = self.rest.trim_start_matches(SPACES);
        let one = self.rest.get(1..).unwrap_or_default();
        if one.starts_with("/*") || trimmed.len() == one.len() {
            self.rest = one;
        }
    }

    /// A comment to its delimiter; whether that trims.
    fn comment(&mut self) -> Result<bool, TemplateError> {
        let Some((_, after)) = self.rest.split_once("*/") else {
            return Err(self.error("unclosed comment"));
        };
        if let Some(rest) = after.strip_prefix("}}") {
            self.rest = rest;
            return Ok(false);
        }
        let marked = after.strip_prefix(SPACES).and_then(|rest| rest.strip_prefix("-}}"));
        let Some(rest) = marked else {
            return Err(self.error("comment ends before closing delimiter"));
        };
        self.rest = rest;
        Ok(true)
    }

    /// The tokens of an action to its delimiter; whether that trims.
    fn action(&mut self) -> Result<bool, TemplateError> {
        loop {
            let Some(first) = self.peek() else {
                return Err(self.error("unclosed action"));
            };
            if let Some(rest) = self.rest.strip_prefix("}}") {
                self.rest = rest;
                return Ok(false);
            }
            if SPACES.contains(&first) {
                self.rest = self.rest.trim_start_matches(SPACES);
                if let Some(rest) = self.rest.strip_prefix("-}}") {
                    self.rest = rest;
                    return Ok(true);
                }
                self.tokens.push(Token::Space);
                continue;
            }
            let token = self.token(first)?;
            self.tokens.push(token);
        }
    }

    fn token(&mut self, first: char) -> Result<Token, TemplateError> {
        let simple = match first {
            '|' => Some(Token::Pipe),
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            ',' => Some(Token::Comma),
            '=' => Some(Token::Assign),
            _ => None,
        };
        if let Some(token) = simple {
            self.skip(1);
            return Ok(token);
        }
        match first {
            ':' if self.rest.starts_with(":=") => {
                self.skip(2);
                Ok(Token::Declare)
            }
            ':' => Err(self.error("expected :=")),
            '"' => self.quoted(),
            '`' => self.raw(),
            '\'' => self.character(),
            '$' => {
                self.skip(1);
                self.name().map(Token::Variable)
            }
            '.' => self.dot(),
            '+' | '-' | '0'..='9' => self.number(),
            first if is_word(first) => self.name().map(Token::Identifier),
            other => Err(self.error(format!("unexpected {other:?} in action"))),
        }
    }

    fn dot(&mut self) -> Result<Token, TemplateError> {
        self.skip(1);
        match self.peek() {
            Some('0'..='9') => Err(TemplateError::unsupported("fractional numbers")),
            Some(next) if is_word(next) => self.name().map(Token::Field),
            Some(_) | None => Ok(Token::Dot),
        }
    }

    /// A word, and something behind it that may follow one.
    fn name(&mut self) -> Result<String, TemplateError> {
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        self.rest = rest;
        match self.peek() {
            Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') | None => {
                Ok(word.to_owned())
            }
            Some(_) if self.rest.starts_with("}}") => Ok(word.to_owned()),
            Some(other) => Err(self.error(format!("bad character {other:?}"))),
        }
    }

    fn number(&mut self) -> Result<Token, TemplateError> {
        let (sign, digits) = match self.peek() {
            Some('-') => (-1, self.rest.get(1..).unwrap_or_default()),
            Some('+') => (1, self.rest.get(1..).unwrap_or_default()),
            Some(_) | None => (1, self.rest),
        };
        let end = digits.find(|c| !is_word(c) && c != '.').unwrap_or(digits.len());
        let (word, rest) = digits.split_at_checked(end).unwrap_or_default();
        let lower = word.to_ascii_lowercase();
        let (radix, plain) = match lower.as_bytes() {
            [b'0', b'x', ..] => (16, lower.get(2..)),
            [b'0', b'o', ..] => (8, lower.get(2..)),
            [b'0', b'b', ..] => (2, lower.get(2..)),
            [b'0', _, ..] => (8, lower.get(1..)),
            _ => (10, Some(lower.as_str())),
        };
        let plain = plain.unwrap_or_default();
        if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_alphanumeric()) {
            let fraction = plain.contains('.');
            return Err(match fraction {
                true => TemplateError::unsupported("fractional numbers"),
                false => self.error("bad number syntax"),
            });
        }
        let value = i128::from_str_radix(plain, radix)
            .ok()
            .and_then(|value| i64::try_from(value.saturating_mul(sign)).ok())
            .ok_or_else(|| self.error("bad number syntax"))?;
        self.rest = rest;
        Ok(Token::Int(value))
    }

    fn raw(&mut self) -> Result<Token, TemplateError> {
        let inner = self.rest.get(1..).unwrap_or_default();
        let Some((text, rest)) = inner.split_once('`') else {
            return Err(self.error("unterminated raw quoted string"));
        };
        self.rest = rest;
        // Go drops carriage returns from raw strings.
        Ok(Token::Text(text.replace('\r', "")))
    }

    fn quoted(&mut self) -> Result<Token, TemplateError> {
        self.skip(1);
        let mut bytes = Vec::new();
        loop {
            match self.peek() {
                None | Some('\n') => return Err(self.error("unterminated quoted string")),
                Some('"') => {
                    self.skip(1);
                    let text = String::from_utf8(bytes)
                        .map_err(|_| TemplateError::unsupported("strings that are not UTF-8"))?;
                    return Ok(Token::Text(text));
                }
                Some('\\') => self.escape('"', &mut bytes)?,
                Some(other) => {
                    self.skip(other.len_utf8());
                    bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
    }

    fn character(&mut self) -> Result<Token, TemplateError> {
        self.skip(1);
        let mut bytes = Vec::new();
        match self.peek() {
            None | Some('\n' | '\'') => return Err(self.error("malformed character constant")),
            Some('\\') => self.escape('\'', &mut bytes)?,
            Some(other) => {
                self.skip(other.len_utf8());
                bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        let Some(rest) = self.rest.strip_prefix('\'') else {
            return Err(self.error("malformed character constant"));
        };
        self.rest = rest;
        let value = match core::str::from_utf8(&bytes).ok().and_then(|text| text.chars().next()) {
            Some(value) => i64::from(u32::from(value)),
            None => bytes.first().copied().map_or(0, i64::from),
        };
        Ok(Token::Int(value))
    }

    /// One escape as Go's `strconv.UnquoteChar` reads it.
    fn escape(&mut self, quote: char, out: &mut Vec<u8>) -> Result<(), TemplateError> {
        let bad = self.error("invalid escape in quoted string");
        self.skip(1);
        let first = self.peek().ok_or_else(|| bad.clone())?;
        let (digits, radix, wide) = match first {
            'x' => (2, 16, false),
            'u' => (4, 16, true),
            'U' => (8, 16, true),
            '0'..='7' => (3, 8, false),
            other => {
                let byte = match other {
                    'a' => 7,
                    'b' => 8,
                    'f' => 12,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 11,
                    '\\' => b'\\',
                    other if other == quote => u8::try_from(other).map_err(|_| bad.clone())?,
                    _ => return Err(bad),
                };
                out.push(byte);
                self.skip(1);
                return Ok(());
            }
        };
        if radix == 16 {
            self.skip(1);
        }
        let text = self.rest.get(..digits).filter(|text| !text.starts_with('+'));
        let value = text.and_then(|text| u32::from_str_radix(text, radix).ok());
        let value = value.ok_or_else(|| bad.clone())?;
        self.skip(digits);
        if wide {
            let value = char::from_u32(value).ok_or(bad)?;
            out.extend_from_slice(value.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            out.push(u8::try_from(value).map_err(|_| bad)?);
        }
        Ok(())
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
