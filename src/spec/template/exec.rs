//! Walks the tree (Go `text/template/exec.go`).

use std::{collections::BTreeMap, rc::Rc};

use super::{
    Context, Payload, TemplateError, functions,
    parse::{Node, Operand, Pipeline},
};
use crate::limits::{TEMPLATE_MAX_BYTES, TEMPLATE_MAX_WORK};

/// A value of a template.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Text(Rc<str>),
    Map(Rc<BTreeMap<String, String>>),
    Struct(Struct),
}

/// The structs of the context.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Struct {
    Root,
    Service,
    Node,
    Platform,
    Task,
}

impl Value {
    /// The name of its type, for errors.
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Text(_) => "string",
            Self::Map(_) => "map[string]string",
            Self::Struct(_) => "struct",
        }
    }

    /// What `if` makes of it.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Text(text) => !text.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Struct(_) => true,
        }
    }

    /// As `print` shows it.
    pub(super) fn shown(&self) -> Result<String, TemplateError> {
        match self {
            Self::Nil => Ok("<no value>".to_owned()),
            Self::Bool(value) => Ok(value.to_string()),
            Self::Int(value) => Ok(value.to_string()),
            Self::Text(text) => Ok(text.to_string()),
            Self::Map(map) => {
                let pairs: Vec<_> =
                    map.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                Ok(format!("map[{}]", pairs.join(" ")))
            }
            Self::Struct(_) => Err(TemplateError::unsupported("printing a whole struct")),
        }
    }
}

/// Expands the nodes.
pub(super) fn run(
    nodes: &[Node],
    context: &Context,
    payload: Option<&Payload<'_>>,
) -> Result<String, TemplateError> {
    let labels = Rc::new(context.service_labels.clone());
    let root = Value::Struct(Struct::Root);
    let variables = vec![(String::new(), root.clone())];
    let mut run = Run { context, payload, labels, variables, out: String::new(), work: 0 };
    run.list(nodes, &root)?;
    Ok(run.out)
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'a> {
    context: &'a Context,
    payload: Option<&'a Payload<'a>>,
    labels: Rc<BTreeMap<String, String>>,
    /// Names and values in scope; the first is `$`.
    variables: Vec<(String, Value)>,
    out: String,
    work: usize,
}

impl Run<'_> {
    fn list(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        for node in nodes {
            self.spend(1)?;
            let flow = match node {
                Node::Text(text) => self.print(text).map(|()| Flow::On)?,
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        self.print(&value.shown()?)?;
                    }
                    Flow::On
                }
                Node::If(pipeline, body, otherwise) => {
                    let scope = self.variables.len();
                    let taken = self.pipeline(pipeline, dot)?.is_true();
                    let flow = self.list(if taken { body } else { otherwise }, dot)?;
                    self.variables.truncate(scope);
                    flow
                }
                Node::With(pipeline, body, otherwise) => {
                    let scope = self.variables.len();
                    let value = self.pipeline(pipeline, dot)?;
                    let flow = match value.is_true() {
                        true => self.list(body, &value)?,
                        false => self.list(otherwise, dot)?,
                    };
                    self.variables.truncate(scope);
                    flow
                }
                Node::Range(pipeline, body, otherwise) => {
                    let scope = self.variables.len();
                    let flow = self.range(pipeline, body, otherwise, dot)?;
                    self.variables.truncate(scope);
                    flow
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        pipeline: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, TemplateError> {
        let value = self.value(pipeline, dot)?;
        let Value::Map(map) = value else {
            let name = value.type_name();
            return Err(TemplateError::evaluation(format!("range can't iterate over {name}")));
        };
        if map.is_empty() {
            return self.list(otherwise, dot);
        }
        let scope = self.variables.len();
        for (key, value) in map.iter() {
            self.spend(key.len().saturating_add(value.len()))?;
            let (key, value) =
                (Value::Text(key.as_str().into()), Value::Text(value.as_str().into()));
            match pipeline.variables.as_slice() {
                [first, second] => {
                    self.bind(first, key, pipeline.assign);
                    self.bind(second, value.clone(), pipeline.assign);
                }
                [only] => self.bind(only, value.clone(), pipeline.assign),
                _ => {}
            }
            let flow = self.list(body, &value)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn bind(&mut self, name: &str, value: Value, assign: bool) {
        let known = self.variables.iter_mut().rev().find(|(other, _)| other == name);
        match known {
            Some((_, old)) if assign => *old = value,
            Some(_) | None => self.variables.push((name.to_owned(), value)),
        }
    }

    /// The value of a pipeline, bound to its variable.
    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.value(pipeline, dot)?;
        for name in &pipeline.variables {
            self.bind(name, value.clone(), pipeline.assign);
        }
        Ok(value)
    }

    fn value(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, piped, dot)?);
        }
        Ok(piped.unwrap_or(Value::Nil))
    }

    /// One command; `piped` becomes its last argument.
    fn command(
        &mut self,
        command: &[Operand],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, TemplateError> {
        self.spend(1)?;
        let Some((first, rest)) = command.split_first() else {
            return Err(TemplateError::evaluation("empty command"));
        };
        if let Operand::Function(name) = first {
            return self.call(name, rest, piped, dot);
        }
        if !rest.is_empty() || piped.is_some() {
            return Err(TemplateError::evaluation("can't give argument to non-function"));
        }
        if matches!(first, Operand::Nil) {
            return Err(TemplateError::evaluation("nil is not a command"));
        }
        self.operand(first, dot)
    }

    fn call(
        &mut self,
        name: &str,
        operands: &[Operand],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, TemplateError> {
        // The only two that need not look at all of their arguments.
        if matches!(name, "and" | "or") {
            let mut last = None;
            for operand in operands {
                let value = self.operand(operand, dot)?;
                if value.is_true() == (name == "or") {
                    return Ok(value);
                }
                last = Some(value);
            }
            let none = || TemplateError::evaluation(format!("wrong number of args for {name}"));
            return piped.or(last).ok_or_else(none);
        }
        let mut arguments = Vec::new();
        for operand in operands {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        let weight = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Map(map) => map.iter().map(|(k, v)| k.len().saturating_add(v.len())).sum(),
            Value::Nil | Value::Bool(_) | Value::Int(_) | Value::Struct(_) => 1,
        };
        self.spend(arguments.iter().map(weight).fold(0, usize::saturating_add))?;
        let value = functions::call(name, &arguments, self.payload)?;
        self.spend(weight(&value))?;
        if TEMPLATE_MAX_BYTES < weight(&value) {
            return Err(TemplateError::TooLarge);
        }
        Ok(value)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        self.spend(1)?;
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Nil => Ok(Value::Nil),
            Operand::Bool(value) => Ok(Value::Bool(*value)),
            Operand::Int(value) => Ok(Value::Int(*value)),
            Operand::Text(text) => {
                self.spend(text.len())?;
                Ok(Value::Text(text.as_str().into()))
            }
            Operand::Function(name) => self.call(name, &[], None, dot),
            Operand::Variable(name) => {
                let found = self.variables.iter().rev().find(|(other, _)| other == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| {
                    TemplateError::evaluation(format!("undefined variable: ${name}"))
                })
            }
            Operand::Parens(pipeline) => self.pipeline(pipeline, dot),
            Operand::Fields(operand, names) => {
                let mut value = self.operand(operand, dot)?;
                for name in names {
                    value = self.field(&value, name)?;
                }
                Ok(value)
            }
        }
    }

    fn field(&mut self, value: &Value, name: &str) -> Result<Value, TemplateError> {
        let context = self.context;
        let text = |text: &str| Value::Text(text.into());
        let found = match value {
            Value::Map(map) => {
                let missing =
                    || TemplateError::evaluation(format!("map has no entry for key {name:?}"));
                let found = map.get(name).ok_or_else(missing)?;
                self.spend(found.len())?;
                return Ok(text(found));
            }
            Value::Struct(of) => match (of, name) {
                (Struct::Root, "Service") => Some(Value::Struct(Struct::Service)),
                (Struct::Root, "Node") => Some(Value::Struct(Struct::Node)),
                (Struct::Root, "Task") => Some(Value::Struct(Struct::Task)),
                (Struct::Service, "ID") => Some(text(&context.service_id)),
                (Struct::Service, "Name") => Some(text(&context.service_name)),
                (Struct::Service, "Labels") => Some(Value::Map(Rc::clone(&self.labels))),
                (Struct::Node, "ID") => Some(text(&context.node_id)),
                (Struct::Node, "Hostname") => Some(text(&context.node_hostname)),
                (Struct::Node, "Platform") => Some(Value::Struct(Struct::Platform)),
                (Struct::Platform, "Architecture") => Some(text(&context.node_architecture)),
                (Struct::Platform, "OS") => Some(text(&context.node_os)),
                (Struct::Task, "ID") => Some(text(&context.task_id)),
                (Struct::Task, "Name") => Some(text(&context.task_name)),
                (Struct::Task, "Slot") => Some(text(&context.task_slot)),
                (
                    Struct::Root | Struct::Service | Struct::Node | Struct::Platform | Struct::Task,
                    _,
                ) => None,
            },
            Value::Nil | Value::Bool(_) | Value::Int(_) | Value::Text(_) => None,
        };
        found.ok_or_else(|| {
            let of = value.type_name();
            TemplateError::evaluation(format!("can't evaluate field {name} in type {of}"))
        })
    }

    fn print(&mut self, text: &str) -> Result<(), TemplateError> {
        self.spend(text.len())?;
        if TEMPLATE_MAX_BYTES < self.out.len().saturating_add(text.len()) {
            return Err(TemplateError::TooLarge);
        }
        self.out.push_str(text);
        Ok(())
    }

    fn spend(&mut self, work: usize) -> Result<(), TemplateError> {
        self.work = self.work.saturating_add(work);
        if self.work <= TEMPLATE_MAX_WORK { Ok(()) } else { Err(TemplateError::TooLarge) }
    }
}
