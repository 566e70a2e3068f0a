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
    let mut line = 1_usize;
    let lines = |text: &str| text.bytes().filter(|b| *b == b'\n').count();
    loop {
        let (text, after) = match rest.split_once("{{") {
            Some((text, after)) => (text, Some(after)),
            None => (rest, None),
        };
        line = line.saturating_add(lines(text));
        let mut text = if trim { text.trim_start_matches(SPACES) } else { text };
        let Some(after) = after else {
            items.push(Item::Text(text.to_owned()));
            return Ok(items);
        };
        let mut lexer = Lexer { first_line: line, start: after, rest: after, tokens: Vec::new() };
        if lexer.rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(SPACES)) {
            text = text.trim_end_matches(SPACES);
            lexer.skip(2);
        }
        items.push(Item::Text(text.to_owned()));
        if lexer.rest.starts_with("/*") {
            trim = lexer.comment()?;
        } else {
            trim = lexer.action()?;
            let tokens = core::mem::take(&mut lexer.tokens);
            items.push(Item::Action(Action { line, tokens }));
        }
        line = lexer.line();
        rest = lexer.rest;
    }
}

/// What trim markers and actions take for space.
const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

struct Lexer<'a> {
    /// Line of `start`.
    first_line: usize,
    /// The action with all that follows it.
    start: &'a str,
    rest: &'a str,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn line(&self) -> usize {
        let done = self.start.len().saturating_sub(self.rest.len());
        let lines = self.start.bytes().take(done).filter(|b| *b == b'\n').count();
        self.first_line.saturating_add(lines)
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
            let unusual = plain.contains(['.', '_']);
            return Err(match unusual {
                true => TemplateError::unsupported("fractional numbers and _ in numbers"),
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

    fn escape(&mut self, quote: char, out: &mut Vec<u8>) -> Result<(), TemplateError> {
        self.escaped(quote, out).ok_or_else(|| self.error("invalid escape in quoted string"))
    }

    /// One escape as Go's `strconv.UnquoteChar` reads it.
    fn escaped(&mut self, quote: char, out: &mut Vec<u8>) -> Option<()> {
        self.skip(1);
        let (digits, radix, wide) = match self.peek()? {
            'x' => (2, 16, false),
            'u' => (4, 16, true),
            'U' => (8, 16, true),
            '0'..='7' => (3, 8, false),
            other => {
                out.push(match other {
                    'a' => 7,
                    'b' => 8,
                    'f' => 12,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 11,
                    '\\' => b'\\',
                    other if other == quote => u8::try_from(other).ok()?,
                    _ => return None,
                });
                self.skip(1);
                return Some(());
            }
        };
        if radix == 16 {
            self.skip(1);
        }
        let text = self.rest.get(..digits).filter(|text| !text.starts_with('+'))?;
        let value = u32::from_str_radix(text, radix).ok()?;
        self.skip(digits);
        if wide {
            let value = char::from_u32(value)?;
            out.extend_from_slice(value.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            out.push(u8::try_from(value).ok()?);
        }
        Some(())
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
