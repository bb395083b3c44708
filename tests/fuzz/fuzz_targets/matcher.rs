//! The matcher, over hosts, rules and a request that all come from the input: whatever they are, the index gives the route
//! that considering every rule in turn gives, and a normal path is a fixed point.
//!
//! The first line is the request: host, path, query, method and the value of its header `x`, split by spaces. Each other line
//! is a rule: host pattern, path (`=/exact`, `~regex` or `/prefix`), and what of `M<method>`, `X<header>`, `x<header regex>`,
//! `Q<query>` and `q<query regex>` it asks for.

#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use portolan_model::host::{self, HostPattern};
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::plan::{Action, Route, VirtualHost};
use portolan_model::route::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, TextMatch};
use portolan_route::{Outcome, RequestView, Router, normalize_path};

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let mut request = lines.next().unwrap_or_default().split(' ');
    let mut next = || request.next().unwrap_or_default();
    let (authority, raw, query, method, value) = (next(), next(), next(), next(), next());

    let mut hosts: BTreeMap<HostPattern, Vec<Route>> = BTreeMap::new();
    for (line, at) in lines.zip(0..64) {
        if let Some((pattern, rule)) = rule(line) {
            hosts.entry(pattern).or_default().push(route(rule, at));
        }
    }
    let mut router: Router = Router::default();
    let changes: Vec<_> = hosts
        .into_iter()
        .map(|(pattern, routes)| (pattern, Some(Arc::new(VirtualHost { routes: routes.into(), shared: false }))))
        .collect();
    router.apply(&changes);

    let Ok(path) = normalize_path(raw) else { return };
    assert_eq!(normalize_path(&path).as_deref(), Ok(&*path));
    let Some(host) = host::normalize(authority) else { return };
    let mut headers = HeaderMap::new();
    for field in value.split('|').filter_map(|field| HeaderValue::from_str(field).ok()) {
        headers.append("x", field);
    }
    let request = RequestView { host: &host, path: &path, query: Some(query), method, headers: &headers };

    let expected = changes.iter().map(|(pattern, _)| pattern).filter(|pattern| pattern.matches(&host));
    let specific = |pattern: &&HostPattern| match pattern {
        HostPattern::Exact(_) => (usize::MAX, 0),
        HostPattern::OneLabel(suffix) => (suffix.as_str().len(), 1),
        HostPattern::AnyLabels(suffix) => (suffix.as_str().len(), 0),
    };
    let expected = expected.filter(|_| host.len() <= 253).max_by_key(specific).map(ToString::to_string);
    let (found, by) = match router.route(&request) {
        Outcome::Matched(matched) => {
            assert!(path.is_char_boundary(matched.taken));
            assert!(matches!(path.as_bytes().get(matched.taken), None | Some(b'/')) || matched.taken == 0);
            (Some(matched.route().actions[0].rule), Some(matched.host))
        }
        Outcome::NoRoute { host } => (None, Some(host)),
        Outcome::NoHost => (None, None),
    };
    assert_eq!(by.map(|by| by.pattern(&host).to_string()), expected);
    let explanation = router.explain(&request);
    assert_eq!(explanation.winner().map(|winner| winner.rule), found);
});

fn rule(line: &str) -> Option<(HostPattern, RouteMatch)> {
    let mut words = line.split(' ');
    let pattern = HostPattern::parse(words.next()?).ok()?;
    let path = words.next()?;
    let (mut rule, mut headers, mut query) = (RouteMatch::default(), Vec::new(), Vec::new());
    rule.path = match path.as_bytes().first()? {
        b'=' => PathMatch::Exact(path[1..].into()),
        b'~' => PathMatch::Regex(short(&path[1..])?),
        b'/' => PathMatch::Prefix(path.into()),
        _ => return None,
    };
    for word in words {
        let rest = word.get(1..)?;
        match word.as_bytes()[0] {
            b'M' => rule.method = Some(rest.into()),
            b'X' => headers.push(HeaderMatch { name: "x".into(), value: TextMatch::Exact(rest.into()) }),
            b'x' => headers.push(HeaderMatch { name: "x".into(), value: TextMatch::Regex(short(rest)?) }),
            b'Q' => query.push(QueryMatch { name: "q".into(), value: TextMatch::Exact(rest.into()) }),
            b'q' => query.push(QueryMatch { name: "q".into(), value: TextMatch::Regex(short(rest)?) }),
            _ => return None,
        }
    }
    (rule.headers, rule.query) = (headers.into(), query.into());
    Some((pattern, rule))
}

/// Long expressions only cost the fuzzer time: their limits are a unit test's.
fn short(expression: &str) -> Option<Arc<str>> {
    (expression.len() <= 32).then(|| expression.into())
}

fn route(rule: RouteMatch, at: u32) -> Route {
    let action = Action {
        object: ObjectRef::new(Kind::HttpLoadBalancer, "tenant-a", "a"),
        rule: at,
        filters: Arc::new([]),
        backends: Arc::new([]),
        timeouts: None,
        policy: Arc::default(),
    };
    Route { matches: Arc::new([rule]), actions: Box::new([Arc::new(action)]) }
}
