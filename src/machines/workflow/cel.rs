//! The Common Expression Language: how its texts, values and failures are ours.
//!
//! May not know documents. Invariant: no order but that of lists shows in a value, and nothing is
//! called that reads a clock.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use ::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr};
use ::cel::objects::{Key, Map};
use ::cel::parser::Parser;
use ::cel::{Context, ExecutionError, Value as Cel};
use serde_json::{Number, Value};

use super::expression::Scope;
use super::reference::{Reference, Root, Segment, bracket};
use super::values::text;
use crate::ground::limits::{
    JSON_DEPTH_MAX, VALUE_BYTES_MAX, WORKFLOW_EXPRESSION_DEPTH_MAX, WORKFLOW_EXPRESSION_ITEMS_MAX,
};

/// How deep an expression that was read may be: evaluating it is a recursion.
const TREE_DEPTH_MAX: usize = 100;
/// Most words and marks of an expression.
const TOKENS_MAX: usize = 1_000;
/// How deep something may be nested to be worked on upon the caller's stack.
const DEPTH_SHALLOW: usize = 8;
/// Stack for all others: a level takes up to 110 KiB where nothing is optimised.
const DEEP_STACK_BYTES: usize = 16 * 1024 * 1024;
/// How deep passes over lists may stand in each other.
const PASSES_MAX: usize = 2;
/// What the range of a pass is wrapped into.
const ORDERED: &str = "@ordered";
/// What `+` is wrapped into: texts and lists must not grow without end.
const ADD: &str = "@add";

/// Functions that authors may call.
const FUNCTIONS: &[&str] = &[
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "type",
    "dyn",
    "text",
    "json",
];
/// Operators with words of their own that are not read here.
const REFUSED_OPERATORS: &[&str] = &["_?._", "_[?_]"];
/// Words that cannot follow a dot.
const RESERVED: &[&str] = &[
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// A program.
#[derive(Debug, Clone)]
pub(super) struct Program {
    tree: Arc<IdedExpr>,
    depth: usize,
    roots: Vec<Root>,
    tasks: Vec<String>,
    pub(super) references: Vec<Reference>,
}

impl Program {
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        let mut scan = Scan { rest: source, out: String::new(), references: Vec::new(), last: ' ' };
        scan.run()?;
        let depth = bounded(&scan.out)?;
        let mut tree = parse(&scan.out, depth)?;
        let mut check = Check { bound: Vec::new(), roots: BTreeSet::new(), deepest: 0 };
        check.walk(&mut tree, 0, 0)?;
        let tasks: BTreeSet<String> =
            scan.references.iter().filter_map(|r| r.task().map(str::to_owned)).collect();
        if check.roots.contains(&Root::Tasks) && tasks.is_empty() {
            return Err("write which task is meant: tasks.name, or tasks[\"name\"]".to_owned());
        }
        Ok(Self {
            tree: Arc::new(tree),
            depth: check.deepest,
            roots: check.roots.into_iter().collect(),
            tasks: tasks.into_iter().collect(),
            references: scan.references,
        })
    }

    pub(super) fn value(&self, scope: &dyn Scope) -> Result<Value, String> {
        let root = |root: &Root| (*root, scope.root(*root, &self.tasks));
        let roots: Vec<(Root, Value)> = self.roots.iter().map(root).collect();
        on_stack(self.depth, || self.evaluate(&roots))
    }

    fn evaluate(&self, roots: &[(Root, Value)]) -> Result<Value, String> {
        let mut context = Context::default();
        for (root, value) in roots {
            let value = of_json(value);
            context.add_variable_from_value(root.word(), value.clone());
            if *root == Root::Round {
                context.add_variable_from_value("iterator", value);
            }
        }
        let added = context
            .add_function("text", print)
            .and_then(|()| context.add_function("json", parse_json))
            .and_then(|()| context.add_function(ORDERED, ordered))
            .and_then(|()| context.add_function(ADD, add));
        added.map_err(|e| e.to_string())?;
        let value = Cel::resolve(&self.tree, &context).map_err(|e| failure(&e))?;
        let mut size = 0;
        sized(&value, &mut size, 0)?;
        to_json(&value)
    }
}

/// Whether a word is a number.
pub(super) fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit() || c == '-') && word.parse::<f64>().is_ok()
}

/// Parses a text whose brackets are nested so deep, on a stack that is large enough for that.
fn parse(text: &str, depth: usize) -> Result<IdedExpr, String> {
    let parse = || {
        let parsed = Parser::default().parse(text);
        parsed.map_err(|errors| first_error(&errors.to_string()))
    };
    on_stack(depth, parse)
}

/// Does something whose recursion goes so deep, on a stack that is large enough for that.
fn on_stack<T: Send>(
    depth: usize,
    work: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    if depth <= DEPTH_SHALLOW {
        return work();
    }
    std::thread::scope(|scope| {
        let deep = std::thread::Builder::new().stack_size(DEEP_STACK_BYTES);
        let done = deep.spawn_scoped(scope, work).ok().and_then(|done| done.join().ok());
        done.unwrap_or_else(|| Err("there is no stack for it".to_owned()))
    })
}

/// What the parser said first, on one line.
fn first_error(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it cannot be read");
    let line = line.split_once("<input>").map_or(line, |(_, rest)| rest.trim_start_matches(':'));
    line.trim().to_owned()
}

/// Refuses what the parser's recursion could not bear; gives how deep the rest is nested.
fn bounded(source: &str) -> Result<usize, String> {
    let (mut depth, mut deepest, mut tokens, mut choices) = (0_usize, 0, 0_usize, 0_usize);
    let mut in_word = false;
    let mut quote = None;
    let mut escaped = false;
    for c in source.chars() {
        if let Some(open) = quote {
            (quote, escaped) = match c {
                _ if escaped => (quote, false),
                '\\' => (quote, true),
                c if c == open => (None, false),
                _ => (quote, false),
            };
            continue;
        }
        let word = c.is_alphanumeric() || c == '_';
        tokens += usize::from(!(c.is_whitespace() || word && in_word));
        in_word = word;
        match c {
            '\'' | '"' => quote = Some(c),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '?' => choices += 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    let deepest = deepest.max(choices);
    if deepest > WORKFLOW_EXPRESSION_DEPTH_MAX {
        return Err(format!("it is nested deeper than {WORKFLOW_EXPRESSION_DEPTH_MAX}"));
    }
    if tokens > TOKENS_MAX {
        return Err(format!("it has more than {TOKENS_MAX} words and marks"));
    }
    Ok(deepest)
}

/// Rewrites paths so that names may hold hyphens, and placeholders to what they stand for.
struct Scan<'a> {
    rest: &'a str,
    out: String,
    references: Vec<Reference>,
    last: char,
}

impl<'a> Scan<'a> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(c) = self.rest.chars().next() {
            if self.rest.starts_with("{{") {
                self.placeholder()?;
            } else if c == '\'' || c == '"' {
                self.string(c)?;
            } else if c.is_ascii_alphabetic() || c == '_' {
                self.word()?;
            } else if c.is_ascii_digit() {
                self.take(|c| c.is_ascii_alphanumeric() || c == '.');
            } else {
                self.rest = &self.rest[c.len_utf8()..];
                self.put(c);
            }
        }
        Ok(())
    }

    fn put(&mut self, c: char) {
        self.out.push(c);
        if !c.is_whitespace() {
            self.last = c;
        }
    }

    fn take(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.chars().for_each(|c| self.put(c));
        word
    }

    fn placeholder(&mut self) -> Result<(), String> {
        let end = self.rest.find("}}").ok_or("a placeholder has no end")?;
        let (inner, rest) = (&self.rest[2..end], &self.rest[end + 2..]);
        self.rest = rest;
        self.reference(inner)
    }

    fn reference(&mut self, inner: &str) -> Result<(), String> {
        let wrong = |why: Option<String>| {
            why.unwrap_or_else(|| format!("{inner:?} begins with no known word"))
        };
        let reference = Reference::parse(inner).map_err(wrong)?;
        self.path(reference);
        Ok(())
    }

    fn path(&mut self, reference: Reference) {
        self.out.push_str(reference.root.word());
        for segment in &reference.segments {
            let _ = match segment {
                Segment::Name(name) if is_plain(name) => write!(self.out, ".{name}"),
                Segment::Name(name) | Segment::Quoted(name) => {
                    write!(self.out, "[{}]", Value::from(name.as_str()))
                }
                Segment::Index(i) => write!(self.out, "[{i}]"),
            };
        }
        self.last = 'x';
        self.references.push(reference);
    }

    /// A text in quotes; placeholders in it become parts of a sum.
    fn string(&mut self, quote: char) -> Result<(), String> {
        let end = end_of_string(self.rest, quote).ok_or("a text has no end")?;
        let (whole, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.last = quote;
        if !whole.contains("{{") {
            self.out.push_str(whole);
            return Ok(());
        }
        self.out.push('(');
        let mut inner = &whole[1..whole.len() - 1];
        while let Some(start) = inner.find("{{") {
            let length = inner[start..].find("}}").ok_or("a placeholder has no end")?;
            let _ = write!(self.out, "{quote}{}{quote} + text(", &inner[..start]);
            self.reference(&inner[start + 2..start + length])?;
            self.out.push_str(") + ");
            inner = &inner[start + length + 2..];
        }
        let _ = write!(self.out, "{quote}{inner}{quote})");
        self.last = ')';
        Ok(())
    }

    fn word(&mut self) -> Result<(), String> {
        let after_dot = self.last == '.';
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let end = end.unwrap_or(self.rest.len());
        let root = Root::of(&self.rest[..end]).filter(|_| !after_dot);
        let Some(root) = root else {
            self.take(|c| c.is_ascii_alphanumeric() || c == '_');
            return Ok(());
        };
        self.rest = &self.rest[end..];
        let mut segments = Vec::new();
        while let Some((segment, rest)) = next_segment(self.rest) {
            segments.push(segment);
            self.rest = rest;
        }
        if root == Root::Tasks && segments.is_empty() && !self.rest.trim_start().starts_with(')') {
            return Err("write which task is meant: tasks.name, or tasks[\"name\"]".to_owned());
        }
        self.path(Reference::of(root, segments));
        Ok(())
    }
}

/// One part of a path inside an expression: a name that no bracket follows, or an index. A hyphen
/// before a letter or digit belongs to the name.
fn next_segment(text: &str) -> Option<(Segment, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return bracket(text) };
    let bytes = rest.as_bytes();
    let in_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let mut end = 0;
    while end < bytes.len() {
        let hyphen = bytes[end] == b'-' && end > 0 && bytes.get(end + 1).is_some_and(in_word);
        if !in_word(&bytes[end]) && !hyphen {
            break;
        }
        end += 1;
    }
    let (name, after) = rest.split_at(end);
    let is_call = after.trim_start().starts_with('(');
    (end > 0 && !is_call).then(|| (Segment::Name(name.to_owned()), after))
}

fn end_of_string(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn is_plain(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !RESERVED.contains(&name)
}

/// Walks over a program: what it names must be known, and what it walks over is put in order.
struct Check {
    bound: Vec<String>,
    roots: BTreeSet<Root>,
    /// The deepest place so far.
    deepest: usize,
}

impl Check {
    fn walk(&mut self, node: &mut IdedExpr, depth: usize, passes: usize) -> Result<(), String> {
        if depth > TREE_DEPTH_MAX {
            return Err(format!("it has more than {TREE_DEPTH_MAX} operators in a row"));
        }
        self.deepest = self.deepest.max(depth);
        let down = depth + 1;
        match &mut node.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.walk(&mut select.operand, down, passes),
            Expr::List(list) => {
                list.elements.iter_mut().try_for_each(|e| self.walk(e, down, passes))
            }
            Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.walk(&mut entry.key, down, passes)?;
                    self.walk(&mut entry.value, down, passes)
                }
                EntryExpr::StructField(field) => self.walk(&mut field.value, down, passes),
            }),
            Expr::Struct(_) => Err("objects of named types are not known here".to_owned()),
            Expr::Call(call) => self.call(call, down, passes),
            Expr::Comprehension(pass) => {
                if passes >= PASSES_MAX {
                    return Err(format!("passes over lists stand {PASSES_MAX} deep at most"));
                }
                self.walk(&mut pass.iter_range, down, passes)?;
                wrap(&mut pass.iter_range);
                let names = [Some(&pass.iter_var), pass.iter_var2.as_ref(), Some(&pass.accu_var)];
                let before = self.bound.len();
                self.bound.extend(names.into_iter().flatten().cloned());
                let parts = [
                    &mut pass.accu_init,
                    &mut pass.loop_cond,
                    &mut pass.loop_step,
                    &mut pass.result,
                ];
                for part in parts {
                    self.walk(part, down, passes + 1)?;
                }
                self.bound.truncate(before);
                Ok(())
            }
        }
    }

    fn ident(&mut self, name: &str) -> Result<(), String> {
        if self.bound.iter().any(|bound| bound == name) || name.starts_with('@') {
            return Ok(());
        }
        // Types are values too: `type(x) == string`.
        if FUNCTIONS.contains(&name) || matches!(name, "list" | "map" | "null_type" | "bytes") {
            return Ok(());
        }
        let root = Root::of(name).ok_or_else(|| {
            let known: Vec<&str> = super::reference::ROOTS.iter().map(|(name, _)| *name).collect();
            format!("{name:?} is not known; paths begin with {}", known.join(", "))
        })?;
        self.roots.insert(root);
        Ok(())
    }

    fn call(&mut self, call: &mut CallExpr, depth: usize, passes: usize) -> Result<(), String> {
        let name = call.func_name.as_str();
        let is_operator = name.starts_with(['_', '@', '!', '-']);
        if REFUSED_OPERATORS.contains(&name) || !is_operator && !FUNCTIONS.contains(&name) {
            return Err(format!("{name:?} cannot be called; known: {}", FUNCTIONS.join(", ")));
        }
        if let Some(target) = &mut call.target {
            self.walk(target, depth, passes)?;
        }
        for arg in &mut call.args {
            self.walk(arg, depth, passes)?;
        }
        // The sums that collect the items of a pass are the evaluator's own.
        let is_own = call
            .args
            .first()
            .is_some_and(|arg| matches!(&arg.expr, Expr::Ident(name) if name.starts_with('@')));
        if call.func_name == "_+_" && !is_own {
            ADD.clone_into(&mut call.func_name);
        }
        Ok(())
    }
}

fn wrap(range: &mut IdedExpr) {
    let inner = std::mem::take(range);
    let call = CallExpr { func_name: ORDERED.to_owned(), target: None, args: vec![inner] };
    range.expr = Expr::Call(call);
}

/// The keys of a map in order, or a list as it is.
fn ordered(value: Cel) -> Result<Cel, ExecutionError> {
    let items = match value {
        Cel::Map(map) => {
            let mut keys: Vec<Key> = map.map.keys().cloned().collect();
            keys.sort();
            Arc::new(keys.into_iter().map(of_key).collect())
        }
        Cel::List(items) => items,
        _ => return Err(function_error("only lists and maps have items".to_owned())),
    };
    if items.len() > WORKFLOW_EXPRESSION_ITEMS_MAX {
        let most = WORKFLOW_EXPRESSION_ITEMS_MAX;
        return Err(function_error(format!("more than {most} items to walk over")));
    }
    Ok(Cel::List(items))
}

fn of_key(key: Key) -> Cel {
    match key {
        Key::Int(i) => Cel::Int(i),
        Key::Uint(u) => Cel::UInt(u),
        Key::Bool(b) => Cel::Bool(b),
        Key::String(s) => Cel::String(s),
    }
}

/// The sum of two values, if it is not too large.
fn add(left: Cel, right: Cel) -> Result<Cel, ExecutionError> {
    let large = |bytes: usize| bytes > VALUE_BYTES_MAX;
    match (&left, &right) {
        (Cel::String(a), Cel::String(b)) if large(a.len() + b.len()) => {
            Err(function_error(format!("a text of more than {VALUE_BYTES_MAX} bytes")))
        }
        (Cel::List(a), Cel::List(b)) if a.len() + b.len() > WORKFLOW_EXPRESSION_ITEMS_MAX => {
            let most = WORKFLOW_EXPRESSION_ITEMS_MAX;
            Err(function_error(format!("a list of more than {most} items")))
        }
        _ => left + right,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the evaluator hands values over")]
fn print(value: Cel) -> Result<Arc<String>, ExecutionError> {
    to_json(&value).map(|value| Arc::new(text(&value))).map_err(function_error)
}

#[expect(clippy::needless_pass_by_value, reason = "the evaluator hands values over")]
fn parse_json(source: Arc<String>) -> Result<Cel, ExecutionError> {
    serde_json::from_str(&source)
        .map(|value: Value| of_json(&value))
        .map_err(|_| function_error("not JSON".to_owned()))
}

fn function_error(message: String) -> ExecutionError {
    ExecutionError::FunctionError { function: String::new(), message }
}

/// What went wrong, without values: they may be large, and have no order.
fn failure(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(name) => format!("there is no {name:?}"),
        ExecutionError::NoSuchOverload(which) => which.to_string(),
        ExecutionError::UndeclaredReference(name) => format!("{name:?} is not known"),
        ExecutionError::FunctionError { message, .. } => message.clone(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "a division by zero".to_owned()
        }
        ExecutionError::Overflow(..) => "a number is out of range".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "an index is out of range".to_owned(),
        ExecutionError::ValuesNotComparable(..) => "values that cannot be compared".to_owned(),
        ExecutionError::UnexpectedType { got, want } => format!("{got} instead of {want}"),
        _ => "the operation does not fit its values".to_owned(),
    }
}

/// Whole numbers stay whole: they can be added to others.
fn of_json(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Cel::Float(number.as_f64().unwrap_or_default()), Cel::Int),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(of_json).collect())),
        Value::Object(members) => {
            let map: HashMap<Key, Cel> =
                members.iter().map(|(k, v)| (Key::from(k.as_str()), of_json(v))).collect();
            Cel::Map(Map { map: Arc::new(map) })
        }
    }
}

/// Counts the bytes of a value, so that a small one that stands many times in itself is refused.
fn sized(value: &Cel, size: &mut usize, depth: usize) -> Result<(), String> {
    *size += match value {
        Cel::String(text) => text.len(),
        _ => 8,
    };
    if *size > VALUE_BYTES_MAX || depth > JSON_DEPTH_MAX {
        return Err("the value is too large".to_owned());
    }
    match value {
        Cel::List(items) => items.iter().try_for_each(|item| sized(item, size, depth + 1)),
        Cel::Map(map) => map.map.values().try_for_each(|item| sized(item, size, depth + 1)),
        _ => Ok(()),
    }
}

fn to_json(value: &Cel) -> Result<Value, String> {
    Ok(match value {
        Cel::Null => Value::Null,
        Cel::Bool(flag) => Value::Bool(*flag),
        Cel::Int(i) => Value::from(*i),
        Cel::UInt(u) => Value::from(*u),
        Cel::Float(f) => {
            Value::Number(Number::from_f64(*f).ok_or("a number that is none".to_owned())?)
        }
        Cel::String(text) => Value::String(text.to_string()),
        Cel::List(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        Cel::Map(map) => {
            let mut members: Vec<(String, &Cel)> =
                map.map.iter().map(|(key, value)| (key_text(key), value)).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            let members = members.into_iter().map(|(key, v)| Ok((key, to_json(v)?)));
            Value::Object(members.collect::<Result<_, String>>()?)
        }
        _ => return Err("a value that JSON does not know".to_owned()),
    })
}

fn key_text(key: &Key) -> String {
    match key {
        Key::Int(i) => i.to_string(),
        Key::Uint(u) => u.to_string(),
        Key::Bool(b) => b.to_string(),
        Key::String(s) => s.to_string(),
    }
}
