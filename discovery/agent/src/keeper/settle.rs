//! What follows from what was touched: which objects are wanted in either cluster, and who is to be told what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_api::kinds::{HTTPLoadBalancerSpec, Reach};

use super::place::{Needs, Users};
use super::{Keeper, Kept, MemberId, Source, companion_of, companion_ports};
use crate::ledger::Want;
use crate::meta::digest;
use crate::names;
use crate::notices::{About, Side, Told};
use crate::objects::{Body, Endpoints, Id, Kind};
use crate::translate::{self, PoolSource, class, nodes, place, pool, status};
use crate::view::{Key, Name, Settings, StatusEntry, companion};

/// How long proxies may take to turn away from node ports before these go.
const GRACE: Duration = Duration::from_secs(10);

/// What is to be looked at in a settlement.
#[derive(Default)]
struct Work {
    pools: BTreeSet<PoolSource>,
    services: BTreeSet<Key>,
    secrets: BTreeSet<Key>,
    companions: BTreeSet<Key>,
}

impl Keeper {
    /// Looks again at what was touched.
    pub fn settle(&mut self, now: Instant) {
        let listed = || self.view.listed() && self.clusters.listed() && self.found.listed();
        let ready = self.synced || listed();
        let Some(settings) = self.settings().filter(|_| ready).cloned() else {
            // Everything is looked at then; it need not be remembered one by one.
            self.view.take_touched();
            return self.view.touch_all();
        };
        if !self.synced {
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
            work.secrets.extend(self.secrets.keys().cloned());
            work.companions.extend(self.companions.keys().cloned());
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
            self.settle_nodes(now);
        }
        for source in &work.pools {
            self.settle_pool(&settings, source, now);
        }
        for (slice, service) in touched.slices {
            let sources: Vec<PoolSource> = pools_of(&self.pools, &service).collect();
            for source in sources {
                self.settle_slice(&settings, &source, &service, &slice, now);
                let users = self.pools.get(&source).into_iter().flatten();
                let moving = users.filter(|key| self.kept.get(*key).is_some_and(|kept| kept.moves));
                // Whether they can move may depend on it.
                moving.for_each(|key| self.view.touch_ingress(key));
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
                self.sources.insert(id.clone(), source);
                // What is there again as it is wanted is refused no more, though nothing is written.
                if !self.lb.differs(&id) && self.refused.remove(&id).is_some() {
                    self.touch_users(&id);
                }
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
        let (translation, moves) =
            ingress.map(|ingress| self.translated(settings, key, ingress)).unwrap_or_default();
        let owner = ingress.map(|ingress| class::owner(&self.view, settings, ingress));
        let new = Kept {
            owner,
            moves,
            pools: translation.pools,
            secrets: translation.secrets,
            companions: translation.companions,
        };
        let spec = match translation.object {
            translate::Outcome::Foreign => {
                self.want(id, Source::LoadBalancer(key.clone()), None, now);
                None
            }
            translate::Outcome::Held => {
                self.lb.want(&id, Want::Held, now, Duration::ZERO);
                self.refused.remove(&id);
                self.sources.insert(id, Source::LoadBalancer(key.clone()));
                None
            }
            translate::Outcome::Object(spec) => {
                self.want(id, Source::LoadBalancer(key.clone()), Some(digest(&spec)), now);
                Some(spec)
            }
        };
        let refusals = translation.refusals.into_iter();
        let refusals = refusals.map(|refusal| (refusal.reason.into(), refusal.told().into())).collect();
        self.notices.set(About::Ingress(key.clone()), Side::Agent, refusals, now);
        self.relink(key, new, work);
        let told = self.told_there(key, spec.as_deref());
        self.notices.set(About::Ingress(key.clone()), Side::LoadBalancer, told, now);
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

    fn settle_nodes(&mut self, now: Instant) {
        let id = Id::new(Kind::NodeSet, names::NODE_SET);
        let body = Body::NodeSet(nodes::set(&self.view, self.address));
        self.want(id.clone(), Source::NodeSet, Some(body.digest()), now);
        let by_nodes = self.settings().is_some_and(|settings| settings.reach == Reach::NodePort);
        let here = nodes::none_ready(&self.view, self.address).or_else(|| nodes::none_meant(&self.view));
        let here = here.filter(|_| by_nodes);
        let here = here.into_iter().map(|refusal| (refusal.reason.into(), refusal.told().into())).collect();
        self.notices.set(About::Agent, Side::Agent, here, now);
        let found = self.found.get(&id).map(|found| found.refusals.to_vec()).unwrap_or_default();
        // Its fields are nobody's here.
        let plain = |part: &str| match part.split_once(": ") {
            Some((field, text)) if field.starts_with("spec.") => text.to_owned(),
            _ => part.to_owned(),
        };
        let found = found.into_iter().map(|(reason, message)| {
            let parts: Vec<String> = message.split("; ").map(plain).collect();
            (reason, parts.join("; ").into())
        });
        let there = self.refused.get(&id).map(|(told, _)| told.clone()).into_iter().chain(found).collect();
        self.notices.set(About::Agent, Side::LoadBalancer, there, now);
        let mut before = std::mem::take(&mut self.told_nodes);
        for (name, refusal) in nodes::without_address(&self.view, self.address) {
            before.remove(&name);
            let told = [(refusal.reason.into(), refusal.told().into())].into();
            self.notices.set(About::Node(Arc::clone(&name)), Side::Agent, told, now);
            self.told_nodes.insert(name);
        }
        for name in before {
            self.notices.set(About::Node(name), Side::Agent, BTreeSet::new(), now);
        }
    }

    fn settle_pool(&mut self, settings: &Settings, source: &PoolSource, now: Instant) {
        let name: Name = source.name().into();
        let reach = self.reach_of(settings, source);
        let spec = if self.pools.contains_key(source) {
            pool::spec(&self.view, settings, reach, &self.cluster, source)
        } else {
            None
        };
        let endpoints = spec.as_ref().map(Endpoints::of);
        let pool = spec.map(|spec| Body::Pool(Box::new(spec)).digest());
        self.want(Id { kind: Kind::Pool, name }, Source::Pool(source.clone()), pool, now);
        let sliced = settings.reach == Reach::PodIP || self.stands(source) == Some(Endpoints::Slices);
        let sliced = sliced && endpoints.is_some();
        let copies = if sliced { pool::slices(&self.view, source) } else { Vec::new() };
        let mut slices = BTreeSet::new();
        for (slice, name, body) in copies {
            let name: Name = name.into();
            slices.insert(Arc::clone(&name));
            let id = Id { kind: Kind::Slice, name };
            self.want(id, Source::Slice(source.clone(), slice), Some(digest(&body)), now);
        }
        let old = self.needs.remove(source).map(|needs| needs.slices).unwrap_or_default();
        for name in old.difference(&slices) {
            let id = Id { kind: Kind::Slice, name: Arc::clone(name) };
            self.want(id, Source::NodeSet, None, now);
        }
        if let Some(endpoints) = endpoints {
            let stays = matches!(source, PoolSource::Service(..)) && reach != settings.reach;
            self.needs.insert(source.clone(), Needs { stays, endpoints, slices });
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
        match (settings.reach, self.stands(source)) {
            // It may be able to move now, or has to.
            (Reach::PodIP, Some(Endpoints::Nodes)) => self.settle_pool(settings, source, now),
            (Reach::PodIP, _) | (_, Some(Endpoints::Slices)) => {
                let name: Name = names::slice(&source.name(), &slice.namespace, &slice.name).into();
                let body = pool::slice(&self.view, source, &slice.name);
                let Some(needs) = self.needs.get_mut(source) else { return };
                if body.is_some() {
                    needs.slices.insert(Arc::clone(&name));
                } else {
                    needs.slices.remove(&name);
                }
                let id = Id { kind: Kind::Slice, name };
                let from = Source::Slice(source.clone(), Arc::clone(&slice.name));
                self.want(id, from, body.map(|body| digest(&body)), now);
            }
            _ if self.view.services.get(service).is_some_and(|service| service.local) => {
                self.settle_pool(settings, source, now);
            }
            _ => {}
        }
    }

    fn settle_companion(&mut self, companion: &Key, now: Instant) {
        let id = MemberId::Companion(companion.clone());
        let there = self.view.services.get(companion).and_then(|service| service.companion.as_ref());
        let wanted = self.companions.get(companion).and_then(|users| {
            let service = self.view.services.get(&users.service)?;
            let (ports, only_less) = companion_ports(&self.view, &self.companions, companion)?;
            Some((digest(&companion::wanted(service, &ports)), only_less))
        });
        let (want, delay) = match wanted {
            Some((digest, false)) => (Want::Digest(digest), Duration::ZERO),
            Some((digest, true)) => (Want::Digest(digest), GRACE),
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

    pub(super) fn wanted_status(&self, key: &Key) -> Option<Vec<StatusEntry>> {
        let ingress = self.view.ingresses.get(key)?;
        let owner = self.kept.get(key)?.owner?;
        let host = self.found.load_balancer(&names::load_balancer(&key.namespace, &key.name));
        let host = host.and_then(|found| found.host.as_deref());
        let own = status::Own::of(&self.cluster, self.settings()?);
        status::wanted(owner, &ingress.status, host, own, key)
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

    /// What the LB cluster refuses of an `Ingress`, in its own words.
    fn told_there(&self, key: &Key, spec: Option<&HTTPLoadBalancerSpec>) -> BTreeSet<Told> {
        let mut told = BTreeSet::new();
        let (Some(kept), Some(ingress)) = (self.kept.get(key), self.view.ingresses.get(key)) else {
            return told;
        };
        let mut refused = |id: &Id| {
            let known = self.refused.get(id).filter(|_| self.sources.contains_key(id));
            told.extend(known.map(|(told, _)| told.clone()));
        };
        let own = Id::new(Kind::LoadBalancer, names::load_balancer(&key.namespace, &key.name));
        refused(&own);
        for secret in &kept.secrets {
            refused(&Id::new(Kind::Secret, names::secret(&secret.namespace, &secret.name)));
        }
        for source in &kept.pools {
            refused(&Id::new(Kind::Pool, source.name()));
            for copy in self.needs.get(source).into_iter().flat_map(|needs| &needs.slices) {
                refused(&Id { kind: Kind::Slice, name: Arc::clone(copy) });
            }
        }
        let found = |id: &Id| self.found.get(id).filter(|_| self.sources.contains_key(id));
        for (reason, message) in found(&own).iter().flat_map(|found| &found.refusals) {
            let all = place::translated(reason, message, key, ingress, spec, &kept.pools);
            told.extend(all.into_iter().map(|(reason, message)| (reason.into(), message.into())));
        }
        for source in &kept.pools {
            let pool = found(&Id::new(Kind::Pool, source.name()));
            for (reason, message) in pool.iter().flat_map(|found| &found.refusals) {
                // Its fields are nobody's in the member cluster.
                let all =
                    place::translated(reason, message, key, ingress, None, std::slice::from_ref(source));
                told.extend(all.into_iter().map(|(reason, message)| {
                    (reason.into(), format!("{}: {message}", place::of_pool(source)).into())
                }));
            }
        }
        told
    }
}

fn pools_of(pools: &BTreeMap<PoolSource, BTreeSet<Key>>, service: &Key) -> impl Iterator<Item = PoolSource> {
    let bounds = PoolSource::Service(service.clone(), 0)..=PoolSource::Service(service.clone(), u16::MAX);
    pools.range(bounds).map(|(source, _)| source.clone())
}
