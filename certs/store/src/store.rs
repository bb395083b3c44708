//! Which certificate serves which server name? The index of one Snapshot.
//!
//! A store is a value: a clone copies pointers, and [`CertStore::apply`] to a clone leaves the other alone. Keys are parsed
//! when a handshake first asks for them, and stay parsed in all stores that share the certificate, so that neither start-up nor
//! memory pays for certificates that nobody uses.
//!
//! Invariant: a name resolves to its exact entry, else to the wildcard in place of its first label: a certificate's wildcard spans
//! one label, and the compiler names hosts of more accordingly. Cost: a look-up is two hashes at most and no allocation; a
//! replaced certificate one insertion, however many names it serves.

use std::fmt;
use std::sync::{Arc, OnceLock};

use portolan_model::host::{HostPattern, normalize};
use portolan_model::id::ObjectRef;
use portolan_model::intent::{CertificateFacts, KeyAlgorithm, TlsSecret};
use portolan_model::shard::ShardedMap;
use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;
use serde::Serialize;

use crate::facts::certified_key;

/// Certificates by server name; see the module's documentation.
#[derive(Clone, Default)]
pub struct CertStore {
    certificates: ShardedMap<ObjectRef, Arc<Certificate>>,
    exact: ShardedMap<Arc<str>, Arc<[ObjectRef]>>,
    one_label: ShardedMap<Arc<str>, Arc<[ObjectRef]>>,
}

/// A certificate as `/certificates` lists it: no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its `Secret`.
    pub secret: ObjectRef,
    /// What it says.
    #[serde(flatten)]
    pub facts: CertificateFacts,
}

struct Certificate {
    secret: Arc<TlsSecret>,
    key: OnceLock<Option<Arc<CertifiedKey>>>,
}

impl fmt::Debug for CertStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.exact.len() + self.one_label.len();
        f.debug_struct("CertStore")
            .field("certificates", &self.certificates.len())
            .field("names", &names)
            .finish()
    }
}

impl Certificate {
    /// The parsed pair; `None` where it cannot be parsed, which whoever read the `Secret` has ruled out.
    fn certified(&self) -> Option<&Arc<CertifiedKey>> {
        let parse = || certified_key(&self.secret.chain, &self.secret.key.0).ok().map(Arc::new);
        self.key.get_or_init(parse).as_ref()
    }
}

impl CertStore {
    /// Makes this store the one that an update of the Plan leads to: new values by key, `None` where the key is gone.
    pub fn apply(
        &mut self,
        certificates: &[(ObjectRef, Option<Arc<TlsSecret>>)],
        server_names: &[(HostPattern, Option<Arc<[ObjectRef]>>)],
    ) {
        for (id, secret) in certificates {
            let fresh = |secret: &Arc<TlsSecret>| {
                Arc::new(Certificate { secret: Arc::clone(secret), key: OnceLock::new() })
            };
            self.certificates.set(id.clone(), secret.as_ref().map(fresh));
        }
        for (pattern, entry) in server_names {
            let names = match pattern {
                HostPattern::Exact(_) => &mut self.exact,
                // No certificate spans more labels than one.
                HostPattern::OneLabel(_) | HostPattern::AnyLabels(_) => &mut self.one_label,
            };
            names.set(pattern.name().as_str().into(), entry.clone());
        }
    }

    /// The certificates that serve a name, best first, in whatever spelling the client sent it; `None` where no pattern
    /// matches.
    pub fn resolve(&self, server_name: &str) -> Option<&Arc<[ObjectRef]>> {
        let name = normalize(server_name)?;
        if let Some(entry) = self.exact.get(&*name) {
            return Some(entry);
        }
        let (label, suffix) = name.split_once('.')?;
        self.one_label.get(suffix).filter(|_| !label.is_empty())
    }

    /// Whether requests for `host` may come over a connection that was opened for `server_name` (`None` without
    /// SNI): both are served with some certificate in common, or neither has any of its own and the listener's default serves
    /// both. What fails this is misdirected: 421, RFC 9110 §15.5.20.
    pub fn may_share_connection(&self, server_name: Option<&str>, host: &str) -> bool {
        match (server_name.and_then(|name| self.resolve(name)), self.resolve(host)) {
            (Some(opened), Some(wanted)) => {
                Arc::ptr_eq(opened, wanted) || opened.iter().any(|secret| wanted.contains(secret))
            }
            (None, None) => true,
            _ => false,
        }
    }

    /// The certificate among `candidates` that this client can use: ECDSA before others, for its handshakes cost a
    /// fraction of RSA's, else in their order. Where the client can use none, the first, so that the handshake
    /// fails for that reason.
    pub(crate) fn choose(
        &self,
        candidates: &[ObjectRef],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let usable = |ecdsa: bool| {
            candidates
                .iter()
                .filter_map(|id| self.certificates.get(id))
                .filter(move |certificate| (certificate.secret.facts.key == KeyAlgorithm::Ecdsa) == ecdsa)
                .filter_map(|certificate| certificate.certified())
        };
        let mut by_preference = usable(true).chain(usable(false));
        by_preference
            .find(|certified| certified.key.choose_scheme(schemes).is_some())
            .or_else(|| candidates.iter().find_map(|id| self.certificates.get(id)?.certified()))
            .map(Arc::clone)
    }

    /// Whether any of these certificates is there.
    pub(crate) fn has_any(&self, candidates: &[ObjectRef]) -> bool {
        candidates.iter().any(|id| self.certificates.get(id).is_some())
    }

    /// Every certificate, those that expire first in front.
    pub fn listing(&self) -> Vec<Listed> {
        let list = |(id, certificate): (&ObjectRef, &Arc<Certificate>)| Listed {
            secret: id.clone(),
            facts: certificate.secret.facts.clone(),
        };
        let mut listing: Vec<Listed> = self.certificates.iter().map(list).collect();
        listing.sort_by(|a, b| (a.facts.not_after, &a.secret).cmp(&(b.facts.not_after, &b.secret)));
        listing
    }

    /// When the first certificate expires, in seconds since 1970.
    pub fn earliest_expiry(&self) -> Option<i64> {
        self.certificates.iter().map(|(_, certificate)| certificate.secret.facts.not_after).min()
    }
}

#[cfg(test)]
mod tests;
