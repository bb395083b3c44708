//! What an `HTTPLoadBalancer` serves, what is wrong with it, and how several make up one host.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::host::{HostName, HostPattern};
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::{HttpLoadBalancer, Object, Spec};
use portolan_model::plan::{Action, Route, VirtualHost};
use portolan_model::policy::SharedPolicy;
use portolan_model::route::{RouteMatch, Rule};

use crate::age::why_first;
use crate::certificates::{Use, certificate, covered, no_certificate};
use crate::hosts::{Hosts, Rights, Verdict, names};
use crate::limits::{Ledger, reached};
use crate::names::{Names, NoName, reason};
use crate::shadows::Shadows;
use crate::store::Store;

/// How many pairs of host and certificate of an object are looked at, and how many things of a type that are wrong are told of it.
const PAIRS: usize = 16_384;
const TOLD: usize = 1024;

/// What an object of that kind says.
pub(crate) fn spec(object: &Object) -> Option<&HttpLoadBalancer> {
    match &object.spec {
        Spec::HttpLoadBalancer(lb) => Some(lb),
        _ => None,
    }
}

/// All rules of an object, one route each: what its generated name serves.
pub(crate) fn serve(id: &ObjectRef, lb: &HttpLoadBalancer, policy: &SharedPolicy) -> VirtualHost {
    let routes = (0..).zip(&lb.rules).map(|(number, rule)| Route {
        matches: Arc::clone(&rule.matches),
        actions: Box::new([Arc::new(Action {
            object: id.clone(),
            rule: number,
            filters: Arc::clone(&rule.filters),
            backends: Arc::clone(&rule.backends),
            timeouts: rule.timeouts.clone(),
            policy: Arc::clone(policy),
        })]),
    });
    VirtualHost { routes: routes.collect(), shared: false }
}

/// The rules of some objects, oldest first, for which `wanted` holds, as one host, `shared` or not. `None` where there is no such
/// rule.
pub(crate) fn merge<'a>(
    store: &Store,
    objects: impl Iterator<Item = &'a Arc<Object>>,
    wanted: impl Fn(&Rule) -> bool,
    shared: bool,
) -> Option<Arc<VirtualHost>> {
    let parts: Vec<_> = objects
        .filter_map(|object| Some((spec(object)?, store.served(&object.meta.id)?)))
        .filter(|(lb, _)| lb.rules.iter().any(&wanted))
        .collect();
    if let [(lb, served)] = &*parts
        && !shared
        && lb.rules.iter().all(&wanted)
    {
        return Some(Arc::clone(served));
    }
    let routes = parts.iter().flat_map(|(lb, served)| lb.rules.iter().zip(&served.routes));
    let routes: Vec<&Route> = routes.filter(|(rule, _)| wanted(rule)).map(|(_, route)| route).collect();
    let mut actions = routes.iter().flat_map(|route| &route.actions);
    let first = actions.next().map(|action| action.cluster());
    let routes: Box<[Route]> = if actions.all(|action| Some(action.cluster()) == first) {
        routes.into_iter().cloned().collect()
    } else {
        share(&routes)
    };
    (!routes.is_empty()).then(|| Arc::new(VirtualHost { routes, shared }))
}

/// The routes of several clusters, an action each, as one host. A match that several clusters say has the actions of them all, by the
/// first rule of each that says it; what a rule says besides stays its own. So a rule may come to several routes.
fn share(routes: &[&Route]) -> Box<[Route]> {
    let everything = [RouteMatch::default()];
    let matches = |route: &'_ Route| if route.matches.is_empty() { 1 } else { route.matches.len() };
    // By match of each rule, in their order: the rule, the match, its actions.
    let mut said: Vec<(usize, &RouteMatch, Vec<Arc<Action>>)> = Vec::new();
    let mut first: BTreeMap<Cow<'_, RouteMatch>, usize> = BTreeMap::new();
    for (at, route) in routes.iter().enumerate() {
        let own = if route.matches.is_empty() { &everything[..] } else { &route.matches };
        for matching in own {
            let position = *first.entry(normalized(matching)).or_insert(said.len());
            match said.get_mut(position) {
                Some((.., actions))
                    if route
                        .actions
                        .iter()
                        .all(|new| actions.iter().all(|old| old.cluster() != new.cluster())) =>
                {
                    actions.extend(route.actions.iter().cloned());
                    actions.sort_by(|a, b| a.cluster().cmp(b.cluster()));
                }
                _ => said.push((at, matching, route.actions.to_vec())),
            }
        }
    }
    let together = said.chunk_by(|(a, _, some), (b, _, others)| a == b && some == others);
    let route = |together: &[(usize, &RouteMatch, Vec<Arc<Action>>)]| {
        let (at, _, actions) = together.first()?;
        let whole = routes[*at];
        let matches = if together.len() == matches(whole) {
            Arc::clone(&whole.matches)
        } else {
            together.iter().map(|(_, matching, _)| RouteMatch::clone(matching)).collect()
        };
        Some(Route { matches, actions: actions.as_slice().into() })
    };
    together.filter_map(route).collect()
}

/// A match in an order of its own, so that those that mean the same compare equal.
pub(crate) fn normalized(matching: &RouteMatch) -> Cow<'_, RouteMatch> {
    if matching.headers.is_sorted() && matching.query.is_sorted() {
        return Cow::Borrowed(matching);
    }
    let mut normalized = matching.clone();
    normalized.headers.sort_unstable();
    normalized.query.sort_unstable();
    Cow::Owned(normalized)
}

/// What the judgement on an object looks at.
#[derive(Clone, Copy)]
pub(crate) struct Court<'a> {
    pub(crate) store: &'a Store,
    pub(crate) names: &'a Names,
    pub(crate) hosts: &'a Hosts,
    pub(crate) limits: &'a Ledger,
    /// Pools that have lost all of their endpoints; those after this step.
    pub(crate) bereft: &'a BTreeSet<ObjectRef>,
    /// What cannot be read, and why.
    pub(crate) invalid: &'a BTreeMap<ObjectRef, Vec<Condition>>,
    /// Those after this step.
    pub(crate) shadows: &'a Shadows,
}

impl<'a> Court<'a> {
    /// What is wrong with an object that counts, and which certificates it uses.
    pub(crate) fn judge(self, object: &Arc<Object>, lb: &HttpLoadBalancer) -> (Vec<Condition>, Vec<Use>) {
        if let Some(excess) = self.limits.excess(&object.meta.id) {
            return (vec![reached("", excess.message(&object.meta.id, lb))], Vec::new());
        }
        let mut findings = Findings::default();
        let own = match self.names.of(object) {
            Ok(name) => Some(HostPattern::Exact(name)),
            Err(error) => {
                findings.no_name(&error);
                None
            }
        };
        self.judge_hosts(object, lb, own.as_ref(), &mut findings);
        let shadow = |host| self.shadows.condition(host, &object.meta.id);
        let shadowed: Vec<_> = findings.accepted.iter().filter_map(shadow).collect();
        shadowed.into_iter().for_each(|condition| findings.add(condition));
        self.judge_backends(lb, &mut findings);
        let uses = self.judge_tls(lb, own.as_ref(), &mut findings);
        (findings.conditions, uses)
    }

    /// A host that several rules name is judged once, where it stands first; so are those that only its certificates name.
    fn judge_hosts(
        self,
        object: &Object,
        lb: &HttpLoadBalancer,
        own: Option<&HostPattern>,
        findings: &mut Findings,
    ) {
        let mut places: BTreeMap<&HostPattern, Place> = BTreeMap::new();
        for (rule, it) in lb.rules.iter().enumerate() {
            for (host, pattern) in it.hosts.iter().enumerate() {
                let place = if it.inherits_hosts { Place::Object(host) } else { Place::Rule(rule, host) };
                places.entry(pattern).or_insert(place);
            }
        }
        let mut refused = Vec::new();
        for (pattern, place) in &places {
            if Some(*pattern) == own {
                continue;
            }
            match self.refusal(object, pattern) {
                None => findings.accepted.push((*pattern).clone()),
                Some(refusal) => refused.push((*place, refusal)),
            }
        }
        // What its certificates name below its own wildcards may be another's.
        let mut below: BTreeMap<&HostPattern, Place> = BTreeMap::new();
        for (binding, it) in lb.tls.iter().enumerate() {
            for (host, pattern) in it.hosts.iter().enumerate() {
                if !places.contains_key(pattern) && findings.accepted.iter().any(|own| own.covers(pattern)) {
                    below.entry(pattern).or_insert(Place::Tls(binding, host));
                }
            }
        }
        for (pattern, place) in below {
            match self.refusal(object, pattern) {
                None => findings.covered.push(pattern.clone()),
                Some(refusal) => refused.push((place, refusal)),
            }
        }
        refused.sort_unstable_by_key(|(place, _)| *place);
        for (place, (reason, message)) in refused {
            let field = place.to_string();
            findings.add(Condition::new(ConditionType::Accepted, reason, field, message));
        }
    }

    /// Why an object that counts may not serve a host that is not its generated name, if it may not.
    pub(crate) fn refusal(self, object: &Object, pattern: &HostPattern) -> Option<(Reason, String)> {
        if let Some(message) = self.beyond(object, pattern) {
            return Some((Reason::LimitReached, message));
        }
        match self.hosts.verdict(&object.meta.id.namespace, pattern, self.rights()) {
            Verdict::Serves => None,
            Verdict::NotAllowed if pattern.name().is_under(self.names.domain()) => Some((
                Reason::DomainNotAllowed,
                format!("{pattern} lies under {}, where names are generated", self.names.domain()),
            )),
            Verdict::NotAllowed => Some((
                Reason::DomainNotAllowed,
                format!("{pattern} lies under none of the domains that the cluster may claim"),
            )),
            Verdict::Taken(owner) => Some((
                Reason::HostTaken,
                format!(
                    "{pattern} belongs to cluster {}, whose {} {}",
                    owner.meta.id.cluster().unwrap_or_default(),
                    owner.meta.id,
                    why_first(&owner, object)
                ),
            )),
        }
    }

    /// Why a claim is beyond a limit, if it is.
    fn beyond(self, object: &Object, pattern: &HostPattern) -> Option<String> {
        let id = &object.meta.id;
        match (self.limits.excess(id), spec(object)) {
            (Some(excess), Some(lb)) => Some(excess.message(id, lb)),
            // Of hosts that only its certificates name the limit says nothing.
            _ => self.limits.host_message(id, pattern).filter(|_| names(object, pattern)),
        }
    }

    fn judge_backends(self, lb: &HttpLoadBalancer, findings: &mut Findings) {
        for (rule, it) in lb.rules.iter().enumerate() {
            for (at, backend) in it.backends.iter().enumerate() {
                let pool = &backend.pool;
                let (reason, what) = if self.store.live(&pool.object()).is_none() {
                    (Reason::BackendNotFound, "does not exist")
                } else if self.bereft.contains(&pool.object()) {
                    (Reason::NoEndpoints, "has no endpoints left, as its own conditions say")
                } else {
                    continue;
                };
                let field = format!("spec.rules[{rule}].backends[{at}].pool");
                findings.unresolved(reason, field, format!("{} {pool} {what}", Kind::UpstreamPool));
            }
        }
    }

    fn judge_tls(
        self,
        lb: &HttpLoadBalancer,
        own: Option<&HostPattern>,
        findings: &mut Findings,
    ) -> Vec<Use> {
        let mut uses = BTreeSet::new();
        let mut pairs = 0;
        let named: BTreeSet<_> = lb.rules.iter().flat_map(|rule| rule.hosts.iter()).collect();
        let served: BTreeSet<HostPattern> =
            findings.accepted.iter().chain(&findings.covered).chain(own).cloned().collect();
        for (at, binding) in lb.tls.iter().enumerate() {
            let reference = format!("spec.tls[{at}].secretName");
            let Some(secret) = certificate(self.store, &binding.secret) else {
                let wrong = self.invalid.get(&binding.secret).map(Vec::as_slice);
                findings.add(no_certificate(reference, &binding.secret, wrong));
                continue;
            };
            if binding.hosts.is_empty() {
                // Its cluster's certificate serves the generated name as well, so this one need not cover it.
                let generated = own.and_then(|own| covered(&secret.facts, own));
                if generated.is_none() && findings.accepted.is_empty() {
                    let message =
                        format!("the certificate in {} covers none of the object's hosts", binding.secret);
                    findings.unresolved(Reason::CertificateMismatch, reference.clone(), message);
                }
                uses.extend(generated.map(|name| (Some(name), binding.secret.clone())));
            }
            let mut bind = |host: &HostPattern, field: String, findings: &mut Findings| match covered(
                &secret.facts,
                host,
            ) {
                Some(name) => drop(uses.insert((Some(name), binding.secret.clone()))),
                None => findings.unresolved(
                    Reason::CertificateMismatch,
                    field,
                    format!("the certificate in {} does not cover {host}", binding.secret),
                ),
            };
            if binding.hosts.is_empty() {
                for host in &findings.accepted.clone() {
                    pairs += 1;
                    if pairs <= PAIRS {
                        bind(host, reference.clone(), findings);
                    }
                }
            }
            for (number, host) in binding.hosts.iter().enumerate() {
                let field = format!("spec.tls[{at}].hosts[{number}]");
                let before = pairs;
                for name in served.iter().filter(|name| host.covers(name)) {
                    pairs += 1;
                    if pairs <= PAIRS {
                        bind(name, field.clone(), findings);
                    }
                }
                let is_near = |own: &&HostPattern| own.covers(host) || host.covers(own);
                if pairs == before && !named.iter().any(is_near) {
                    findings.add(Condition::new(
                        ConditionType::Accepted,
                        Reason::Invalid,
                        field,
                        format!("{host} is none of the object's hosts; expected a host of one of its rules"),
                    ));
                }
            }
        }
        if pairs > PAIRS {
            let message =
                format!("the certificates come to {pairs} pairs of host and Secret; {PAIRS} are looked at");
            findings.unresolved(Reason::CertificateMismatch, "spec.tls".to_owned(), message);
        }
        uses.into_iter().collect()
    }

    fn rights(self) -> Rights<'a> {
        Rights { store: self.store, lb_domain: self.names.domain(), limits: self.limits }
    }
}

/// Where an object names a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// As the host of that number of all rules that name none.
    Object(usize),
    /// In that rule, as its host of that number.
    Rule(usize, usize),
    /// For that certificate alone.
    Tls(usize, usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(host) => write!(f, "spec.hosts[{host}]"),
            Self::Rule(rule, host) => write!(f, "spec.rules[{rule}].hosts[{host}]"),
            Self::Tls(binding, host) => write!(f, "spec.tls[{binding}].hosts[{host}]"),
        }
    }
}

#[derive(Default)]
struct Findings {
    conditions: Vec<Condition>,
    /// How many of these there are of each type.
    told: (usize, usize),
    /// The hosts of its rules that it may serve.
    accepted: Vec<HostPattern>,
    /// Further hosts of its certificates that lie under those.
    covered: Vec<HostPattern>,
}

impl Findings {
    /// Of each type so many that they fill a status; what is beyond is not told.
    fn add(&mut self, condition: Condition) {
        let told = match condition.kind {
            ConditionType::Accepted => &mut self.told.0,
            ConditionType::ResolvedRefs => &mut self.told.1,
        };
        if *told < TOLD {
            *told += 1;
            self.conditions.push(condition);
        }
    }

    fn unresolved(&mut self, reason: Reason, field: String, message: String) {
        self.add(Condition::new(ConditionType::ResolvedRefs, reason, field, message));
    }

    fn no_name(&mut self, error: &NoName) {
        let (reason, message) = match error {
            NoName::Invalid(error) => (reason(error), format!("no host name can be generated: {error}")),
            NoName::Taken(name) => {
                let name: &HostName = name;
                (
                    Reason::HostTaken,
                    format!("no host name can be generated: all up to {name} belong to others"),
                )
            }
            NoName::Elsewhere => return,
        };
        self.add(Condition::new(ConditionType::Accepted, reason, "", message));
    }
}
