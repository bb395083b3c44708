//! What is to be written next, given what is there on both sides?
//!
//! ```text
//!  Input ──► View, what was found ──► settle: only what was touched is translated again ──► two Ledgers ──► next_write ──► Write
//!                                                                                               ▲                │
//!                                                                                               └──── done ◄─────┘
//! ```
//!
//! Pure: time and chance are arguments, and nothing here waits. Nothing is written before every list of both clusters was in, so that an empty
//! view deletes nothing; after that, only what differs is. The order of inputs does not matter to where it ends, save that a change of reach waits
//! where it leads to what is refused (`reach`). What an `HTTPLoadBalancer` needs is written before it, and deleted after nothing that is out of date names
//! it any more. Bodies are not kept: they are made when they are written.
//! Cost of an input: what its object touches.

mod place;
mod reach;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service as ServiceObject;
use portolan_model::naming;

use self::place::{FoundShelves, Needs, Order, Users};
use crate::ledger::{Ledger, May, Next, Op, Outcome, Pace, Want};
use crate::names;
use crate::notices::{About, Notices, Side, Told};
use crate::objects::{Body, Found, Id, Kind, SliceBody};
use crate::translate::class::Owner;
use crate::translate::nodes::{self, NodeAddress};
use crate::translate::{self, PoolSource, pool};
use crate::view::{
    Change, Ingress, IngressClass, Key, Name, Node, Service, Settings, Shelf, Slice, StatusEntry, View,
    companion,
};

/// What was refused, or could not be watched, for so long is told in the LB cluster: much of it is over as soon as the rest has arrived.
const STANDS: Duration = Duration::from_secs(5);

/// Why nothing can be said in the LB cluster: another member cluster is served as this one.
pub const CLUSTER_TAKEN: &str = "ClusterTaken";
/// Likewise: the credential is no good.
pub const CREDENTIAL_REFUSED: &str = "CredentialRefused";
/// Likewise: it does not answer.
pub const LB_CLUSTER_AWAY: &str = "LBClusterAway";

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
    /// Why a kind cannot be watched; nothing where it can.
    Watched(Watched, Option<Told>),
}

/// A kind that is watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watched {
    /// Whether that is in the LB cluster.
    pub there: bool,
    /// What it is called.
    pub kind: Name,
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
    /// A companion.
    Companion(Key, Box<ServiceObject>),
    /// A companion is deleted, if it still has that uid.
    NoCompanion(Key, Box<str>),
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
    /// Whether it is on its way to or from the gateway.
    moves: bool,
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
    needs: HashMap<PoolSource, Needs>,
    sources: HashMap<Id, Source>,
    /// What the LB cluster refuses to write, and since when; only of what is not as it is wanted.
    refused: BTreeMap<Id, (Told, Instant)>,
    /// The kinds that cannot be watched, why, and since when.
    unwatched: BTreeMap<Watched, (Told, Instant)>,
    /// The nodes at which something is told.
    told_nodes: BTreeSet<Name>,
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
            needs: HashMap::new(),
            sources: HashMap::new(),
            refused: BTreeMap::new(),
            unwatched: BTreeMap::new(),
            told_nodes: BTreeSet::new(),
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
            Input::Watched(watched, why) => self.hear_watched(watched, why, now),
        }
    }

    fn hear_watched(&mut self, watched: Watched, why: Option<Told>, now: Instant) {
        match why {
            Some(told) => {
                let since = self.unwatched.get(&watched).map_or(now, |(_, since)| *since);
                self.unwatched.insert(watched, (told, since));
            }
            None => drop(self.unwatched.remove(&watched)),
        }
        let told = self.unwatched.values().map(|(told, _)| told.clone()).collect();
        self.notices.set(About::Agent, Side::Api, told, now);
    }

    fn hear_found(&mut self, kind: Kind, change: Change<Name, Found>, now: Instant) {
        let Self { found, lb, synced, view, kept, pools, needs, sources, refused, .. } = self;
        if let Change::Restart = change {
            lb.relisted(|id| id.kind == kind);
        }
        found.apply(kind, change, |id, old, new| {
            if *synced {
                lb.have(id, new.map(|found| found.digest), new.map_or(0, |found| found.version), now);
                if new.is_some() && !sources.contains_key(id) {
                    lb.want(id, Want::Nothing, now, Duration::ZERO);
                }
                if !lb.differs(id) {
                    refused.remove(id);
                }
            }
            let says = |found: Option<&Found>| {
                found.map(|it| (it.refusals.clone(), it.endpoints, it.load_balancer.clone()))
            };
            if says(old) == says(new) {
                return;
            }
            // What is refused is told, its name goes into a status, and what is there decides how a change of reach goes on.
            match sources.get(id) {
                Some(Source::LoadBalancer(key)) if kept.contains_key(key) => view.touch_ingress(key),
                Some(Source::Pool(PoolSource::Ingress(key))) => view.touch_ingress(key),
                Some(Source::Pool(PoolSource::Service(service, _))) => view.touch_service(service),
                Some(Source::Slice(source @ PoolSource::Service(service, _), _)) => {
                    let mut users = pools.get(source).into_iter().flatten();
                    if needs.get(source).is_some_and(|needs| needs.stays)
                        || users.any(|key| kept.get(key).is_some_and(|kept| kept.moves))
                    {
                        view.touch_service(service);
                    }
                }
                Some(Source::NodeSet) if old.is_some() == new.is_some() => view.touch_nodes(),
                Some(Source::NodeSet) => view.touch_all(),
                _ => {}
            }
        });
    }

    /// Whether every list was in.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// Whether everything that is to be written into the LB cluster was tried at least once. Looks at all of it.
    pub fn tried(&self) -> bool {
        self.synced && self.lb.tried()
    }

    /// What the LB cluster says of this cluster.
    fn settings(&self) -> Option<&Settings> {
        self.clusters.get(&self.cluster)
    }

    /// The next write, if there is one now; else when to ask again, if nothing is heard before.
    pub fn next_write(&mut self, now: Instant) -> Result<Write, Option<Instant>> {
        if !self.synced || self.settings().is_none() {
            return Err(None);
        }
        let there = loop {
            let Self { lb, found, sources, kept, needs, .. } = self;
            let order = Order { found, sources, kept, needs };
            match lb.next(now, |ledger, id, op| order.may(ledger, id, op)) {
                Next::Do(id, Op::Delete) => return Ok(Write::LoadBalancer(id, None)),
                Next::Do(id, Op::Apply) => match self.body(&id) {
                    Some(body) => return Ok(Write::LoadBalancer(id, Some(body))),
                    None => self.lb.done(&id, &Outcome::Void, now, 0.0),
                },
                Next::Wait(until) => break until,
            }
        };
        let here = loop {
            let Self { lb, member, view, companions, .. } = self;
            let may = |_: &Ledger<MemberId>, id: &MemberId, op: Op| {
                let wait = match (id, op) {
                    (MemberId::Companion(companion), Op::Delete) => {
                        is_led_to(lb, view, companion, &BTreeSet::new())
                    }
                    (MemberId::Companion(companion), Op::Apply) => {
                        let ports = companion_ports(view, companions, companion);
                        ports.is_some_and(|(ports, _)| is_led_to(lb, view, companion, &ports))
                    }
                    (MemberId::Status(_), _) => false,
                };
                if wait { May::Soon } else { May::Now }
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
                match self.translated(settings, key, ingress).0.object {
                    translate::Outcome::Object(spec) => Some(Body::LoadBalancer(spec)),
                    translate::Outcome::Foreign | translate::Outcome::Held => None,
                }
            }
            Source::Pool(source) => {
                let reach = self.reach_of(settings, source);
                let spec = pool::spec(&self.view, settings, reach, &self.cluster, source)?;
                Some(Body::Pool(Box::new(spec)))
            }
            Source::Slice(source, slice) => {
                let body: SliceBody = pool::slice(&self.view, source, slice)?;
                Some(Body::Slice(Box::new(body)))
            }
            Source::Secret(key) => Some(Body::Secret(key.clone(), *self.view.secrets.get(key)?)),
        }
    }

    fn member_write(&self, id: &MemberId, op: Op) -> Option<Write> {
        match id {
            MemberId::Companion(companion) if op == Op::Delete => {
                let service = self.view.services.get(companion)?;
                service.companion.as_ref()?;
                Some(Write::NoCompanion(companion.clone(), service.uid.clone()))
            }
            MemberId::Companion(companion) => {
                let users = self.companions.get(companion)?;
                let service = self.view.services.get(&users.service)?;
                let (ports, _) = companion_ports(&self.view, &self.companions, companion)?;
                let object = companion::object(&users.service, service, &ports);
                Some(Write::Companion(companion.clone(), Box::new(object)))
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
        let stuck = self.lb.is_stuck(id);
        self.lb.done(id, &report.outcome, now, chance);
        let before = self.refused.get(id).map(|(told, _)| told.clone());
        let why = match &report.outcome {
            Outcome::Refused => Some(("WriteRefused", "refuses")),
            Outcome::Failed => Some(("WriteFailed", "fails to take")),
            Outcome::Unreachable if stuck => Some(("WriteFailed", "fails to take")),
            Outcome::Unread => Some(("WriteFailed", "is not given")),
            _ => None,
        };
        match (why, &report.reason) {
            (Some((word, does)), Some(reason)) => {
                let what = self.sources.get(id).map_or_else(|| id.to_string(), described);
                let told: Told = (word.into(), format!("the LB cluster {does} {what}: {reason}").into());
                let since = self.refused.get(id).map_or(now, |(_, since)| *since);
                self.refused.insert(id.clone(), (told, since));
            }
            _ if matches!(report.outcome, Outcome::Done(_) | Outcome::Void) => drop(self.refused.remove(id)),
            _ => {}
        }
        // What was wanted may have changed while it was written.
        if !self.lb.differs(id) {
            self.refused.remove(id);
        }
        if before.as_ref() == self.refused.get(id).map(|(told, _)| told) {
            return;
        }
        self.touch_users(id);
    }

    /// Those that an object of the LB cluster was written for have to be looked at again.
    fn touch_users(&mut self, id: &Id) {
        let users = match self.sources.get(id) {
            Some(Source::LoadBalancer(key)) => return self.view.touch_ingress(key),
            Some(Source::NodeSet) => return self.view.touch_nodes(),
            Some(Source::Pool(source) | Source::Slice(source, _)) => self.pools.get(source),
            Some(Source::Secret(secret)) => self.secrets.get(secret),
            None => None,
        };
        users.into_iter().flatten().for_each(|key| self.view.touch_ingress(key));
    }

    /// What cannot be watched, and what the LB cluster refuses to write, if that has been so for a moment: the first of it, for people there.
    pub fn refused(&self, now: Instant) -> Option<String> {
        let stands = |since: Instant| now.saturating_duration_since(since) >= STANDS;
        // That nothing is said there, or by another, is nothing to say there.
        let is_theirs = |(_, ((reason, _), _)): &(&Watched, &(Told, Instant))| {
            !matches!(&**reason, CLUSTER_TAKEN | CREDENTIAL_REFUSED | LB_CLUSTER_AWAY)
        };
        let unwatched = self.unwatched.iter().filter(is_theirs).map(|(_, told)| told);
        let all = unwatched.chain(self.refused.values());
        let mut standing = all.filter(|(_, since)| stands(*since));
        let ((_, message), _) = standing.next()?;
        Some(match standing.count() {
            0 => message.to_string(),
            more => format!("{message}; and {more} more"),
        })
    }

    /// Whether the LB cluster takes the credential no more.
    pub fn is_credential_refused(&self) -> bool {
        self.unwatched.values().any(|((reason, _), _)| **reason == *CREDENTIAL_REFUSED)
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

    /// What to tell people next, with the uid of the object, as far as it is known; else when to ask again.
    pub fn next_notice(&mut self, now: Instant) -> Result<(About, Box<str>, Told), Option<Instant>> {
        loop {
            let (about, told) = self.notices.next(now)?;
            let uid = match &about {
                About::Ingress(key) => self.view.ingresses.get(key).map(|ingress| ingress.uid.clone()),
                About::Node(name) => self.view.nodes.get(name).map(|node| node.uid.clone()),
                About::Agent => Some(Box::default()),
            };
            if let Some(uid) = uid {
                return Ok((about, uid, told));
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

/// An object of the LB cluster, in the words of the member cluster.
fn described(source: &Source) -> String {
    match source {
        Source::NodeSet => "the nodes of this cluster".to_owned(),
        Source::LoadBalancer(key) => format!("Ingress {key}"),
        Source::Pool(PoolSource::Service(key, port)) => format!("port {port} of Service {key}"),
        Source::Slice(PoolSource::Service(key, port), _) => {
            format!("the endpoints of port {port} of Service {key}")
        }
        Source::Pool(PoolSource::Ingress(key)) | Source::Slice(PoolSource::Ingress(key), _) => {
            format!("the gateway's address of Ingress {key}")
        }
        Source::Secret(key) => format!("the copy of Secret {key}"),
    }
}

fn companion_of(service: &Key) -> Key {
    Key::new(Arc::clone(&service.namespace), naming::companion(&service.name))
}

/// The ports that a companion is to have now, and whether that only takes away what is not used any more. Until nothing else is to change, it keeps
/// what it has: proxies may use it still.
fn companion_ports(
    view: &View,
    companions: &HashMap<Key, Users>,
    companion: &Key,
) -> Option<(BTreeSet<u16>, bool)> {
    let users = companions.get(companion)?;
    let used = users.ports();
    let Some(there) = view.services.get(companion) else { return Some((used, false)) };
    let Some(digest) = there.companion.as_ref().map(|it| it.digest) else { return Some((used, false)) };
    let service = view.services.get(&users.service)?;
    let all: BTreeSet<u16> = there.ports.iter().map(|port| port.number).chain(used.iter().copied()).collect();
    let is_there = |ports: &BTreeSet<u16>| crate::meta::digest(&companion::wanted(service, ports)) == digest;
    if is_there(&used) || !is_there(&all) { Some((all, false)) } else { Some((used, true)) }
}

/// Whether a pool in the LB cluster may still lead to a companion by a port other than those.
fn is_led_to(lb: &Ledger<Id>, view: &View, companion: &Key, but: &BTreeSet<u16>) -> bool {
    let Some(service) = view.services.get(companion) else { return false };
    let Some(owner) = service.companion.as_ref().map(|it| &it.of) else { return false };
    service.ports.iter().filter(|port| !but.contains(&port.number)).any(|port| {
        let pool = names::service_pool(&companion.namespace, owner, &port.number.to_string());
        !lb.is_right(&Id::new(Kind::Pool, pool))
    })
}
