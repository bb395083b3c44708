//! Where in a member cluster stands what the LB cluster speaks of?
//!
//! Conditions there name fields of an `HTTPLoadBalancer` and objects of the tenant namespace, which nobody in the member cluster has written. Here they
//! become fields of the `Ingress`, and `Service`s and `Secret`s. Words that mean nothing here stay as they are. Cost: linear in the message
//! and the `Ingress`.

use std::collections::BTreeMap;

use portolan_api::kinds::HTTPLoadBalancerSpec;

use super::PoolSource;
use crate::names;
use crate::view::{Ingress, Key};

/// The field that names a host; empty where none does.
pub fn of_host(ingress: &Ingress, host: &str) -> String {
    let is = |it: &str| it.eq_ignore_ascii_case(host);
    if let Some(rule) = ingress.rules.iter().position(|rule| rule.host.as_deref().is_some_and(is)) {
        return format!("spec.rules[{rule}].host");
    }
    let hosts = ingress.tls.iter().enumerate();
    let mut found = hosts.filter_map(|(tls, it)| Some((tls, it.hosts.iter().position(|host| is(host))?)));
    found.next().map(|(tls, host)| format!("spec.tls[{tls}].hosts[{host}]")).unwrap_or_default()
}

/// The field that names a `Secret` of its namespace; empty where none does.
pub fn of_secret(ingress: &Ingress, name: &str) -> String {
    let found = ingress.tls.iter().position(|tls| tls.secret.as_deref() == Some(name));
    found.map(|tls| format!("spec.tls[{tls}].secretName")).unwrap_or_default()
}

/// The port of a `Service`, or the `Ingress` itself, that a pool comes from.
pub fn of_pool(source: &PoolSource) -> String {
    match source {
        PoolSource::Service(key, port) => format!("port {port} of Service {}", key.name),
        PoolSource::Ingress(_) => "status.loadBalancer.ingress".to_owned(),
    }
}

/// What a condition of its `HTTPLoadBalancer` says, in the words of the `Ingress`, by reason; without what is told already. `spec` is what the condition
/// is about, where that is known.
pub fn translated(
    reason: &str,
    message: &str,
    key: &Key,
    ingress: &Ingress,
    spec: Option<&HTTPLoadBalancerSpec>,
    pools: &[PoolSource],
) -> BTreeMap<String, String> {
    let mut parts: Vec<&str> = message.split("; ").collect();
    if let [whole @ .., _, "and more"] = &*parts {
        // The one before it is cut.
        parts = whole.to_vec();
    }
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let mut reason = reason;
    for part in parts {
        // What has another reason than what stands before it says so.
        let part = match part.split_once(": ") {
            Some((word, rest)) if is_reason(word) => {
                reason = word;
                rest
            }
            _ => part,
        };
        if is_told_here(part) {
            continue;
        }
        let part = match part.split_once(": ").filter(|(field, _)| field.starts_with("spec.")) {
            Some((field, text)) => match spec.map(|spec| field_of(field, ingress, spec)) {
                Some(place) if !place.is_empty() => format!("{place}: {text}"),
                Some(_) | None => text.to_owned(),
            },
            None => part.to_owned(),
        };
        let part = objects(part, key, ingress, pools);
        let all = told.entry(reason.to_owned()).or_default();
        if !all.is_empty() {
            all.push_str("; ");
        }
        all.push_str(&part);
    }
    told
}

fn is_reason(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphabetic())
}

/// Whether that is told already, with its cause: by the agent, which did not write what is missing, or of the pool.
fn is_told_here(part: &str) -> bool {
    let pool = part.contains("UpstreamPool ")
        && [" does not exist", " has no endpoints left, as its own conditions say"]
            .iter()
            .any(|end| part.ends_with(end));
    pool || part.ends_with(" does not exist as one of type kubernetes.io/tls")
}

/// The field of the `Ingress` for one of its `HTTPLoadBalancer`.
fn field_of(field: &str, ingress: &Ingress, spec: &HTTPLoadBalancerSpec) -> String {
    let steps: Vec<&str> = field.split(['.', '[', ']']).filter(|step| !step.is_empty()).collect();
    let at = |step: usize| steps.get(step).and_then(|step| step.parse::<usize>().ok());
    let host = match (steps.get(1), steps.get(3)) {
        (Some(&"rules"), Some(&"hosts")) => {
            at(2).zip(at(4)).and_then(|(rule, host)| spec.rules.get(rule)?.hosts.get(host))
        }
        (Some(&"tls"), Some(&"hosts")) => {
            at(2).zip(at(4)).and_then(|(tls, host)| spec.tls.get(tls)?.hosts.get(host))
        }
        _ => None,
    };
    host.map(|host| of_host(ingress, host)).unwrap_or_default()
}

/// The names of objects that were written for it, as what they were written for.
fn objects(mut message: String, key: &Key, ingress: &Ingress, pools: &[PoolSource]) -> String {
    for source in pools {
        message = replaced(message, "UpstreamPool", &source.name(), &of_pool(source));
    }
    for name in ingress.tls.iter().filter_map(|tls| tls.secret.as_deref()) {
        let copy = names::secret(&key.namespace, name);
        message = replaced(message, "Secret", &copy, &format!("Secret {name}"));
    }
    while let Some(told) = other_ingress(&message) {
        message = told;
    }
    message
}

/// With an `Ingress` in place of the first `HTTPLoadBalancer` that was written for one, of whichever cluster.
fn other_ingress(message: &str) -> Option<String> {
    message.match_indices("HTTPLoadBalancer ").find_map(|(at, kind)| {
        let named = message[at + kind.len()..].split([',', ' ', ';']).next()?;
        let (namespace, name) = named.split_once("/ingress.")?.1.split_once('.')?;
        let after = &message[at + kind.len() + named.len()..];
        Some(format!("{}Ingress {namespace}/{name}{after}", &message[..at]))
    })
}

/// Objects are written as `<kind> <namespace>/<name>` in messages.
fn replaced(message: String, kind: &str, name: &str, by: &str) -> String {
    let Some(end) = message.find(&format!("/{name}")).filter(|end| {
        let after = message.as_bytes().get(end + 1 + name.len());
        after.is_none_or(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'.'))
    }) else {
        return message;
    };
    let Some(start) = message.get(..end).and_then(|before| before.rfind(kind)) else { return message };
    format!("{}{by}{}", &message[..start], &message[end + 1 + name.len()..])
}
