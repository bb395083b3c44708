//! Who may serve which customer host.
//!
//! A tenant claims a host by naming it in a rule. The claim stands if the host lies under an allowed domain of its cluster
//! (of several the longest suffix decides) and not under the lb domain, where generated names live.
//!
//! A host is owned by the tenant with the oldest standing claim to it or to a wildcard that covers it; a claim is as old as its
//! object in the LB cluster, whatever date its origin has (see [`crate::age`]). Where the owner's
//! domain is exclusive, the owner alone serves it. Where it is shared, so do all claimants whose domain is shared as well.
//! So between a wildcard and a host below it age decides, pair by pair: under an older wildcard of another tenant the host is
//! refused; under a younger one it keeps serving, being more specific, and the wildcard serves the rest.
//!
//! A wildcard above the lb domain ends at it: names down there are their clusters' or nobody's.
//!
//! A claim that is beyond a limit of its tenant (see [`crate::limits`]) does not stand, whatever its domain.
//!
//! The owner is never refused its own pattern: whatever refuses a wildcard is older and covers all below it too.
//!
//! Cost: a question about a host looks at the wildcards above it, one per label. A wildcard whose oldest claim changes
//! reaches all claimed hosts below it, which the reversed order of names keeps together.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portolan_model::host::{HostName, HostPattern};
use portolan_model::intent::{Cluster, HttpLoadBalancer, Object, Sharing, Spec};

use crate::age::{Aged, Between, Index, Within};
use crate::limits::Ledger;
use crate::store::Store;

/// The hosts that the rules of an object name: what it claims.
pub(crate) fn claimed(lb: &HttpLoadBalancer) -> Vec<HostPattern> {
    let mut hosts: Vec<HostPattern> = lb.rules.iter().flat_map(|rule| rule.hosts.iter().cloned()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// The hosts that concern an object: those that it claims, and of its certificates those that lie under one of these.
pub(crate) fn concerning(lb: &HttpLoadBalancer) -> Vec<HostPattern> {
    let mut hosts = claimed(lb);
    let tls = lb.tls.iter().flat_map(|binding| &binding.hosts);
    let covered: Vec<_> = tls.filter(|host| hosts.iter().any(|own| own.covers(host))).cloned().collect();
    hosts.extend(covered);
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// Whether one of an object's rules names a host.
pub(crate) fn names(object: &Object, pattern: &HostPattern) -> bool {
    match &object.spec {
        Spec::HttpLoadBalancer(lb) => lb.rules.iter().any(|rule| rule.hosts.contains(pattern)),
        _ => false,
    }
}

/// Whether a tenant may serve a host.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It may.
    Serves,
    /// The host lies under none of its domains, or where customer hosts may not lie.
    NotAllowed,
    /// The host is another tenant's, by the claim of that object.
    Taken(Arc<Object>),
}

/// Claims to hosts.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    objects: Index<HostPattern, Between>,
    order: BTreeSet<Reversed>,
    wildcards: usize,
    heads: BTreeMap<HostPattern, Aged<Between>>,
}

impl Hosts {
    /// Records that `pattern` concerns `object`.
    pub(crate) fn add(&mut self, pattern: &HostPattern, object: &Arc<Object>) {
        if self.objects.insert(pattern.clone(), object) {
            self.order.insert(Reversed(pattern.clone()));
            self.wildcards += usize::from(pattern.is_wildcard());
        }
    }

    /// Forgets that `pattern` concerns `object`.
    pub(crate) fn remove(&mut self, pattern: &HostPattern, object: &Arc<Object>) {
        if self.objects.remove(pattern, object) {
            self.order.remove(&Reversed(pattern.clone()));
            self.wildcards -= usize::from(pattern.is_wildcard());
        }
    }

    /// Whom that very pattern concerns, oldest first as between tenants.
    pub(crate) fn concerned<'a>(
        &'a self,
        pattern: &HostPattern,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.objects.get(pattern)
    }

    /// Whose rules name that very pattern, of the objects that are `wanted`: tenants in the order of their oldest claims, the
    /// objects of each in its own.
    pub(crate) fn claimants(
        &self,
        pattern: &HostPattern,
        wanted: impl Fn(&Object) -> bool,
    ) -> Vec<&Arc<Object>> {
        let claims = self.concerned(pattern).filter(|object| names(object, pattern) && wanted(object));
        let mut claimants: Vec<_> = claims.collect();
        let mut tenants: BTreeMap<&str, usize> = BTreeMap::new();
        for object in &claimants {
            let next = tenants.len();
            tenants.entry(&object.meta.id.namespace).or_insert(next);
        }
        claimants.sort_by_cached_key(|object| {
            (tenants.get(&*object.meta.id.namespace), Aged::<Within>::new(Arc::clone(object)))
        });
        claimants
    }

    /// All patterns that concern anybody.
    pub(crate) fn all(&self) -> impl Iterator<Item = &HostPattern> {
        self.objects.keys()
    }

    /// All patterns that concern anybody and that a wildcard covers.
    pub(crate) fn below<'a>(&'a self, wildcard: &'a HostPattern) -> impl Iterator<Item = &'a HostPattern> {
        let start = Reversed(HostPattern::Exact(wildcard.name().clone()));
        let from = self.order.range(start..).map(|Reversed(pattern)| pattern);
        from.take_while(|pattern| pattern.name().is_under(wildcard.name()))
            .filter(move |pattern| *pattern != wildcard && wildcard.covers(pattern))
    }

    /// Whether the oldest standing claim to `wildcard` is another than when this was last asked.
    pub(crate) fn head_changed(&mut self, wildcard: &HostPattern, rights: Rights<'_>) -> bool {
        let head = self.head(wildcard, rights).map(|object| Aged::new(Arc::clone(object)));
        if self.heads.get(wildcard) == head.as_ref() {
            return false;
        }
        match head {
            Some(head) => self.heads.insert(wildcard.clone(), head),
            None => self.heads.remove(wildcard),
        };
        true
    }

    /// Whose claim to `pattern` or to a wildcard above it is the oldest that stands.
    pub(crate) fn owner<'a>(&'a self, pattern: &HostPattern, rights: Rights<'_>) -> Option<&'a Arc<Object>> {
        let own = self.head(pattern, rights);
        if self.wildcards == 0 {
            return own;
        }
        let above = wider(pattern);
        let above = above.iter().filter_map(|wildcard| self.head(wildcard, rights));
        own.into_iter().chain(above).min_by_key(|object| Aged::<Between>::new(Arc::clone(object)))
    }

    /// Whether the tenant of `namespace`, who claims `pattern` or a wildcard above it, may serve it.
    pub(crate) fn verdict(&self, namespace: &str, pattern: &HostPattern, rights: Rights<'_>) -> Verdict {
        let Some(sharing) = rights.sharing(namespace, pattern) else { return Verdict::NotAllowed };
        match self.owner(pattern, rights) {
            Some(owner) if *owner.meta.id.namespace != *namespace => {
                let shared = sharing == Sharing::Shared
                    && rights.sharing(&owner.meta.id.namespace, pattern) == Some(Sharing::Shared);
                if shared { Verdict::Serves } else { Verdict::Taken(Arc::clone(owner)) }
            }
            _ => Verdict::Serves,
        }
    }

    /// Whether the owner of `pattern`, if there is one, shares it: with others that do, or with none as yet.
    pub(crate) fn is_shared(&self, pattern: &HostPattern, rights: Rights<'_>) -> bool {
        let owner = self.owner(pattern, rights);
        owner.is_some_and(|owner| rights.sharing(&owner.meta.id.namespace, pattern) == Some(Sharing::Shared))
    }

    fn head<'a>(&'a self, pattern: &HostPattern, rights: Rights<'_>) -> Option<&'a Arc<Object>> {
        self.concerned(pattern).find(|object| {
            names(object, pattern)
                && rights.sharing(&object.meta.id.namespace, pattern).is_some()
                && rights.is_within(object, pattern)
        })
    }
}

/// What tenants are allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights<'a> {
    /// Where the clusters are.
    pub(crate) store: &'a Store,
    /// Where no customer host may lie.
    pub(crate) lb_domain: &'a HostName,
    /// What they may have.
    pub(crate) limits: &'a Ledger,
}

impl Rights<'_> {
    /// How the tenant of `namespace` may claim `pattern`, if at all.
    pub(crate) fn sharing(&self, namespace: &str, pattern: &HostPattern) -> Option<Sharing> {
        if pattern.name().is_under(self.lb_domain) {
            return None;
        }
        allowed(self.store.cluster(namespace)?, pattern)
    }

    /// Whether the claim of `object` to `pattern` is within the limits of its tenant.
    pub(crate) fn is_within(&self, object: &Object, pattern: &HostPattern) -> bool {
        let id = &object.meta.id;
        self.limits.excess(id).is_none() && !self.limits.is_beyond(&id.namespace, pattern)
    }
}

fn allowed(cluster: &Cluster, pattern: &HostPattern) -> Option<Sharing> {
    let length = |suffix: &Option<HostName>| suffix.as_ref().map_or(0, |suffix| suffix.as_str().len());
    let matching = cluster
        .allowed_domains
        .iter()
        .filter(|domain| domain.suffix.as_ref().is_none_or(|suffix| pattern.name().is_under(suffix)));
    // Of two entries for one suffix the exclusive one counts: sharing is what both must say.
    matching
        .max_by_key(|domain| (length(&domain.suffix), domain.sharing == Sharing::Exclusive))
        .map(|domain| domain.sharing)
}

/// The wildcards that cover a pattern, itself left out.
pub(crate) fn wider(pattern: &HostPattern) -> Vec<HostPattern> {
    let name = pattern.name();
    let mut wider = Vec::new();
    let mut above = match pattern {
        HostPattern::Exact(_) => {
            let parent = parent(name);
            wider.extend(parent.clone().map(HostPattern::OneLabel));
            parent
        }
        HostPattern::OneLabel(_) => Some(name.clone()),
        HostPattern::AnyLabels(_) => parent(name),
    };
    while let Some(suffix) = above {
        above = parent(&suffix);
        wider.push(HostPattern::AnyLabels(suffix));
    }
    wider
}

fn parent(name: &HostName) -> Option<HostName> {
    let (_, rest) = name.as_str().split_once('.')?;
    HostName::parse(rest).ok()
}

/// A pattern that sorts by its name read from the end, so that all names under a suffix follow the suffix itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reversed(HostPattern);

impl Ord for Reversed {
    fn cmp(&self, other: &Self) -> Ordering {
        fn bytes(pattern: &HostPattern) -> impl Iterator<Item = u8> {
            pattern.name().as_str().bytes().rev().map(|byte| if byte == b'.' { 0 } else { byte })
        }
        bytes(&self.0).cmp(bytes(&other.0)).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Reversed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_wildcards_cover() {
        for (pattern, expected) in [
            ("x.a.com", &["*.a.com", "**.a.com", "**.com"][..]),
            ("*.a.com", &["**.a.com", "**.com"]),
            ("**.a.com", &["**.com"]),
            ("com", &[]),
            ("a.1", &["*.1", "**.1"]),
        ] {
            let pattern = HostPattern::parse(pattern).unwrap();
            let wider = wider(&pattern);
            assert!(wider.iter().all(|wildcard| wildcard.covers(&pattern)));
            assert_eq!(wider.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{pattern}");
        }
    }

    #[test]
    fn names_under_a_suffix_follow_it() {
        let mut names =
            ["shop.com", "x.shop.com", "my-shop.com", "myshop.com", "y.x.shop.com", "shop-com", "a.org"]
                .map(|name| Reversed(HostPattern::parse(name).unwrap()));
        names.sort();
        let sorted: Vec<_> = names.iter().map(|name| name.0.to_string()).collect();
        let at = sorted.iter().position(|name| name == "shop.com").unwrap();
        assert_eq!(sorted[at + 1..at + 3], ["x.shop.com", "y.x.shop.com"]);
    }
}
