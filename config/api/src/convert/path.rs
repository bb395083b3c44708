//! Paths, as rules match them and filters write them.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use portolan_model::path::normalize;
use portolan_model::route::{PathMatch, PathRewrite};

use super::{Cx, Flaw};
use crate::field::At;
use crate::kinds::{self, PathMatchType, PathModifier, PathModifierType};

/// The prefix that every path has.
pub(crate) fn every_path() -> PathMatch {
    static SLASH: LazyLock<Arc<str>> = LazyLock::new(|| "/".into());
    PathMatch::Prefix(Arc::clone(&SLASH))
}

/// A match on the path; errors are noted.
pub(crate) fn path_match(cx: &mut Cx<'_>, at: &At<'_>, path: &kinds::PathMatch) -> Option<PathMatch> {
    let at = at.field("value");
    match path.kind {
        PathMatchType::RegularExpression => {
            cx.check(&at, (cx.checks.regex)(&path.value))?;
            Some(PathMatch::Regex((*path.value).into()))
        }
        PathMatchType::Exact => Some(PathMatch::Exact(cx.check(&at, literal(&path.value))?.into())),
        PathMatchType::Prefix => {
            let path = cx.check(&at, literal(&path.value))?;
            cx.check(&at, one_slash(&path))?;
            let prefix = path.strip_suffix('/').unwrap_or(&path);
            Some(if prefix.is_empty() { every_path() } else { PathMatch::Prefix(prefix.into()) })
        }
    }
}

/// The path of a match, in the form that those of requests are brought to.
fn literal(path: &str) -> Result<Cow<'_, str>, Flaw> {
    const EXPECTED: &str = "an absolute path such as /api/v1";
    absolute(path)?;
    if let Some(dots) = dots(path) {
        let message = format!("the path {path:?} has a segment {dots:?}, so no request would match it");
        return Err(Flaw::new(message, EXPECTED));
    }
    normalize(path).map_err(|error| Flaw::new(format!("{path:?}: {error}"), EXPECTED))
}

/// A slash at the end of a prefix says nothing; more would be taken to.
fn one_slash(prefix: &str) -> Result<(), Flaw> {
    if !prefix.ends_with("//") {
        return Ok(());
    }
    let message = format!("the prefix {prefix:?} ends in several slashes, but prefixes match whole segments");
    let meant = format!("{}/", prefix.trim_end_matches('/'));
    Err(Flaw::new(message, "a prefix with one slash at its end, or none").meant(meant))
}

/// The first segment that is `.` or `..`, escaped or not.
fn dots(path: &str) -> Option<&str> {
    let plain = |segment: &str| segment.replace("%2e", ".").replace("%2E", ".");
    path.split('/').find(|segment| matches!(&*plain(segment), "." | ".."))
}

/// A path as it may stand in a request: RFC 3986 §3.3, absolute.
pub(crate) fn absolute(path: &str) -> Result<(), Flaw> {
    if !path.starts_with('/') {
        let meant =
            path.split_once("://").and_then(|(_, rest)| rest.find('/').map(|slash| rest[slash..].to_owned()));
        let meant = meant.unwrap_or_else(|| format!("/{path}"));
        return Err(Flaw::new(
            format!("the path {path:?} does not begin with '/'"),
            "a path such as /api/v1",
        )
        .meant(absolute(&meant).is_ok().then_some(meant)));
    }
    characters(path, path, "", "path", "a path without query and fragment; other characters percent-encoded")
}

/// A path and maybe a query, as they stand in a request: RFC 3986 §3.3 and §3.4.
pub(crate) fn with_query(target: &str) -> Result<(), Flaw> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    absolute(path)?;
    characters(target, query, "?", "query", "a query without fragment; other characters percent-encoded")
}

/// Whether `part` of a path holds what may stand in one, or one of `besides`.
fn characters(path: &str, part: &str, besides: &str, what: &str, expected: &str) -> Result<(), Flaw> {
    let bytes = part.as_bytes();
    for (index, &byte) in bytes.iter().enumerate() {
        let ok = match byte {
            b'%' => bytes.get(index + 1..index + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
            byte => {
                byte.is_ascii_alphanumeric()
                    || b"/-._~!$&'()*+,;=:@".contains(&byte)
                    || besides.as_bytes().contains(&byte)
            }
        };
        if !ok {
            let rest = part.get(index..).and_then(|rest| rest.chars().next());
            let found = rest.map_or_else(|| "a broken character".to_owned(), |c| format!("{c:?}"));
            let message = format!("the path {path:?} holds {found}, which no {what} can");
            return Err(Flaw::new(message, expected));
        }
    }
    Ok(())
}

/// How a path changes; errors are noted. `prefixes` says whether all matches of the rule are prefixes.
pub(crate) fn path_rewrite(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    modifier: &PathModifier,
    prefixes: bool,
) -> Option<PathRewrite> {
    let fields = [
        ("replaceFullPath", &modifier.replace_full_path),
        ("replacePrefixMatch", &modifier.replace_prefix_match),
    ];
    let (set, other) = match modifier.kind {
        PathModifierType::ReplaceFullPath => (fields[0], fields[1]),
        PathModifierType::ReplacePrefixMatch => (fields[1], fields[0]),
    };
    if other.1.is_some() {
        cx.error(&at.field(other.0), format!("does not go with type {:?}", modifier.kind));
    }
    let Some(path) = set.1 else {
        cx.error(at, format!("type {:?} needs the field {:?}", modifier.kind, set.0));
        return None;
    };
    let at_path = at.field(set.0);
    if modifier.kind == PathModifierType::ReplacePrefixMatch && !prefixes {
        cx.error(&at.field("type"), "ReplacePrefixMatch needs matches of type Prefix alone in its rule")
            .expected = Some("matches of type Prefix, or ReplaceFullPath".to_owned());
    }
    if !path.is_empty() {
        cx.check(&at_path, absolute(path))?;
        if let Some(dots) = dots(path) {
            cx.error(&at_path, format!("the path {path:?} has a segment {dots:?}")).expected =
                Some("a path without dots for segments".to_owned());
            return None;
        }
    }
    let path: Arc<str> = if path.is_empty() { "/".into() } else { path.as_str().into() };
    Some(match modifier.kind {
        PathModifierType::ReplaceFullPath => PathRewrite::Full(path),
        PathModifierType::ReplacePrefixMatch => PathRewrite::Prefix(path),
    })
}
