//! What is told about a manifest: where, what, and what was probably meant.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use portolan_model::id::{Kind, ObjectRef};

use crate::reader::Source;

/// How much of an offending value or line is shown.
const SHOWN: usize = 100;

/// How much of a sentence is shown.
const SENTENCE: usize = 1000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The object is left out.
    Error,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Note => "note",
        })
    }
}

/// Something to tell about a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The object, where it could be told.
    pub object: Option<ObjectRef>,
    /// The file, relative to its folder.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// The field, as `spec.rules[0].backends[1].pool`; empty where it is the document as a whole.
    pub field: String,
    /// The offending text, shortened; empty where something is missing.
    pub found: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub expected: Option<String>,
    /// What was probably meant.
    pub suggestion: Option<String>,
    /// Whether the line may hold a secret and must not be shown.
    pub secret: bool,
}

impl Diagnostic {
    /// For a terminal: the message, the line it is about with a mark under the place, and what to do.
    pub fn render(&self, source: &Source<'_>) -> String {
        let mut out = format!("{}: {}\n", self.severity, escaped(&self.message));
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let _ = writeln!(out, "{margin}--> {}:{}:{}", escaped(&self.file), self.line, self.column);
        if let Some((text, column)) = self.excerpt(source) {
            let width = match self.found.chars().count() {
                _ if self.found.ends_with('…') => 1,
                width => width.clamp(1, text.chars().count().saturating_sub(column).max(1)),
            };
            let _ = writeln!(out, "{margin} |");
            let _ = writeln!(out, "{number} | {text}");
            let _ = writeln!(out, "{margin} | {}{}", " ".repeat(column), "^".repeat(width));
        }
        if let Some(object) = &self.object {
            let _ = writeln!(out, "{margin} = object: {object}");
        }
        for (name, text) in [
            ("field", Some(&self.field).filter(|field| !field.is_empty())),
            ("expected", self.expected.as_ref()),
            ("did you mean", self.suggestion.as_ref()),
        ] {
            if let Some(text) = text {
                let _ = writeln!(out, "{margin} = {name}: {text}");
            }
        }
        out
    }

    /// The same with no sentence of it longer than a person reads: what is quoted in one may be of any length.
    pub(crate) fn bounded(mut self) -> Self {
        for text in [Some(&mut self.field), Some(&mut self.message), self.expected.as_mut()] {
            if let Some(text) = text
                && let Some((end, _)) = text.char_indices().nth(SENTENCE)
            {
                text.truncate(end);
                text.push('…');
            }
        }
        self.suggestion = self.suggestion.filter(|text| text.len() <= SENTENCE);
        self
    }

    /// The line, and where in it the place is, in characters from 0; long lines are cut around the place.
    fn excerpt(&self, source: &Source<'_>) -> Option<(String, usize)> {
        if self.secret {
            return None;
        }
        let line = source.line(self.line)?;
        let column = usize::try_from(self.column).ok()?.saturating_sub(1);
        let skipped = if column > SHOWN { column - SHOWN / 2 } else { 0 };
        let cut: String = line
            .chars()
            .skip(skipped)
            .take(SHOWN + 20)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        Some((cut, column - skipped))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}: ", escaped(&self.file), self.line, self.column, self.severity)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&escaped(&self.message))?;
        let found = (!self.found.is_empty() && !self.message.contains(&self.found))
            .then(|| format!("found {:?}", self.found));
        let expected = self.expected.as_ref().map(|text| format!("expected {text}"));
        let meant = self.suggestion.as_ref().map(|text| format!("did you mean `{text}`?"));
        let details: Vec<_> = [found, expected, meant].into_iter().flatten().collect();
        if details.is_empty() { Ok(()) } else { write!(f, " ({})", details.join("; ")) }
    }
}

/// The text without what a terminal obeys or a line of a log ends at: anybody may name a file.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    plain.into()
}

/// At most [`SHOWN`] characters of one line.
pub(crate) fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(SHOWN).filter(|c| !c.is_control()).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Whether what stands in an object of that kind may be secret.
pub(crate) fn is_secret(kind: Kind) -> bool {
    kind == Kind::Secret
}
