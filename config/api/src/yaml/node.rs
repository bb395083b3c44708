//! What does a document hold, and where?
//!
//! A [`Node`] is a value with the line and column it starts at. Plain scalars keep their text and are resolved by YAML's
//! core schema when somebody asks. Depth, number of nodes and what aliases may expand to are bounded. An error cuts
//! the tree short and no more, so that who the document speaks of can still be told. Cost: linear in the text.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Options, Parser, ScalarStyle, Span};

use crate::diagnostic::shorten;

/// Deeper nesting than any manifest has.
const MAX_DEPTH: usize = 64;
/// Nodes of one document.
const MAX_NODES: usize = 1_000_000;
/// Nodes that anchors hold and aliases bring, counted each time.
const MAX_COPIED: usize = 100_000;
/// Keys that stand twice, of which is told.
const MAX_DUPLICATES: usize = 64;

/// A place in a file, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A value and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node<'a> {
    pub(crate) at: Position,
    pub(crate) value: Value<'a>,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// The text, and whether it stands without quotes.
    Scalar(Cow<'a, str>, bool),
    Sequence(Vec<Node<'a>>),
    /// In the order written.
    Mapping(Vec<Entry<'a>>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) at: Position,
    pub(crate) value: Node<'a>,
}

/// A scalar, resolved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
}

/// Something that is wrong with a document as YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: Position,
    pub(crate) found: String,
    pub(crate) message: String,
    /// Whether nothing is read behind it.
    pub(crate) cut: bool,
}

impl<'a> Node<'a> {
    /// The scalar, resolved by the core schema (YAML 1.2.2 §10.3.2).
    pub(crate) fn scalar(&self) -> Option<Scalar<'_>> {
        match &self.value {
            Value::Scalar(text, false) => Some(Scalar::Text(text)),
            Value::Scalar(text, true) => Some(resolve(text)),
            _ => None,
        }
    }

    /// The text, if it is a text and not a number, say.
    pub(crate) fn text(&self) -> Option<&str> {
        match self.scalar() {
            Some(Scalar::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The entry of a mapping.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry<'a>> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The value of a mapping's entry.
    pub(crate) fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Whether it is null.
    pub(crate) fn is_null(&self) -> bool {
        self.scalar() == Some(Scalar::Null)
    }

    /// What it is, for a person.
    pub(crate) fn describe(&self) -> &'static str {
        match self.scalar() {
            Some(Scalar::Null) => "nothing",
            Some(Scalar::Bool(_)) => "a boolean",
            Some(Scalar::Int(_)) => "an integer",
            Some(Scalar::Float(_)) => "a number",
            Some(Scalar::Text(_)) => "a string",
            None if matches!(self.value, Value::Sequence(_)) => "a list",
            None => "a mapping",
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(..) => 0,
            Value::Sequence(items) => items.iter().map(Node::count).sum(),
            Value::Mapping(entries) => entries.iter().map(|entry| entry.value.count()).sum(),
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(..) => 0,
            Value::Sequence(items) => items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Mapping(entries) => entries.iter().map(|entry| entry.value.depth()).max().unwrap_or(0),
        }
    }
}

fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Scalar::Text(text);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let integer = if let Some(digits) = text.strip_prefix("0x") {
        plain(digits, |b| b.is_ascii_hexdigit()).and_then(|digits| i128::from_str_radix(digits, 16).ok())
    } else if let Some(digits) = text.strip_prefix("0o") {
        plain(digits, |b| (b'0'..=b'7').contains(&b)).and_then(|digits| i128::from_str_radix(digits, 8).ok())
    } else {
        plain(unsigned, |b| b.is_ascii_digit()).and_then(|_| text.parse().ok())
    };
    if let Some(integer) = integer {
        return Scalar::Int(integer);
    }
    match unsigned {
        ".inf" | ".Inf" | ".INF" if text.starts_with('-') => return Scalar::Float(f64::NEG_INFINITY),
        ".inf" | ".Inf" | ".INF" => return Scalar::Float(f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => return Scalar::Float(f64::NAN),
        _ => {}
    }
    let numeric =
        unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse() {
        Ok(number) if numeric => Scalar::Float(number),
        _ => Scalar::Text(text),
    }
}

fn plain(digits: &str, allowed: impl Fn(u8) -> bool) -> Option<&str> {
    (!digits.is_empty() && digits.bytes().all(allowed)).then_some(digits)
}

/// Reads one document; `lines_before` is added to its lines. What cannot be read is told as problems, and the tree
/// then holds what precedes it.
pub(crate) fn parse(text: &str, lines_before: u32) -> (Option<Node<'_>>, Vec<Problem>) {
    let mut options = Options::default();
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    options.emit_comments = false;
    let mut tree = Tree { lines_before, ..Tree::default() };
    let mut parser = Parser::new_from_str_with_options(text, options);
    loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => break,
            Some(Ok((event, span))) => {
                if let Err(problem) = tree.take(event, &span) {
                    tree.problems.push(problem);
                    break;
                }
            }
            Some(Err(error)) => {
                let marker = error.marker();
                let at = position(marker.line(), marker.col(), lines_before);
                tree.problems.push(problem(at, &error.info()));
                break;
            }
        }
    }
    tree.finish()
}

fn position(line: usize, column: usize, lines_before: u32) -> Position {
    let line = u32::try_from(line).unwrap_or(u32::MAX).max(1);
    Position {
        line: line.saturating_add(lines_before),
        column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
    }
}

/// A tree under way.
#[derive(Default)]
struct Tree<'a> {
    lines_before: u32,
    open: Vec<Open<'a>>,
    root: Option<Node<'a>>,
    anchors: HashMap<usize, Node<'a>>,
    nodes: usize,
    copied: usize,
    problems: Vec<Problem>,
}

/// A collection that has begun and not ended.
struct Open<'a> {
    node: Node<'a>,
    anchor: usize,
    /// The key whose value comes next, in a mapping.
    key: Option<(Cow<'a, str>, Position)>,
}

impl<'a> Tree<'a> {
    fn take(&mut self, event: Event<'a>, span: &Span) -> Result<(), Problem> {
        let at = position(span.start.line(), span.start.col(), self.lines_before);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain =
                    style == ScalarStyle::Plain && !tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                self.value(Node { at, value: Value::Scalar(text, plain) }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Value::Sequence(Vec::new()), at, anchor),
            Event::MappingStart(_, anchor, _) => self.begin(Value::Mapping(Vec::new()), at, anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(mut open) => {
                    self.check_keys(&open.node);
                    if let Value::Mapping(entries) = &mut open.node.value {
                        merge(entries);
                    }
                    self.value(open.node, open.anchor)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(problem(at, "an alias must not stand inside what it refers to"));
                };
                if self.open.len() + node.depth() > MAX_DEPTH {
                    return Err(problem(at, "aliases nest too deeply"));
                }
                self.copied += node.count();
                if self.copied > MAX_COPIED {
                    return Err(problem(at, "aliases expand to too much"));
                }
                let node = node.clone();
                self.value(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, value: Value<'a>, at: Position, anchor: usize) -> Result<(), Problem> {
        if self.open.len() >= MAX_DEPTH {
            return Err(problem(at, "the document nests too deeply"));
        }
        if let Some(Open { node: Node { value: Value::Mapping(_), .. }, key: None, .. }) = self.open.last() {
            return Err(problem(at, "the key of a mapping must be a text"));
        }
        self.open.push(Open { node: Node { at, value }, anchor, key: None });
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn value(&mut self, node: Node<'a>, anchor: usize) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(problem(node.at, "the document is too large"));
        }
        if anchor != 0 {
            self.copied += node.count();
            if self.copied > MAX_COPIED {
                return Err(problem(node.at, "anchors hold too much"));
            }
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            if self.root.is_none() {
                self.root = Some(node);
            }
            return Ok(());
        };
        match &mut open.node.value {
            Value::Sequence(items) => items.push(node),
            Value::Mapping(entries) => match (open.key.take(), node.value) {
                (Some((key, at)), value) => {
                    entries.push(Entry { key, at, value: Node { at: node.at, value } });
                }
                (None, Value::Scalar(key, _)) => open.key = Some((key, node.at)),
                (None, _) => return Err(problem(node.at, "the key of a mapping must be a text")),
            },
            Value::Scalar(..) => {}
        }
        Ok(())
    }

    /// Reports each key that a mapping has twice.
    fn check_keys(&mut self, node: &Node<'a>) {
        let Value::Mapping(entries) = &node.value else { return };
        let twice = |index: usize| entries[..index].iter().any(|entry| entry.key == entries[index].key);
        if entries.len() <= 16 {
            for index in (1..entries.len()).filter(|&index| twice(index)) {
                self.duplicate(&entries[index]);
            }
            return;
        }
        let mut seen = HashSet::with_capacity(entries.len());
        for entry in entries {
            if !seen.insert(&entry.key) {
                self.duplicate(entry);
            }
        }
    }

    fn duplicate(&mut self, entry: &Entry<'_>) {
        if self.problems.len() < MAX_DUPLICATES {
            let message = "the key stands twice in the same mapping".to_owned();
            self.problems.push(Problem { at: entry.at, found: shorten(&entry.key), message, cut: false });
        }
    }

    /// Closes what an error left open.
    fn finish(mut self) -> (Option<Node<'a>>, Vec<Problem>) {
        while let Some(open) = self.open.pop() {
            // A node that fits nowhere any more is one that the error cut short.
            let _ = self.value(open.node, 0);
        }
        (self.root, self.problems)
    }
}

/// Replaces `<<` by the entries of the mapping (or the mappings) that it names, where they are not there already.
fn merge(entries: &mut Vec<Entry<'_>>) {
    let Some(index) = entries.iter().position(|entry| entry.key == "<<") else { return };
    let named = entries.remove(index).value;
    let sources = match named.value {
        Value::Sequence(items) => items,
        other => vec![Node { at: named.at, value: other }],
    };
    let mut known: HashSet<_> = entries.iter().map(|entry| entry.key.clone()).collect();
    for source in sources {
        let Value::Mapping(merged) = source.value else { continue };
        entries.extend(merged.into_iter().filter(|entry| known.insert(entry.key.clone())));
    }
}

fn problem(at: Position, message: &str) -> Problem {
    Problem { at, found: String::new(), message: message.to_owned(), cut: true }
}

#[cfg(test)]
mod tests;
