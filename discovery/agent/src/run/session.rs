//! One time of leading: from an empty view to whatever ends it.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use portolan_source::{ApiServer, one_line};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::Options;
use super::credential::{self, Credential, RenewError, Renewal, Term};
use super::events::{self, Teller};
use super::figures::{About, Metrics};
use super::lease::{self, Refused, Sign};
use super::write::{Clients, Target, write};
use super::{version, watch as watches};
use crate::keeper::{Input, Keeper, MemberId, Write};
use crate::ledger::{Outcome, Pace};

/// Inputs on their way: a page of objects, about.
const INPUTS: usize = 256;
/// Inputs that are taken in before it is looked what they come to.
const BATCH: usize = 256;
/// How long a change waits for others to the same object.
const QUIET: Duration = Duration::from_millis(10);
/// When an LB cluster that was too old is asked again.
const TOO_OLD: Duration = Duration::from_secs(60);
/// The pause after a mistake in this program.
const BROKEN: Duration = Duration::from_secs(10);
/// How many refusals are logged.
const SAID: usize = 100;
/// How often figures are taken.
const TICK: Duration = Duration::from_secs(1);

/// Runs until the credential leads to another place; who drops it ends it as well.
pub(super) async fn run(options: &Options, server: &ApiServer, metrics: &Arc<Metrics>) {
    let member = &server.client;
    let mut background = JoinSet::new();
    let (found, mut credentials) = watch::channel(None);
    background.spawn(watches::credential(member.clone(), options.namespace.clone(), found));
    let Some((credential, lb)) = first(&mut credentials).await else { return };
    let (inputs, mut heard) = mpsc::channel(INPUTS);
    watches::member(server, &inputs, &mut background);
    let of = lease::member_of(member).await;
    let renewal = Renewal::of(credential.term(), Instant::now());
    let mut session = Session {
        options,
        metrics,
        keeper: Keeper::new(credential.cluster.as_str(), options.node_address, there(options), here()),
        clients: Clients { member: member.clone(), lb, namespace: credential.namespace.clone() },
        teller: Teller::new(member.clone(), options),
        credential,
        passed_over: false,
        served: Arc::default(),
        inputs,
        member: of,
        lost: Arc::default(),
        abroad: JoinSet::new(),
        writes: JoinSet::new(),
        told: JoinSet::new(),
        renewing: JoinSet::new(),
        said: HashSet::new(),
        refused: watch::Sender::new(None),
        chance: Chance::default(),
        reachable: true,
        synced: false,
        renewal,
    };
    session.connect();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let wake = session.proceed();
        tokio::select! {
            input = heard.recv() => match input {
                Some(input) => session.hear(input, &mut heard),
                None => return,
            },
            Some(done) = session.writes.join_next() => match done {
                Ok((target, deletes, report)) => session.done(&target, deletes, &report),
                Err(error) => return broken(&error).await,
            },
            Some(Err(error)) = background.join_next() => return broken(&error).await,
            Some(Err(error)) = session.abroad.join_next() => return broken(&error).await,
            Some(_) = session.told.join_next() => {}
            Some(renewed) = session.renewing.join_next() => match renewed {
                Ok(renewed) => session.renewed(renewed).await,
                Err(error) => return broken(&error).await,
            },
            changed = credentials.changed() => {
                if changed.is_err() {
                    return;
                }
                let new = credentials.borrow_and_update().clone();
                let Some(new) = new.filter(|new| *new != session.credential) else { continue };
                if session.keeper.is_credential_refused() {
                    // Another may be served in this one's place by now: nothing is written before that is known.
                    tracing::info!("another credential after one that was refused: beginning anew");
                    return;
                }
                if new.is_older(&session.credential) {
                    tracing::warn!("the Secret has a token again that is older than the one in use: it is replaced by a new one");
                    session.renewal.hurry();
                    session.passed_over = true;
                    continue;
                }
                if !new.same_place(&session.credential) {
                    let (old, new) = (&session.credential, &new);
                    tracing::warn!(
                        was = %old.cluster, at = %old.server, now = %new.cluster, there = %new.server,
                        "the credential is for another place: beginning anew"
                    );
                    return;
                }
                session.take(new).await;
            }
            () = session.lost.notified() => return,
            () = until(wake) => {}
            _ = tick.tick() => {
                session.look();
                if session.passed_over && session.keeper.is_credential_refused() {
                    tracing::info!("the token in use is refused, and there is an older one: beginning anew");
                    return;
                }
            }
        }
    }
}

/// A task of the session panicked: it begins anew, but not without end.
async fn broken(error: &tokio::task::JoinError) {
    tracing::error!(%error, "a mistake in this program: beginning anew; please report what was printed before");
    tokio::time::sleep(BROKEN).await;
}

fn there(options: &Options) -> Pace {
    Pace { rate: options.write_rate, burst: options.write_rate * 2.0, in_flight: 8, quiet: QUIET }
}

fn here() -> Pace {
    Pace { rate: 20.0, burst: 40.0, in_flight: 4, quiet: QUIET }
}

/// The first credential that is one.
async fn first(credentials: &mut watch::Receiver<Option<Credential>>) -> Option<(Credential, Client)> {
    loop {
        let credential = credentials.wait_for(Option::is_some).await.ok()?.clone()?;
        match credential.client().await {
            Ok(client) => return Some((credential, client)),
            Err(error) => tracing::error!(error = %one_line(&error), "waiting for another credential"),
        }
        credentials.changed().await.ok()?;
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

struct Session<'a> {
    options: &'a Options,
    metrics: &'a Metrics,
    keeper: Keeper,
    clients: Clients,
    teller: Teller,
    credential: Credential,
    /// Whether the one that is kept is older.
    passed_over: bool,
    /// Whether this member cluster was served in this session.
    served: Arc<AtomicBool>,
    inputs: mpsc::Sender<Input>,
    /// Which member cluster this is, if that is known.
    member: Option<String>,
    /// Told where another member cluster is served as this one, or nothing is watched any more.
    lost: Arc<Notify>,
    /// What runs with the client of the LB cluster, and ends with it.
    abroad: JoinSet<()>,
    writes: JoinSet<(Target, bool, crate::keeper::Report)>,
    told: JoinSet<()>,
    renewing: JoinSet<Result<String, RenewError>>,
    /// Refusals that the log had.
    said: HashSet<String>,
    /// What the sign of life says of refusals, once that is known.
    refused: watch::Sender<Option<Refused>>,
    chance: Chance,
    reachable: bool,
    synced: bool,
    renewal: Renewal,
}

impl Session<'_> {
    /// Begins what runs with the client of the LB cluster.
    fn connect(&mut self) {
        self.abroad.abort_all();
        self.abroad = JoinSet::new();
        let lb = &self.clients.lb;
        let server = self.credential.server.clone();
        let whose = format!("the LB cluster at {server}");
        let (client, credential, inputs) = (lb.clone(), self.credential.clone(), self.inputs.clone());
        let (identity, member) = (self.options.identity.clone(), self.member.clone());
        let refused = self.refused.subscribe();
        let mut sign = Sign::new(lb.clone(), &credential, identity, member, refused, inputs.clone());
        let (lost, served) = (Arc::clone(&self.lost), Arc::clone(&self.served));
        self.abroad.spawn(async move {
            // Without lists nothing is written: neither where another is served in this one's place, nor into an LB cluster that is too old. With them
            // it would be: whoever lost its place begins anew.
            if let Some(taken) = sign.take(served.load(Ordering::Relaxed)).await {
                tracing::error!("{taken}; this one stands back");
                return lost.notify_one();
            }
            served.store(true, Ordering::Relaxed);
            let work = async {
                while let Err(error) = version::wait(&client, &whose).await {
                    tracing::error!("{error}");
                    tokio::time::sleep(TOO_OLD).await;
                }
                let mut tasks = JoinSet::new();
                watches::load_balancer(&client, &credential, &inputs, &mut tasks);
                while let Some(ended) = tasks.join_next().await {
                    if let Err(error) = ended {
                        return broken(&error).await;
                    }
                }
            };
            tokio::select! {
                taken = sign.keep() => {
                    tracing::error!("{taken}; this one stands back");
                    lost.notify_one();
                }
                () = work => lost.notify_one(),
            }
        });
        let term = self.credential.term();
        self.renewal.take(term, Instant::now());
        self.metrics.set_credential(term.map(|term| term.end.as_second()));
        match term {
            Some(Term { renew, end, .. }) => {
                tracing::info!(%server, cluster = %self.credential.cluster, %renew, %end, "writing into the LB cluster")
            }
            None => {
                tracing::info!(%server, cluster = %self.credential.cluster, "writing into the LB cluster")
            }
        }
    }

    /// Takes another credential for the same place.
    async fn take(&mut self, credential: Credential) {
        match credential.client().await {
            Ok(client) => {
                self.credential = credential;
                self.passed_over = false;
                self.clients.lb = client;
                self.keeper.reopen();
                self.connect();
            }
            Err(error) => tracing::error!(error = %one_line(&error), "another credential cannot be used"),
        }
    }

    fn hear(&mut self, input: Input, heard: &mut mpsc::Receiver<Input>) {
        let now = Instant::now();
        self.keeper.apply(input, now);
        for _ in 1..BATCH {
            let Ok(input) = heard.try_recv() else { break };
            self.keeper.apply(input, now);
        }
    }

    /// Starts what can be started, and says when to look again.
    fn proceed(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.keeper.settle(now);
        if !self.synced && self.keeper.synced() {
            self.synced = true;
            let figures = self.keeper.figures();
            self.metrics.set_figures(figures);
            tracing::info!(ingresses = figures.ingresses, writes = figures.pending[0], "every list is in");
        }
        let write_at = loop {
            match self.keeper.next_write(now) {
                Ok(next) => {
                    log(&next);
                    self.writes.spawn(write(self.clients.clone(), next));
                }
                Err(at) => break at,
            }
        };
        let tell_at = loop {
            match self.keeper.next_notice(now) {
                Ok((about, uid, told)) => {
                    self.metrics.told();
                    self.told.spawn(self.teller.clone().tell(about, uid, told));
                }
                Err(at) => break at,
            }
        };
        write_at.into_iter().chain(tell_at).min()
    }

    fn done(&mut self, target: &Target, deletes: bool, report: &crate::keeper::Report) {
        let now = Instant::now();
        let chance = self.chance.next();
        let about = match target {
            Target::There(id) => About::There(id.kind),
            Target::Here(MemberId::Companion(_)) => About::Companion,
            Target::Here(MemberId::Status(_)) => About::Status,
        };
        self.metrics.wrote(about, deletes, &report.outcome, now);
        match target {
            Target::There(id) => self.keeper.done_there(id, report, now, chance),
            Target::Here(id) => self.keeper.done_here(id, report, now, chance),
        }
        let reason = report.reason.as_deref().unwrap_or_default();
        match &report.outcome {
            Outcome::Refused => {
                let what = match target {
                    Target::There(id) => format!("{id} in the LB cluster"),
                    Target::Here(id) => format!("{id:?}"),
                };
                let line = format!("{what} is refused: {reason}");
                // Each once, and not without bound.
                if self.said.len() < SAID && self.said.insert(line.clone()) {
                    tracing::warn!("{line}");
                    if self.said.len() == SAID {
                        tracing::warn!("further refusals are not logged; events and metrics have them");
                    }
                }
            }
            Outcome::Failed | Outcome::Unread | Outcome::Unreachable => {
                tracing::debug!(?target, %reason, "not written")
            }
            Outcome::Done(_) | Outcome::Void | Outcome::Conflict | Outcome::Late => {}
        }
        let reachable = self.keeper.figures().reachable;
        if reachable != self.reachable {
            self.reachable = reachable;
            let (pending, server) = (self.keeper.figures().pending[0], &self.credential.server);
            if reachable {
                tracing::info!(pending, %server, "the LB cluster takes writes again");
            } else {
                tracing::warn!(pending, %server, %reason, "the LB cluster takes no writes; what is wanted is kept");
            }
        }
    }

    /// What is looked at now and then.
    fn look(&mut self) {
        self.metrics.set_figures(self.keeper.figures());
        let mut refused = self.keeper.refused(Instant::now());
        refused.iter_mut().for_each(events::cut);
        let known = refused.is_some() || self.refused.borrow().is_some() || self.keeper.tried();
        if known {
            self.refused.send_if_modified(|told| told.replace(refused.clone()) != Some(refused));
        }
        if self.renewing.is_empty() && self.renewal.is_due(Timestamp::now(), Instant::now()) {
            let Clients { member, lb, .. } = self.clients.clone();
            let (lifetime, beside) = (self.options.token_lifetime, self.options.namespace.clone());
            self.renewing.spawn(credential::renew(lb, self.credential.clone(), lifetime, member, beside));
        }
    }

    async fn renewed(&mut self, renewed: Result<String, RenewError>) {
        match renewed {
            Ok(token) => {
                self.metrics.renewed();
                self.renewal.done(Instant::now());
                let credential = self.credential.with_token(token);
                // The watch of what was kept may have been faster.
                if credential != self.credential {
                    self.take(credential).await;
                }
            }
            Err(error) => self.put_off(&one_line(&error)),
        }
    }

    fn put_off(&mut self, why: &str) {
        let end = self.credential.term().map(|term| term.end);
        tracing::warn!(%why, ends = ?end.map(|end| end.to_string()), "the token cannot be renewed; trying on");
        self.renewal.put_off(Timestamp::now(), Instant::now());
    }
}

fn log(next: &Write) {
    match next {
        Write::LoadBalancer(id, Some(_)) => tracing::debug!(%id, "apply"),
        Write::LoadBalancer(id, None) => tracing::debug!(%id, "delete"),
        Write::Companion(key, _) => tracing::debug!(companion = %key, "apply"),
        Write::NoCompanion(key, _) => tracing::debug!(companion = %key, "delete"),
        Write::Status { key, .. } => tracing::debug!(ingress = %key, "status"),
    }
}

/// Numbers between 0 and 1 that nobody guesses.
#[derive(Default)]
struct Chance {
    state: RandomState,
    last: u64,
}

impl Chance {
    fn next(&mut self) -> f64 {
        self.last += 1;
        f64::from(u32::try_from(self.state.hash_one(self.last) >> 32).unwrap_or_default())
            / f64::from(u32::MAX)
    }
}
