//! Actions to a tree (Go `text/template/parse/parse.go`).

use std::{iter::Peekable, vec::IntoIter};

use super::{
    TemplateError, functions,
    lex::{self, Action, Item, Token},
};
use crate::limits::TEMPLATE_MAX_DEPTH;

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    If(Pipeline, Vec<Self>, Vec<Self>),
    With(Pipeline, Vec<Self>, Vec<Self>),
    Range(Pipeline, Vec<Self>, Vec<Self>),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct Pipeline {
    /// Variables that take the value.
    pub(super) variables: Vec<String>,
    /// They exist already.
    pub(super) assign: bool,
    /// At least one; each with at least one operand.
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Debug)]
pub(super) enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Text(String),
    Function(String),
    /// Empty: the root.
    Variable(String),
    Parens(Box<Pipeline>),
    /// Fields of what is inside.
    Fields(Box<Self>, Vec<String>),
}

/// Reads a whole template. A payload has more functions.
pub(super) fn parse(template: &str, payload: bool) -> Result<Vec<Node>, TemplateError> {
    let items = lex::lex(template)?.into_iter().peekable();
    let mut parser = Parser { items, payload, variables: vec![String::new()], ranges: 0, depth: 0 };
    let (nodes, end) = parser.list()?;
    match end {
        End::Input => Ok(nodes),
        End::End(line) => Err(TemplateError::syntax(line, "unexpected {{end}}")),
        End::Else(line, _) => Err(TemplateError::syntax(line, "unexpected {{else}}")),
    }
}

/// What ends a list of nodes.
enum End {
    Input,
    End(usize),
    /// With what follows the word `else`.
    Else(usize, Vec<Token>),
}

#[derive(Clone, Copy)]
enum Block {
    If,
    With,
    Range,
}

struct Parser {
    items: Peekable<IntoIter<Item>>,
    payload: bool,
    /// Names in scope.
    variables: Vec<String>,
    /// Ranges around the current node.
    ranges: usize,
    depth: usize,
}

impl Parser {
    fn list(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        let mut nodes = Vec::new();
        loop {
            let action = match self.items.next() {
                None => return Ok((nodes, End::Input)),
                Some(Item::Text(text)) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Some(Item::Action(action)) => action,
            };
            let Action { line, mut tokens } = action;
            let start = usize::from(tokens.first() == Some(&Token::Space));
            let word = match tokens.get(start) {
                Some(Token::Identifier(word)) => word.clone(),
                Some(_) | None => String::new(),
            };
            let after = tokens.split_off(start.saturating_add(1).min(tokens.len()));
            match word.as_str() {
                "end" => return empty(line, &after, "end").map(|()| (nodes, End::End(line))),
                "else" => return Ok((nodes, End::Else(line, after))),
                "if" => nodes.push(self.block(Block::If, line, after)?),
                "with" => nodes.push(self.block(Block::With, line, after)?),
                "range" => nodes.push(self.block(Block::Range, line, after)?),
                "break" | "continue" if self.ranges == 0 => {
                    return Err(TemplateError::syntax(
                        line,
                        format!("{{{{{word}}}}} outside {{{{range}}}}"),
                    ));
                }
                "break" => nodes.push(empty(line, &after, "break").map(|()| Node::Break)?),
                "continue" => nodes.push(empty(line, &after, "continue").map(|()| Node::Continue)?),
                "define" | "template" | "block" => {
                    return Err(TemplateError::unsupported(format!("{{{{{word}}}}}")));
                }
                _ => {
                    tokens.extend(after);
                    nodes.push(Node::Print(self.whole(line, tokens, "command")?));
                }
            }
        }
    }

    /// A block to its `{{end}}`.
    fn block(
        &mut self,
        block: Block,
        line: usize,
        tokens: Vec<Token>,
    ) -> Result<Node, TemplateError> {
        self.deeper()?;
        let scope = self.variables.len();
        let name = match block {
            Block::If => "if",
            Block::With => "with",
            Block::Range => "range",
        };
        let pipeline = self.whole(line, tokens, name)?;
        let is_range = usize::from(matches!(block, Block::Range));
        self.ranges = self.ranges.saturating_add(is_range);
        let body = self.list();
        self.ranges = self.ranges.saturating_sub(is_range);
        let (body, end) = body?;
        let otherwise = match end {
            End::Input => return Err(unclosed(line, name)),
            End::End(_) => Vec::new(),
            End::Else(line, tokens) => self.otherwise(block, line, tokens)?,
        };
        self.variables.truncate(scope);
        self.depth = self.depth.saturating_sub(1);
        Ok(match block {
            Block::If => Node::If(pipeline, body, otherwise),
            Block::With => Node::With(pipeline, body, otherwise),
            Block::Range => Node::Range(pipeline, body, otherwise),
        })
    }

    /// What follows an `{{else…}}`, to the `{{end}}` of the whole block.
    fn otherwise(
        &mut self,
        block: Block,
        line: usize,
        mut tokens: Vec<Token>,
    ) -> Result<Vec<Node>, TemplateError> {
        let start = usize::from(tokens.first() == Some(&Token::Space));
        let word = match tokens.get(start) {
            Some(Token::Identifier(word)) => word.as_str(),
            Some(_) | None => "",
        };
        let chained = match (block, word) {
            (Block::If, "if") => true,
            (Block::With, "with") => true,
            (Block::If | Block::With | Block::Range, _) => false,
        };
        if chained {
            let after = tokens.split_off(start.saturating_add(1));
            return Ok(vec![self.block(block, line, after)?]);
        }
        empty(line, &tokens, "else")?;
        match self.list()? {
            (nodes, End::End(_)) => Ok(nodes),
            (_, End::Input) => Err(unclosed(line, "else")),
            (_, End::Else(line, _)) => {
                Err(TemplateError::syntax(line, "expected end; found {{else}}"))
            }
        }
    }

    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth = self.depth.saturating_add(1);
        if self.depth <= TEMPLATE_MAX_DEPTH { Ok(()) } else { Err(TemplateError::TooLarge) }
    }

    /// A pipeline that takes all of an action.
    fn whole(
        &mut self,
        line: usize,
        tokens: Vec<Token>,
        context: &str,
    ) -> Result<Pipeline, TemplateError> {
        let mut tokens = Tokens { line, tokens: tokens.into_iter().peekable() };
        let pipeline = self.pipeline(&mut tokens, context)?;
        match tokens.tokens.next() {
            None => Ok(pipeline),
            Some(token) => Err(tokens.unexpected(Some(&token), "command")),
        }
    }

    /// A pipeline to the end of the action, or before a closing parenthesis.
    fn pipeline(&mut self, tokens: &mut Tokens, context: &str) -> Result<Pipeline, TemplateError> {
        let (variables, assign) = self.variables(tokens, context)?;
        let mut commands = Vec::new();
        loop {
            tokens.skip_space();
            let mut command = Vec::new();
            let more = loop {
                tokens.skip_space();
                match tokens.tokens.peek() {
                    None | Some(Token::Close) => break false,
                    Some(Token::Pipe) => {
                        tokens.tokens.next();
                        break true;
                    }
                    Some(_) => command.push(self.operand(tokens)?),
                }
                match tokens.tokens.peek().cloned() {
                    None | Some(Token::Close | Token::Pipe | Token::Space) => {}
                    Some(other) => return Err(tokens.unexpected(Some(&other), "operand")),
                }
            };
            let constant = matches!(
                command.first(),
                Some(
                    Operand::Dot
                        | Operand::Nil
                        | Operand::Bool(_)
                        | Operand::Int(_)
                        | Operand::Text(_)
                )
            );
            if command.is_empty() && commands.is_empty() && !more {
                return Err(TemplateError::syntax(
                    tokens.line,
                    format!("missing value for {context}"),
                ));
            }
            if command.is_empty() {
                return Err(TemplateError::syntax(tokens.line, "empty command"));
            }
            if constant && !commands.is_empty() {
                return Err(TemplateError::syntax(
                    tokens.line,
                    "non executable command in pipeline",
                ));
            }
            commands.push(command);
            if !more {
                break;
            }
        }
        if !assign {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline { variables, assign, commands })
    }

    /// `$x :=`, `$x =`, or with `range` also `$i, $x :=`.
    fn variables(
        &mut self,
        tokens: &mut Tokens,
        context: &str,
    ) -> Result<(Vec<String>, bool), TemplateError> {
        let mut ahead = tokens.tokens.clone().filter(|token| *token != Token::Space);
        let mut names = Vec::new();
        let assign = loop {
            let (Some(Token::Variable(name)), Some(next)) = (ahead.next(), ahead.next()) else {
                return Ok((Vec::new(), false));
            };
            names.push(name);
            match next {
                Token::Declare => break false,
                Token::Assign => break true,
                Token::Comma if context == "range" && names.len() == 1 => {}
                Token::Comma => {
                    let reason = format!("too many declarations in {context}");
                    return Err(TemplateError::syntax(tokens.line, reason));
                }
                _ => return Ok((Vec::new(), false)),
            }
        };
        let unknown = names.iter().find(|name| assign && !self.variables.contains(name));
        if let Some(name) = unknown {
            return Err(undefined(tokens.line, name));
        }
        while let Some(token) = tokens.tokens.next() {
            if matches!(token, Token::Declare | Token::Assign) {
                break;
            }
        }
        Ok((names, assign))
    }

    fn operand(&mut self, tokens: &mut Tokens) -> Result<Operand, TemplateError> {
        let mut fields = Vec::new();
        let operand = match tokens.tokens.next() {
            Some(Token::Dot) => Operand::Dot,
            Some(Token::Field(name)) => {
                fields.push(name);
                Operand::Dot
            }
            Some(Token::Text(text)) => Operand::Text(text),
            Some(Token::Int(value)) => Operand::Int(value),
            Some(Token::Variable(name)) if self.variables.contains(&name) => {
                Operand::Variable(name)
            }
            Some(Token::Variable(name)) => return Err(undefined(tokens.line, &name)),
            Some(Token::Identifier(name)) => match name.as_str() {
                "nil" => Operand::Nil,
                "true" => Operand::Bool(true),
                "false" => Operand::Bool(false),
                "if" | "else" | "end" | "range" | "with" | "define" | "template" | "block"
                | "break" | "continue" => {
                    let reason = format!("unexpected <{name}> in operand");
                    return Err(TemplateError::syntax(tokens.line, reason));
                }
                "js" | "call" => {
                    return Err(TemplateError::unsupported(format!("the function {name:?}")));
                }
                _ if functions::exists(&name, self.payload) => Operand::Function(name),
                _ => {
                    let reason = format!("function {name:?} not defined");
                    return Err(TemplateError::syntax(tokens.line, reason));
                }
            },
            Some(Token::Open) => {
                self.deeper()?;
                let pipeline = self.pipeline(tokens, "parenthesized pipeline")?;
                self.depth = self.depth.saturating_sub(1);
                match tokens.tokens.next() {
                    Some(Token::Close) => Operand::Parens(Box::new(pipeline)),
                    other => {
                        return Err(tokens.unexpected(other.as_ref(), "parenthesized pipeline"));
                    }
                }
            }
            other => return Err(tokens.unexpected(other.as_ref(), "operand")),
        };
        let constant = match operand {
            Operand::Dot => fields.is_empty(),
            Operand::Nil | Operand::Bool(_) | Operand::Int(_) | Operand::Text(_) => true,
            Operand::Function(_)
            | Operand::Variable(_)
            | Operand::Parens(_)
            | Operand::Fields(..) => false,
        };
        while let Some(Token::Field(_)) = tokens.tokens.peek() {
            if constant {
                return Err(TemplateError::syntax(tokens.line, "unexpected . after term"));
            }
            if let Some(Token::Field(name)) = tokens.tokens.next() {
                fields.push(name);
            }
        }
        Ok(if fields.is_empty() { operand } else { Operand::Fields(Box::new(operand), fields) })
    }
}

/// The tokens of one action.
struct Tokens {
    line: usize,
    tokens: Peekable<IntoIter<Token>>,
}

impl Tokens {
    fn skip_space(&mut self) {
        while self.tokens.next_if_eq(&Token::Space).is_some() {}
    }

    fn unexpected(&self, token: Option<&Token>, context: &str) -> TemplateError {
        let what = match token {
            None => "end of action".to_owned(),
            Some(Token::Space) => "space".to_owned(),
            Some(Token::Dot) => "<.>".to_owned(),
            Some(Token::Field(name)) => format!("<.{name}>"),
            Some(Token::Variable(name)) => format!("<${name}>"),
            Some(Token::Identifier(name)) => format!("<{name}>"),
            Some(Token::Text(_)) => "string".to_owned(),
            Some(Token::Int(_)) => "number".to_owned(),
            Some(Token::Pipe) => "\"|\"".to_owned(),
            Some(Token::Open) => "\"(\"".to_owned(),
            Some(Token::Close) => "\")\"".to_owned(),
            Some(Token::Comma) => "\",\"".to_owned(),
            Some(Token::Declare) => "\":=\"".to_owned(),
            Some(Token::Assign) => "\"=\"".to_owned(),
        };
        TemplateError::syntax(self.line, format!("unexpected {what} in {context}"))
    }
}

fn empty(line: usize, tokens: &[Token], word: &str) -> Result<(), TemplateError> {
    match tokens.iter().all(|token| *token == Token::Space) {
        true => Ok(()),
        false => Err(TemplateError::syntax(line, format!("unexpected text after {word}"))),
    }
}

fn unclosed(line: usize, name: &str) -> TemplateError {
    TemplateError::syntax(line, format!("unexpected EOF: {{{{{name}}}}} has no {{{{end}}}}"))
}

fn undefined(line: usize, name: &str) -> TemplateError {
    TemplateError::syntax(line, format!("undefined variable \"${name}\""))
}
