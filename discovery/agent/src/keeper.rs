//! What is to be written next, given what is there on both sides?
//!
//! ```text
//!  Input ──► View, what was found ──► settle: only what was touched is translated again ──► two Ledgers ──► next_write ──► Write
//!                                                                                               ▲                │
//!                                                                                               └──── done ◄─────┘
//! ```
//!
//! Pure: time and chance are arguments, and nothing here waits. Nothing is written before every list of both clusters was in, so that an empty
//! view deletes nothing; after that, only what differs is. The order of inputs does not matter to where it ends. What an `HTTPLoadBalancer` needs
//! is written before it, and deleted after nothing that is out of date names it any more. Bodies are not kept: they are made when they are written.
//! Cost of an input: what its object touches.

mod place;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service as ServiceObject;
use portolan_api::kinds::Reach;

use self::place::{FoundShelves, Users};
use crate::ledger::{Ledger, Next, Op, Outcome, Pace, Want};
use crate::names;
use crate::notices::{Notices, Side, Told};
use crate::objects::{Body, Found, Id, Kind, SliceBody, digest};
use crate::translate::class::{self, Owner};
use crate::translate::nodes::{self, NodeAddress};
use crate::translate::{self, PoolSource, companion, pool, status};
use crate::view::{
    Change, Ingress, IngressClass, Key, Name, Node, Service, Settings, Shelf, Slice, StatusEntry, View,
};

/// How long proxies may take to turn away from node ports before these go.
const GRACE: Duration = Duration::from_secs(10);

/// What is heard of either cluster.
#[derive(Clone, Debug)]
pub enum Input {
    /// Of the member cluster; with the object's `resourceVersion`.
    Ingress(Change<Key, Ingress>, Option<Box<str>>),
    /// Of the member cluster.
    Service(Change<Key, Service>),
    /// Of the member cluster.
    Slice(Change<Key, Slice>),
    /// Of the member cluster.
    Node(Change<Name, Node>),
    /// Of the member cluster.
    Class(Change<Name, IngressClass>),
    /// Of the member cluster.
    Secret(Change<Key, u64>),
    /// The `Cluster`, in the LB cluster.
    Cluster(Change<Name, Settings>),
    /// Of what was written into the LB cluster.
    Found(Kind, Change<Name, Found>),
}

/// An object of the member cluster that is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MemberId {
    /// A companion, by its own name.
    Companion(Key),
    /// The status of an `Ingress`.
    Status(Key),
}

/// Something to write.
#[derive(Clone, Debug)]
pub enum Write {
    /// Into the LB cluster; without a body it is deleted.
    LoadBalancer(Id, Option<Body>),
    /// A companion; without an object it is deleted.
    Companion(Key, Option<Box<ServiceObject>>),
    /// The status of an `Ingress`, if it still has that `resourceVersion`.
    Status {
        /// The `Ingress`.
        key: Key,
        /// That.
        version: Box<str>,
        /// All entries.
        entries: Vec<StatusEntry>,
    },
}

/// How a write ended, with a sentence on why it did not.
#[derive(Clone, Debug)]
pub struct Report {
    /// How.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<Box<str>>,
}

/// Where an object comes from.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    NodeSet,
    LoadBalancer(Key),
    Pool(PoolSource),
    Slice(PoolSource, Name),
    Secret(Key),
}

/// What was made of an `Ingress`.
#[derive(Clone, Debug, Default)]
struct Kept {
    owner: Option<Owner>,
    pools: Vec<PoolSource>,
    secrets: Vec<Key>,
    companions: Vec<(Key, u16)>,
}

/// See the module's documentation.
pub struct Keeper {
    cluster: Name,
    address: NodeAddress,
    view: View,
    versions: HashMap<Key, Box<str>>,
    clusters: Shelf<Name, Settings>,
    found: FoundShelves,
    synced: bool,
    kept: HashMap<Key, Kept>,
    pools: BTreeMap<PoolSource, BTreeSet<Key>>,
    secrets: HashMap<Key, BTreeSet<Key>>,
    companions: HashMap<Key, Users>,
    /// Companions that the view has, or had when it was looked at last.
    seen: HashSet<Key>,
    copies: HashMap<PoolSource, BTreeSet<Name>>,
    sources: HashMap<Id, Source>,
    refused: HashMap<Id, Told>,
    lb: Ledger<Id>,
    member: Ledger<MemberId>,
    notices: Notices,
}

impl Keeper {
    /// For the cluster of that name.
    pub fn new(cluster: impl Into<Name>, address: NodeAddress, lb: Pace, member: Pace) -> Self {
        Self {
            cluster: cluster.into(),
            address,
            view: View::default(),
            versions: HashMap::new(),
            clusters: Shelf::default(),
            found: FoundShelves::default(),
            synced: false,
            kept: HashMap::new(),
            pools: BTreeMap::new(),
            secrets: HashMap::new(),
            companions: HashMap::new(),
            seen: HashSet::new(),
            copies: HashMap::new(),
            sources: HashMap::new(),
            refused: HashMap::new(),
            lb: Ledger::new(lb),
            member: Ledger::new(member),
            notices: Notices::default(),
        }
    }

    /// Takes in what was heard.
    pub fn apply(&mut self, input: Input, now: Instant) {
        match input {
            Input::Ingress(change, version) => {
                match (&change, version) {
                    (Change::Put(key, _), Some(version)) => {
                        self.versions.insert(key.clone(), version);
                    }
                    (Change::Gone(key), _) => {
                        self.versions.remove(key);
                    }
                    _ => {}
                }
                let listed = change == Change::Listed;
                self.view.ingress(change);
                if listed {
                    let ingresses = &self.view.ingresses;
                    self.versions.retain(|key, _| ingresses.get(key).is_some());
                }
            }
            Input::Service(change) => self.view.service(change),
            Input::Slice(change) => self.view.slice(change),
            Input::Node(change) => self.view.node(change),
            Input::Class(change) => self.view.class(change),
            Input::Secret(change) => self.view.secret(change),
            Input::Cluster(change) => {
                let view = &mut self.view;
                self.clusters.apply(change, |_, _, _| view.touch_all());
            }
            Input::Found(kind, change) => self.hear_found(kind, change, now),
        }
    }

    fn hear_found(&mut self, kind: Kind, change: Change<Name, Found>, now: Instant) {
        let Self { found, lb, synced, view, kept, pools, sources, .. } = self;
        found.apply(kind, change, |id, old, new| {
            if *synced {
                lb.have(id, new.map(|found| found.digest), new.map_or(0, |found| found.version), now);
                if new.is_some() && !sources.contains_key(id) {
                    lb.want(id, Want::Nothing, now, Duration::ZERO);
                }
            }
            let told = |found: Option<&Found>| {
                found.map(|found| {
                    (found.refusals.clone(), found.load_balancer.as_ref().and_then(|lb| lb.host.clone()))
                })
            };
            if told(old) == told(new) {
                return;
            }
            // Its name goes into a status, and what is refused is told.
            match sources.get(id) {
                Some(Source::LoadBalancer(key)) if kept.contains_key(key) => view.touch_ingress(key),
                Some(Source::Pool(source)) => {
                    pools.get(source).into_iter().flatten().for_each(|key| view.touch_ingress(key));
                }
                _ => {}
            }
        });
    }

    /// Whether every list was in.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// What the LB cluster says of this cluster.
    fn settings(&self) -> Option<&Settings> {
        self.clusters.get(&self.cluster)
    }

    /// Looks again at what was touched.
    pub fn settle(&mut self, now: Instant) {
        let Some(settings) = self.settings().cloned() else { return };
        if !self.synced {
            if !self.view.listed() || !self.clusters.listed() || !self.found.listed() {
                return;
            }
            self.synced = true;
            self.view.touch_all();
            for (id, found) in self.found.iter() {
                self.lb.have(&id, Some(found.digest), found.version, now);
            }
        }
        let touched = self.view.take_touched();
        let mut ingresses = touched.ingresses;
        if touched.all {
            ingresses.extend(self.view.ingresses.iter().map(|(key, _)| key.clone()));
            ingresses.extend(self.kept.keys().cloned());
        }
        let mut work = Work { services: touched.services, secrets: touched.secrets, ..Work::default() };
        if touched.all {
            work.pools.extend(self.pools.keys().cloned());
            let services = self.view.services.iter();
            work.services
                .extend(services.filter(|(_, it)| it.companion.is_some()).map(|(key, _)| key.clone()));
        }
        for key in ingresses {
            self.translate(&settings, &key, &mut work, now);
        }
        for service in &work.services {
            work.pools.extend(pools_of(&self.pools, service));
            work.companions.insert(companion_of(service));
            work.companions.insert(service.clone());
        }
        if touched.nodes {
            let body = Body::NodeSet(nodes::set(&self.view, self.address));
            self.want(Id::new(Kind::NodeSet, names::NODE_SET), Source::NodeSet, Some(body.digest()), now);
        }
        for source in &work.pools {
            self.settle_pool(&settings, source, now);
        }
        for (slice, service) in touched.slices {
            let sources: Vec<PoolSource> = pools_of(&self.pools, &service).collect();
            for source in sources {
                self.settle_slice(&settings, &source, &service, &slice, now);
            }
        }
        for secret in &work.secrets {
            let content = self.view.secrets.get(secret).copied();
            let content = content.filter(|_| self.secrets.contains_key(secret));
            let id = Id::new(Kind::Secret, names::secret(&secret.namespace, &secret.name));
            self.want(id, Source::Secret(secret.clone()), content, now);
        }
        for companion in &work.companions {
            self.settle_companion(companion, now);
        }
        if touched.all {
            // What nobody wants, and nothing was made of.
            let unwanted: Vec<Id> =
                self.found.iter().map(|(id, _)| id).filter(|id| !self.sources.contains_key(id)).collect();
            for id in unwanted {
                self.lb.want(&id, Want::Nothing, now, Duration::ZERO);
            }
        }
    }

    /// Says whether an object is wanted, and where it comes from.
    fn want(&mut self, id: Id, source: Source, digest: Option<u64>, now: Instant) {
        match digest {
            Some(digest) => {
                self.lb.want(&id, Want::Digest(digest), now, Duration::ZERO);
                self.sources.insert(id, source);
            }
            None => {
                self.lb.want(&id, Want::Nothing, now, Duration::ZERO);
                self.refused.remove(&id);
                self.sources.remove(&id);
            }
        }
    }

    fn translate(&mut self, settings: &Settings, key: &Key, work: &mut Work, now: Instant) {
        let id = Id::new(Kind::LoadBalancer, names::load_balancer(&key.namespace, &key.name));
        let ingress = self.view.ingresses.get(key);
        let translation = ingress
            .map(|ingress| translate::ingress(&self.view, settings, &self.cluster, key, ingress))
            .unwrap_or_default();
        let owner = ingress.map(|ingress| class::owner(&self.view, settings, ingress));
        let new = Kept {
            owner,
            pools: translation.pools,
            secrets: translation.secrets,
            companions: translation.companions,
        };
        match translation.object {
            translate::Outcome::Foreign => self.want(id, Source::LoadBalancer(key.clone()), None, now),
            translate::Outcome::Held => {
                self.lb.want(&id, Want::Held, now, Duration::ZERO);
                self.sources.insert(id, Source::LoadBalancer(key.clone()));
            }
            translate::Outcome::Object(spec) => {
                let digest = Body::LoadBalancer(spec).digest();
                self.want(id, Source::LoadBalancer(key.clone()), Some(digest), now);
            }
        }
        let refusals = translation.refusals.into_iter();
        let refusals = refusals.map(|refusal| (refusal.reason.into(), refusal.message.into())).collect();
        self.notices.set(key, Side::Agent, refusals, now);
        self.relink(key, new, work);
        let told = self.told_there(key);
        self.notices.set(key, Side::LoadBalancer, told, now);
        self.settle_status(key, now);
        if self.kept.get(key).is_some_and(|kept| kept.owner.is_none()) {
            self.kept.remove(key);
        }
    }

    /// Counts what an `Ingress` uses now, and notes what that touches.
    fn relink(&mut self, key: &Key, new: Kept, work: &mut Work) {
        let old = self.kept.insert(key.clone(), new.clone()).unwrap_or_default();
        for source in &new.pools {
            if self.pools.entry(source.clone()).or_default().insert(key.clone()) {
                work.pools.insert(source.clone());
            }
        }
        for source in old.pools.iter().filter(|source| !new.pools.contains(source)) {
            if let Some(users) = self.pools.get_mut(source) {
                users.remove(key);
                if users.is_empty() {
                    self.pools.remove(source);
                }
            }
            work.pools.insert(source.clone());
        }
        // What an Ingress says of a gateway changes with its status, whatever its rules say.
        work.pools
            .extend(new.pools.iter().filter(|source| matches!(source, PoolSource::Ingress(_))).cloned());
        for secret in &new.secrets {
            if self.secrets.entry(secret.clone()).or_default().insert(key.clone()) {
                work.secrets.insert(secret.clone());
            }
        }
        for secret in old.secrets.iter().filter(|secret| !new.secrets.contains(secret)) {
            if let Some(users) = self.secrets.get_mut(secret) {
                users.remove(key);
                if users.is_empty() {
                    self.secrets.remove(secret);
                }
            }
            work.secrets.insert(secret.clone());
        }
        for (service, port) in new.companions.iter().filter(|it| !old.companions.contains(it)) {
            let users =
                self.companions.entry(companion_of(service)).or_insert_with(|| Users::of(service.clone()));
            users.add(*port);
            work.companions.insert(companion_of(service));
        }
        for (service, port) in old.companions.iter().filter(|it| !new.companions.contains(it)) {
            let companion = companion_of(service);
            if self.companions.get_mut(&companion).is_some_and(|users| users.remove(*port)) {
                self.companions.remove(&companion);
            }
            work.companions.insert(companion);
        }
    }

    fn settle_pool(&mut self, settings: &Settings, source: &PoolSource, now: Instant) {
        let name: Name = source.name().into();
        let spec = if self.pools.contains_key(source) {
            pool::spec(&self.view, settings, &self.cluster, source)
        } else {
            None
        };
        let wanted = spec.is_some();
        let digest = spec.map(|spec| Body::Pool(Box::new(spec)).digest());
        self.want(Id { kind: Kind::Pool, name }, Source::Pool(source.clone()), digest, now);
        let slices = if wanted { pool::slices(&self.view, settings, source) } else { Vec::new() };
        let mut copies = BTreeSet::new();
        for (slice, name, body) in slices {
            let name: Name = name.into();
            copies.insert(Arc::clone(&name));
            let id = Id { kind: Kind::Slice, name };
            self.want(id, Source::Slice(source.clone(), slice), Some(crate::objects::digest(&body)), now);
        }
        let old = self.copies.remove(source).unwrap_or_default();
        for name in old.difference(&copies) {
            let id = Id { kind: Kind::Slice, name: Arc::clone(name) };
            self.want(id, Source::NodeSet, None, now);
        }
        if !copies.is_empty() {
            self.copies.insert(source.clone(), copies);
        }
    }

    /// One slice of a pool changed.
    fn settle_slice(
        &mut self,
        settings: &Settings,
        source: &PoolSource,
        service: &Key,
        slice: &Key,
        now: Instant,
    ) {
        match settings.reach {
            Reach::PodIP => {
                let name: Name = names::slice(&source.name(), &slice.namespace, &slice.name).into();
                let body = pool::slice(&self.view, settings, source, &slice.name);
                let copies = self.copies.entry(source.clone()).or_default();
                if body.is_some() {
                    copies.insert(Arc::clone(&name));
                } else {
                    copies.remove(&name);
                }
                if copies.is_empty() {
                    self.copies.remove(source);
                }
                let id = Id { kind: Kind::Slice, name };
                let from = Source::Slice(source.clone(), Arc::clone(&slice.name));
                self.want(id, from, body.map(|body| digest(&body)), now);
            }
            Reach::NodePort if self.view.services.get(service).is_some_and(|service| service.local) => {
                self.settle_pool(settings, source, now);
            }
            Reach::NodePort | Reach::Gateway => {}
        }
    }

    fn settle_companion(&mut self, companion: &Key, now: Instant) {
        let id = MemberId::Companion(companion.clone());
        let there = self.view.services.get(companion).and_then(|service| service.companion.as_ref());
        let wanted = self.companions.get(companion).and_then(|users| {
            let service = self.view.services.get(&users.service)?;
            Some(digest(&companion::wanted(service, &users.ports())))
        });
        let (want, delay) = match wanted {
            Some(digest) => (Want::Digest(digest), Duration::ZERO),
            None => (Want::Nothing, GRACE),
        };
        // One that was just written is not in the view yet, and is there all the same.
        match there {
            Some(there) => {
                self.seen.insert(companion.clone());
                self.member.have(&id, Some(there.digest), there.version, now);
            }
            None if self.seen.remove(companion) => self.member.have(&id, None, 0, now),
            None => {}
        }
        if wanted.is_some() || self.member.is_there(&id) {
            self.member.want(&id, want, now, delay);
        } else {
            self.member.forget(&id);
        }
    }

    fn wanted_status(&self, key: &Key) -> Option<Vec<StatusEntry>> {
        let ingress = self.view.ingresses.get(key)?;
        let owner = self.kept.get(key)?.owner?;
        let host = self.found.load_balancer(&names::load_balancer(&key.namespace, &key.name));
        let host = host.and_then(|found| found.host.as_deref());
        status::wanted(owner, &ingress.status, host, &self.cluster, key)
    }

    fn settle_status(&mut self, key: &Key, now: Instant) {
        let id = MemberId::Status(key.clone());
        let current = self.view.ingresses.get(key).map(|ingress| digest(&ingress.status));
        match (self.wanted_status(key), current) {
            (Some(entries), Some(current)) => {
                let version = self.versions.get(key).and_then(|version| version.parse().ok()).unwrap_or(0);
                self.member.have(&id, Some(current), version, now);
                self.member.want(&id, Want::Digest(digest(&entries)), now, Duration::ZERO);
            }
            _ => self.member.forget(&id),
        }
    }

    /// What the LB cluster refuses of an `Ingress`.
    fn told_there(&self, key: &Key) -> BTreeSet<Told> {
        let Some(kept) = self.kept.get(key) else { return BTreeSet::new() };
        let own = Id::new(Kind::LoadBalancer, names::load_balancer(&key.namespace, &key.name));
        let pools = kept.pools.iter().map(|source| Id::new(Kind::Pool, source.name()));
        let secrets =
            kept.secrets.iter().map(|it| Id::new(Kind::Secret, names::secret(&it.namespace, &it.name)));
        let mut told = BTreeSet::new();
        for id in std::iter::once(own).chain(pools).chain(secrets) {
            if !self.sources.contains_key(&id) {
                continue;
            }
            told.extend(self.refused.get(&id).cloned());
            let found = self.found.get(&id);
            told.extend(found.into_iter().flat_map(|found| found.refusals.iter().cloned()));
        }
        told
    }

    /// The next write, if there is one now; else when to ask again, if nothing is heard before.
    pub fn next_write(&mut self, now: Instant) -> Result<Write, Option<Instant>> {
        if !self.synced || self.settings().is_none() {
            return Err(None);
        }
        let there = loop {
            let Self { lb, found, sources, kept, copies, .. } = self;
            let may = |ledger: &Ledger<Id>, id: &Id, op: Op| {
                place::may(ledger, found, sources, kept, copies, id, op)
            };
            match lb.next(now, may) {
                Next::Do(id, Op::Delete) => return Ok(Write::LoadBalancer(id, None)),
                Next::Do(id, Op::Apply) => match self.body(&id) {
                    Some(body) => return Ok(Write::LoadBalancer(id, Some(body))),
                    None => self.lb.done(&id, &Outcome::Void, now, 0.0),
                },
                Next::Wait(until) => break until,
            }
        };
        let here = loop {
            let Self { lb, member, view, .. } = self;
            let may = |_: &Ledger<MemberId>, id: &MemberId, op: Op| match (id, op) {
                (MemberId::Companion(companion), Op::Delete) => !is_led_to(lb, view, companion),
                _ => true,
            };
            match member.next(now, may) {
                Next::Do(id, op) => match self.member_write(&id, op) {
                    Some(write) => return Ok(write),
                    None => self.member.done(&id, &Outcome::Void, now, 0.0),
                },
                Next::Wait(until) => break until,
            }
        };
        Err(there.into_iter().chain(here).min())
    }

    fn body(&self, id: &Id) -> Option<Body> {
        let settings = self.settings()?;
        match self.sources.get(id)? {
            Source::NodeSet => Some(Body::NodeSet(nodes::set(&self.view, self.address))),
            Source::LoadBalancer(key) => {
                let ingress = self.view.ingresses.get(key)?;
                match translate::ingress(&self.view, settings, &self.cluster, key, ingress).object {
                    translate::Outcome::Object(spec) => Some(Body::LoadBalancer(spec)),
                    translate::Outcome::Foreign | translate::Outcome::Held => None,
                }
            }
            Source::Pool(source) => {
                let spec = pool::spec(&self.view, settings, &self.cluster, source)?;
                Some(Body::Pool(Box::new(spec)))
            }
            Source::Slice(source, slice) => {
                let body: SliceBody = pool::slice(&self.view, settings, source, slice)?;
                Some(Body::Slice(Box::new(body)))
            }
            Source::Secret(key) => Some(Body::Secret(key.clone(), *self.view.secrets.get(key)?)),
        }
    }

    fn member_write(&self, id: &MemberId, op: Op) -> Option<Write> {
        match id {
            MemberId::Companion(companion) if op == Op::Delete => {
                Some(Write::Companion(companion.clone(), None))
            }
            MemberId::Companion(companion) => {
                let users = self.companions.get(companion)?;
                let service = self.view.services.get(&users.service)?;
                let object = companion::object(&users.service, service, &users.ports());
                Some(Write::Companion(companion.clone(), Some(Box::new(object))))
            }
            MemberId::Status(key) => Some(Write::Status {
                key: key.clone(),
                version: self.versions.get(key)?.clone(),
                entries: self.wanted_status(key)?,
            }),
        }
    }

    /// Says how a write into the LB cluster ended.
    pub fn done_there(&mut self, id: &Id, report: &Report, now: Instant, chance: f64) {
        self.lb.done(id, &report.outcome, now, chance);
        let was = match (&report.outcome, &report.reason) {
            (Outcome::Refused, Some(reason)) => {
                let told = ("WriteRefused".into(), format!("the LB cluster refuses {id}: {reason}").into());
                self.refused.insert(id.clone(), told)
            }
            (Outcome::Done(_) | Outcome::Void, _) => self.refused.remove(id),
            _ => return,
        };
        if was != self.refused.get(id).cloned() {
            match self.sources.get(id) {
                Some(Source::LoadBalancer(key)) => self.view.touch_ingress(key),
                Some(Source::Pool(source) | Source::Slice(source, _)) => {
                    self.pools.get(source).into_iter().flatten().for_each(|key| self.view.touch_ingress(key));
                }
                Some(Source::Secret(secret)) => {
                    self.secrets
                        .get(secret)
                        .into_iter()
                        .flatten()
                        .for_each(|key| self.view.touch_ingress(key));
                }
                Some(Source::NodeSet) | None => {}
            }
        }
    }

    /// Says how a write into the member cluster ended.
    pub fn done_here(&mut self, id: &MemberId, report: &Report, now: Instant, chance: f64) {
        self.member.done(id, &report.outcome, now, chance);
        match (id, &report.outcome) {
            (MemberId::Companion(companion), Outcome::Refused) => {
                if let Some(users) = self.companions.get(companion) {
                    let service = users.service.clone();
                    self.view.refuse_companion(service, report.reason.as_deref().unwrap_or("refused"));
                }
            }
            (MemberId::Companion(companion), Outcome::Void) => self.view.touch_service(companion),
            (MemberId::Status(key), Outcome::Void) => self.view.touch_ingress(key),
            _ => {}
        }
    }

    /// What to tell people next, with the uid of the `Ingress`; else when to ask again.
    pub fn next_notice(&mut self, now: Instant) -> Result<(Key, Box<str>, Told), Option<Instant>> {
        loop {
            let (key, told) = self.notices.next(now)?;
            if let Some(ingress) = self.view.ingresses.get(&key) {
                return Ok((key, ingress.uid.clone(), told));
            }
        }
    }

    /// Another connection to the LB cluster.
    pub fn reopen(&mut self) {
        self.lb.reopen();
    }

    /// How things stand.
    pub fn figures(&self) -> Figures {
        Figures {
            synced: self.synced,
            reachable: self.lb.reachable(),
            pending: [self.lb.pending(), self.member.pending()],
            refusals: self.notices.standing(),
            ingresses: self
                .kept
                .values()
                .filter(|kept| kept.owner.is_some_and(|it| it != Owner::Foreign))
                .count(),
            objects: Kind::ALL.map(|kind| self.found.len(kind)),
        }
    }

    #[cfg(test)]
    fn wanted(&self) -> BTreeMap<Id, Want> {
        self.lb.keys().map(|id| (id.clone(), self.lb.wanted(id))).collect()
    }
}

/// How things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Whether every list was in.
    pub synced: bool,
    /// Whether the last write into the LB cluster got through.
    pub reachable: bool,
    /// Writes that wait: into the LB cluster, into this one.
    pub pending: [usize; 2],
    /// What is refused.
    pub refusals: usize,
    /// `Ingress`es that are ours.
    pub ingresses: usize,
    /// Objects in the LB cluster, as [`Kind::ALL`].
    pub objects: [usize; 5],
}

/// What is to be looked at in a settlement.
#[derive(Default)]
struct Work {
    pools: BTreeSet<PoolSource>,
    services: BTreeSet<Key>,
    secrets: BTreeSet<Key>,
    companions: BTreeSet<Key>,
}

fn companion_of(service: &Key) -> Key {
    Key::new(Arc::clone(&service.namespace), names::companion(&service.name))
}

fn pools_of(pools: &BTreeMap<PoolSource, BTreeSet<Key>>, service: &Key) -> impl Iterator<Item = PoolSource> {
    let bounds = PoolSource::Service(service.clone(), 0)..=PoolSource::Service(service.clone(), u16::MAX);
    pools.range(bounds).map(|(source, _)| source.clone())
}

/// Whether a pool in the LB cluster may still lead to a companion.
fn is_led_to(lb: &Ledger<Id>, view: &View, companion: &Key) -> bool {
    let Some(service) = view.services.get(companion) else { return false };
    let Some(owner) = service.companion.as_ref().map(|it| &it.of) else { return false };
    service.ports.iter().any(|port| {
        let pool = names::service_pool(&companion.namespace, owner, &port.number.to_string());
        !lb.is_settled(&Id::new(Kind::Pool, pool))
    })
}
