//! The controller's one loop: batches into the compiler, watches into the ledger, what is due out to the API server.
//!
//! Invariant: only the holder of the `Lease` writes. The others take in the same, so that a new leader knows at once what stands
//! where, and writes only what is to be changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::StreamExt;
use ipnet::IpNet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::watcher::Event;
use portolan_api::contract::{CONTROLLER, PROXY};
use portolan_compile::Compiler;
use portolan_model::id::{Kind, ObjectRef, TENANT_PREFIX};
use portolan_model::intent::Delta;
use portolan_model::plan::Plan;
use portolan_source::Batch;
use portolan_source::lease::{Elector, Terms};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::figures::Figures;
use crate::ports;
use crate::provision::provision;
use crate::refusal::Refusal;
use crate::status::{Ledger, Outcome, Seen, Write};
use crate::watches::{self, News};
use crate::writer::{AnyObject, Rate, write};

/// Statuses that are written at a time.
const AT_ONCE: usize = 8;
/// Statuses that are written in a second, when many are to be.
const PER_SECOND: u32 = 100;
/// Statuses that are written at once after a pause.
const BURST: u32 = 200;
/// Between two looks at who is alive.
const TICK: Duration = Duration::from_secs(1);
/// Between two looks for `Lease`s that nobody renews any more.
const SWEEP: Duration = Duration::from_secs(60);
/// Between two tries to give the Service its ports.
const PORTS: Duration = Duration::from_secs(10);

/// What the controller works with.
pub struct Options {
    /// The LB cluster.
    pub client: Client,
    /// The platform's own namespace.
    pub system: String,
    /// The name of this replica, its alone.
    pub identity: String,
    /// Told the plan with each change; `None` until there is one.
    pub plans: watch::Sender<Option<Plan>>,
    /// Kept up.
    pub figures: Arc<Figures>,
}

/// Runs until `stop` is there, or nothing sends `batches` any more; then gives its `Lease` up.
pub async fn control(options: Options, batches: mpsc::Receiver<Batch>, stop: impl Future<Output = ()>) {
    let leases = Api::<Lease>::namespaced(options.client.clone(), &options.system);
    let elector = Elector::new(leases, CONTROLLER, &options.identity, Terms::default());
    let reached = elector.reached();
    let (leads, led) = watch::channel(false);
    let (ended, end) = oneshot::channel::<()>();
    let election = tokio::spawn(elector.run(leads, async move {
        let _ = end.await;
    }));
    Controller::new(options, led, reached).run(batches, stop).await;
    drop(ended);
    let _ = election.await;
}

struct Controller {
    options: Options,
    compiler: Compiler,
    ledger: Ledger,
    leads: watch::Receiver<bool>,
    /// When the API server answered last.
    reached: watch::Receiver<Option<Instant>>,
    reserved: watch::Sender<Arc<[IpNet]>>,
    /// Whether everything was taken in once.
    knows: bool,
    lists: Lists,
    rate: Rate,
    writes: JoinSet<(Write, Outcome)>,
    /// What only a leader does, while it leads.
    duties: JoinSet<()>,
    provisioning: Option<AbortHandle>,
    /// The ports that the Service has, while it is there.
    ports: Option<Vec<ServicePort>>,
    /// The ports that were asked for last, and when.
    ports_asked: Option<(Vec<ServicePort>, Instant)>,
    swept: Instant,
}

/// What a list that is under way has brought so far.
#[derive(Default)]
struct Lists {
    objects: HashMap<Kind, HashSet<ObjectRef>>,
    replicas: HashSet<String>,
    agents: HashSet<Arc<str>>,
    service: bool,
}

impl Controller {
    fn new(
        options: Options,
        leads: watch::Receiver<bool>,
        reached: watch::Receiver<Option<Instant>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            options,
            compiler: Compiler::new(),
            ledger: Ledger::default(),
            leads,
            reached,
            reserved: watch::Sender::new([].into()),
            knows: false,
            lists: Lists::default(),
            rate: Rate::new(PER_SECOND, BURST, now),
            writes: JoinSet::new(),
            duties: JoinSet::new(),
            provisioning: None,
            ports: None,
            ports_asked: None,
            swept: now,
        }
    }

    async fn run(mut self, mut batches: mpsc::Receiver<Batch>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut news = watches::watch(&self.options.client, &self.options.system);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(at) = *self.reached.borrow() {
                self.ledger.reached(at);
            }
            let leads = self.acts();
            let next = if leads { self.write_what_is_due() } else { None };
            tokio::select! {
                () = &mut stop => return,
                batch = batches.recv() => match batch {
                    Some(batch) => self.take_in(batch),
                    None => return,
                },
                told = news.next() => match told {
                    Some(told) => self.hear(told),
                    None => return,
                },
                changed = self.leads.changed() => match changed {
                    Ok(()) => self.ledger.leads(Instant::now()),
                    Err(_) => return,
                },
                Some(done) = self.writes.join_next() => {
                    if let Ok((write, outcome)) = done {
                        self.options.figures.wrote(outcome != Outcome::Failed);
                        self.ledger.wrote(write, outcome, Instant::now());
                    }
                }
                Some(_) = self.duties.join_next() => {}
                _ = tick.tick() => self.tick(leads),
                () = sleep_until(next) => {}
            }
        }
    }

    /// Whether it leads and knows enough to act on. Starts and ends what only a leader does.
    fn acts(&mut self) -> bool {
        let leads = *self.leads.borrow() && self.knows;
        self.options.figures.set_leads(leads);
        match (leads, &self.provisioning) {
            (true, None) => {
                let Options { client, system, figures, .. } = &self.options;
                let (client, system, figures) = (client.clone(), system.clone(), Arc::clone(figures));
                let task = provision(client, system, self.reserved.subscribe(), figures);
                self.provisioning = Some(self.duties.spawn(task));
            }
            (true, Some(task)) if task.is_finished() => self.provisioning = None,
            (false, Some(_)) => {
                self.duties.abort_all();
                self.provisioning = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
        leads
    }

    /// Starts the writes that are due; when there may be more.
    fn write_what_is_due(&mut self) -> Option<Instant> {
        let now = Instant::now();
        loop {
            if self.writes.len() >= AT_ONCE {
                return None;
            }
            let due = self.ledger.next_due()?;
            let at = self.rate.next().map_or(due, |free| free.max(due));
            if at > now {
                return Some(at);
            }
            if let Some(status) = self.ledger.due(&self.compiler, now, Timestamp::now()) {
                self.rate.take(now);
                let client = self.options.client.clone();
                self.writes.spawn(async move {
                    let outcome = write(client, &status).await;
                    (status, outcome)
                });
            }
        }
    }

    /// One step from one configuration to the next.
    fn take_in(&mut self, batch: Batch) {
        let Batch { deltas, versions, .. } = batch;
        let touched: Vec<_> = deltas.iter().map(|delta| id(delta).clone()).collect();
        let update = self.compiler.apply(deltas);
        self.ledger.judged(&update, &touched, &versions, Instant::now());
        let plan = self.compiler.plan();
        self.reserved.send_if_modified(|reserved| {
            let changed = *reserved != plan.proxy.reserved;
            reserved.clone_from(&plan.proxy.reserved);
            changed
        });
        if !self.knows || !update.is_empty() {
            self.knows = true;
            self.options.plans.send_replace(Some(plan.clone()));
        }
    }

    fn hear(&mut self, news: News) {
        let (now, clock) = (Instant::now(), Timestamp::now());
        match news {
            News::Object(kind, event) => self.hear_of_object(kind, *event, now),
            News::Replica(event) => match event {
                Event::Init => self.lists.replicas.clear(),
                Event::InitApply(lease) => {
                    self.lists.replicas.extend(lease.metadata.name.clone());
                    self.ledger.replica(&lease, now, clock);
                }
                Event::InitDone => self.ledger.replicas_are(&std::mem::take(&mut self.lists.replicas), now),
                Event::Apply(lease) => self.ledger.replica(&lease, now, clock),
                Event::Delete(lease) => {
                    self.ledger.replica_gone(&lease.metadata.name.unwrap_or_default(), now);
                }
            },
            News::Agent(event) => match event {
                Event::Init => self.lists.agents.clear(),
                Event::InitDone => self.ledger.agents_are(&std::mem::take(&mut self.lists.agents), now),
                Event::InitApply(lease) => {
                    if let Some(cluster) = cluster(&lease) {
                        self.ledger.agent(&cluster, &lease, now, clock);
                        self.lists.agents.insert(cluster);
                    }
                }
                Event::Apply(lease) => {
                    if let Some(cluster) = cluster(&lease) {
                        self.ledger.agent(&cluster, &lease, now, clock);
                    }
                }
                Event::Delete(lease) => {
                    if let Some(cluster) = cluster(&lease) {
                        self.ledger.agent_gone(&cluster, now);
                    }
                }
            },
            News::Service(event) => match *event {
                Event::Init => self.lists.service = false,
                Event::InitApply(service) => {
                    self.lists.service = true;
                    self.hear_of_service(Some(service), now);
                }
                Event::InitDone if self.lists.service => {}
                Event::Apply(service) => self.hear_of_service(Some(service), now),
                Event::InitDone | Event::Delete(_) => self.hear_of_service(None, now),
            },
        }
    }

    fn hear_of_service(&mut self, service: Option<Service>, now: Instant) {
        self.ledger.addresses(service.as_ref().map(addresses).unwrap_or_default(), now);
        self.ports = service.map(|service| service.spec.and_then(|spec| spec.ports).unwrap_or_default());
    }

    fn hear_of_object(&mut self, kind: Kind, event: Event<AnyObject<serde_json::Value>>, now: Instant) {
        let seen = |object: AnyObject<serde_json::Value>| Seen::of(kind, object.metadata, object.status);
        match event {
            Event::Init => {
                self.lists.objects.remove(&kind);
            }
            Event::InitApply(object) => {
                if let Some(seen) = seen(object) {
                    self.lists.objects.entry(kind).or_default().insert(seen.id.clone());
                    self.ledger.object(seen, now);
                }
            }
            Event::InitDone => {
                let there = self.lists.objects.remove(&kind).unwrap_or_default();
                self.ledger.objects_are(kind, &there);
            }
            Event::Apply(object) => {
                if let Some(seen) = seen(object) {
                    self.ledger.object(seen, now);
                }
            }
            Event::Delete(object) => {
                if let Some(seen) = seen(object) {
                    self.ledger.object_gone(&seen.id);
                }
            }
        }
    }

    fn tick(&mut self, leads: bool) {
        let now = Instant::now();
        self.ledger.tick(now);
        self.options.figures.set_alive(self.ledger.replicas_alive(now), self.ledger.agent_figures(now));
        // Told again by the watch once written; until then the same is written now and then.
        let wanted =
            self.ports.as_ref().and_then(|now| ports::wanted(&self.compiler.plan().proxy.listeners, now));
        let asked = |wanted: &Vec<ServicePort>| {
            let asked = self.ports_asked.as_ref().filter(|(ports, _)| ports == wanted);
            asked.is_some_and(|(_, at)| now.saturating_duration_since(*at) < PORTS)
        };
        if leads && let Some(wanted) = wanted.filter(|wanted| !asked(wanted)) {
            self.ports_asked = Some((wanted.clone(), now));
            let services = Api::<Service>::namespaced(self.options.client.clone(), &self.options.system);
            self.duties.spawn(set_ports(services, wanted));
        }
        if leads && now.saturating_duration_since(self.swept) >= SWEEP {
            self.swept = now;
            let names = self.ledger.long_dead_replicas(now);
            if !names.is_empty() {
                let leases = Api::<Lease>::namespaced(self.options.client.clone(), &self.options.system);
                self.duties.spawn(sweep(leases, names));
            }
        }
    }
}

/// Deletes the `Lease`s of replicas that are long dead.
async fn sweep(leases: Api<Lease>, names: Vec<String>) {
    for name in names {
        match leases.delete(&name, &DeleteParams::default()).await {
            Ok(_) => tracing::info!(lease = name, "deleted the lease of a replica that is long dead"),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                tracing::warn!(lease = name, error = %Refusal::from(error), "cannot delete the lease of a dead replica")
            }
        }
    }
}

/// Gives the Service its ports: all of them, so that those which lead nowhere go.
async fn set_ports(services: Api<Service>, ports: Vec<ServicePort>) {
    let numbers: Vec<_> = ports.iter().map(|port| port.port).collect();
    let patch = Patch::Merge(json!({"spec": {"ports": ports}}));
    let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
    match services.patch(PROXY, &params, &patch).await {
        Ok(_) => {
            tracing::info!(service = PROXY, ports = ?numbers, "the Service's ports follow the listeners")
        }
        Err(error) => {
            tracing::warn!(service = PROXY, error = %Refusal::from(error), "cannot set the ports of the Service");
        }
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

fn id(delta: &Delta) -> &ObjectRef {
    match delta {
        Delta::Apply(object) => &object.meta.id,
        Delta::Delete(id) | Delta::Invalid(id, _) => id,
    }
}

/// The cluster whose agent's `Lease` that is.
fn cluster(lease: &Lease) -> Option<Arc<str>> {
    lease.metadata.namespace.as_deref()?.strip_prefix(TENANT_PREFIX).map(Into::into)
}

/// Where a `Service` is reached from outside.
fn addresses(service: &Service) -> Vec<String> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let given = ingress.filter_map(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone()));
    let external = service.spec.as_ref().and_then(|spec| spec.external_ips.clone()).unwrap_or_default();
    let mut addresses: Vec<_> = given.chain(external).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests;
