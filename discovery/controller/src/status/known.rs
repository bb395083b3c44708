//! The objects that have a status, as they stand in the API server: not what they say, which is the compiler's.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use portolan_api::kinds::{AgentStatus, Counts};
use portolan_model::id::{Kind, ObjectRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The status of an object of any of our kinds: the fields of all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Standing {
    /// Of an `HTTPLoadBalancer`: its generated host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    /// Of an `HTTPLoadBalancer`: where clients reach it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) addresses: Vec<String>,
    /// Of a `Cluster`: what its generated names end in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host_suffix: Option<String>,
    /// Of a `Cluster`: its agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<AgentStatus>,
    /// Of a `Cluster`: what it has in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) counts: Option<Counts>,
    /// Of all.
    pub(crate) conditions: Vec<Condition>,
}

impl Standing {
    /// Whether what is here says all of `wanted`; conditions of others beside ours do not matter.
    pub(crate) fn says(&self, wanted: &Self) -> bool {
        let conditions = wanted.conditions.iter().all(|condition| self.conditions.contains(condition));
        conditions
            && (&self.host, &self.addresses, &self.host_suffix, &self.agent, &self.counts)
                == (&wanted.host, &wanted.addresses, &wanted.host_suffix, &wanted.agent, &wanted.counts)
    }
}

/// An object as a watch shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) id: ObjectRef,
    uid: Arc<str>,
    generation: i64,
    version: u64,
    standing: Standing,
}

impl Seen {
    /// An object with this metadata and status. `None` where a server leaves out what every object has.
    pub(crate) fn of(kind: Kind, meta: ObjectMeta, status: Option<Value>) -> Option<Self> {
        let id = ObjectRef::new(kind, meta.namespace.unwrap_or_default(), meta.name?);
        Some(Self {
            id,
            uid: meta.uid?.into(),
            generation: meta.generation.unwrap_or_default(),
            version: meta.resource_version?.parse().ok()?,
            // What cannot be read is written anew.
            standing: status.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default(),
        })
    }
}

/// What is known of one object.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Tells it from one of the same name before or after.
    pub(crate) uid: Arc<str>,
    /// Of what it says now.
    pub(crate) generation: i64,
    /// The first version at which this generation was seen: whoever has read this far knows it.
    pub(crate) since: u64,
    /// Its status.
    pub(crate) standing: Standing,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    objects: BTreeMap<ObjectRef, Entry>,
    since: BTreeSet<(Kind, u64, ObjectRef)>,
}

impl Known {
    pub(crate) fn get(&self, id: &ObjectRef) -> Option<&Entry> {
        self.objects.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &ObjectRef) -> Option<&mut Entry> {
        self.objects.get_mut(id)
    }

    /// An object is there, as seen.
    pub(crate) fn apply(&mut self, seen: Seen) {
        let Seen { id, uid, generation, version, standing } = seen;
        let before = self.objects.get(&id);
        let same = before.filter(|before| (&before.uid, before.generation) == (&uid, generation));
        let since = same.map_or(version, |same| same.since);
        if let Some(before) = before.filter(|before| before.since != since) {
            self.since.remove(&(id.kind, before.since, id.clone()));
        }
        self.since.insert((id.kind, since, id.clone()));
        self.objects.insert(id, Entry { uid, generation, since, standing });
    }

    /// An object is gone.
    pub(crate) fn delete(&mut self, id: &ObjectRef) {
        if let Some(entry) = self.objects.remove(id) {
            self.since.remove(&(id.kind, entry.since, id.clone()));
        }
    }

    /// These are all of a kind: the others, which are gone.
    pub(crate) fn retain(&mut self, kind: Kind, there: &HashSet<ObjectRef>) -> Vec<ObjectRef> {
        let gone: Vec<_> = self.of_kind(kind).filter(|id| !there.contains(id)).cloned().collect();
        for id in &gone {
            self.delete(id);
        }
        gone
    }

    /// All of a kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &ObjectRef> {
        self.between(kind, 0..=u64::MAX)
    }

    /// Those of a kind whose generation was seen first at one of these versions.
    pub(crate) fn between(
        &self,
        kind: Kind,
        versions: RangeInclusive<u64>,
    ) -> impl Iterator<Item = &ObjectRef> {
        let lowest = ObjectRef::cluster_scoped(Kind::ALL[0], "");
        let from = (kind, *versions.start(), lowest);
        let last = *versions.end();
        let range = self.since.range(from..);
        range.take_while(move |(of, since, _)| *of == kind && *since <= last).map(|(_, _, id)| id)
    }

    /// All.
    pub(crate) fn all(&self) -> impl Iterator<Item = &ObjectRef> {
        self.objects.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(kind: Kind, name: &str, uid: &str, generation: i64, version: u64) -> Seen {
        Seen {
            id: ObjectRef::new(kind, "tenant-paris", name),
            uid: uid.into(),
            generation,
            version,
            standing: Standing::default(),
        }
    }

    #[test]
    fn a_generation_is_known_since_it_was_seen_first() {
        let mut known = Known::default();
        let id = ObjectRef::new(Kind::UpstreamPool, "tenant-paris", "shop");
        for (uid, generation, version, since) in
            [("u", 1, 10, 10), ("u", 1, 11, 10), ("u", 2, 12, 12), ("u", 2, 15, 12), ("v", 2, 20, 20)]
        {
            known.apply(seen(Kind::UpstreamPool, "shop", uid, generation, version));
            assert_eq!(known.get(&id).unwrap().since, since, "{uid} {generation} {version}");
            assert_eq!(known.since.len(), 1);
        }
    }

    #[test]
    fn objects_are_found_by_the_version_of_their_generation() {
        let mut known = Known::default();
        for (kind, name, version) in [
            (Kind::UpstreamPool, "a", 10),
            (Kind::UpstreamPool, "b", 20),
            (Kind::UpstreamPool, "c", 20),
            (Kind::NodeSet, "d", 15),
        ] {
            known.apply(seen(kind, name, name, 1, version));
        }
        let names = |known: &Known, versions| {
            known.between(Kind::UpstreamPool, versions).map(|id| id.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&known, 11..=20), ["b", "c"]);
        assert_eq!(names(&known, 0..=19), ["a"]);
        let there = HashSet::from([ObjectRef::new(Kind::UpstreamPool, "tenant-paris", "b")]);
        assert_eq!(known.retain(Kind::UpstreamPool, &there).len(), 2);
        assert_eq!(names(&known, 0..=u64::MAX), ["b"]);
        assert_eq!(known.all().count(), 2);
    }
}
