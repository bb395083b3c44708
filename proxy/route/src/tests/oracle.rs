//! The router against the Gateway API's text, read naively.

use std::collections::HashMap;

use portolan_model::host;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::HostMatch;

#[derive(Debug)]
struct Request {
    host: &'static str,
    path: &'static str,
    query: Vec<(&'static str, &'static str)>,
    method: &'static str,
    headers: Vec<(&'static str, &'static str)>,
}

/// "Exact" first, then regular expressions, then prefixes by length; then "Method match", "Largest number of header
/// matches", "Largest number of query param matches", then the first in order. Hosts: exact, then the longest suffix.
fn naive(
    hosts: &HashMap<HostPattern, Vec<Vec<RouteMatch>>>,
    host: &str,
    request: &Request,
) -> Option<(HostPattern, Option<(usize, usize)>)> {
    let specific = |pattern: &&HostPattern| match pattern {
        HostPattern::Exact(name) => (2, name.as_str().len(), 0),
        HostPattern::OneLabel(name) => (1, name.as_str().len(), 1),
        HostPattern::AnyLabels(name) => (1, name.as_str().len(), 0),
    };
    let pattern = hosts.keys().filter(|pattern| pattern.matches(host)).max_by_key(specific)?;
    let text = |rule: &TextMatch, value: &str| match rule {
        TextMatch::Exact(text) => **text == *value,
        TextMatch::Regex(text) => full_match(text, value),
    };
    let matches = |rule: &RouteMatch| {
        let path = match &rule.path {
            PathMatch::Exact(path) => **path == *request.path,
            PathMatch::Regex(path) => full_match(path, request.path),
            PathMatch::Prefix(path) => {
                let wanted: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
                request.path.split('/').skip(1).take(wanted.len()).eq(wanted.iter().copied())
            }
        };
        path && rule.method.as_deref().is_none_or(|method| method == request.method)
            && rule.headers.iter().all(|one| {
                let fields: Vec<&str> = request
                    .headers
                    .iter()
                    .filter(|(name, _)| *name == &*one.name)
                    .map(|(_, value)| *value)
                    .collect();
                !fields.is_empty() && text(&one.value, &fields.join(", "))
            })
            && rule.query.iter().all(|one| {
                request
                    .query
                    .iter()
                    .find(|(name, _)| *name == &*one.name)
                    .is_some_and(|(_, value)| text(&one.value, value))
            })
    };
    let best = |rule: &RouteMatch| {
        let path = match &rule.path {
            PathMatch::Exact(_) => (2, 0),
            PathMatch::Regex(path) => (1, path.len()),
            PathMatch::Prefix(path) => (0, path.len()),
        };
        (path, rule.method.is_some(), rule.headers.len(), rule.query.len())
    };
    let routes = hosts[pattern].iter().enumerate();
    let all =
        routes.flat_map(|(route, rules)| rules.iter().enumerate().map(move |(at, rule)| (route, at, rule)));
    // `max_by_key` gives the last of equals, the first is meant.
    let winner = all
        .filter(|(.., rule)| matches(rule))
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .max_by_key(|(.., rule)| best(rule));
    Some((pattern.clone(), winner.map(|(route, at, _)| (route, at))))
}

/// The expressions below, by hand.
fn full_match(expression: &str, text: &str) -> bool {
    match expression {
        "/a|/a/b" => matches!(text, "/a" | "/a/b"),
        "/[ab]/.*" => text.starts_with("/a/") || text.starts_with("/b/"),
        "[0-9]" => text.len() == 1 && text.as_bytes()[0].is_ascii_digit(),
        "1.*" => text.starts_with('1'),
        other => unreachable!("{other}"),
    }
}

fn a_text() -> impl Strategy<Value = TextMatch> {
    prop_oneof![
        3 => select(vec!["1", "2", "1, 2", ""]).prop_map(|text| TextMatch::Exact(text.into())),
        1 => select(vec!["[0-9]", "1.*"]).prop_map(|text| TextMatch::Regex(text.into())),
    ]
}

fn a_rule() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        select(vec!["/", "/a", "/a/b", "/ab", "/a/"]).prop_map(|path| PathMatch::Exact(path.into())),
        select(vec!["/a|/a/b", "/[ab]/.*"]).prop_map(|path| PathMatch::Regex(path.into())),
        select(vec!["/", "/a", "/a/b", "/ab", "/b"]).prop_map(|path| PathMatch::Prefix(path.into())),
    ];
    let method =
        prop::option::weighted(0.3, select(vec!["GET", "POST"])).prop_map(|method| method.map(Arc::from));
    // At most one condition on a name: what a second one means is a row of the table.
    let conditions = || [prop::option::weighted(0.2, a_text()), prop::option::weighted(0.2, a_text())];
    (path, method, conditions(), conditions()).prop_map(|(path, method, headers, query)| {
        let named = |texts: [Option<TextMatch>; 2]| {
            ["x", "y"].into_iter().zip(texts).filter_map(|(name, text)| Some((Arc::from(name), text?)))
        };
        RouteMatch {
            path,
            method,
            headers: named(headers).map(|(name, value)| HeaderMatch { name, value }).collect(),
            query: named(query).map(|(name, value)| QueryMatch { name, value }).collect(),
        }
    })
}

fn a_pattern() -> impl Strategy<Value = HostPattern> {
    select(vec!["a.b.c", "b.c", "*.b.c", "**.b.c", "**.c", "*.c", "x.b.c", "**.x.b.c"])
        .prop_map(|text| HostPattern::parse(text).unwrap())
}

fn a_request() -> impl Strategy<Value = Request> {
    let values = || prop::collection::vec((select(vec!["x", "y"]), select(vec!["1", "2", "12", ""])), 0..3);
    (
        select(vec!["a.b.c", "b.c", "c", "z.b.c", "y.z.b.c", "w.x.b.c", "z.c", "y.z.c", "other", "A.b.c:80"]),
        select(vec!["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/b/", "//a", "/a//b"]),
        values(),
        select(vec!["GET", "POST", "PUT"]),
        values(),
    )
        .prop_map(|(host, path, query, method, headers)| Request { host, path, query, method, headers })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_router_is_the_naive_matcher(
        steps in prop::collection::vec((a_pattern(), prop::option::weighted(0.9,
            prop::collection::vec(prop::collection::vec(a_rule(), 0..4), 0..6))), 0..8),
        requests in prop::collection::vec(a_request(), 1..20),
    ) {
        let mut hosts = HashMap::new();
        let mut router: Router = Router::default();
        for (pattern, routes) in steps {
            router.apply(&[(pattern.clone(), routes.as_deref().map(host))]);
            match routes {
                // No match is one that everything matches.
                Some(mut routes) => {
                    routes.iter_mut().filter(|rules| rules.is_empty()).for_each(|rules| rules.push(RouteMatch::default()));
                    hosts.insert(pattern, routes);
                }
                None => drop(hosts.remove(&pattern)),
            }
        }
        prop_assert_eq!(router.len(), hosts.len());
        for request in &requests {
            let host = host::normalize(request.host).unwrap();
            let headers = fields(&request.headers);
            let query: Vec<String> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let query = query.join("&");
            let view = RequestView { host: &host, path: request.path, query: Some(&query), method: request.method, headers: &headers };
            let expected = naive(&hosts, &host, request);
            let found = match router.route(&view) {
                Outcome::NoHost => None,
                Outcome::NoRoute { host: by } => Some((by, None)),
                Outcome::Matched(matched) => Some((matched.host, Some((matched.route, matched.rule_match)))),
            };
            let found = found.map(|(by, found)| (by.pattern(&host).to_string(), found));
            prop_assert_eq!(&found, &expected.map(|(pattern, found)| (pattern.to_string(), found)));

            let explained = router.explain(&view);
            let winner = explained.winner().map(|winner| (winner.rule as usize, winner.rule_match as usize));
            prop_assert_eq!(winner, found.as_ref().and_then(|(_, found)| *found));
            prop_assert_eq!(explained.host, found.map(|(host, _)| host));
        }
    }

    /// Few paths and many take different ways.
    #[test]
    fn many_paths_are_few_paths(rules in prop::collection::vec("(=)?(/[ab]{0,2}){1,4}", 9..60), paths in prop::collection::vec("(/[ab]{0,2}){1,5}", 30)) {
        let lines: Vec<&str> = rules.iter().map(|line| line.trim_end_matches('/')).filter(|line| line.len() > 1).collect();
        let router = router("h", &lines);
        for path in &paths {
            let mut order: Vec<usize> = (0..lines.len()).collect();
            order.sort_by_key(|&at| (!lines[at].starts_with('='), std::cmp::Reverse(lines[at].len())));
            let expected = order.into_iter().find(|&at| match lines[at].strip_prefix('=') {
                Some(exact) => exact == path,
                None => path == lines[at] || path.starts_with(&format!("{}/", lines[at])),
            });
            prop_assert_eq!(get(&router, "h", path, &fields(&[])).map(|found| found.0), expected, "{}", path);
        }
    }
}

#[test]
fn a_match_tells_its_host_pattern() {
    assert_eq!(HostMatch::CatchAll.pattern("a.b").to_string(), "*");
    assert_eq!(HostMatch::AnyLabels(2).pattern("a.b").to_string(), "**.b");
}
