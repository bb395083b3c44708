//! What has an `Ingress` to say in its status?
//!
//! Ours is one entry, the generated host name; it is known by its form, `<label>.<cluster>.…`, whatever the lb domain is or was. Under the lb domain
//! of today the cluster may be another: the name is left from a time in which this was another `Cluster`. Labels do not depend on it. Entries of
//! others are kept as they are; where a class is adopted and its own controller is there, nothing is written at all.
//! Cost: a hash or two per entry.

use portolan_model::naming;

use super::INGRESS;
use super::class::Owner;
use crate::view::{Key, Settings, StatusEntry};

/// Whose generated names are ours.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// The name of the cluster.
    pub cluster: &'a str,
    /// The lb domain, where it is known.
    pub domain: Option<&'a str>,
}

impl<'a> Own<'a> {
    /// Those of the cluster of that name, as the LB cluster says.
    pub fn of(cluster: &'a str, settings: &'a Settings) -> Self {
        Self { cluster, domain: settings.domain.as_deref() }
    }
}

/// Whether an entry was written here for that `Ingress`.
pub fn is_own(entry: &StatusEntry, own: Own<'_>, key: &Key) -> bool {
    let Some(host) = entry.hostname.as_deref().filter(|_| entry.ip.is_none()) else { return false };
    let Own { cluster, domain } = own;
    naming::is_generated_ever(host, cluster, domain, INGRESS, &key.namespace, &key.name)
}

/// What the status is to be, if it is to be another. `host` is the generated name, where it is known.
pub fn wanted(
    owner: Owner,
    current: &[StatusEntry],
    host: Option<&str>,
    names: Own<'_>,
    key: &Key,
) -> Option<Vec<StatusEntry>> {
    let (own, foreign): (Vec<_>, Vec<_>) =
        current.iter().cloned().partition(|entry| is_own(entry, names, key));
    let ours = match owner {
        Owner::Foreign => None,
        Owner::Adopted if !foreign.is_empty() => None,
        // Until its name is known, what stands there stays.
        Owner::Own | Owner::Adopted if host.is_none() => return None,
        Owner::Own | Owner::Adopted => host,
    };
    let ours = ours.map(|host| StatusEntry { hostname: Some(host.into()), ..StatusEntry::default() });
    if own.iter().eq(&ours) {
        return None;
    }
    Some(foreign.into_iter().chain(ours).collect())
}
