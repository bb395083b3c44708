//! Does the rest of a match hold (method, headers, query), and if not, what fails first?
//!
//! Header names are looked up parsed; several fields of a name are compared as if joined by `", "` (RFC 9110 §5.3; cookies
//! by `"; "`, RFC 9113 §8.2.3) without joining them. Of several conditions on one name only the first counts, as the Gateway
//! API says.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{COOKIE, HeaderMap, HeaderName};
use portolan_model::route::{RouteMatch, TextMatch};

use crate::pattern::{Pattern, Patterns};
use crate::query;
use crate::router::RequestView;

/// What a match asks for besides its path.
#[derive(Debug)]
pub(crate) struct Conditions {
    method: Option<Arc<str>>,
    headers: Box<[(HeaderName, Text)]>,
    query: Box<[(Arc<str>, Text)]>,
}

/// What did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch<'a> {
    Method,
    Header(&'a str),
    Query(&'a str),
}

impl Conditions {
    /// The conditions of a match; `None` where they can never hold: a header name or an expression that is none.
    pub(crate) fn build(rule: &RouteMatch, patterns: &mut Patterns) -> Option<Self> {
        let mut headers: Vec<(HeaderName, Text)> = Vec::with_capacity(rule.headers.len());
        for header in &rule.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            if headers.iter().all(|(other, _)| *other != name) {
                headers.push((name, Text::build(&header.value, patterns)?));
            }
        }
        let mut query: Vec<(Arc<str>, Text)> = Vec::with_capacity(rule.query.len());
        for parameter in &rule.query {
            if query.iter().all(|(other, _)| *other != parameter.name) {
                query.push((Arc::clone(&parameter.name), Text::build(&parameter.value, patterns)?));
            }
        }
        Some(Self { method: rule.method.clone(), headers: headers.into(), query: query.into() })
    }

    /// More specific conditions have the lesser rank: a method, then the number of headers, then of query parameters.
    pub(crate) fn rank(&self) -> (bool, usize, usize) {
        (self.method.is_none(), usize::MAX - self.headers.len(), usize::MAX - self.query.len())
    }

    /// Whether anything is asked for at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.method.is_none() && self.headers.is_empty() && self.query.is_empty()
    }

    /// What fails first; `None` where everything holds.
    pub(crate) fn mismatch(&self, request: &RequestView<'_>) -> Option<Mismatch<'_>> {
        if self.method.as_ref().is_some_and(|method| **method != *request.method) {
            return Some(Mismatch::Method);
        }
        for (name, text) in &self.headers {
            if !text.matches_header(request.headers, name) {
                return Some(Mismatch::Header(name.as_str()));
            }
        }
        for (name, text) in &self.query {
            let raw = request.query.and_then(|query| query::first(query, name));
            if !raw.is_some_and(|raw| text.matches_encoded(raw)) {
                return Some(Mismatch::Query(name));
            }
        }
        None
    }

    /// The expressions in use.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &Arc<Pattern>> {
        let texts = self.headers.iter().map(|(_, text)| text).chain(self.query.iter().map(|(_, text)| text));
        texts.filter_map(|text| match text {
            Text::Exact(_) => None,
            Text::Regex(pattern) => Some(pattern),
        })
    }
}

#[derive(Debug)]
enum Text {
    Exact(Arc<str>),
    Regex(Arc<Pattern>),
}

impl Text {
    fn build(text: &TextMatch, patterns: &mut Patterns) -> Option<Self> {
        Some(match text {
            TextMatch::Exact(text) => Self::Exact(Arc::clone(text)),
            TextMatch::Regex(text) => Self::Regex(patterns.get(text)?),
        })
    }

    fn matches_header(&self, headers: &HeaderMap, name: &HeaderName) -> bool {
        let mut fields = headers.get_all(name).iter().map(|field| field.as_bytes());
        let Some(first) = fields.next() else { return false };
        let separator: &[u8] = if *name == COOKIE { b"; " } else { b", " };
        match self {
            Self::Exact(text) => {
                let Some(mut rest) = text.as_bytes().strip_prefix(first) else { return false };
                for field in fields {
                    match rest.strip_prefix(separator).and_then(|rest| rest.strip_prefix(field)) {
                        Some(left) => rest = left,
                        None => return false,
                    }
                }
                rest.is_empty()
            }
            Self::Regex(pattern) => {
                let mut value = Cow::Borrowed(first);
                for field in fields {
                    let joined = value.to_mut();
                    joined.extend_from_slice(separator);
                    joined.extend_from_slice(field);
                }
                pattern.matches(&value)
            }
        }
    }

    fn matches_encoded(&self, raw: &[u8]) -> bool {
        match self {
            Self::Exact(text) => query::equals(raw, text),
            Self::Regex(pattern) => pattern.matches(&query::decode(raw)),
        }
    }
}
