//! Names and values of headers, and edits of them.

use std::sync::Arc;

use portolan_model::route::{CONNECTION_HEADERS, HeaderEdits};

use super::{Cx, Flaw};
use crate::field::At;
use crate::kinds::{HeaderModifier, HeaderValue};

/// A header's name in lower case.
pub(crate) fn header_name(text: &str) -> Result<Arc<str>, Flaw> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.len() <= 256 && text.bytes().all(token) {
        return Ok(text.to_ascii_lowercase().into());
    }
    let meant = text.trim().trim_end_matches(':');
    let meant = (meant != text && !meant.is_empty() && meant.bytes().all(token)).then(|| meant.to_owned());
    Err(Flaw::new(format!("{text:?} is not a header name"), "letters, digits and '-', such as X-Env")
        .meant(meant))
}

/// A header's value, RFC 9110 §5.5.
pub(crate) fn header_value(text: &str) -> Result<Arc<str>, Flaw> {
    if text.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
        Err(Flaw::new("the value holds control characters", "one line of text"))
    } else if text.trim_matches([' ', '\t']).len() < text.len() {
        Err(Flaw::new("the value begins or ends with a blank", "a value without blanks at its ends"))
    } else {
        Ok(text.into())
    }
}

/// The edits of one filter.
pub(crate) fn edits(cx: &mut Cx<'_>, at: &At<'_>, modifier: &HeaderModifier) -> HeaderEdits {
    let HeaderModifier { set, add, remove } = modifier;
    let set = pairs(cx, &at.field("set"), set);
    let add = pairs(cx, &at.field("add"), add);
    let at = at.field("remove");
    let mut names = Vec::with_capacity(remove.len());
    for (index, name) in remove.iter().enumerate() {
        if let Some(name) = editable(cx, &at.index(index), name) {
            if names.contains(&name) {
                cx.error(&at.index(index), format!("the header {name:?} stands twice"));
            }
            names.push(name);
        }
    }
    HeaderEdits { set, add, remove: names }
}

fn pairs(cx: &mut Cx<'_>, at: &At<'_>, headers: &[HeaderValue]) -> Vec<(Arc<str>, Arc<str>)> {
    let mut pairs: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(headers.len());
    for (index, header) in headers.iter().enumerate() {
        let at = at.index(index);
        let name = editable(cx, &at.field("name"), &header.name);
        let value = cx.check(&at.field("value"), header_value(&header.value));
        let (Some(name), Some(value)) = (name, value) else { continue };
        if pairs.iter().any(|(known, _)| *known == name) {
            cx.error(&at.field("name"), format!("the header {name:?} stands twice"));
        }
        pairs.push((name, value));
    }
    pairs
}

/// The name of a header that may be edited.
fn editable(cx: &mut Cx<'_>, at: &At<'_>, text: &str) -> Option<Arc<str>> {
    let name = cx.check(at, header_name(text))?;
    if CONNECTION_HEADERS.contains(&&*name) {
        cx.error(
            at,
            format!(
                "the header {name:?} frames the message or belongs to the connection: it cannot be edited"
            ),
        );
        return None;
    }
    if &*name == "host" {
        cx.error(at, "the header \"host\" cannot be edited").expected =
            Some("a URLRewrite filter with a hostname".to_owned());
        return None;
    }
    Some(name)
}
