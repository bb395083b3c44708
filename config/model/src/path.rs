//! Paths, in the one spelling that everything compares by: what rules say, what requests are matched on, and what goes upstream, so
//! that all sides see the same.
//!
//! Two paths that RFC 3986 §6.2.2 calls equivalent must not take different routes, or `/public/%2e%2e/admin` would pass a rule
//! meant for `/public`. So `.` and `..` segments are resolved, escapes of unreserved characters (letters, digits, `-._~`)
//! decoded, and others written in capitals. Nothing else changes: doubled slashes stay, and `%2F` is no slash.
//!
//! Refused are paths that climb above the root, and a `%` without two hexadecimal digits after it: what a second decoding makes of
//! those (`%%32%65`) is anyone's guess.
//!
//! Cost: one vectorised scan for `%` and `.`, no allocation where nothing has to change. The result is a fixed point.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/` (and is not the `*` of OPTIONS, nor empty).
    #[error("the path does not begin with a slash")]
    Relative,
    /// More `..` than segments before them.
    #[error("the path climbs above its root")]
    AboveRoot,
    /// RFC 3986 §2.1.
    #[error("the path has a % that no two hexadecimal digits follow")]
    Escape,
}

/// The path, without its query, in the form that routes are matched on; see the module's documentation.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return if matches!(path, "" | "*") { Ok(Cow::Borrowed(path)) } else { Err(PathError::Relative) };
    }
    let bytes = path.as_bytes();
    let (mut escapes, mut dots) = (false, false);
    for at in memchr::memchr2_iter(b'%', b'.', bytes) {
        if bytes[at] == b'%' {
            let byte = escaped(&bytes[at..])?;
            escapes |= is_unreserved(byte) || bytes[at + 1..at + 3].iter().any(u8::is_ascii_lowercase);
        } else {
            // The dot may be the beginning of `.%2e`, which then counts as an escape.
            dots |= bytes[at - 1] == b'/'
                && matches!(bytes[at + 1..], [] | [b'/', ..] | [b'.'] | [b'.', b'/', ..]);
        }
    }
    let path = if escapes { Cow::Owned(rewrite_escapes(path)?) } else { Cow::Borrowed(path) };
    if dots || escapes && path.contains("/.") { resolve(&path).map(Cow::Owned) } else { Ok(path) }
}

/// The byte that the escape at the beginning of `bytes` stands for.
fn escaped(bytes: &[u8]) -> Result<u8, PathError> {
    let (Some(&high), Some(&low)) = (bytes.get(1), bytes.get(2)) else { return Err(PathError::Escape) };
    unhex(high, low).ok_or(PathError::Escape)
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The byte that two hexadecimal digits stand for.
pub fn unhex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

fn rewrite_escapes(path: &str) -> Result<String, PathError> {
    let mut rewritten = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        rewritten.push_str(&rest[..at]);
        let byte = escaped(&rest.as_bytes()[at..])?;
        if is_unreserved(byte) {
            rewritten.push(char::from(byte));
        } else {
            rewritten.extend(rest[at..at + 3].chars().map(|c| c.to_ascii_uppercase()));
        }
        rest = &rest[at + 3..];
    }
    rewritten.push_str(rest);
    Ok(rewritten)
}

/// RFC 3986 §5.2.4, but for `..` at the root.
fn resolve(path: &str) -> Result<String, PathError> {
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = path.strip_prefix('/');
    while let Some(text) = rest {
        let segment;
        (segment, rest) = match text.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (text, None),
        };
        match segment {
            "." => {}
            ".." => drop(segments.pop().ok_or(PathError::AboveRoot)?),
            _ => segments.push(segment),
        }
        if rest.is_none() && matches!(segment, "." | "..") {
            segments.push("");
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in segments {
        resolved.push('/');
        resolved.push_str(segment);
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equivalent_paths_become_one() {
        for (path, expected) in [
            ("/", "/"),
            ("*", "*"),
            ("", ""),
            ("/a/b", "/a/b"),
            ("/a//b/", "/a//b/"),
            ("/a.b/.c/d../..e/...", "/a.b/.c/d../..e/..."),
            ("/.well-known/x", "/.well-known/x"),
            // RFC 3986 §5.2.4
            ("/a/b/c/./../../g", "/a/g"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a//../b", "/a/b"),
            // RFC 3986 §6.2.2.2
            ("/%61%7E%2d%5F", "/a~-_"),
            // RFC 3986 §6.2.2.1
            ("/%2f%5c%20%25%c3%A9", "/%2F%5C%20%25%C3%A9"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e./b", "/b"),
            ("/a/%2e", "/a/"),
            ("/a%2e/b", "/a./b"),
            ("/a/..%2fb", "/a/..%2Fb"),
            ("/a/%252e%252e/b", "/a/%252e%252e/b"),
            ("/é/%41", "/é/A"),
        ] {
            assert_eq!(normalize(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn what_has_no_one_meaning_is_refused() {
        for (path, error) in [
            ("a/b", PathError::Relative),
            ("/..", PathError::AboveRoot),
            ("/../a", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/%2e%2e/a", PathError::AboveRoot),
            ("/./../a", PathError::AboveRoot),
            ("/%", PathError::Escape),
            ("/%4", PathError::Escape),
            ("/%zz", PathError::Escape),
            ("/%%32%65", PathError::Escape),
            ("/a/../%é", PathError::Escape),
        ] {
            assert_eq!(normalize(path), Err(error), "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_path_is_a_fixed_point(path in "(/|\\.|a|%2e|%2E|%2f|%61|%25|é|%){0,12}") {
            if let Ok(normal) = normalize(&path) {
                prop_assert!(!normal.split('/').any(|segment| matches!(segment, "." | "..")));
                prop_assert!(matches!(normalize(&normal), Ok(Cow::Borrowed(same)) if same == normal));
            }
        }

        #[test]
        fn any_text_is_survived(path in "\\PC*") {
            let _ = normalize(&format!("/{path}"));
        }
    }
}
