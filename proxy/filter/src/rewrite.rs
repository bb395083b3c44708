//! Which host and path go upstream? Rewrites (Gateway API `HTTPURLRewriteFilter`), and the path rules they share with redirects.

use std::fmt::Write;

use http::HeaderValue;
use portolan_model::route::{PathRewrite, Rewrite};

/// Why a rewrite cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// The host is no header value.
    #[error("the host {0:?} cannot stand in a header")]
    Host(String),
}

/// A rewrite, parsed.
#[derive(Clone, Debug)]
pub struct CompiledRewrite {
    /// The new `Host`.
    pub host: Option<HeaderValue>,
    /// The new path.
    pub path: Option<CompiledPath>,
}

impl CompiledRewrite {
    /// Parses a rewrite.
    pub fn build(rewrite: &Rewrite) -> Result<Self, RewriteError> {
        let host = |host: &str| HeaderValue::from_str(host).map_err(|_| RewriteError::Host(host.to_owned()));
        Ok(Self {
            host: rewrite.host.as_ref().map(|name| host(name.as_str())).transpose()?,
            path: rewrite.path.as_ref().map(CompiledPath::build),
        })
    }
}

/// How a path changes, with what a URI cannot carry escaped.
#[derive(Clone, Debug)]
pub enum CompiledPath {
    /// To this one.
    Full(Box<str>),
    /// To this, without a `/` at its end, before what a prefix match left over.
    Prefix(Box<str>),
}

impl CompiledPath {
    /// Parses a change of path.
    pub fn build(rewrite: &PathRewrite) -> Self {
        match rewrite {
            PathRewrite::Full(path) => Self::Full(rooted(path).into()),
            PathRewrite::Prefix(path) => {
                let path = rooted(path);
                Self::Prefix(path.strip_suffix('/').unwrap_or(&path).into())
            }
        }
    }

    /// The new path for one whose first `taken` bytes a prefix match took (as `portolan_route::Matched::taken` says).
    ///
    /// ```text
    ///  path      prefix  replacement  new path
    ///  /foo/bar  /foo    /xyz         /xyz/bar
    ///  /foo/     /foo    /xyz         /xyz/
    ///  /foo      /foo    (empty)      /
    /// ```
    pub fn path(&self, path: &str, taken: usize) -> String {
        let mut new = String::new();
        self.push_path(&mut new, path, taken);
        new
    }

    /// The same with the query, which stays: what a request line carries.
    pub fn path_and_query(&self, path: &str, taken: usize, query: Option<&str>) -> String {
        let mut new = self.path(path, taken);
        if let Some(query) = query {
            new.push('?');
            new.push_str(query);
        }
        new
    }

    fn push_path(&self, new: &mut String, path: &str, taken: usize) {
        match self {
            Self::Full(path) => new.push_str(path),
            Self::Prefix(replacement) => {
                let rest = path.get(taken..).unwrap_or_default();
                new.push_str(replacement);
                if !rest.is_empty() && !rest.starts_with('/') || replacement.is_empty() && rest.is_empty() {
                    new.push('/');
                }
                new.push_str(rest);
            }
        }
    }
}

fn rooted(path: &str) -> String {
    let mut escaped = String::from(if path.starts_with('/') { "" } else { "/" });
    escape(&mut escaped, path, false);
    escaped
}

/// Appends `text` with the bytes escaped that a URI's path (or query) cannot carry, RFC 3986 §3.3 and §3.4.
pub(crate) fn escape(to: &mut String, text: &str, query: bool) {
    for character in text.chars() {
        let kept = match character {
            '?' => query,
            '"' | '#' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => false,
            _ => character.is_ascii_graphic(),
        };
        if kept {
            to.push(character);
        } else {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a string cannot fail.
                let _ = write!(to, "%{byte:02X}");
            }
        }
    }
}
