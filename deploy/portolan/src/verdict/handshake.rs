//! Which certificate a client gets that asks for a host by HTTPS.

use portolan_certs::CertStore;
use portolan_model::condition::Reason;
use portolan_model::host::HostPattern;
use portolan_model::id::ObjectRef;
use portolan_model::plan::Plan;
use portolan_model::proxy::ListenerTls;
use serde_json::{Value, json};

/// What a client gets.
pub(super) struct Offer {
    /// One sentence; or one for each listener, where it is theirs to decide.
    pub(super) told: Value,
    /// Whether any listener goes on with the handshake.
    pub(super) any: bool,
}

/// What a client gets that asks for `host`, which `objects` serve.
pub(super) fn offer(plan: &Plan, host: &str, objects: &[ObjectRef]) -> Offer {
    let store = store_of(plan, host);
    let known = |secret: &&ObjectRef| plan.certificates.get(secret).is_some();
    if let Some(secret) = store.resolve(host).and_then(|secrets| secrets.iter().find(known)) {
        return Offer { told: told(plan, secret).into(), any: true };
    }
    let mut any = false;
    let listeners = plan.proxy.listeners.iter();
    let listeners = listeners.filter_map(|listener| Some((listener, listener.tls.as_ref()?)));
    let said = listeners.map(|(listener, tls)| {
        let ListenerTls { default_certificate, self_signed, .. } = tls;
        let name = &listener.name;
        let default = default_certificate.as_ref().filter(known);
        any |= default.is_some() || *self_signed;
        match default {
            Some(secret) => format!("listener {name}: its default, {}", told(plan, secret)),
            None if *self_signed => {
                format!("listener {name}: one of the proxy's own making, which clients refuse")
            }
            None => format!("listener {name}: none, so the handshake is refused (unrecognized_name)"),
        }
    });
    let mut said: Vec<String> = said.collect();
    if said.is_empty() {
        return Offer { told: "there is no listener for HTTPS".into(), any };
    }
    said.extend(objects.iter().flat_map(|object| why_not(plan, object)));
    Offer { told: json!(said), any }
}

/// What is wrong with the certificates of an object.
fn why_not(plan: &Plan, object: &ObjectRef) -> Vec<String> {
    let found = plan.conditions.get(object).map(|found| &**found).unwrap_or_default();
    let of_tls = found.iter().filter(|condition| {
        matches!(condition.reason, Reason::CertificateNotFound | Reason::CertificateMismatch)
    });
    of_tls.map(|condition| format!("{object}: {condition}")).collect()
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
