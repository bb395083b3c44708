//! Which file declares which object, and what does a change of some files come to?
//!
//! An object that several files declare counts as in the first of them by name; within one file, by place. Invariant: the
//! deltas handed out so far, applied in order, are exactly the objects that count now. Cost: a change costs what the files that
//! changed hold, plus a hash look-up per object in them.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use portolan_model::condition::Condition;
use portolan_model::id::ObjectRef;
use portolan_model::intent::{Delta, Object};

/// One object as one file declares it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// It can be used.
    Valid(Arc<Object>),
    /// It cannot; its last good version stays in force.
    Invalid(Arc<(ObjectRef, Vec<Condition>)>),
}

impl Entry {
    pub(crate) fn id(&self) -> &ObjectRef {
        match self {
            Self::Valid(object) => &object.meta.id,
            Self::Invalid(invalid) => &invalid.0,
        }
    }

    fn line(&self) -> u32 {
        match self {
            Self::Valid(object) => object.meta.place.as_ref().map_or(1, |place| place.line),
            Self::Invalid(_) => 1,
        }
    }

    fn delta(&self) -> Delta {
        match self {
            Self::Valid(object) => Delta::Apply(Arc::clone(object)),
            Self::Invalid(invalid) => Delta::Invalid(invalid.0.clone(), invalid.1.clone()),
        }
    }
}

/// Where an object is declared: a file, and the place among its entries.
type At = (u32, u32);

/// One place, but for duplicates; these are rare, and what they take must not make the others larger.
#[derive(Debug)]
enum Places {
    One(At),
    #[expect(clippy::box_collection, reason = "keeps the common case at two words")]
    Several(Box<Vec<At>>),
}

impl Places {
    fn as_slice(&self) -> &[At] {
        match self {
            Self::One(at) => std::slice::from_ref(at),
            Self::Several(places) => places,
        }
    }
}

/// An object with the places where it is declared, in the order in which they count. One of its declarations names it: a key of
/// its own would take more memory than all the rest.
#[derive(Debug)]
struct Declared {
    entry: Entry,
    places: Places,
}

impl Borrow<ObjectRef> for Declared {
    fn borrow(&self) -> &ObjectRef {
        self.entry.id()
    }
}

impl Hash for Declared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entry.id().hash(state);
    }
}

impl PartialEq for Declared {
    fn eq(&self, other: &Self) -> bool {
        self.entry.id() == other.entry.id()
    }
}

impl Eq for Declared {}

#[derive(Debug)]
struct File {
    name: Arc<str>,
    entries: Box<[Entry]>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Index {
    files: Vec<Option<File>>,
    free: Vec<u32>,
    by_name: BTreeMap<Arc<str>, u32>,
    objects: HashSet<Declared>,
}

/// A change that is being collected: what counted before it, by object, and what did not where something did not.
#[derive(Debug, Default)]
pub(crate) struct Change {
    before: BTreeMap<ObjectRef, Option<Entry>>,
    losers: BTreeMap<ObjectRef, Vec<Duplicate>>,
}

/// A declaration that another one keeps from counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Duplicate {
    /// What it declares.
    pub(crate) id: ObjectRef,
    /// Where it stands.
    pub(crate) file: Arc<str>,
    pub(crate) line: u32,
    /// Where the one stands that counts.
    pub(crate) first_file: Arc<str>,
    pub(crate) first_line: u32,
}

impl Index {
    /// What a file declares.
    pub(crate) fn entries(&self, file: &str) -> &[Entry] {
        let file = self.by_name.get(file).and_then(|&number| self.files[number as usize].as_ref());
        file.map_or(&[], |file| &file.entries)
    }

    /// Says what a file declares from now on; nothing where it is gone.
    pub(crate) fn set(&mut self, change: &mut Change, name: &Arc<str>, entries: Vec<Entry>) {
        let number = self.by_name.get(&**name).copied();
        let old = number.and_then(|number| self.files[number as usize].as_ref());
        for entry in old.map_or(&[][..], |file| &file.entries).iter().chain(&entries) {
            if !change.before.contains_key(entry.id()) {
                change.before.insert(entry.id().clone(), self.winner(entry.id()).cloned());
                let losers: Vec<_> = self.losers(entry.id()).collect();
                if !losers.is_empty() {
                    change.losers.insert(entry.id().clone(), losers);
                }
            }
        }
        if let Some(number) = number {
            self.forget(number);
        }
        if entries.is_empty() {
            return;
        }
        let number = self.free.pop().unwrap_or(self.files.len() as u32);
        for (place, entry) in (0u32..).zip(&entries) {
            self.declare(entry, (number, place), name);
        }
        let file = Some(File { name: Arc::clone(name), entries: entries.into() });
        match self.files.get_mut(number as usize) {
            Some(slot) => *slot = file,
            None => self.files.push(file),
        }
        self.by_name.insert(Arc::clone(name), number);
    }

    /// What the change comes to, in the order of kinds and names, and the files whose duplicates are others than before.
    pub(crate) fn finish(&self, mut change: Change) -> (Vec<Delta>, BTreeSet<Arc<str>>) {
        let (mut deltas, mut files) = (Vec::new(), BTreeSet::new());
        for (id, before) in change.before {
            match self.winner(&id) {
                None if before.is_some() => deltas.push(Delta::Delete(id.clone())),
                Some(entry) if before.as_ref() != Some(entry) => deltas.push(entry.delta()),
                _ => {}
            }
            let before = change.losers.remove(&id).unwrap_or_default();
            let now: Vec<_> = self.losers(&id).collect();
            if before != now {
                files.extend(before.into_iter().chain(now).map(|duplicate| duplicate.file));
            }
        }
        (deltas, files)
    }

    /// The declarations in a file that do not count.
    pub(crate) fn duplicates(&self, file: &str) -> Vec<Duplicate> {
        let Some(&number) = self.by_name.get(file) else { return Vec::new() };
        let places = (0u32..).map(|place| (number, place)).zip(self.entries(file));
        places.filter_map(|(at, entry)| self.duplicate(at, *self.places(entry.id()).first()?)).collect()
    }

    /// The declarations of an object that do not count.
    fn losers(&self, id: &ObjectRef) -> impl Iterator<Item = Duplicate> {
        let places = self.places(id);
        places.iter().filter_map(|&at| self.duplicate(at, places[0]))
    }

    /// The declaration at a place, unless it is the first.
    fn duplicate(&self, at: At, first: At) -> Option<Duplicate> {
        if at == first {
            return None;
        }
        let ((file, entry), (first_file, first)) = (self.at(at)?, self.at(first)?);
        Some(Duplicate {
            id: entry.id().clone(),
            file: Arc::clone(file),
            line: entry.line(),
            first_file: Arc::clone(first_file),
            first_line: first.line(),
        })
    }

    /// Where an object is declared, in the order in which it counts.
    fn places(&self, id: &ObjectRef) -> &[At] {
        self.objects.get(id).map_or(&[], |declared| declared.places.as_slice())
    }

    fn at(&self, (file, place): At) -> Option<(&Arc<str>, &Entry)> {
        let file = self.files.get(file as usize)?.as_ref()?;
        Some((&file.name, file.entries.get(place as usize)?))
    }

    /// The declaration that counts.
    fn winner(&self, id: &ObjectRef) -> Option<&Entry> {
        let first = self.places(id).first()?;
        self.at(*first).map(|(_, entry)| entry)
    }

    fn declare(&mut self, entry: &Entry, at: At, name: &str) {
        let files = &self.files;
        let name_of =
            |(file, _): &At| files.get(*file as usize).and_then(Option::as_ref).map(|file| &*file.name);
        let places = match self.objects.take(entry.id()) {
            None => Places::One(at),
            Some(Declared { places, .. }) => {
                let mut several = places.as_slice().to_vec();
                // The file itself is not in the table yet.
                let earlier = several
                    .iter()
                    .take_while(|other| other.0 == at.0 || name_of(other).is_some_and(|other| other < name))
                    .count();
                several.insert(earlier, at);
                Places::Several(Box::new(several))
            }
        };
        self.objects.insert(Declared { entry: entry.clone(), places });
    }

    fn forget(&mut self, number: u32) {
        let Some(file) = self.files.get_mut(number as usize).and_then(Option::take) else { return };
        self.by_name.remove(&file.name);
        self.free.push(number);
        for entry in &file.entries {
            let Some(Declared { places, .. }) = self.objects.take(entry.id()) else { continue };
            let mut rest: Vec<At> = places.as_slice().to_vec();
            rest.retain(|place| place.0 != number);
            let Some(&first) = rest.first() else { continue };
            let Some((_, entry)) = self.at(first) else { continue };
            let entry = entry.clone();
            let places = if rest.len() == 1 { Places::One(first) } else { Places::Several(Box::new(rest)) };
            self.objects.insert(Declared { entry, places });
        }
    }
}

#[cfg(test)]
mod tests;
