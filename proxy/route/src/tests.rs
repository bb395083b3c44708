//! What the tests of several modules share: hosts from few words, and the matcher that the Gateway API's text gives.

mod oracle;
mod precedence;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use portolan_model::host::HostPattern;
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::plan::{Action, Route, VirtualHost};
use portolan_model::route::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, TextMatch};

use crate::{Outcome, RequestView, Router, Verdict};

/// A match from words: `= /path`, `~ regex` or `/prefix`, then `METHOD`, `name:value`, `name~regex` (headers), `?name=value`,
/// `?name~regex`.
pub(crate) fn rule(words: &str) -> RouteMatch {
    let mut rule = RouteMatch::default();
    let (mut headers, mut query) = (Vec::new(), Vec::new());
    let text = |(name, value): (&str, TextMatch)| (Arc::<str>::from(name), value);
    let split = |word: &str, exact: char| {
        let parts = word.split_once(exact).map(|(name, value)| text((name, TextMatch::Exact(value.into()))));
        let regex = || word.split_once('~').map(|(name, value)| text((name, TextMatch::Regex(value.into()))));
        parts.or_else(regex)
    };
    for word in words.split_whitespace() {
        if let Some(path) = word.strip_prefix("=/") {
            rule.path = PathMatch::Exact(format!("/{path}").into());
        } else if let Some(path) = word.strip_prefix("~/") {
            rule.path = PathMatch::Regex(format!("/{path}").into());
        } else if word.starts_with('/') {
            rule.path = PathMatch::Prefix(word.into());
        } else if let Some((name, value)) = word.strip_prefix('?').and_then(|word| split(word, '=')) {
            query.push(QueryMatch { name, value });
        } else if let Some((name, value)) = split(word, ':') {
            headers.push(HeaderMatch { name, value });
        } else {
            rule.method = Some(word.into());
        }
    }
    (rule.headers, rule.query) = (headers.into(), query.into());
    rule
}

/// A host with a route for each list of matches.
pub(crate) fn host(routes: &[Vec<RouteMatch>]) -> Arc<VirtualHost> {
    let route = |(matches, at): (&Vec<RouteMatch>, u32)| Route {
        matches: matches.clone().into(),
        actions: Box::new([Arc::new(Action {
            object: ObjectRef::new(Kind::HttpLoadBalancer, "tenant-paris", "shop"),
            rule: at,
            filters: Arc::new([]),
            backends: Arc::new([]),
            timeouts: None,
            policy: Arc::default(),
        })]),
    };
    Arc::new(VirtualHost { routes: routes.iter().zip(0..).map(route).collect(), shared: false })
}

/// A router with a host that has one route per line of words.
pub(crate) fn router(pattern: &str, lines: &[&str]) -> Router {
    let routes: Vec<_> = lines.iter().map(|line| vec![rule(line)]).collect();
    let mut router = Router::default();
    router.apply(&[(HostPattern::parse(pattern).unwrap(), Some(host(&routes)))]);
    router
}

/// Header fields.
pub(crate) fn fields(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(field).collect::<Vec<_>>().into_iter().fold(
        HeaderMap::new(),
        |mut map, (name, value)| {
            map.append(name, value);
            map
        },
    )
}

/// The route and the bytes taken that a GET of `target` at `host` finds.
pub(crate) fn get(router: &Router, host: &str, target: &str, headers: &HeaderMap) -> Option<(usize, usize)> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    match router.route(&RequestView { host, path, query, method: "GET", headers }) {
        Outcome::Matched(matched) => Some((matched.route, matched.taken)),
        Outcome::NoRoute { .. } | Outcome::NoHost => None,
    }
}
