//! What has an `Ingress` to say in its status?
//!
//! Ours is one entry, the generated host name; it is known by its form, `<label>.<cluster>.…`, whatever the lb domain is or was. Entries of
//! others are kept as they are; where a class is adopted and its own controller is there, nothing is written at all.
//! Cost: a hash or two per entry.

use portolan_model::naming;

use super::INGRESS;
use super::class::Owner;
use crate::view::{Key, StatusEntry};

/// Whether an entry was written here for that `Ingress`.
pub fn is_own(entry: &StatusEntry, cluster: &str, key: &Key) -> bool {
    let Some(host) = entry.hostname.as_deref().filter(|_| entry.ip.is_none()) else { return false };
    let mut labels = host.splitn(3, '.');
    let (Some(label), Some(second)) = (labels.next(), labels.next()) else { return false };
    second == cluster && naming::labels(INGRESS, &key.namespace, &key.name).any(|own| own == label)
}

/// What the status is to be, if it is to be another. `host` is the generated name, where it is known.
pub fn wanted(
    owner: Owner,
    current: &[StatusEntry],
    host: Option<&str>,
    cluster: &str,
    key: &Key,
) -> Option<Vec<StatusEntry>> {
    let (own, foreign): (Vec<_>, Vec<_>) =
        current.iter().cloned().partition(|entry| is_own(entry, cluster, key));
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
