//! What would become of a request: host, route, action, pool and shares, from a plan.

use std::net::SocketAddr;
use std::sync::Arc;

use portolan_admin::ExplainRequest;
use portolan_model::host::HostPattern;
use portolan_model::id::PoolId;
use portolan_model::plan::{Plan, Route, VirtualHost};
use portolan_model::policy::HttpsRedirect;
use portolan_model::route::{Filter, Scheme};
use portolan_route::{Outcome, RequestView, Router, normalize_path};
use serde_json::{Value, json};

/// What would become of `request` under `plan`. `endpoints` says how a pool's endpoints are now; `None` where nobody probes
/// them.
pub(crate) fn explain(
    plan: &Plan,
    request: &ExplainRequest,
    endpoints: impl Fn(&PoolId) -> Option<Vec<(SocketAddr, bool)>>,
) -> Value {
    let router = router_of(plan, &request.host);
    let path = match normalize_path(&request.path) {
        Ok(path) => path,
        Err(error) => {
            return json!({"outcome": "refused", "status": 400, "flag": "BR", "reason": error.to_string()});
        }
    };
    let view = RequestView {
        host: &request.host,
        path: &path,
        query: request.query.as_deref(),
        method: request.method.as_str(),
        headers: &request.headers,
    };
    let considered = router.explain(&view);
    let base =
        json!({"revision": plan.revision, "host": request.host, "path": path, "considered": considered});
    let outcome = match router.route(&view) {
        Outcome::NoHost => {
            json!({"outcome": "no route", "status": 404, "flag": "NR", "reason": "nobody serves this host"})
        }
        Outcome::NoRoute { .. } => {
            json!({"outcome": "no route", "status": 404, "flag": "NR", "reason": "no rule of this host matches the request"})
        }
        Outcome::Matched(matched) => route(plan, request, matched.route(), endpoints),
    };
    merge(base, outcome)
}

fn route(
    plan: &Plan,
    request: &ExplainRequest,
    route: &Route,
    endpoints: impl Fn(&PoolId) -> Option<Vec<(SocketAddr, bool)>>,
) -> Value {
    let usable = |pool: &PoolId| -> usize {
        match endpoints(pool) {
            Some(endpoints) => endpoints.iter().filter(|(_, usable)| *usable).count(),
            None => plan.pools.get(pool).map_or(0, |pool| pool.endpoints.len() + pool.names.len()),
        }
    };
    let shared = route.actions.len() > 1;
    let weight = |cluster: &str, can: bool| match plan.clusters.get(cluster) {
        Some(cluster) if can && !(shared && cluster.drain) => {
            if shared {
                cluster.weight
            } else {
                1
            }
        }
        _ => 0,
    };
    let can = |action: &portolan_model::plan::Action| {
        action.backends.is_empty()
            || action.backends.iter().any(|backend| backend.weight > 0 && usable(&backend.pool) > 0)
    };
    let weights: Vec<u32> =
        route.actions.iter().map(|action| weight(action.cluster(), can(action))).collect();
    let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let clusters: Vec<Value> = route
        .actions
        .iter()
        .zip(&weights)
        .map(|(action, &weight)| {
            let backends: Vec<Value> = action
                .backends
                .iter()
                .map(|backend| {
                    let states = endpoints(&backend.pool);
                    json!({
                        "pool": backend.pool,
                        "weight": backend.weight,
                        "exists": plan.pools.get(&backend.pool).is_some(),
                        "endpoints": match states {
                            Some(states) => states.iter().map(|(address, usable)| json!({"address": address, "usable": usable})).collect::<Value>(),
                            None => plan.pools.get(&backend.pool).map_or(Value::Null, |pool| {
                                pool.endpoints.iter().map(|endpoint| json!({"address": endpoint.address})).collect()
                            }),
                        },
                    })
                })
                .collect();
            json!({
                "cluster": action.cluster(),
                "share": if total == 0 { 0.0 } else { f64::from(weight) / total as f64 },
                "drained": plan.clusters.get(action.cluster()).is_some_and(|cluster| cluster.drain),
                "object": action.object.to_string(),
                "rule": action.rule,
                "filters": action.filters,
                "backends": backends,
                "policy": action.policy,
            })
        })
        .collect();
    let first = &route.actions[0];
    let redirects = first.filters.iter().any(|filter| matches!(filter, Filter::Redirect(_)));
    let to_https =
        matches!(first.policy.https_redirect, HttpsRedirect::On { .. }) && request.scheme == Scheme::Http;
    let missing = |action: &portolan_model::plan::Action| {
        action.backends.iter().all(|backend| plan.pools.get(&backend.pool).is_none())
    };
    let (outcome, status, flag) = if to_https || redirects {
        ("redirected", None, None)
    } else if total == 0 && !shared && missing(first) {
        ("no pool", Some(500), Some("NP"))
    } else if total == 0 {
        ("no healthy endpoint", Some(503), Some("NH"))
    } else {
        ("proxied", None, None)
    };
    json!({"outcome": outcome, "status": status, "flag": flag, "clusters": clusters})
}

/// A router of those hosts alone that could serve `host`: building one of all would cost what the configuration costs.
fn router_of(plan: &Plan, host: &str) -> Router<VirtualHost> {
    let mut patterns = vec![HostPattern::parse(host).ok()];
    let mut suffix = host;
    let mut mode = "*.";
    while let Some((_, rest)) = suffix.split_once('.') {
        patterns.push(HostPattern::parse(&format!("{mode}{rest}")).ok());
        patterns.push(HostPattern::parse(&format!("**.{rest}")).ok());
        (suffix, mode) = (rest, "**.");
    }
    let mut found: Vec<(HostPattern, Option<Arc<VirtualHost>>)> = Vec::new();
    for pattern in patterns.into_iter().flatten() {
        if let Some(host) = plan.hosts.get(&pattern)
            && !found.iter().any(|(known, _)| *known == pattern)
        {
            found.push((pattern, Some(Arc::clone(host))));
        }
    }
    let mut router = Router::default();
    router.apply(&found);
    router.set_catch_all(plan.catch_all.clone());
    router
}

fn merge(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}
