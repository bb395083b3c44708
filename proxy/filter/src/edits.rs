//! Header edits, parsed: set, add, remove, in that order (Gateway API `HTTPHeaderFilter`).

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use portolan_model::route::{CONNECTION_HEADERS, HeaderEdits};

use crate::headers::Headers;

/// Why an edit cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// RFC 9110 §5.1.
    #[error("{0:?} is not a header name")]
    Name(String),
    /// RFC 9110 §5.5.
    #[error("the value of the header {0} has bytes that a header cannot carry")]
    Value(HeaderName),
    /// It frames the message or belongs to the connection.
    #[error("the header {0} belongs to the connection: it cannot be edited")]
    Connection(HeaderName),
    /// There must be exactly one.
    #[error("the header host can be set, not added or removed")]
    Host,
}

/// Header edits that can be applied without parsing anything.
#[derive(Clone, Debug, Default)]
pub struct CompiledEdits {
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
    remove: Box<[HeaderName]>,
}

impl CompiledEdits {
    /// Parses names and values.
    pub fn build(edits: &HeaderEdits) -> Result<Self, EditError> {
        let edits = Self {
            set: edits.set.iter().map(field).collect::<Result<_, _>>()?,
            add: edits.add.iter().map(field).collect::<Result<_, _>>()?,
            remove: edits.remove.iter().map(|name| parse(name)).collect::<Result<_, _>>()?,
        };
        let mut kept_single = edits.add.iter().map(|(name, _)| name).chain(&edits.remove);
        if kept_single.any(|name| *name == header::HOST) { Err(EditError::Host) } else { Ok(edits) }
    }

    /// Applies them.
    pub fn apply(&self, headers: &mut impl Headers) {
        for (name, value) in &self.set {
            headers.set(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.add(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

fn field((name, text): &(Arc<str>, Arc<str>)) -> Result<(HeaderName, HeaderValue), EditError> {
    let name = parse(name)?;
    match HeaderValue::from_bytes(text.trim_matches([' ', '\t']).as_bytes()) {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(EditError::Value(name)),
    }
}

fn parse(name: &str) -> Result<HeaderName, EditError> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| EditError::Name(name.to_owned()))?;
    if CONNECTION_HEADERS.contains(&parsed.as_str()) {
        Err(EditError::Connection(parsed))
    } else {
        Ok(parsed)
    }
}
