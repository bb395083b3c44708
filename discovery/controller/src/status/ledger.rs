//! What is told about each object: everything that is known, and which statuses are to be written because of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use portolan_api::kinds::{AgentStatus, Counts};
use portolan_compile::Compiler;
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::plan::Update;
use portolan_source::Versions;

use super::agents::Agents;
use super::conditions::{self, Programmed, Said};
use super::heard::Heard;
use super::known::{Entry, Known, Seen, Standing};
use super::replicas::{Level, Replicas};
use crate::figures;
use crate::queue::Queue;

/// The kinds that have a status of ours.
pub(crate) const KINDS: [Kind; 6] = [
    Kind::Proxy,
    Kind::Cluster,
    Kind::HttpLoadBalancer,
    Kind::UpstreamPool,
    Kind::NodeSet,
    Kind::TrafficPolicy,
];

/// From a change to the look at what it comes to: what follows of it, as that the replicas serve it, goes into the same write.
const SETTLE: Duration = Duration::from_millis(300);
/// The same for the sums of a cluster, which change with every endpoint.
const SETTLE_SUMS: Duration = Duration::from_secs(5);
/// A sign of life is not written again before.
const SEEN_AGAIN: i64 = 60;
/// The first wait after a write that failed; it doubles.
const RETRY: Duration = Duration::from_secs(1);
/// Between two writes of a `Cluster`: what its agent says goes into them, and a tenant can make it say something else at any time.
const CLUSTER_AGAIN: Duration = Duration::from_secs(5);
/// The longest wait is `RETRY` times two to this power.
const RETRY_DOUBLINGS: u32 = 6;

/// A status to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    /// Of which object.
    pub(crate) id: ObjectRef,
    /// Only of this one of that name.
    pub(crate) uid: Arc<str>,
    /// The whole status.
    pub(crate) standing: Standing,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is written.
    Written,
    /// The object is no longer there, or another one of its name is.
    Gone,
    /// It is to be tried again.
    Failed,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    known: Known,
    /// What the compiler has taken in.
    judged: Versions,
    replicas: Replicas,
    agents: Agents,
    /// Whether all agents' `Lease`s were listed once: one that is not there yet says nothing before.
    agents_listed: bool,
    /// By which time the replicas and agents are judged.
    heard: Heard,
    /// Where clients reach the proxy.
    addresses: Vec<String>,
    queue: Queue<ObjectRef>,
    in_flight: HashSet<ObjectRef>,
    /// How often the last writes of an object failed, and until when there is no other.
    pauses: HashMap<ObjectRef, (u32, Instant)>,
}

impl Ledger {
    /// An object is there, as seen.
    pub(crate) fn object(&mut self, seen: Seen, now: Instant) {
        self.queue.mark(&seen.id, now + SETTLE);
        self.known.apply(seen);
    }

    /// An object is gone.
    pub(crate) fn object_gone(&mut self, id: &ObjectRef) {
        self.known.delete(id);
        self.forget(id);
    }

    /// These are all of a kind.
    pub(crate) fn objects_are(&mut self, kind: Kind, there: &HashSet<ObjectRef>) {
        for id in self.known.retain(kind, there) {
            self.forget(&id);
        }
    }

    fn forget(&mut self, id: &ObjectRef) {
        self.queue.remove(id);
        self.pauses.remove(id);
    }

    /// The compiler has taken in what is known up to `versions`, with this update; `touched` are the objects that it was told of.
    pub(crate) fn judged<'a>(
        &mut self,
        update: &Update,
        touched: impl IntoIterator<Item = &'a ObjectRef>,
        versions: &Versions,
        now: Instant,
    ) {
        let before = self.judged;
        self.judged.merge(versions);
        for kind in KINDS {
            let from = before.of(kind).map_or(0, |version| version + 1);
            let to = self.judged.of(kind).unwrap_or_default();
            if from <= to {
                self.known.between(kind, from..=to).for_each(|id| self.queue.mark(id, now + SETTLE));
            }
        }
        if update.proxy.is_some() {
            self.mark_all([Kind::Cluster, Kind::HttpLoadBalancer], now);
        }
        for id in touched {
            self.mark(id, now);
        }
        for (id, _) in &update.conditions {
            self.mark(id, now);
        }
        // Whoever serves a name that changed may have got or lost it.
        let hosts = update.hosts.iter().filter_map(|(_, host)| host.as_ref());
        for action in hosts.flat_map(|host| &host.routes).flat_map(|route| &route.actions) {
            self.mark(&action.object, now);
        }
        for (pool, _) in &update.pools {
            self.mark_sums(&pool.namespace, now);
        }
    }

    /// The API server answered then.
    pub(crate) fn reached(&mut self, at: Instant) {
        self.heard.reached(at);
    }

    /// The `Lease` of a replica is there, as said.
    pub(crate) fn replica(&mut self, lease: &Lease, now: Instant, clock: Timestamp) {
        self.replicas.apply(lease, self.heard.at(now), clock);
        self.settle_replicas(now);
    }

    /// The `Lease` of a replica is gone.
    pub(crate) fn replica_gone(&mut self, name: &str, now: Instant) {
        self.replicas.delete(name);
        self.settle_replicas(now);
    }

    /// These are all replicas' `Lease`s.
    pub(crate) fn replicas_are(&mut self, there: &HashSet<String>, now: Instant) {
        self.replicas.retain(|name| there.contains(name));
        self.settle_replicas(now);
    }

    /// How many replicas are alive.
    pub(crate) fn replicas_alive(&self, now: Instant) -> usize {
        self.replicas.alive(self.heard.at(now))
    }

    /// Replicas that have been dead for so long that their `Lease`s may be deleted.
    pub(crate) fn long_dead_replicas(&self, now: Instant) -> Vec<String> {
        self.replicas.long_dead(self.heard.at(now)).map(ToOwned::to_owned).collect()
    }

    fn settle_replicas(&mut self, now: Instant) {
        for (kind, before) in self.replicas.settle(self.heard.at(now)) {
            let (from, to) = match (before, self.replicas.level(kind)) {
                (Level::UpTo(one), Level::UpTo(other)) => (one.min(other) + 1, one.max(other)),
                (Level::Nobody, _) | (_, Level::Nobody) => (0, u64::MAX),
            };
            self.known.between(kind, from..=to).for_each(|id| self.queue.mark(id, now + SETTLE));
        }
    }

    /// The `Lease` of a cluster's agent is there, as said.
    pub(crate) fn agent(&mut self, cluster: &Arc<str>, lease: &Lease, now: Instant, clock: Timestamp) {
        if self.agents.apply(cluster, lease, self.heard.at(now), clock) {
            self.mark(&ObjectRef::cluster_scoped(Kind::Cluster, Arc::clone(cluster)), now);
        }
    }

    /// The `Lease` of a cluster's agent is gone.
    pub(crate) fn agent_gone(&mut self, cluster: &Arc<str>, now: Instant) {
        if self.agents.delete(cluster) {
            self.mark(&ObjectRef::cluster_scoped(Kind::Cluster, Arc::clone(cluster)), now);
        }
    }

    /// These clusters' agents have a `Lease`, and no others.
    pub(crate) fn agents_are(&mut self, there: &HashSet<Arc<str>>, now: Instant) {
        if !std::mem::replace(&mut self.agents_listed, true) {
            self.mark_all([Kind::Cluster], now);
        }
        for cluster in self.agents.retain(|cluster| there.contains(cluster)) {
            self.mark(&ObjectRef::cluster_scoped(Kind::Cluster, cluster), now);
        }
    }

    /// How the agents are.
    pub(crate) fn agent_figures(&self, now: Instant) -> figures::Agents {
        let heard = self.heard.at(now);
        let mut counted = figures::Agents::default();
        for (_, agent) in self.agents.iter() {
            if agent.is_silent(heard) {
                counted.silent += 1;
            } else {
                counted.alive += 1;
                counted.refused += usize::from(agent.refused.as_deref().is_some_and(|it| !it.is_empty()));
            }
        }
        if self.agents_listed {
            // Their sign of life is gone, as with a namespace that was deleted: nobody hears of them any more.
            let clusters = self.known.of_kind(Kind::Cluster).filter_map(|id| Some((id, self.known.get(id)?)));
            let lost = clusters.filter(|(id, entry)| was_seen(entry) && self.agents.get(&id.name).is_none());
            counted.silent += lost.count();
        }
        counted
    }

    /// Clients reach the proxy at these.
    pub(crate) fn addresses(&mut self, addresses: Vec<String>, now: Instant) {
        if self.addresses != addresses {
            self.addresses = addresses;
            self.mark_all([Kind::HttpLoadBalancer], now);
        }
    }

    /// Looks at who fell silent, and whose signs of life are to be written. To be called every second or so.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.settle_replicas(now);
        let cluster = |name: &Arc<str>| ObjectRef::cluster_scoped(Kind::Cluster, Arc::clone(name));
        for name in self.agents.fell_silent(self.heard.at(now)) {
            self.queue.mark(&cluster(&name), now);
        }
        for (name, agent) in self.agents.iter() {
            let id = cluster(name);
            let Some(entry) = self.known.get(&id) else { continue };
            let written = entry.standing.agent.as_ref().and_then(|agent| agent.last_seen.as_ref());
            if written.is_none_or(|written| is_again(written, agent.last_seen)) {
                self.queue.mark(&id, now + SETTLE);
            }
        }
    }

    /// Everything is to be looked at: this controller writes from now on.
    pub(crate) fn leads(&mut self, now: Instant) {
        self.pauses.clear();
        self.known.all().for_each(|id| self.queue.mark(id, now));
    }

    fn mark(&mut self, id: &ObjectRef, now: Instant) {
        if KINDS.contains(&id.kind) && self.known.get(id).is_some() {
            self.queue.mark(id, now + SETTLE);
        }
        self.mark_sums(&id.namespace, now);
    }

    /// What the cluster of that namespace has in force may have changed.
    fn mark_sums(&mut self, namespace: &Arc<str>, now: Instant) {
        let anything = ObjectRef::new(Kind::Cluster, Arc::clone(namespace), "");
        if let Some(cluster) = anything.cluster() {
            let id = ObjectRef::cluster_scoped(Kind::Cluster, cluster);
            if self.known.get(&id).is_some() {
                self.queue.mark(&id, now + SETTLE_SUMS);
            }
        }
    }

    fn mark_all(&mut self, kinds: impl IntoIterator<Item = Kind>, now: Instant) {
        for kind in kinds {
            self.known.of_kind(kind).for_each(|id| self.queue.mark(id, now + SETTLE));
        }
    }

    /// When there may be something to write next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.queue.next()
    }

    /// The next status to write. What it came to is to be told to [`Ledger::wrote`].
    pub(crate) fn due(&mut self, compiler: &Compiler, now: Instant, clock: Timestamp) -> Option<Write> {
        // By whole seconds, as Kubernetes writes times.
        let clock = Timestamp::from_second(clock.as_second()).unwrap_or(clock);
        while let Some(id) = self.queue.pop(now) {
            let held = self.pauses.get(&id).map(|(_, until)| *until).filter(|until| now < *until);
            if let Some(until) = held.or_else(|| self.in_flight.contains(&id).then(|| now + SETTLE)) {
                self.queue.mark(&id, until);
                continue;
            }
            if let Some(write) = self.wanted(&id, compiler, now, clock) {
                self.in_flight.insert(id);
                return Some(write);
            }
            self.pauses.remove(&id);
        }
        None
    }

    /// What a write came to.
    pub(crate) fn wrote(&mut self, write: Write, outcome: Outcome, now: Instant) {
        let Write { id, uid, standing } = write;
        self.in_flight.remove(&id);
        match outcome {
            Outcome::Written => {
                match id.kind {
                    Kind::Cluster => self.pauses.insert(id.clone(), (0, now + CLUSTER_AGAIN)),
                    _ => self.pauses.remove(&id),
                };
                if let Some(entry) = self.known.get_mut(&id).filter(|entry| entry.uid == uid) {
                    entry.standing = standing;
                }
            }
            Outcome::Gone => {
                self.pauses.remove(&id);
            }
            Outcome::Failed => {
                if self.known.get(&id).is_some() {
                    let failed = self.pauses.get(&id).map_or(0, |(failed, _)| *failed);
                    let until = now + RETRY * 2_u32.pow(failed);
                    self.queue.mark(&id, until);
                    self.pauses.insert(id, ((failed + 1).min(RETRY_DOUBLINGS), until));
                }
            }
        }
    }

    /// The status that an object should have, if it has another.
    fn wanted(&self, id: &ObjectRef, compiler: &Compiler, now: Instant, clock: Timestamp) -> Option<Write> {
        let entry = self.known.get(id)?;
        let unlisted = id.kind == Kind::Cluster && !self.agents_listed;
        if unlisted || self.judged.of(id.kind).unwrap_or_default() < entry.since {
            return None;
        }
        let found = compiler.plan().conditions.get(id).map(|found| &**found).unwrap_or_default();
        let programmed = match self.replicas.level(id.kind) {
            Level::Nobody => Programmed::NoReplicas,
            Level::UpTo(version) if version >= entry.since => Programmed::Yes,
            Level::UpTo(_) => Programmed::Pending,
        };
        let mut said = conditions::of(id.kind, found, compiler.is_invalid(id), programmed);
        let mut standing = Standing::default();
        match id.kind {
            Kind::HttpLoadBalancer => {
                standing.host = compiler.generated_host(id).map(|host| host.to_string());
                standing.addresses.clone_from(&self.addresses);
            }
            Kind::Cluster => {
                said.push(self.ready(id, entry, compiler, now));
                said.push(self.synced(&id.name, now));
                said.push(conditions::within_limits(compiler.left_out(&id.name)));
                standing.host_suffix = Some(format!("{}.{}", id.name, compiler.plan().proxy.lb_domain));
                standing.agent = self.agent_status(&id.name, entry);
                let counts = compiler.counts(&id.name);
                standing.counts = Some(Counts {
                    nodes: counts.nodes,
                    load_balancers: counts.load_balancers,
                    routes: counts.routes,
                    hosts: counts.hosts,
                    endpoints: counts.endpoints,
                    faults: counts.faults,
                });
            }
            _ => {}
        }
        standing.conditions =
            conditions::dated(said, entry.generation, &entry.standing.conditions, &Time(clock));
        let says_otherwise = !entry.standing.says(&standing);
        says_otherwise.then(|| Write { id: id.clone(), uid: Arc::clone(&entry.uid), standing })
    }

    fn ready(&self, id: &ObjectRef, entry: &Entry, compiler: &Compiler, now: Instant) -> Said {
        let cluster = &*id.name;
        let found = compiler.plan().conditions.get(id).map(|found| &**found).unwrap_or_default();
        if let Some(condition) = conditions::of(id.kind, found, compiler.is_invalid(id), Programmed::Yes)
            .into_iter()
            .find(|said| said.holds == Some(false))
        {
            return Said { kind: "Ready", ..condition };
        }
        let (holds, reason, message) = match self.agents.get(cluster) {
            None if !was_seen(entry) => (
                false,
                "NeverJoined",
                format!(
                    "no sign of life of its agent so far: apply in it what `portolan join {cluster}` prints"
                ),
            ),
            Some(agent) if !agent.is_silent(self.heard.at(now)) => (true, "Connected", String::new()),
            // Its `Lease` is that of a namespace made anew, or none is there.
            None => (
                false,
                "AgentSilent",
                format!(
                    "there is no sign of life in its namespace; if that was deleted, join again: apply in it what `portolan join {cluster}` \
                     prints"
                ),
            ),
            Some(_) => (
                false,
                "AgentSilent",
                "its agent shows no sign of life; what it wrote last stays in force".to_owned(),
            ),
        };
        Said::new("Ready", holds, reason, message)
    }

    /// Whether everything that the agent of a cluster wants written is written.
    fn synced(&self, cluster: &str, now: Instant) -> Said {
        const KIND: &str = "Synced";
        match self.agents.get(cluster).filter(|agent| !agent.is_silent(self.heard.at(now))) {
            None => Said::unknown(KIND, "AgentSilent", "its agent shows no sign of life"),
            Some(agent) => match agent.refused.as_deref() {
                None => Said::new(KIND, true, KIND, ""),
                Some("") => Said::new(KIND, false, "Pending", "its agent has not written everything yet"),
                Some(refused) => Said::new(KIND, false, "WritesRefused", refused),
            },
        }
    }

    fn agent_status(&self, cluster: &str, entry: &Entry) -> Option<AgentStatus> {
        let standing = entry.standing.agent.as_ref();
        let Some(agent) = self.agents.get(cluster) else { return standing.cloned() };
        let written = standing.and_then(|standing| standing.last_seen.clone());
        let whole = Timestamp::from_second(agent.last_seen.as_second()).unwrap_or(agent.last_seen);
        let last_seen = match written {
            Some(written) if !is_again(&written, agent.last_seen) => written,
            Some(_) | None => Time(whole),
        };
        Some(AgentStatus { version: agent.version.clone(), last_seen: Some(last_seen) })
    }
}

/// Whether the agent of a `Cluster` was ever heard of, as its status says.
fn was_seen(entry: &Entry) -> bool {
    entry.standing.agent.as_ref().is_some_and(|agent| agent.last_seen.is_some())
}

/// Whether a sign of life is so much later than the one that is written.
fn is_again(written: &Time, seen: Timestamp) -> bool {
    seen.as_second() - written.0.as_second() >= SEEN_AGAIN
}

#[cfg(test)]
mod tests;
