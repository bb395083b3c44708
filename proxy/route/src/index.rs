//! Which match of a host takes this request? The routes of one host, compiled.
//!
//! All matches stand in one list, best first: exact paths, then regular expressions (longer ones first), then prefixes
//! (longer ones first); among equal paths those with a method, then with more headers, then with more query parameters, then
//! in the order of the plan. That is the Gateway API's precedence for `HTTPRouteRule`, which leaves the place of regular
//! expressions open. Matches of one path lie side by side, so what a path finds is a span of the list:
//!
//! ```text
//!  exact    "/login"  ─► 0..2    │ candidates: 0 POST /login
//!  regexes            ─► 2..3    │             1 /login
//!  prefixes "/api"    ─► 3..4    │             2 ^/v[0-9]+$
//!           "/"       ─► 4..5    │             3 /api   4 /
//! ```
//!
//! Cost of a look-up: one hash (or eight comparisons where there are few paths), one search per regular expression, one hash per
//! distinct prefix length that ends at a segment of the path. No allocation.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::FixedState;
use portolan_model::plan::Route;
use portolan_model::route::{PathMatch, RouteMatch};

use crate::conditions::Conditions;
use crate::pattern::{Pattern, Patterns};
use crate::router::RequestView;

/// Up to so many paths are compared one by one.
const FEW: usize = 8;

/// One `RouteMatch` of one route.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Its route, from 0.
    pub(crate) route: u32,
    /// Which of the route's matches, from 0; 0 for a route that has none.
    pub(crate) rule_match: u32,
    /// The path's expression where it has one; other paths are the span's.
    regex: Option<Arc<Pattern>>,
    /// What else must hold.
    conditions: Option<Box<Conditions>>,
}

impl Candidate {
    /// What else must hold, besides the path.
    pub(crate) fn conditions(&self) -> Option<&Conditions> {
        self.conditions.as_deref()
    }

    fn holds(&self, request: &RequestView<'_>) -> bool {
        self.conditions.as_ref().is_none_or(|conditions| conditions.mismatch(request).is_none())
    }
}

/// The compiled routes of a host; see the module's documentation.
#[derive(Debug)]
pub(crate) struct Index {
    candidates: Box<[Candidate]>,
    exact: Paths,
    regexes: Span,
    prefixes: Paths,
}

impl Index {
    /// The index of `routes`; `None` where the first of them takes whatever comes, which is what most hosts have.
    pub(crate) fn build(routes: &[Route], patterns: &mut Patterns) -> Option<Arc<Self>> {
        if let [only] = routes
            && match &*only.matches {
                [] => true,
                [rule] => *rule == RouteMatch::default(),
                _ => false,
            }
        {
            return None;
        }
        Some(Arc::new(Self::always(routes, patterns)))
    }

    /// The index of `routes`, needed or not.
    pub(crate) fn always(routes: &[Route], patterns: &mut Patterns) -> Self {
        let everything = RouteMatch::default();
        let mut ranked = Vec::new();
        for (route, at) in routes.iter().zip(0u32..) {
            let matches =
                if route.matches.is_empty() { std::slice::from_ref(&everything) } else { &route.matches[..] };
            for (rule, rule_match) in matches.iter().zip(0u32..) {
                let Some(conditions) = Conditions::build(rule, patterns) else { continue };
                let regex = match &rule.path {
                    PathMatch::Regex(text) => match patterns.get(text) {
                        Some(pattern) => Some(pattern),
                        None => continue,
                    },
                    PathMatch::Exact(_) | PathMatch::Prefix(_) => None,
                };
                let rank = (PathRank::of(&rule.path), conditions.rank(), at, rule_match);
                let conditions = (!conditions.is_empty()).then(|| Box::new(conditions));
                ranked.push((rank, Candidate { route: at, rule_match, regex, conditions }));
            }
        }
        ranked.sort_by(|(a, _), (b, _)| a.cmp(b));

        let (mut exact, mut regexes, mut prefixes) = (Vec::new(), Span::default(), Vec::new());
        for (((path, ..), _), at) in ranked.iter().zip(0u32..) {
            match path {
                PathRank::Exact(path) => Span::extend(&mut exact, path, at),
                PathRank::Regex(_) if regexes.end == 0 => regexes = Span { start: at, end: at + 1 },
                PathRank::Regex(_) => regexes.end = at + 1,
                PathRank::Prefix(_, path) => Span::extend(&mut prefixes, path, at),
            }
        }
        let (exact, prefixes) = (Paths::new(exact), Paths::new(prefixes));
        let candidates = ranked.into_iter().map(|(_, candidate)| candidate).collect();
        Self { candidates, exact, regexes, prefixes }
    }

    /// The best candidate, and how many bytes of the path its prefix took (all of them, where it is not a prefix).
    pub(crate) fn find(&self, request: &RequestView<'_>) -> Option<(&Candidate, usize)> {
        let path = request.path;
        let best = |span: Span| self.candidates[span.range()].iter().find(|one| one.holds(request));
        if let Some(candidate) = self.exact.get(path).and_then(best) {
            return Some((candidate, path.len()));
        }
        for candidate in &self.candidates[self.regexes.range()] {
            let matches = || candidate.regex.as_ref().is_some_and(|regex| regex.matches(path.as_bytes()));
            if candidate.holds(request) && matches() {
                return Some((candidate, path.len()));
            }
        }
        self.prefixes.prefixes_of(path).find_map(|(span, taken)| Some((best(span)?, taken)))
    }

    /// All candidates, best first.
    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Whether the path of a candidate, which is `rule`'s, matches.
    pub(crate) fn path_matches(candidate: &Candidate, rule: &PathMatch, path: &str) -> bool {
        match rule {
            PathMatch::Exact(text) => **text == *path,
            PathMatch::Regex(_) => {
                candidate.regex.as_ref().is_some_and(|regex| regex.matches(path.as_bytes()))
            }
            PathMatch::Prefix(text) => is_prefix(segments(text), path),
        }
    }

    /// The expressions in use.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &Arc<Pattern>> {
        self.candidates.iter().flat_map(|candidate| {
            candidate
                .regex
                .iter()
                .chain(candidate.conditions.iter().flat_map(|conditions| conditions.patterns()))
        })
    }
}

/// A prefix without the `/` at its end, so that `/` is empty and the rest of a path is empty or begins with `/`.
fn segments(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

/// Whether `path` begins with those segments, whole.
fn is_prefix(segments: &str, path: &str) -> bool {
    path.strip_prefix(segments)
        .is_some_and(|rest| segments.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// Where a path stands in the order of precedence; paths of equal standing and equal text are neighbours.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Exact(Arc<str>),
    Regex(Reverse<usize>),
    Prefix(Reverse<usize>, Arc<str>),
}

impl PathRank {
    fn of(path: &PathMatch) -> Self {
        match path {
            PathMatch::Exact(text) => Self::Exact(Arc::clone(text)),
            PathMatch::Regex(text) => Self::Regex(Reverse(text.len())),
            PathMatch::Prefix(text) => match segments(text) {
                all if all.len() == text.len() => Self::Prefix(Reverse(text.len()), Arc::clone(text)),
                shorter => Self::Prefix(Reverse(shorter.len()), shorter.into()),
            },
        }
    }
}

/// A piece of the list of candidates.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Puts candidate `at` under `path`, whose neighbours come one after the other.
    fn extend(paths: &mut Vec<(Arc<str>, Span)>, path: &Arc<str>, at: u32) {
        match paths.last_mut() {
            Some((last, span)) if last == path => span.end = at + 1,
            _ => paths.push((Arc::clone(path), Span { start: at, end: at + 1 })),
        }
    }
}

/// Spans by path.
#[derive(Debug)]
enum Paths {
    /// As in the list of candidates: prefixes come longest first.
    Few(Box<[(Arc<str>, Span)]>),
    Many(Box<ManyPaths>),
}

#[derive(Debug)]
struct ManyPaths {
    spans: HashMap<Arc<str>, Span, FixedState>,
    /// Every length that occurs, longest first: bounds what a hostile path can cost.
    lengths: Box<[u32]>,
}

impl Paths {
    fn new(paths: Vec<(Arc<str>, Span)>) -> Self {
        if paths.len() <= FEW {
            return Self::Few(paths.into());
        }
        let mut lengths: Vec<u32> =
            paths.iter().map(|(path, _)| u32::try_from(path.len()).unwrap_or(u32::MAX)).collect();
        lengths.sort_unstable_by_key(|&length| Reverse(length));
        lengths.dedup();
        Self::Many(Box::new(ManyPaths { spans: paths.into_iter().collect(), lengths: lengths.into() }))
    }

    fn get(&self, path: &str) -> Option<Span> {
        match self {
            Self::Few(paths) => paths.iter().find(|(one, _)| **one == *path).map(|(_, span)| *span),
            Self::Many(many) => many.spans.get(path).copied(),
        }
    }

    /// The spans of the prefixes of `path`, longest first, each with its length.
    fn prefixes_of<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (Span, usize)> + 'a {
        let (few, many) = match self {
            Self::Few(paths) => (&paths[..], None),
            Self::Many(many) => (&[][..], Some(many)),
        };
        let few = few.iter().filter(|(one, _)| is_prefix(one, path)).map(|(one, span)| (*span, one.len()));
        let many = many.into_iter().flat_map(|many| {
            many.lengths.iter().filter_map(|&length| {
                let length = length as usize;
                let ends = length == 0 || length == path.len() || path.as_bytes().get(length) == Some(&b'/');
                let prefix = if ends { path.get(..length)? } else { return None };
                many.spans.get(prefix).map(|span| (*span, length))
            })
        });
        few.chain(many)
    }
}
