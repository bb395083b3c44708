//! What would become of a request: host, certificate, route, action, pool and shares, from a plan, and who else claims the host in vain.

mod handshake;

use std::net::SocketAddr;
use std::sync::Arc;

use portolan_admin::ExplainRequest;
use portolan_balance::{Choice, Fitness, weights_of_nearest};
use portolan_compile::Refused;
use portolan_model::host::HostPattern;
use portolan_model::id::PoolId;
use portolan_model::locality::Distance;
use portolan_model::plan::{Action, Plan, PoolTls, Route, Trust, VirtualHost};
use portolan_model::policy::HttpsRedirect;
use portolan_model::route::{Filter, Scheme};
use portolan_route::{Outcome, RequestView, Router, normalize_path};
use serde_json::{Value, json};

use self::handshake::Offer;

/// What would become of `request` under `plan`. `refused` are the claims to its host that do not stand; `endpoints` says how fit a
/// pool's endpoints are now; `None` where nobody probes them.
pub(crate) fn explain(
    plan: &Plan,
    request: &ExplainRequest,
    refused: &[Refused],
    endpoints: impl Fn(&PoolId) -> Option<Vec<(SocketAddr, Fitness)>>,
) -> Value {
    let offer = (request.scheme == Scheme::Https).then(|| handshake::offer(plan, request));
    let verdict = match &offer {
        Some(Offer { any: false, .. }) => {
            json!({"outcome": "handshake refused", "status": null, "flag": null})
        }
        _ => over_http(plan, request, refused, endpoints),
    };
    match offer {
        Some(Offer { told, .. }) => merge(verdict, json!({"certificate": told})),
        None => verdict,
    }
}

/// The same once there is a connection.
fn over_http(
    plan: &Plan,
    request: &ExplainRequest,
    refused: &[Refused],
    endpoints: impl Fn(&PoolId) -> Option<Vec<(SocketAddr, Fitness)>>,
) -> Value {
    let refuse = |status: u16, reason: &str| json!({"outcome": "refused", "status": status, "flag": "BR", "reason": reason});
    let target = match &request.query {
        Some(query) => &format!("{}?{query}", request.path),
        None => &request.path,
    };
    if let Some((status, reason)) = portolan_proxy::refusal(&request.method, target, &plan.proxy) {
        return refuse(status, reason);
    }
    let router = router_of(plan, &request.host);
    let path = match normalize_path(&request.path) {
        Ok(path) => path,
        Err(error) => return refuse(400, &error.to_string()),
    };
    let view = RequestView {
        host: &request.host,
        path: &path,
        query: request.query.as_deref(),
        method: request.method.as_str(),
        headers: &request.headers,
    };
    let considered = router.explain(&view);
    let nobody = considered.considered.is_empty();
    let mut base =
        json!({"revision": plan.revision, "host": request.host, "path": path, "considered": considered});
    if !refused.is_empty() {
        let claim = |it: &Refused| json!({"object": it.object.to_string(), "host": it.pattern, "reason": it.reason, "message": it.message});
        base = merge(base, json!({"refused": refused.iter().map(claim).collect::<Value>()}));
    }
    let no_route =
        |reason: &str| json!({"outcome": "no route", "status": 404, "flag": "NR", "reason": reason});
    let outcome = match router.route(&view) {
        // Names under the lb domain that nobody has are known, and have no rules.
        Outcome::NoHost | Outcome::NoRoute { .. } if nobody && refused.is_empty() => {
            no_route(&match missing_cluster(plan, &request.host) {
                Some(cluster) => format!("nobody serves this host: there is no Cluster {cluster:?}"),
                None => "nobody serves this host".to_owned(),
            })
        }
        Outcome::NoHost | Outcome::NoRoute { .. } if nobody => {
            no_route("nobody serves this host: see who claims it, and why that is refused")
        }
        Outcome::NoHost | Outcome::NoRoute { .. } => no_route("no rule of this host matches the request"),
        Outcome::Matched(matched) => {
            route(plan, request, matched.route(), matched.virtual_host.shared, endpoints)
        }
    };
    merge(base, outcome)
}

/// The cluster of a generated name, where there is none of that name.
fn missing_cluster<'a>(plan: &Plan, host: &'a str) -> Option<&'a str> {
    let labels = host.strip_suffix(plan.proxy.lb_domain.as_str())?.strip_suffix('.')?;
    let cluster = labels.rsplit('.').next()?;
    plan.clusters.get(cluster).is_none().then_some(cluster)
}

/// What becomes of some of the requests that a route takes.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Redirected,
    Proxied,
    /// 500, flag `NP`.
    NoPool(String),
    /// 503, flag `NH`.
    NoEndpoint(String),
}

impl Fate {
    fn shown(&self) -> Value {
        match self {
            Self::Redirected => json!({"outcome": "redirected", "status": null, "flag": null}),
            Self::Proxied => json!({"outcome": "proxied", "status": null, "flag": null}),
            Self::NoPool(reason) => {
                json!({"outcome": "no pool", "status": 500, "flag": "NP", "reason": reason})
            }
            Self::NoEndpoint(reason) => {
                json!({"outcome": "no healthy endpoint", "status": 503, "flag": "NH", "reason": reason})
            }
        }
    }
}

/// The decisions of the proxy's `Service`, for all draws at once: a cluster among those that can, its policy and redirects, a
/// backend by weight whether it can or not, an endpoint.
fn route(
    plan: &Plan,
    request: &ExplainRequest,
    route: &Route,
    shared: bool,
    endpoints: impl Fn(&PoolId) -> Option<Vec<(SocketAddr, Fitness)>>,
) -> Value {
    let fittest = |id: &PoolId| match (plan.pools.get(id), endpoints(id)) {
        (Some(_), Some(endpoints)) => {
            endpoints.iter().map(|(_, fitness)| *fitness).max().unwrap_or(Fitness::Unfit)
        }
        (Some(pool), None) if !pool.endpoints.is_empty() || !pool.names.is_empty() => Fitness::Fit,
        _ => Fitness::Unfit,
    };
    let alone = route.actions.len() == 1;
    let choice = |action: &Action, fitness: Fitness| {
        let cluster = plan.clusters.get(action.cluster());
        let distance =
            cluster.map_or(Distance::Elsewhere, |cluster| cluster.locality.distance(&plan.proxy.locality));
        if !shared {
            return (1, distance);
        }
        let can = alone
            || redirects(action, request)
            || action.backends.iter().any(|backend| backend.weight > 0 && fittest(&backend.pool) >= fitness);
        match cluster {
            Some(cluster) if can && !cluster.drain => (cluster.weight, distance),
            _ => (0, distance),
        }
    };
    let among = |fitness| route.actions.iter().map(|action| choice(action, fitness)).collect();
    let mut choices: Vec<Choice> = among(Fitness::Fit);
    if choices.iter().all(|(weight, _)| *weight == 0) {
        choices = among(Fitness::Unsteady);
    }
    let weights: Vec<u32> = weights_of_nearest(&choices).collect();
    let mut fates: Vec<(f64, Fate)> = Vec::new();
    let mut add = |share: f64, fate: Fate| match fates.iter_mut().find(|(_, known)| *known == fate) {
        _ if share == 0.0 => {}
        Some((sum, _)) => *sum += share,
        None => fates.push((share, fate)),
    };
    if weights.iter().all(|&weight| weight == 0) {
        add(1.0, Fate::NoEndpoint("no cluster can take the request".into()));
    }
    let mut clusters: Vec<Value> = Vec::new();
    for ((action, share), (_, distance)) in route.actions.iter().zip(shares(&weights)).zip(&choices) {
        let backend_weights: Vec<u32> = action.backends.iter().map(|backend| backend.weight).collect();
        let backend_shares = shares(&backend_weights);
        if redirects(action, request) {
            add(share, Fate::Redirected);
        } else if backend_weights.iter().all(|&weight| weight == 0) {
            add(share, Fate::NoPool(format!("all backends of {} have weight 0", action.object)));
        } else {
            for (backend, &part) in action.backends.iter().zip(&backend_shares) {
                add(share * part, fate(plan, &backend.pool, fittest));
            }
        }
        let backends: Vec<Value> = action
            .backends
            .iter()
            .zip(&backend_shares)
            .map(|(backend, share)| {
                let states = endpoints(&backend.pool);
                json!({
                    "pool": backend.pool,
                    "weight": backend.weight,
                    "share": share,
                    "exists": plan.pools.get(&backend.pool).is_some(),
                    "endpoints": match states {
                        Some(states) => states.iter().map(|(address, fitness)| json!({"address": address, "fitness": fitness.as_str()})).collect::<Value>(),
                        None => plan.pools.get(&backend.pool).map_or(Value::Null, |pool| {
                            pool.endpoints.iter().map(|endpoint| json!({"address": endpoint.address})).collect()
                        }),
                    },
                })
            })
            .collect();
        clusters.push(json!({
            "cluster": action.cluster(),
            "share": share,
            "distance": distance,
            "drained": plan.clusters.get(action.cluster()).is_some_and(|cluster| cluster.drain),
            "object": action.object.to_string(),
            "rule": action.rule,
            "filters": action.filters,
            "backends": backends,
            "policy": action.policy,
        }));
    }
    let outcome = match &*fates {
        [(_, only)] => only.shown(),
        several => {
            let each = several.iter().map(|(share, fate)| merge(json!({"share": share}), fate.shown()));
            json!({"outcome": "mixed", "status": null, "flag": null, "outcomes": each.collect::<Value>()})
        }
    };
    merge(outcome, json!({"clusters": clusters}))
}

/// Each weight's part of them all.
fn shares(weights: &[u32]) -> Vec<f64> {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    weights.iter().map(|&weight| if total == 0.0 { 0.0 } else { f64::from(weight) / total }).collect()
}

/// Whether an action answers without asking a backend.
fn redirects(action: &Action, request: &ExplainRequest) -> bool {
    matches!(action.policy.https_redirect, HttpsRedirect::On { .. }) && request.scheme == Scheme::Http
        || action.filters.iter().any(|filter| matches!(filter, Filter::Redirect(_)))
}

/// What becomes of a request that goes to a pool.
fn fate(plan: &Plan, id: &PoolId, fittest: impl Fn(&PoolId) -> Fitness) -> Fate {
    match plan.pools.get(id) {
        None => Fate::NoPool(format!("{} does not exist", id.object())),
        Some(pool) => match &pool.tls {
            Some(PoolTls { trust: Trust::Missing(bundle), .. }) => {
                Fate::NoPool(format!("{bundle}, the CA bundle of {}, is missing", id.object()))
            }
            _ if fittest(id) == Fitness::Unfit => {
                let conditions = plan.conditions.get(&id.object());
                let why =
                    conditions.and_then(|all| all.first()).map_or_else(String::new, |it| format!("; {it}"));
                Fate::NoEndpoint(format!("no endpoint of {} can take it{why}", id.object()))
            }
            _ => Fate::Proxied,
        },
    }
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

#[cfg(test)]
mod tests;
