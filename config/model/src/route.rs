//! What a rule matches and does: Gateway API `HTTPRoute` semantics, parsed.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::host::{HostName, HostPattern};
use crate::id::PoolId;

/// One rule of an `HTTPLoadBalancer`. Its parts are shared by every host that serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The hosts it is served on, besides the generated name; empty means that name alone.
    pub hosts: Arc<[HostPattern]>,
    /// Whether these are the object's, `spec.hosts`: the rule names none of its own.
    pub inherits_hosts: bool,
    /// Any of these must match; empty means everything does.
    pub matches: Arc<[RouteMatch]>,
    /// Applied in their order.
    pub filters: Arc<[Filter]>,
    /// Where its requests go, by weight; empty only where a filter answers.
    pub backends: Arc<[Backend]>,
    /// What overrides the policy's timeouts, where anything does.
    pub timeouts: Option<Box<RuleTimeouts>>,
}

/// All of its parts must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct RouteMatch {
    /// On the path, without the query.
    pub path: PathMatch,
    /// On the method, in capitals.
    pub method: Option<Arc<str>>,
    /// On headers, all of them.
    pub headers: Box<[HeaderMatch]>,
    /// On query parameters, all of them.
    pub query: Box<[QueryMatch]>,
}

/// How a path is matched. Precedence: exact, then regular expression, then the longest prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum PathMatch {
    /// The whole path, byte by byte.
    Exact(Arc<str>),
    /// The whole path against a regular expression (anchored at both ends), known to compile.
    Regex(Arc<str>),
    /// Whole segments: `/a` matches `/a`, `/a/` and `/a/b`, never `/ab`. Begins with `/` and ends without one, except `/` itself.
    Prefix(Arc<str>),
}

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix("/".into())
    }
}

/// A text matched whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum TextMatch {
    /// Equal, byte by byte.
    Exact(Arc<str>),
    /// A regular expression over the whole value, known to compile.
    Regex(Arc<str>),
}

/// A match on a header's value (several fields of the name are compared joined by commas).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct HeaderMatch {
    /// In lower case.
    pub name: Arc<str>,
    /// The value.
    pub value: TextMatch,
}

/// A match on the first query parameter of that name, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct QueryMatch {
    /// Case-sensitive.
    pub name: Arc<str>,
    /// The value.
    pub value: TextMatch,
}

/// A pool and its share of a rule's requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Backend {
    /// The pool; it may not exist.
    pub pool: PoolId,
    /// Its share, relative to the sum; 0 means none.
    pub weight: u32,
}

/// What a rule sets in place of its policy's timeouts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuleTimeouts {
    /// From the request's head to the response's end.
    #[serde(serialize_with = "crate::seconds::maybe")]
    pub request: Option<Duration>,
    /// For one try, to the response's head.
    #[serde(serialize_with = "crate::seconds::maybe")]
    pub backend_request: Option<Duration>,
}

/// Something that a rule does to requests or responses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Filter {
    /// Before the request goes upstream.
    RequestHeaders(HeaderEdits),
    /// Before the response goes downstream.
    ResponseHeaders(HeaderEdits),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Changes host or path of the request that goes upstream.
    Rewrite(Rewrite),
}

/// Headers that frame a message or belong to one connection: no edit may touch them (RFC 9110 §7.6.1). A wrong
/// `Content-Length` would let one client's bytes be read as another's request; an `Expect` that the client did not send would have
/// the endpoint wait for, or announce, what nobody agreed on (RFC 9110 §10.1.1).
pub const CONNECTION_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Applied in the order set, add, remove. Names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderEdits {
    /// Replaces all fields of the name.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Adds a field beside what is there.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Removes all fields of the name.
    pub remove: Vec<Arc<str>>,
}

/// A redirect; what is unset stays as in the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// The new scheme.
    pub scheme: Option<Scheme>,
    /// The new host.
    pub host: Option<HostName>,
    /// The new port. Unset: the scheme's own where the scheme is set, else the listener's.
    pub port: Option<NonZeroU16>,
    /// The new path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// A rewrite; what is unset stays as in the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    /// The new `Host`.
    pub host: Option<HostName>,
    /// The new path.
    pub path: Option<PathRewrite>,
}

/// How a path changes. The query stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PathRewrite {
    /// The whole path.
    Full(Arc<str>),
    /// What the prefix match took; the rest stays.
    Prefix(Arc<str>),
}

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a URL need not name.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}
