//! Which certificate a client gets that asks for a host by HTTPS.

use portolan_certs::CertStore;
use portolan_model::host::HostPattern;
use portolan_model::id::ObjectRef;
use portolan_model::plan::Plan;
use portolan_model::proxy::ListenerTls;
use serde_json::{Value, json};

/// One sentence; or one for each listener, where it is theirs to decide.
pub(super) fn certificate(plan: &Plan, host: &str) -> Value {
    let store = store_of(plan, host);
    let known = |secret: &&ObjectRef| plan.certificates.get(secret).is_some();
    if let Some(secret) = store.resolve(host).and_then(|secrets| secrets.iter().find(known)) {
        return told(plan, secret).into();
    }
    let listeners = plan.proxy.listeners.iter();
    let listeners = listeners.filter_map(|listener| Some((listener, listener.tls.as_ref()?)));
    let said = listeners.map(|(listener, tls)| {
        let ListenerTls { default_certificate, self_signed, .. } = tls;
        let name = &listener.name;
        match default_certificate.as_ref().filter(known) {
            Some(secret) => format!("listener {name}: its default, {}", told(plan, secret)),
            None if *self_signed => {
                format!("listener {name}: one of the proxy's own making, which clients refuse")
            }
            None => format!("listener {name}: none, so the handshake is refused (unrecognized_name)"),
        }
    });
    let said: Vec<String> = said.collect();
    if said.is_empty() { "there is no listener for HTTPS".into() } else { json!(said) }
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
    let end = facts.and_then(|facts| jiff::Timestamp::from_second(facts.not_after).ok());
    end.map_or_else(|| secret.to_string(), |end| format!("{secret}, good until {end}"))
}
