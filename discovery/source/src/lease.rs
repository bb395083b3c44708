//! Which of several replicas acts? The one that holds a `Lease` of the API server.
//!
//! ```text
//!  Elector (this file: reads and writes the Lease) ──► Election (pure: what to do about it) ──► watch::Receiver<bool>
//! ```
//!
//! At no time do two replicas believe that they lead, as long as their clocks run at about the same speed; whether they
//! show the same time does not matter: a `Lease` has run out when it was not seen to change for as long as it lasts. A leader that
//! cannot renew steps down by itself well before another may take over. Cost: one write every two seconds by the leader, one
//! read by each of the others.

mod election;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::error::Elapsed;

pub use self::election::{Election, Record, Step, Terms};

/// What a request about a `Lease` may take.
const REQUEST: Duration = Duration::from_secs(5);
/// What giving it up at the end may take.
const RELEASE: Duration = Duration::from_secs(2);

/// One replica's part in an election.
pub struct Elector {
    leases: Api<Lease>,
    name: String,
    election: Election,
    /// As it was read or written last.
    known: Option<Lease>,
    /// Whether the last try failed, which was said.
    failing: bool,
    reached: watch::Sender<Option<std::time::Instant>>,
}

impl Elector {
    /// The replica `identity` stands for election by the `Lease` of that name. `identity` is its own alone: the name of its pod.
    pub fn new(
        leases: Api<Lease>,
        name: impl Into<String>,
        identity: impl Into<String>,
        terms: Terms,
    ) -> Self {
        Self {
            leases,
            name: name.into(),
            election: Election::new(identity, terms),
            known: None,
            failing: false,
            reached: watch::Sender::new(None),
        }
    }

    /// When the API server answered last, every few seconds while it does.
    pub fn reached(&self) -> watch::Receiver<Option<std::time::Instant>> {
        self.reached.subscribe()
    }

    /// Takes part until `stop` is there, and says in `leads` whether this replica leads. At the end the `Lease` is
    /// given up, so that another need not wait until it has run out.
    pub async fn run(mut self, leads: watch::Sender<bool>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let jitter = RandomState::new();
        let mut round: u64 = 0;
        loop {
            let now = std::time::Instant::now();
            let until = self.election.leads_until(now).map(Instant::from_std);
            let tried = tokio::select! {
                () = &mut stop => break,
                tried = tokio::time::timeout(REQUEST, self.attempt()) => tried,
                // Whatever is under way then comes too late.
                () = at(until) => {
                    self.tell(&leads);
                    self.known = None;
                    continue;
                }
            };
            self.judge(tried);
            self.tell(&leads);
            round += 1;
            let pause = self.election.terms().pause(jitter.hash_one(round));
            let until = self.election.leads_until(std::time::Instant::now()).map(Instant::from_std);
            let pause = tokio::time::sleep(pause);
            tokio::pin!(pause);
            tokio::select! {
                () = &mut stop => break,
                () = &mut pause => {}
                () = at(until) => {
                    self.tell(&leads);
                    pause.await;
                }
            }
        }
        leads.send_replace(false);
        let _ = tokio::time::timeout(RELEASE, self.release()).await;
    }

    /// Says what went wrong, once for all until it is well again.
    fn judge(&mut self, tried: Result<kube::Result<()>, Elapsed>) {
        if matches!(tried, Ok(Ok(()) | Err(kube::Error::Api(_)))) {
            self.reached.send_replace(Some(std::time::Instant::now()));
        }
        let error = match tried {
            Ok(Ok(())) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(lease = %self.name, "the lease can be read and written again");
                }
                return;
            }
            Ok(Err(kube::Error::Api(status))) => status.message,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the API server does not answer".to_owned(),
        };
        self.known = None;
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(lease = %self.name, error, "cannot read or write the lease; trying on");
        }
    }

    fn tell(&self, leads: &watch::Sender<bool>) {
        let now = self.election.leads(std::time::Instant::now());
        let changed = leads.send_if_modified(|leads| std::mem::replace(leads, now) != now);
        if changed {
            let word = if now { "leading" } else { "no longer leading" };
            tracing::info!(lease = %self.name, identity = self.election.identity(), "{word}");
        }
    }

    /// Reads the `Lease` unless it is known to be ours, and does about it what there is to do.
    async fn attempt(&mut self) -> kube::Result<()> {
        if self.known.is_none() || !self.election.leads(std::time::Instant::now()) {
            self.known = self.leases.get_opt(&self.name).await?;
        }
        let asked = std::time::Instant::now();
        let found = self.known.as_ref().map(record);
        let (written, record) = match self.election.step(asked, Timestamp::now(), found.as_ref()) {
            Step::Wait => return Ok(()),
            Step::Create(record) => {
                let mut lease = Lease { metadata: ObjectMeta::default(), spec: None };
                lease.metadata.name = Some(self.name.clone());
                lease.spec = Some(spec(&record));
                (self.leases.create(&PostParams::default(), &lease).await, record)
            }
            Step::Update(record) => {
                let mut lease = self.known.clone().unwrap_or_default();
                lease.spec = Some(spec(&record));
                (self.leases.replace(&self.name, &PostParams::default(), &lease).await, record)
            }
        };
        match written {
            Ok(lease) => {
                self.known = Some(lease);
                self.election.wrote(asked, record);
                Ok(())
            }
            // Another was faster; the next round reads what it wrote.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                self.known = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn release(&mut self) {
        if let (Some(record), Some(mut lease)) = (self.election.release(), self.known.take()) {
            lease.spec = Some(spec(&record));
            let _ = self.leases.replace(&self.name, &PostParams::default(), &lease).await;
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.as_ref();
    Record {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
        lasts: spec
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(Duration::ZERO, Duration::from_secs),
        acquired: spec.and_then(|spec| spec.acquire_time.as_ref()).map(|time| time.0),
        renewed: spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0),
        transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or_default(),
    }
}

fn spec(record: &Record) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(record.holder.clone().unwrap_or_default()),
        lease_duration_seconds: Some(i32::try_from(record.lasts.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: record.acquired.map(MicroTime),
        renew_time: record.renewed.map(MicroTime),
        lease_transitions: Some(record.transitions),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests;
