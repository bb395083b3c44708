//! What does the LB cluster have to hold for an `Ingress`?
//!
//! ```text
//!  View, Settings ──► class ──► backends ──► rules ──► HTTPLoadBalancer, its pools, certificates and companions, refusals
//! ```
//!
//! Pure: no clock, no I/O, and the same view always comes to the same. Total: what cannot be served is left out with a [`Refusal`], and
//! harms nothing beside it. Where nothing at all can be said of an `Ingress` that is ours, what was said before stands.
//! Cost: linear in the `Ingress`.

pub mod backend;
pub mod class;
pub mod nodes;
pub mod place;
pub mod pool;
mod rules;
pub mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use portolan_api::kinds::{HTTPLoadBalancerSpec, Origin, TLSBinding};

use self::backend::Resolver;
use self::status::Own;
use crate::names;
use crate::objects::Endpoints;
use crate::view::{Ingress, Key, Settings, View};

/// The kind of origin that is synced.
pub const INGRESS: &str = "Ingress";

/// Something that is not served, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Refusal {
    /// In one word, for machines; it does not change between versions.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// The field of the `Ingress` that it is about; empty where it is about no field of it.
    pub place: String,
}

impl Refusal {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), place: String::new() }
    }

    fn at(self, place: impl Into<String>) -> Self {
        Self { place: place.into(), ..self }
    }

    /// The message with the field before it.
    pub fn told(&self) -> String {
        if self.place.is_empty() { self.message.clone() } else { format!("{}: {}", self.place, self.message) }
    }
}

/// One of each, with the first place that it is about and how many more there are.
fn folded(refusals: Vec<Refusal>) -> Vec<Refusal> {
    let mut all: BTreeMap<(&'static str, String), (String, usize)> = BTreeMap::new();
    for Refusal { reason, message, place } in refusals {
        all.entry((reason, message)).and_modify(|(_, more)| *more += 1).or_insert((place, 0));
    }
    let folded = all.into_iter().map(|((reason, mut message), (place, more))| {
        // Of what is about no field nothing is said twice.
        if more > 0 && !place.is_empty() {
            message.push_str(&format!(" (and {more} more)"));
        }
        Refusal { reason, message, place }
    });
    folded.collect()
}

/// Where a pool comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PoolSource {
    /// A port of a `Service`.
    Service(Key, u16),
    /// The address that an `Ingress` has from the member cluster's own gateway.
    Ingress(Key),
}

impl PoolSource {
    /// What the pool is called.
    pub fn name(&self) -> String {
        match self {
            Self::Service(key, port) => names::service_pool(&key.namespace, &key.name, &port.to_string()),
            Self::Ingress(key) => names::ingress_pool(&key.namespace, &key.name),
        }
    }
}

/// What an `Ingress` comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    /// Its `HTTPLoadBalancer`.
    pub object: Outcome,
    /// The pools that it needs.
    pub pools: Vec<PoolSource>,
    /// The `Secret`s that are to be copied for it.
    pub secrets: Vec<Key>,
    /// The ports of `Service`s for which it needs companions.
    pub companions: Vec<(Key, u16)>,
    /// What is not served.
    pub refusals: Vec<Refusal>,
}

/// What is to become of an `HTTPLoadBalancer`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Outcome {
    /// There is to be none: the `Ingress` is not ours.
    #[default]
    Foreign,
    /// It is to stay as it is: a backend is being prepared, or nothing can be served.
    Held,
    /// It is to be that.
    Object(Box<HTTPLoadBalancerSpec>),
}

/// How the backends of an `Ingress` are reached now.
#[derive(Clone, Copy)]
pub struct Ways<'a> {
    /// Whether that is through the cluster's own gateway.
    pub gateway: bool,
    /// Where the endpoints of a pool stand that is in the LB cluster: it stays so until it can be as the cluster's reach says.
    pub stands: &'a dyn Fn(&PoolSource) -> Option<Endpoints>,
}

/// Translates an `Ingress`.
pub fn ingress(
    view: &View,
    settings: &Settings,
    ways: Ways<'_>,
    cluster: &str,
    key: &Key,
    ingress: &Ingress,
) -> Translation {
    if !class::is_ours(view, settings, ingress) {
        return Translation::default();
    }
    let mut resolver = Resolver::new(view, settings, ways, Own::of(cluster, settings), key, ingress);
    let rules = rules::of(&mut resolver, ingress);
    let mut refusals = std::mem::take(&mut resolver.refusals);
    refusals.extend(ingress.unknown.iter().map(|name| {
        let message = format!("{name} is not known; what is said of a backend stands on its Service");
        Refusal::new("UnknownAnnotation", message).at("metadata.annotations")
    }));
    let mut secrets = Vec::new();
    let tls = certificates(view, key, ingress, &mut secrets, &mut refusals);
    let spec = HTTPLoadBalancerSpec {
        origin: Some(origin(key, ingress)),
        hosts: Vec::new(),
        rules: Vec::new(),
        tls,
    };
    let spec = rules::fit(spec, ingress, rules, &mut refusals);
    let object = match spec {
        Some(spec) if !resolver.waiting => Outcome::Object(Box::new(spec)),
        _ => Outcome::Held,
    };
    let mut pools = resolver.pools;
    pools.sort_unstable();
    pools.dedup();
    let mut companions = resolver.companions;
    companions.sort_unstable();
    companions.dedup();
    Translation { object, pools, secrets, companions, refusals: folded(refusals) }
}

fn origin(key: &Key, ingress: &Ingress) -> Origin {
    let created = ingress.created.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    Origin {
        kind: INGRESS.to_owned(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        uid: ingress.uid.to_string(),
        creation_timestamp: created.map(Time),
    }
}

/// How many hosts a list of the API takes.
const HOSTS: usize = 64;

/// The certificates that an `Ingress` names. One that is not there is named all the same: it may come.
fn certificates(
    view: &View,
    key: &Key,
    ingress: &Ingress,
    secrets: &mut Vec<Key>,
    refusals: &mut Vec<Refusal>,
) -> Vec<TLSBinding> {
    let mut hosts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (number, tls) in ingress.tls.iter().enumerate() {
        let Some(name) = &tls.secret else {
            let message = "there is no secretName; its hosts have the certificate of a listener or of the Cluster in the LB cluster, if any";
            refusals.push(Refusal::new("NoSecretName", message).at(format!("spec.tls[{number}]")));
            continue;
        };
        let all = hosts.entry(name).or_default();
        if tls.hosts.is_empty() {
            // Without hosts it is meant for all.
            let named = ingress.rules.iter().filter_map(|rule| rule.host.as_deref());
            all.extend(named.map(str::to_owned));
        }
        all.extend(tls.hosts.iter().map(|host| host.to_string()));
    }
    let mut bindings = Vec::new();
    for (name, mut hosts) in hosts {
        let secret = Key::new(key.namespace.clone(), name);
        if view.secrets.get(&secret).is_none() {
            let message = format!(
                "Secret {name} does not exist or is not of type kubernetes.io/tls; it is taken as soon as it does"
            );
            refusals.push(Refusal::new("SecretNotFound", message).at(place::of_secret(ingress, name)));
        }
        let secret_name = names::secret(&key.namespace, name);
        secrets.push(secret);
        hosts.sort_unstable();
        hosts.dedup();
        if hosts.is_empty() {
            bindings.push(TLSBinding { hosts, secret_name });
        } else {
            let chunks = hosts.chunks(HOSTS);
            bindings.extend(
                chunks.map(|chunk| TLSBinding { hosts: chunk.to_vec(), secret_name: secret_name.clone() }),
            );
        }
    }
    bindings
}
