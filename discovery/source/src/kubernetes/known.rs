//! What is known of the objects of an API server, and what does news of them come to?
//!
//! Of each object its id and its version alone are kept. Invariant: the deltas handed out so far, applied in order, come to what
//! the news so far say. Where a collection is listed again, what stayed is no change, and what is not in the list is gone.
//! Pure. Cost: a hash look-up per object; only what is new is read.

use std::collections::HashMap;
use std::sync::Arc;

use portolan_api::{Checks, Names};
use portolan_model::id::{Kind, ObjectRef, SYSTEM_NAMESPACE};
use portolan_model::intent::Delta;

use super::item::Item;
use super::resource::{self, Read};
use crate::versions::Versions;

/// What is listed and watched as one: all objects of a kind, or those in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Collection {
    pub(crate) kind: Kind,
    /// As the server calls it.
    pub(crate) namespace: Option<Arc<str>>,
}

impl std::fmt::Display for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The plurals as the API has them.
        let path = resource::path(self.kind, None);
        let plural = path.rsplit('/').next().unwrap_or_default();
        match &self.namespace {
            Some(namespace) => write!(f, "{plural} in {namespace}"),
            None => f.write_str(plural),
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Known {
    checks: Checks,
    names: Names,
    /// What the server calls [`SYSTEM_NAMESPACE`].
    system: String,
    collections: HashMap<Collection, Objects>,
    /// Of all that is whole.
    versions: Versions,
}

#[derive(Debug, Default)]
struct Objects {
    by_id: HashMap<ObjectRef, Entry>,
    /// Of which list an object has to be to be there.
    round: u32,
    /// Whether nothing is missing, as it is while a list is on its way, whose order is not that of the versions.
    whole: bool,
    /// The highest version since its list began.
    highest: u64,
}

impl Objects {
    fn saw(&mut self, kind: Kind, version: u64, versions: &mut Versions) {
        self.highest = version.max(self.highest);
        if self.whole {
            versions.raise(kind, self.highest);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// See [`Version`](super::item::Version).
    hash: u64,
    round: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was applied.
    Applied,
    /// It was said to be invalid.
    Invalid,
    /// Nobody knows of it.
    Ignored,
}

/// What news of an object that is there come to.
#[derive(Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) id: ObjectRef,
    pub(crate) delta: Option<Delta>,
    /// Whether this version of the object is the last good one.
    pub(crate) keep: bool,
}

impl Known {
    pub(crate) fn new(checks: Checks, system: String) -> Self {
        Self {
            checks,
            names: Names::default(),
            system,
            collections: HashMap::new(),
            versions: Versions::new(),
        }
    }

    /// What all that was handed out so far contains.
    pub(crate) fn versions(&self) -> &Versions {
        &self.versions
    }

    /// The collections that anything is known of.
    pub(crate) fn collections(&self) -> impl Iterator<Item = &Collection> {
        self.collections.keys()
    }

    /// The names of the objects in a collection.
    pub(crate) fn names(&self, of: &Collection) -> impl Iterator<Item = &Arc<str>> {
        self.collections.get(of).into_iter().flat_map(|objects| objects.by_id.keys().map(|id| &id.name))
    }

    /// A list begins.
    pub(crate) fn begin(&mut self, of: &Collection) {
        let objects = self.collections.entry(of.clone()).or_default();
        objects.round = objects.round.wrapping_add(1);
        objects.whole = false;
        // What is from the disk may be of a server that was made anew since, which counts anew.
        objects.highest = 0;
    }

    /// An object is there.
    pub(crate) fn object(&mut self, of: &Collection, item: &Item) -> Change {
        let id = self.id(of, item);
        let objects = self.collections.entry(of.clone()).or_default();
        objects.saw(of.kind, item.version.number, &mut self.versions);
        let round = objects.round;
        let before = objects.by_id.get_mut(&id).map(|entry| {
            entry.round = round;
            *entry
        });
        if let Some(before) = before
            && before.hash == item.version.hash
        {
            return Change { id, delta: None, keep: before.state == State::Applied };
        }
        let (state, id, delta) = match resource::read(of.kind, &item.text, &self.checks, &mut self.names) {
            Read::Object(mut object) => {
                // The same names as in the object, where they may be long-lived.
                object.meta.id.namespace = id.namespace;
                (State::Applied, object.meta.id.clone(), Some(Delta::Apply(Arc::new(*object))))
            }
            Read::Invalid(conditions) => (State::Invalid, id.clone(), Some(Delta::Invalid(id, conditions))),
            Read::Ignored => {
                let told = before.is_some_and(|before| before.state != State::Ignored);
                (State::Ignored, id.clone(), told.then_some(Delta::Delete(id)))
            }
        };
        objects.by_id.insert(id.clone(), Entry { hash: item.version.hash, round, state });
        Change { id, delta, keep: state == State::Applied }
    }

    /// An object is gone; its id, if anybody knows of it.
    pub(crate) fn gone(&mut self, of: &Collection, item: &Item) -> Option<ObjectRef> {
        let id = self.id(of, item);
        let objects = self.collections.get_mut(of)?;
        objects.saw(of.kind, item.version.number, &mut self.versions);
        let before = objects.by_id.remove(&id)?;
        (before.state != State::Ignored).then_some(id)
    }

    /// A list ends; the ids of those that are gone.
    pub(crate) fn end(&mut self, of: &Collection) -> Vec<ObjectRef> {
        let Some(objects) = self.collections.get_mut(of) else { return Vec::new() };
        let (round, highest) = (objects.round, objects.highest);
        objects.whole = true;
        objects.saw(of.kind, highest, &mut self.versions);
        let gone = objects.by_id.extract_if(|_, entry| entry.round != round);
        gone.filter(|(_, entry)| entry.state != State::Ignored).map(|(id, _)| id).collect()
    }

    /// A collection is of no interest any more; the ids of its objects.
    pub(crate) fn forget(&mut self, of: &Collection) -> Vec<ObjectRef> {
        let objects = self.collections.remove(of).unwrap_or_default().by_id;
        objects.into_iter().filter(|(_, entry)| entry.state != State::Ignored).map(|(id, _)| id).collect()
    }

    /// What an object is called: in the model the system namespace has one name wherever it is.
    fn id(&mut self, of: &Collection, item: &Item) -> ObjectRef {
        let system = resource::is_by_namespace(of.kind) && item.namespace == self.system;
        let namespace = if system { SYSTEM_NAMESPACE } else { &item.namespace };
        ObjectRef::new(of.kind, self.names.share(namespace), item.name.as_str())
    }
}

#[cfg(test)]
mod tests;
