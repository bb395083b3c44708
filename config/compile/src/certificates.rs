//! Which certificates are used, and for which server names.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::host::HostPattern;
use portolan_model::id::ObjectRef;
use portolan_model::intent::{CertificateFacts, KeyAlgorithm, Spec, TlsSecret};

use crate::store::Store;

/// A `Secret` that an object uses: for a server name, or without one as a listener's default.
pub(crate) type Use = (Option<HostPattern>, ObjectRef);

/// Who uses which certificate for what.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    by_user: BTreeMap<ObjectRef, Vec<Use>>,
    by_name: BTreeMap<HostPattern, BTreeMap<ObjectRef, u32>>,
    uses: BTreeMap<ObjectRef, u32>,
}

/// What may have changed in the plan.
#[derive(Debug, Default)]
pub(crate) struct Rebound {
    /// Server names.
    pub(crate) names: BTreeSet<HostPattern>,
    /// Certificates.
    pub(crate) secrets: BTreeSet<ObjectRef>,
}

impl Certificates {
    /// Makes `uses` all that `user` uses.
    pub(crate) fn set(&mut self, user: &ObjectRef, uses: Vec<Use>, rebound: &mut Rebound) {
        for (name, secret) in &uses {
            *self.uses.entry(secret.clone()).or_default() += 1;
            if let Some(name) = name {
                *self.by_name.entry(name.clone()).or_default().entry(secret.clone()).or_default() += 1;
            }
        }
        let old = match uses.is_empty() {
            true => self.by_user.remove(user),
            false => self.by_user.insert(user.clone(), uses.clone()),
        };
        for (name, secret) in old.iter().flatten() {
            release(&mut self.uses, secret);
            if let Some(name) = name
                && let Some(secrets) = self.by_name.get_mut(name)
            {
                release(secrets, secret);
                if secrets.is_empty() {
                    self.by_name.remove(name);
                }
            }
        }
        for (name, secret) in old.into_iter().flatten().chain(uses) {
            rebound.names.extend(name);
            rebound.secrets.insert(secret);
        }
    }

    /// The certificate in that `Secret`, if anybody uses it.
    pub(crate) fn used<'a>(&self, store: &'a Store, secret: &ObjectRef) -> Option<&'a TlsSecret> {
        self.uses.get(secret).and_then(|_| certificate(store, secret))
    }

    /// The certificates of a server name, best first: by the algorithm of their key, then the later end, then the name.
    pub(crate) fn serving(&self, store: &Store, name: &HostPattern) -> Option<Arc<[ObjectRef]>> {
        let mut secrets: Vec<_> = self
            .by_name
            .get(name)?
            .keys()
            .filter_map(|secret| {
                let facts = &certificate(store, secret)?.facts;
                Some((algorithm_rank(facts.key), Reverse(facts.not_after), secret))
            })
            .collect();
        secrets.sort_unstable();
        (!secrets.is_empty()).then(|| secrets.into_iter().map(|(_, _, secret)| secret.clone()).collect())
    }
}

/// Counts one less; what is counted no more is gone.
pub(crate) fn release<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn algorithm_rank(key: KeyAlgorithm) -> u8 {
    match key {
        KeyAlgorithm::Ecdsa => 0,
        KeyAlgorithm::Ed25519 => 1,
        KeyAlgorithm::Rsa => 2,
    }
}

/// The certificate in a `Secret` that counts.
pub(crate) fn certificate<'a>(store: &'a Store, secret: &ObjectRef) -> Option<&'a TlsSecret> {
    match &store.live(secret)?.spec {
        Spec::Secret(secret) => Some(secret),
        _ => None,
    }
}

/// What is said where a `Secret` is named, `field`, that holds no certificate; `wrong` is what is wrong with the one of that name.
pub(crate) fn no_certificate(field: String, secret: &ObjectRef, wrong: Option<&[Condition]>) -> Condition {
    let message = match wrong.and_then(<[_]>::first) {
        Some(Condition { field, message, .. }) => format!("{secret} is invalid: {field}: {message}"),
        None => format!("{secret} does not exist as one of type kubernetes.io/tls"),
    };
    Condition::new(ConditionType::ResolvedRefs, Reason::CertificateNotFound, field, message)
}

/// The server name under which a certificate serves a host pattern, if it covers it. A certificate's wildcard spans one
/// label, so of a pattern that spans any number it serves the first.
pub(crate) fn covered(facts: &CertificateFacts, host: &HostPattern) -> Option<HostPattern> {
    let served = match host {
        HostPattern::AnyLabels(suffix) => HostPattern::OneLabel(suffix.clone()),
        _ => host.clone(),
    };
    facts.names.iter().any(|name| name.covers(&served)).then_some(served)
}
