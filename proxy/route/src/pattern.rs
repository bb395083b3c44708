//! Does the whole text match this regular expression? The dialect, the limits and the sharing of compiled expressions.
//!
//! The syntax is that of the `regex` crate, which is RE2's: no look-around, no back references, matched in time linear in
//! the text. As in RE2 `\d`, `\w`, `\b` and `.` mean ASCII and single bytes, since paths and most headers are ASCII; `(?u)`
//! asks for Unicode. An expression may take 1 MiB compiled; what it needs while it runs is allocated once per
//! thread that uses it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use regex_automata::meta::{self, Regex};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, Look};

/// Bytes that an expression may take, compiled.
const SIZE_LIMIT: usize = 1 << 20;

/// Bytes of states that a search may keep between requests, per thread.
const CACHE: usize = 256 << 10;

/// Whether a regular expression can be used in a match; else why not, for the person who wrote it.
pub fn check_regex(expression: &str) -> Result<(), String> {
    compile(expression).map(drop)
}

fn compile(expression: &str) -> Result<Regex, String> {
    let dialect = syntax::Config::new().unicode(false).utf8(false).nest_limit(100);
    let hir = syntax::parse_with(expression, &dialect).map_err(|error| error.to_string())?;
    // Anchored as a syntax tree: text around the expression would change the meaning of `a|b` and of `(?x) a #`.
    let whole = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
    let config = meta::Config::new()
        .nfa_size_limit(Some(SIZE_LIMIT))
        .onepass_size_limit(Some(SIZE_LIMIT))
        .hybrid_cache_capacity(CACHE)
        .utf8_empty(false);
    Regex::builder().configure(config).build_from_hir(&whole).map_err(|error| match error.size_limit() {
        Some(limit) => format!("the expression takes more than {limit} bytes when compiled"),
        None => error.to_string(),
    })
}

/// A compiled expression, anchored at both ends.
pub(crate) struct Pattern {
    text: Arc<str>,
    regex: Regex,
}

impl Pattern {
    /// Whether all of `text` matches.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        self.regex.is_match(Input::new(text).anchored(Anchored::Yes).earliest(true))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

/// The expressions of the hosts that one change touches: each is compiled once, and not again if it stood there before.
#[derive(Default)]
pub(crate) struct Patterns(HashMap<Arc<str>, Arc<Pattern>>);

impl Patterns {
    /// Remembers a pattern that is in use.
    pub(crate) fn keep(&mut self, pattern: &Arc<Pattern>) {
        self.0.insert(Arc::clone(&pattern.text), Arc::clone(pattern));
    }

    /// The pattern of a text, which nothing matches if it does not compile.
    pub(crate) fn get(&mut self, text: &Arc<str>) -> Option<Arc<Pattern>> {
        if let Some(pattern) = self.0.get(text) {
            return Some(Arc::clone(pattern));
        }
        let pattern = Arc::new(Pattern { text: Arc::clone(text), regex: compile(text).ok()? });
        self.keep(&pattern);
        Some(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_text_must_match() {
        for (expression, text, expected) in [
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a", "x/a", false),
            ("/a|/ab", "/ab", true),
            ("/a|/ab", "/abc", false),
            ("/a.*", "/a/b?", true),
            ("(?i)/a", "/A", true),
            ("(?x) /a # comment", "/a", true),
            (r"/\d+", "/12", true),
            (r"/\d+", "/\u{0661}", false),
            (r"(?u)/\d+", "/\u{0661}", true),
            ("", "", true),
            ("", "a", false),
            ("(?m)a$", "a\nb", false),
            ("é", "é", true),
        ] {
            let pattern = Patterns::default().get(&expression.into()).unwrap();
            assert_eq!(pattern.matches(text.as_bytes()), expected, "{expression:?} on {text:?}");
        }
        let pattern = Patterns::default().get(&"a.".into()).unwrap();
        assert!(pattern.matches(b"a\xff"));
    }

    #[test]
    fn refusals_say_why() {
        for (expression, reason) in [
            ("(", "unclosed group"),
            ("a)|(b", "unopened group"),
            ("(?=a)", "look-around"),
            (r"(a)\1", "backreferences are not supported"),
            ("[a-z]{1000}{1000}", "more than 1048576 bytes"),
        ] {
            let error = check_regex(expression).unwrap_err();
            assert!(error.contains(reason), "{expression:?}: {error}");
        }
        assert_eq!(check_regex("/api/v[0-9]+(/.*)?"), Ok(()));
    }

    #[test]
    fn a_pattern_is_compiled_once() {
        let mut patterns = Patterns::default();
        let (first, second) = (patterns.get(&"a+".into()), patterns.get(&"a+".into()));
        assert!(Arc::ptr_eq(&first.unwrap(), &second.unwrap()));
        assert!(patterns.get(&"(".into()).is_none());
    }
}
