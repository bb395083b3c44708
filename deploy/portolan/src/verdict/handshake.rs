//! Which certificate a client gets that asks for a host by HTTPS.

use std::collections::BTreeSet;

use portolan_admin::ExplainRequest;
use portolan_certs::CertStore;
use portolan_model::condition::Reason;
use portolan_model::host::HostPattern;
use portolan_model::id::ObjectRef;
use portolan_model::plan::Plan;
use portolan_model::proxy::ListenerTls;
use serde_json::{Value, json};

/// How many reasons are told.
const WHY: usize = 8;

/// What a client gets.
pub(super) struct Offer {
    /// One sentence; or one for each listener, where it is theirs to decide.
    pub(super) told: Value,
    /// Whether any listener goes on with the handshake.
    pub(super) any: bool,
}

/// What a client gets that asks so.
pub(super) fn offer(plan: &Plan, request: &ExplainRequest) -> Offer {
    let host = &*request.host;
    let store = store_of(plan, host);
    let known = |secret: &&ObjectRef| plan.certificates.get(secret).is_some();
    if let Some(secret) = store.resolve(host).and_then(|secrets| secrets.iter().find(known)) {
        return Offer { told: told(plan, secret).into(), any: true };
    }
    let all = plan.proxy.listeners.iter();
    let all: Vec<_> = all.filter_map(|listener| Some((listener, listener.tls.as_ref()?))).collect();
    if all.is_empty() {
        return Offer { told: "there is no listener for HTTPS".into(), any: false };
    }
    // Where none has the port of the URL, something before the proxy maps it.
    let of_port = all.iter().any(|(listener, _)| listener.port == request.port);
    let mut any = false;
    let mut said = Vec::new();
    for (listener, tls) in all.into_iter().filter(|(it, _)| !of_port || it.port == request.port) {
        let ListenerTls { default_certificate, self_signed, .. } = tls;
        let name = &listener.name;
        let default = default_certificate.as_ref().filter(known);
        any |= default.is_some() || *self_signed;
        said.push(match default {
            Some(secret) => format!("listener {name}: its default, {}", told(plan, secret)),
            None if *self_signed => {
                format!("listener {name}: one of the proxy's own making, which clients refuse")
            }
            None => format!("listener {name}: none, so the handshake is refused (unrecognized_name)"),
        });
    }
    said.extend(why_not(plan, host));
    Offer { told: json!(said), any }
}

/// What is wrong with the certificates of the objects that serve a host; the first of it.
fn why_not(plan: &Plan, host: &str) -> Vec<String> {
    let exact = HostPattern::parse(host).ok();
    let served = exact.and_then(|pattern| plan.hosts.get(&pattern).cloned());
    let objects: BTreeSet<&ObjectRef> = served
        .iter()
        .flat_map(|host| host.routes.iter())
        .flat_map(|route| route.actions.iter().map(|action| &action.object))
        .collect();
    let found = objects.into_iter().flat_map(|object| {
        let found = plan.conditions.get(object).map(|found| &**found).unwrap_or_default();
        found.iter().map(move |condition| (object, condition))
    });
    let of_tls = found.filter(|(_, condition)| {
        matches!(condition.reason, Reason::CertificateNotFound | Reason::CertificateMismatch)
    });
    of_tls.map(|(object, condition)| format!("{object}: {condition}")).take(WHY).collect()
}

/// Those certificates alone that could serve `host`.
fn store_of(plan: &Plan, host: &str) -> CertStore {
    let wildcard = host.split_once('.').map(|(_, suffix)| format!("*.{suffix}"));
    let patterns = [Some(host.to_owned()), wildcard].into_iter().flatten();
    let patterns = patterns.filter_map(|pattern| HostPattern::parse(&pattern).ok());
    let names: Vec<_> =
        patterns.map(|pattern| (pattern.clone(), plan.server_names.get(&pattern).cloned())).collect();
    let mut store = CertStore::default();
    store.apply(&[], &names);
    store
}

fn told(plan: &Plan, secret: &ObjectRef) -> String {
    let facts = plan.certificates.get(secret).map(|secret| &secret.facts);
    match facts.and_then(|facts| jiff::Timestamp::from_second(facts.not_after).ok()) {
        Some(end) if end < jiff::Timestamp::now() => format!("{secret}, which expired at {end}"),
        Some(end) => format!("{secret}, good until {end}"),
        None => secret.to_string(),
    }
}
