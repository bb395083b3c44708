//! Where does a field of an object stand in a file?
//!
//! For what is found wrong after reading, when only the object, the line its manifest starts on and the field's path are left:
//! a reader's own diagnostics know their places. Cost: a pass over the lines when a [`Source`] is made; to locate is to parse the one
//! document again, unless it is the one of the call before.

use portolan_model::id::ObjectRef;

use super::MAX_DOCUMENT;
use super::identity::{Who, identify};
use crate::convert::Names;
use crate::diagnostic::is_secret;
use crate::field::{FieldPath, Step};
use crate::shape::excerpt;
use crate::yaml::{Document, Node, Position, Value, documents, lines, parse};

/// The text of a file, to point into.
pub struct Source<'a> {
    lines: Vec<&'a str>,
    documents: Vec<Document<'a>>,
    /// A document that was parsed, by its number.
    parsed: Option<(usize, Node<'a>)>,
}

/// A place in a file, both from 1, in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
    /// The text that stands there, shortened; empty where the field is missing or spans lines.
    pub found: String,
}

impl<'a> Source<'a> {
    /// The text of a file.
    pub fn new(text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { lines: lines(text).collect(), documents: documents(text).collect(), parsed: None }
    }

    /// A line, from 1.
    pub fn line(&self, number: u32) -> Option<&'a str> {
        self.lines.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }

    /// Where a field of that object stands, whose manifest starts on that line; the nearest field around it where it is not there.
    /// Nothing where the file says something else by now.
    pub fn locate(&mut self, object: &ObjectRef, line: u32, field: &str) -> Option<Spot> {
        let number =
            self.documents.partition_point(|document| document.lines_before < line).checked_sub(1)?;
        let document = self.documents.get(number).filter(|document| document.text.len() <= MAX_DOCUMENT)?;
        if self.parsed.as_ref().is_none_or(|(parsed, _)| *parsed != number) {
            self.parsed = Some((number, parse(document.text, document.lines_before).0?));
        }
        let (_, root) = self.parsed.as_ref()?;
        let mut names = Names::default();
        let candidates = match identify(root, &mut names, false) {
            Who::List(items) => items,
            _ => std::slice::from_ref(root),
        };
        let mut is_it = |node: &&Node<'_>| match identify(node, &mut names, true) {
            Who::Somebody(identity) => identity.id.as_ref() == Some(object),
            _ => false,
        };
        let manifest = candidates.iter().filter(|node| node.at.line == line).find(|node| is_it(node));
        let (at, found) = locate(manifest?, &FieldPath::parse(field));
        let found = if is_secret(object.kind) { String::new() } else { found };
        Some(Spot { line: at.line, column: at.column, found })
    }
}

/// Where a field stands, and its text; the nearest field around it if it is not there.
pub(super) fn locate(root: &Node<'_>, path: &FieldPath) -> (Position, String) {
    let mut node = root;
    let mut owner = root.at;
    for step in &path.0 {
        let next = match (step, &node.value) {
            (Step::Field(name), _) => node.entry(name).map(|entry| (entry.at, &entry.value)),
            (Step::Index(index), Value::Sequence(items)) => items.get(*index).map(|item| (item.at, item)),
            _ => None,
        };
        let Some((at, inner)) = next else { return (owner, String::new()) };
        (owner, node) = (at, inner);
    }
    match &node.value {
        Value::Scalar(text, _) if !text.is_empty() => (node.at, excerpt(node)),
        _ => (owner, String::new()),
    }
}
