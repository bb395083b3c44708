//! What was found in the LB cluster, and in what order things are written there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Kept, Source};
use crate::ledger::{Ledger, May, Op};
use crate::names;
use crate::objects::{Endpoints, Found, FoundLoadBalancer, Id, Kind};
use crate::translate::PoolSource;
use crate::view::{Change, Key, Name, Shelf};

/// The ports of a `Service` for which its companion is used, each with how often.
pub(super) struct Users {
    pub(super) service: Key,
    ports: BTreeMap<u16, u32>,
}

impl Users {
    pub(super) fn of(service: Key) -> Self {
        Self { service, ports: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, port: u16) {
        *self.ports.entry(port).or_default() += 1;
    }

    /// Takes one away, and says whether it was the last.
    pub(super) fn remove(&mut self, port: u16) -> bool {
        if let Some(count) = self.ports.get_mut(&port) {
            *count -= 1;
            if *count == 0 {
                self.ports.remove(&port);
            }
        }
        self.ports.is_empty()
    }

    pub(super) fn ports(&self) -> BTreeSet<u16> {
        self.ports.keys().copied().collect()
    }
}

/// What was found, by kind, and which `HTTPLoadBalancer`s name what.
#[derive(Default)]
pub(super) struct FoundShelves {
    shelves: [Shelf<Name, Found>; 5],
    named_by: HashMap<Id, BTreeSet<Name>>,
}

impl FoundShelves {
    pub(super) fn apply(
        &mut self,
        kind: Kind,
        change: Change<Name, Found>,
        mut changed: impl FnMut(&Id, Option<&Found>, Option<&Found>),
    ) {
        let named_by = &mut self.named_by;
        self.shelves[kind as usize].apply(change, |name, old, new| {
            let uses = |found: Option<&Found>| -> Vec<Id> {
                let found = found.and_then(|found| found.load_balancer.as_ref());
                found.map(|found| found.uses.to_vec()).unwrap_or_default()
            };
            for used in uses(old.as_ref()) {
                if let Some(names) = named_by.get_mut(&used) {
                    names.remove(name);
                    if names.is_empty() {
                        named_by.remove(&used);
                    }
                }
            }
            for used in uses(new) {
                named_by.entry(used).or_default().insert(Arc::clone(name));
            }
            changed(&Id { kind, name: Arc::clone(name) }, old.as_ref(), new);
        });
    }

    pub(super) fn listed(&self) -> bool {
        self.shelves.iter().all(Shelf::listed)
    }

    pub(super) fn len(&self, kind: Kind) -> usize {
        self.shelves[kind as usize].len()
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Found> {
        self.shelves[id.kind as usize].get(&id.name)
    }

    pub(super) fn load_balancer(&self, name: &str) -> Option<&FoundLoadBalancer> {
        self.shelves[Kind::LoadBalancer as usize].get(&name.into())?.load_balancer.as_deref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, &Found)> {
        Kind::ALL.into_iter().flat_map(|kind| {
            let found = self.shelves[kind as usize].iter();
            found.map(move |(name, found)| (Id { kind, name: Arc::clone(name) }, found))
        })
    }

    /// Whether an `HTTPLoadBalancer` that is there leads to the cluster's own gateway; nothing where it leads nowhere.
    pub(super) fn leads_to_gateway(&self, name: &str) -> Option<bool> {
        let pools = self.load_balancer(name)?.uses.iter().filter(|used| used.kind == Kind::Pool);
        let mut there = pools.filter(|pool| self.get(pool).is_some());
        there.next().map(|pool| names::is_ingress_pool(&pool.name))
    }

    /// Whether an `HTTPLoadBalancer` names it that is not as it is wanted.
    fn is_named(&self, ledger: &Ledger<Id>, id: &Id) -> bool {
        let names = self.named_by.get(id).into_iter().flatten();
        names.cloned().any(|name| !ledger.is_right(&Id { kind: Kind::LoadBalancer, name }))
    }
}

/// What a pool needs.
pub(super) struct Needs {
    /// Whether it is reached as before, until it can be as the cluster says.
    pub(super) stays: bool,
    /// Where its endpoints are to stand.
    pub(super) endpoints: Endpoints,
    /// The copies of slices that hold them, or are to when it has moved.
    pub(super) slices: BTreeSet<Name>,
}

impl Needs {
    fn slices(&self) -> impl Iterator<Item = Id> {
        self.slices.iter().map(|name| Id { kind: Kind::Slice, name: Arc::clone(name) })
    }
}

/// What the order of writes follows from.
pub(super) struct Order<'a> {
    pub(super) found: &'a FoundShelves,
    pub(super) sources: &'a HashMap<Id, Source>,
    pub(super) kept: &'a HashMap<Key, Kept>,
    pub(super) needs: &'a HashMap<PoolSource, Needs>,
}

impl Order<'_> {
    /// Whether something may be written now: what an `HTTPLoadBalancer` needs before it, and what none needs any more after.
    pub(super) fn may(&self, ledger: &Ledger<Id>, id: &Id, op: Op) -> May {
        let Self { found, sources, kept, needs } = *self;
        let of_pool = |id: &Id| match sources.get(id) {
            Some(Source::Pool(source)) => needs.get(source),
            _ => None,
        };
        let comes_first = |needed: Id| ledger.is_to_come(&needed);
        let soon = |wait: bool| if wait { May::Soon } else { May::Now };
        let later = |wait: bool| if wait { May::Later } else { May::Now };
        match (id.kind, op) {
            (Kind::LoadBalancer, Op::Apply) => {
                let Some(Source::LoadBalancer(key)) = sources.get(id) else { return May::Now };
                let Some(kept) = kept.get(key) else { return May::Now };
                let pools = kept.pools.iter().map(|source| Id::new(Kind::Pool, source.name()));
                let slices = kept.pools.iter().filter_map(|source| needs.get(source)).flat_map(Needs::slices);
                let secrets = kept.secrets.iter();
                let secrets = secrets.map(|it| Id::new(Kind::Secret, names::secret(&it.namespace, &it.name)));
                soon(pools.chain(slices).chain(secrets).any(comes_first))
            }
            (Kind::Pool, Op::Apply) => {
                let Some(needs) = of_pool(id) else { return May::Now };
                let nodes = Id::new(Kind::NodeSet, names::NODE_SET);
                soon(needs.slices().chain([nodes]).any(comes_first))
            }
            (Kind::Slice, Op::Delete) => {
                let pool = Id::new(Kind::Pool, names::pool_of_slice(&id.name));
                match of_pool(&pool) {
                    Some(Needs { endpoints: Endpoints::Slices, .. }) => May::Now,
                    Some(_) => {
                        let there = found.get(&pool).and_then(|found| found.endpoints);
                        later(there == Some(Endpoints::Slices) || !ledger.is_right(&pool))
                    }
                    None => later(found.is_named(ledger, &pool)),
                }
            }
            (Kind::Pool | Kind::Secret, Op::Delete) => later(found.is_named(ledger, id)),
            (Kind::NodeSet | Kind::Secret | Kind::Slice, Op::Apply)
            | (Kind::NodeSet | Kind::LoadBalancer, Op::Delete) => May::Now,
        }
    }
}
