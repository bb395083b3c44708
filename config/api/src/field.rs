//! Fields of objects by their path, and what is wrong with them.

use std::borrow::Cow;
use std::fmt;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Into a field or the entry of a mapping.
    Field(Cow<'static, str>),
    /// Into an element of a list.
    Index(usize),
}

impl Step {
    /// The field of that name.
    pub fn field(name: impl Into<Cow<'static, str>>) -> Self {
        Self::Field(name.into())
    }
}

/// The way to a field from the top of its object; shown as `spec.rules[0].backends[1].pool`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldPath(pub Vec<Step>);

impl FieldPath {
    /// The path that is shown so; as much of it as can be made out.
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        let mut rest = text;
        while let Some((step, behind)) = first_step(rest) {
            steps.push(step);
            rest = behind.strip_prefix('.').unwrap_or(behind);
        }
        Self(steps)
    }

    /// Whether it leads to `other` or into it.
    pub fn is_under(&self, other: &FieldPath) -> bool {
        self.0.starts_with(&other.0)
    }
}

fn first_step(text: &str) -> Option<(Step, &str)> {
    if let Some(quoted) = text.strip_prefix("[\"") {
        let (name, behind) = quoted.split_once("\"]")?;
        return Some((Step::field(name.to_owned()), behind));
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (number, behind) = bracketed.split_once(']')?;
        return Some((Step::Index(number.parse().ok()?), behind));
    }
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (name, behind) = text.split_at(end);
    (!name.is_empty()).then(|| (Step::field(name.to_owned()), behind))
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if name.bytes().all(|b| b.is_ascii_alphanumeric()) && !name.is_empty() => {
                    if index > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(name)?;
                }
                Step::Field(name) => write!(f, "[{name:?}]")?,
                Step::Index(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct FieldError {
    /// The field.
    pub path: FieldPath,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub expected: Option<String>,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

/// A path under way: each level of a conversion holds its own step and borrows the rest, so that paths cost nothing
/// where nothing is wrong.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Part<'a>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Field(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// A field of the object itself.
    pub(crate) fn top(name: &'a str) -> Self {
        Self { parent: None, step: Part::Field(name) }
    }

    /// A field of what this path leads to.
    pub(crate) fn field<'b>(&'b self, name: &'b str) -> At<'b> {
        At { parent: Some(self), step: Part::Field(name) }
    }

    /// An element of what this path leads to.
    pub(crate) fn index(&self, index: usize) -> At<'_> {
        At { parent: Some(self), step: Part::Index(index) }
    }

    /// The path, to keep.
    pub(crate) fn path(&self) -> FieldPath {
        let mut steps = Vec::new();
        let mut at = Some(self);
        while let Some(here) = at {
            steps.push(match here.step {
                Part::Field(name) => Step::field(name.to_owned()),
                Part::Index(index) => Step::Index(index),
            });
            at = here.parent;
        }
        steps.reverse();
        FieldPath(steps)
    }
}

/// Longer names, in bytes, are no slips of any that are known, and costly to compare.
const LONGEST: usize = 64;

/// The name among `known` that `name` is probably a slip of.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let distance = |other: &str| strsim::damerau_levenshtein(&lower, &other.to_ascii_lowercase());
    let limit = (name.chars().count() / 3).max(1);
    known
        .filter(|other| other.len() <= LONGEST)
        .map(|other| (distance(other), other))
        .filter(|(distance, other)| *distance <= limit || (lower.len() > 3 && prefix(&lower, other)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

fn prefix(lower: &str, other: &str) -> bool {
    let other = other.to_ascii_lowercase();
    other.starts_with(lower) || lower.starts_with(&other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_they_are_shown() {
        for (text, steps) in [
            ("", 0),
            ("spec", 1),
            ("spec.rules[0].backends[12].pool", 6),
            ("data[\"tls.crt\"]", 2),
            ("metadata.labels[\"portolan.dev/pool\"]", 3),
            ("[0][1]", 2),
        ] {
            let path = FieldPath::parse(text);
            assert_eq!((path.to_string().as_str(), path.0.len()), (text, steps));
        }
        for (text, made_out) in [("spec.rules[x].a", "spec.rules"), ("spec.[", "spec"), ("a..b", "a")] {
            assert_eq!(FieldPath::parse(text).to_string(), made_out, "{text}");
        }
    }
}
