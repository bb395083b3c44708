//! One container of a pod, from its first start to its last end.
//!
//! ```text
//!  image? ─► configuration? ─► [runs] ─► ended ─► again? ─ no ─► over
//!    ▲            ▲            probes               │
//!    └── retried ─┴────────────────── back-off ◄────┘
//! ```
//!
//! It tells the pod's board each change, and ends when it is asked to stop or when nothing is to be run again.

mod config;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::board::{State, View};
use super::events::Kind;
use super::instance::{self, Instance};
use super::pod::Pod;
use super::probe::{self, Check, Target, Timing};
use super::shim::Exit;
use super::stop::Stop;

/// Between two tries to put together what a container needs.
const RETRY: Duration = Duration::from_secs(1);
/// How long one that was not healthy may take to end, if nothing says so.
const GRACE: Duration = Duration::from_secs(30);

/// Which ends are followed by another start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    fn again(self, exit: &Exit) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit.code != 0,
            Self::Never => false,
        }
    }
}

/// A container and its pod.
#[derive(Clone)]
pub(crate) struct Runner {
    pod: Arc<Pod>,
    container: Container,
    policy: Policy,
    dir: PathBuf,
    stop: Stop,
}

/// So far away that only the pod's own deadline counts.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// A container that must be ended because a probe said so.
type Unhealthy = (String, Duration);

impl Runner {
    pub(crate) fn new(pod: &Arc<Pod>, container: &Container, policy: Policy, stop: &Stop) -> Self {
        Self {
            pod: Arc::clone(pod),
            container: container.clone(),
            policy,
            dir: pod.container_dir(&container.name),
            stop: stop.clone(),
        }
    }

    /// Runs it to its last end; nothing if it was stopped before it ever ran.
    pub(crate) async fn run(mut self) -> Option<Exit> {
        let mut backoff = Backoff::new(self.pod.node.backoff);
        let mut found = Instance::find(&self.dir);
        let mut number = found.as_ref().map_or(0, Instance::number);
        let mut last = instance::exit(&self.dir, number - 1);
        let adopted = self.pod.was(&self.container.name);
        self.view(|view| {
            view.restarts = number;
            view.last = last.clone();
        });
        loop {
            let mut run = match found.take() {
                Some(found) => {
                    // What it was before we came, it is until a probe says otherwise.
                    let (started, ready) = adopted;
                    self.view(|view| (view.started, view.ready) = (started, ready));
                    found
                }
                None => match self.start(number).await {
                    Some(run) => run,
                    None => return last,
                },
            };
            let began = Instant::now();
            let exit = self.attend(&mut run).await;
            self.view(|view| {
                view.state = State::Ended(exit.clone());
                (view.started, view.ready) = (false, false);
            });
            if self.stop.deadline().is_some() || !self.policy.again(&exit) {
                return Some(exit);
            }
            let delay = backoff.after(began.elapsed());
            last = Some(exit);
            if !delay.is_zero() {
                let message =
                    format!("back-off {delay:?} restarting failed container={}", self.container.name);
                self.pod.event(Kind::Warning, "BackOff", &message);
                let last = last.clone();
                self.view(|view| {
                    view.last = last;
                    view.state = State::Waiting { reason: "CrashLoopBackOff".to_owned(), message };
                });
                if !self.stop.pause(delay).await {
                    break;
                }
            }
            number += 1;
            let last = last.clone();
            self.view(|view| {
                view.last = last;
                view.restarts = number;
            });
        }
        // Stopped while it waited: it stays what it was.
        let exit = last.clone();
        self.view(|view| {
            if let Some(exit) = exit {
                view.state = State::Ended(exit);
            }
        });
        last
    }

    /// Starts a run as soon as all that it needs is there. Nothing if it was stopped before.
    async fn start(&mut self, number: i32) -> Option<Instance> {
        let binary = self.image().await?;
        loop {
            let tried = match config::spec(&self.pod, &self.container, binary.clone(), &self.dir, number) {
                Ok(spec) => Instance::start(&self.dir, number, self.pod.network(), spec)
                    .await
                    .map_err(|error| ("RunContainerError", format!("{error:#}"))),
                Err(message) => Err(("CreateContainerConfigError", message)),
            };
            let (reason, message) = match tried {
                Ok(run) => {
                    for old in instance::numbers(&self.dir).into_iter().filter(|&old| old < number - 1) {
                        // If it cannot be removed now, it is with the pod.
                        let _ = std::fs::remove_dir_all(instance::dir(&self.dir, old));
                    }
                    return Some(run);
                }
                Err(failed) => failed,
            };
            self.wait_for(reason, message);
            if !self.stop.pause(RETRY).await {
                return None;
            }
        }
    }

    /// The image's binary. Nothing if it was stopped before it was there.
    async fn image(&mut self) -> Option<PathBuf> {
        let image = self.container.image.clone().unwrap_or_default();
        let mut reason = "ErrImagePull";
        loop {
            match self.pod.node.images.binary(&image) {
                Ok(binary) => return Some(binary),
                Err(why) => self.wait_for(reason, why),
            }
            if !self.stop.pause(self.pod.node.backoff).await {
                return None;
            }
            reason = "ImagePullBackOff";
        }
    }

    /// Looks after a run until it has ended, and ends it where that is asked for.
    async fn attend(&mut self, run: &mut Instance) -> Exit {
        let Some(inside) = run.inside().cloned() else {
            let exit = run.ended().await;
            if exit.started.is_none() {
                let message = exit.message.clone().unwrap_or_default();
                self.pod.event(Kind::Warning, "Failed", &format!("Error: {message}"));
            }
            return exit;
        };
        let since = inside.started.at;
        self.view(|view| view.state = State::Running { since });
        self.pod.event(Kind::Normal, "Started", &format!("Started container {}", self.container.name));
        let target = Target::new(&self.container, self.pod.address().into(), Some(inside));
        let (report, mut unhealthy) = mpsc::channel(1);
        let mut probes = JoinSet::new();
        probes.spawn(self.clone().probe(target.clone(), since, report));
        let (why, grace) = tokio::select! {
            exit = run.ended() => return exit,
            _ = self.stop.requested() => ("Stopping container".to_owned(), None),
            Some((why, grace)) = unhealthy.recv() => (why, Some(grace)),
        };
        // One that stops is asked no more whether it lives, but is ready as long as it is.
        if grace.is_some() {
            probes.shutdown().await;
            self.view(|view| (view.started, view.ready) = (false, false));
        }
        self.pod.event(Kind::Normal, "Killing", &format!("{why} {}", self.container.name));
        self.end(run, &target, grace).await
    }

    /// Ends a run: the hook, the signal, and what cannot be ignored.
    async fn end(&mut self, run: &mut Instance, target: &Target, grace: Option<Duration>) -> Exit {
        let far = Instant::now() + grace.unwrap_or(NEVER);
        let lifecycle = self.container.lifecycle.clone().unwrap_or_default();
        if let Some(hook) = &lifecycle.pre_stop {
            tokio::select! {
                exit = run.ended() => return exit,
                () = self.stop.expired(far) => {}
                done = hooked(hook, target) => if let Err(why) = done {
                    self.pod.event(Kind::Warning, "FailedPreStopHook", &why);
                },
            }
        }
        let named = lifecycle.stop_signal.as_deref().and_then(|name| name.parse().ok());
        run.signal(named.unwrap_or(Signal::SIGTERM));
        tokio::select! {
            exit = run.ended() => return exit,
            () = self.stop.expired(far) => {}
        }
        run.kill();
        run.ended().await
    }

    /// Asks what the pod wants asked, for as long as the run lasts.
    async fn probe(self, target: Target, since: Timestamp, report: mpsc::Sender<Unhealthy>) {
        let container = &self.container;
        let since = started(since);
        if let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref())
            && !self.seen(|view| view.started)
            && let Err(why) = hooked(hook, &target).await
        {
            self.pod.event(Kind::Warning, "FailedPostStartHook", &why);
            // The receiver ends with the run.
            let _ = report.send((format!("FailedPostStartHook: {why}: killing"), self.grace(None))).await;
            return;
        }
        if let Some(startup) = &container.startup_probe
            && !self.seen(|view| view.started)
        {
            let (done, mut over) = mpsc::channel(1);
            let startup = self.ask("Startup", startup, &target, None, since, |good| {
                let _ = done.try_send(good);
            });
            let good = tokio::select! {
                () = startup => false,
                good = over.recv() => good == Some(true),
            };
            if !good {
                let grace = self.grace(container.startup_probe.as_ref());
                let _ = report.send(("failed startup probe, will be restarted:".to_owned(), grace)).await;
                return;
            }
        }
        self.view(|view| view.started = true);
        let ready = async {
            match &container.readiness_probe {
                None => self.view(|view| view.ready = true),
                Some(readiness) => {
                    let good = Some(self.seen(|view| view.ready));
                    let set = |good| self.view(|view| view.ready = good);
                    self.ask("Readiness", readiness, &target, good, since, set).await;
                }
            }
        };
        let alive = async {
            if let Some(liveness) = &container.liveness_probe {
                let grace = self.grace(Some(liveness));
                let dead = |good: bool| {
                    if !good {
                        let why = "failed liveness probe, will be restarted:".to_owned();
                        let _ = report.try_send((why, grace));
                    }
                };
                self.ask("Liveness", liveness, &target, Some(true), since, dead).await;
            }
        };
        tokio::join!(ready, alive);
    }

    /// Asks one question for ever.
    async fn ask(
        &self,
        what: &str,
        probe: &k8s_openapi::api::core::v1::Probe,
        target: &Target,
        began: Option<bool>,
        since: Instant,
        mut changed: impl FnMut(bool),
    ) {
        let check = match Check::of(probe, target) {
            Ok(check) => check,
            Err(why) => {
                self.pod.event(Kind::Warning, "Unhealthy", &format!("{what} probe errored: {why}"));
                return changed(false);
            }
        };
        let mut failing = false;
        probe::run(check, Timing::from(probe), began, since, |change, answer| {
            if let Err(why) = &answer
                && !failing
            {
                self.pod.event(Kind::Warning, "Unhealthy", &format!("{what} probe failed: {why}"));
            }
            failing = answer.is_err();
            if let Some(change) = change {
                changed(change);
            }
        })
        .await;
    }

    fn grace(&self, probe: Option<&k8s_openapi::api::core::v1::Probe>) -> Duration {
        let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
        let seconds = own.or_else(|| self.pod.spec().termination_grace_period_seconds);
        seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(GRACE, Duration::from_secs)
    }

    fn wait_for(&self, reason: &str, message: String) {
        let state = State::Waiting { reason: reason.to_owned(), message: message.clone() };
        if self.seen(|view| view.state != state) {
            let what = if reason.contains("BackOff") { "BackOff" } else { "Failed" };
            self.pod.event(Kind::Warning, what, &message);
            self.view(|view| view.state = state);
        }
    }

    fn view(&self, change: impl FnOnce(&mut View)) {
        self.pod.view(&self.container.name, change);
    }

    fn seen<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        self.pod.seen(&self.container.name, look)
    }
}

/// A point in time of the wall clock as one of the clock that only goes forward.
fn started(at: Timestamp) -> Instant {
    let ago = Timestamp::now().duration_since(at);
    let ago = Duration::try_from(ago).unwrap_or_default();
    Instant::now().checked_sub(ago).unwrap_or_else(Instant::now)
}

/// Does what a hook says.
async fn hooked(hook: &LifecycleHandler, target: &Target) -> Result<(), String> {
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default())).await;
        Ok(())
    } else if let Some(get) = &hook.http_get {
        Check::http(get, target)?.ask().await
    } else if let Some(exec) = &hook.exec {
        Check::exec(exec, target)?.ask().await
    } else {
        Ok(())
    }
}
