//! Why does this route serve this request, and why not another? For people; it allocates and compiles as it needs.
//!
//! The list is what the hot path would have to consider without its index: every match of the host, best first, up to the
//! one that holds. Where it is long, those whose path does not match are the first to be left out.

use portolan_model::id::ObjectRef;
use portolan_model::plan::VirtualHost;
use portolan_model::route::{PathMatch, RouteMatch, TextMatch};
use serde::Serialize;

use crate::conditions::Mismatch;
use crate::index::{Candidate, Index};
use crate::pattern::Patterns;
use crate::router::{HostMatch, RequestView};

/// The longest list.
const LIMIT: usize = 50;

/// How a request found its route, or did not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The host pattern that decides, `*` for the catch-all; none where the host is nobody's.
    pub host: Option<String>,
    /// What was considered, best first. The last of them serves the request, if its verdict is [`Verdict::Matches`].
    pub considered: Vec<Considered>,
    /// How many more did not match, but would have made the list too long.
    pub left_out: usize,
}

impl Explanation {
    /// What serves the request.
    pub fn winner(&self) -> Option<&Considered> {
        self.considered.last().filter(|last| last.verdict == Verdict::Matches)
    }
}

/// One match of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// Whose rule it is: several objects where clusters share the host and say the same.
    pub objects: Vec<ObjectRef>,
    /// Which rule of the first of them, from 0.
    pub rule: u32,
    /// Which of the rule's matches, from 0; where clusters share the host, of those that these objects alone say.
    pub rule_match: u32,
    /// The match, in words.
    pub condition: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// All of it holds.
    Matches,
    /// The path is another.
    Path,
    /// The method is another.
    Method,
    /// That header is missing or says something else.
    Header(String),
    /// That query parameter is missing or says something else.
    Query(String),
}

pub(crate) fn explain(
    host: HostMatch,
    routes: &VirtualHost,
    patterns: &mut Patterns,
    request: &RequestView<'_>,
) -> Explanation {
    let index = Index::always(&routes.routes, patterns);
    let everything = RouteMatch::default();
    let mut verdicts = Vec::new();
    for candidate in index.candidates() {
        let matches = &routes.routes[candidate.route as usize].matches;
        let rule = matches.get(candidate.rule_match as usize).unwrap_or(&everything);
        let verdict = verdict(candidate, rule, request);
        let done = verdict == Verdict::Matches;
        verdicts.push((candidate, rule, verdict));
        if done {
            break;
        }
    }

    // The winner, which is the last, is always told.
    let (total, close) =
        (verdicts.len(), verdicts.iter().filter(|(.., verdict)| *verdict != Verdict::Path).count());
    let (mut room, mut room_for_others) = (LIMIT, LIMIT.saturating_sub(close));
    let mut considered = Vec::new();
    for (candidate, rule, verdict) in verdicts {
        let other = verdict == Verdict::Path;
        if verdict == Verdict::Matches || room > 1 && (!other || room_for_others > 0) {
            room -= 1;
            room_for_others -= usize::from(other);
            let route = &routes.routes[candidate.route as usize];
            considered.push(Considered {
                objects: route.actions.iter().map(|action| action.object.clone()).collect(),
                rule: route.actions.first().map_or(0, |action| action.rule),
                rule_match: candidate.rule_match,
                condition: in_words(rule),
                verdict,
            });
        }
    }
    let left_out = total - considered.len();
    Explanation { host: Some(host.pattern(request.host).to_string()), considered, left_out }
}

fn verdict(candidate: &Candidate, rule: &RouteMatch, request: &RequestView<'_>) -> Verdict {
    if !Index::path_matches(candidate, &rule.path, request.path) {
        return Verdict::Path;
    }
    match candidate.conditions().and_then(|conditions| conditions.mismatch(request)) {
        None => Verdict::Matches,
        Some(Mismatch::Method) => Verdict::Method,
        Some(Mismatch::Header(name)) => Verdict::Header(name.to_owned()),
        Some(Mismatch::Query(name)) => Verdict::Query(name.to_owned()),
    }
}

fn in_words(rule: &RouteMatch) -> String {
    let mut words = match &rule.path {
        PathMatch::Exact(path) => format!("path {path}"),
        PathMatch::Regex(path) => format!("path ~ {path}"),
        PathMatch::Prefix(path) => format!("path below {path}"),
    };
    let text = |text: &TextMatch| match text {
        TextMatch::Exact(text) => format!(" = {text}"),
        TextMatch::Regex(text) => format!(" ~ {text}"),
    };
    if let Some(method) = &rule.method {
        words += &format!(", method {method}");
    }
    for header in &rule.headers {
        words += &format!(", header {}{}", header.name, text(&header.value));
    }
    for parameter in &rule.query {
        words += &format!(", query {}{}", parameter.name, text(&parameter.value));
    }
    words
}
