//! Which pods has this node, and who looks after each? One worker for each pod, told what becomes of it by the watch.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::pod::{self, End};
use super::shim::{self, CONTAINER, Started};
use super::stop::Stopper;
use super::{Host, instance, network};
use crate::net::Namespace;

/// How long a pod may take to end that is deleted already.
const GONE: Duration = Duration::from_secs(1);

/// All workers.
pub(super) struct Workers {
    host: Arc<Host>,
    running: HashMap<String, Worker>,
    tasks: JoinSet<String>,
    /// Pods of which nothing is left here, but which are there still for the API server.
    ended: HashSet<String>,
    /// Pods of a list that is being read.
    listed: HashSet<String>,
    /// Whether it is known what predecessors left.
    swept: bool,
}

#[derive(Debug)]
struct Worker {
    object: watch::Sender<Arc<Pod>>,
    end: watch::Sender<End>,
    stopper: Stopper,
}

impl Workers {
    /// Without workers, but with the addresses taken that pods of a kubelet before us have.
    pub(super) fn take_over(host: Arc<Host>) -> Self {
        for uid in left(&host) {
            if let Some(address) = network::assigned(&host.pod_dir(&uid)) {
                host.pool().claim(address);
            }
        }
        Self {
            host,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            ended: HashSet::new(),
            listed: HashSet::new(),
            swept: false,
        }
    }

    /// Does what a change of the pods of this node means.
    pub(super) fn hear(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.apply(pod);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.ended.retain(|uid| listed.contains(uid));
                let gone: Vec<_> =
                    self.running.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| self.gone(uid));
                if !std::mem::replace(&mut self.swept, true) {
                    self.sweep(&listed);
                }
            }
            Event::Apply(pod) => self.apply(pod),
            Event::Delete(pod) => {
                if let Some(uid) = &pod.metadata.uid {
                    self.gone(uid);
                    self.ended.remove(uid);
                }
            }
        }
    }

    /// Waits until a worker has ended, and forgets it.
    pub(super) async fn reap(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(uid)) => {
                self.host.names().retain(|_, named| *named != uid);
                if let Some(worker) = self.running.remove(&uid)
                    && *worker.end.borrow() != End::Gone
                {
                    self.ended.insert(uid);
                }
            }
            Some(Err(error)) => tracing::error!("the worker of a pod failed: {error}"),
            None => std::future::pending().await,
        }
    }

    /// Ends all pods, as the node goes out of service.
    pub(super) fn shut_down(&self, within: Duration) {
        for worker in self.running.values() {
            let pod = worker.object.borrow();
            let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
            worker.end.send_if_modified(|end| {
                let first = *end == End::None;
                if first {
                    *end = End::Shutdown;
                }
                first
            });
            worker.stopper.by(Instant::now() + seconds(grace).min(within));
        }
    }

    /// Waits until all workers have ended.
    pub(super) async fn ended(&mut self) {
        while !self.tasks.is_empty() {
            self.reap().await;
        }
    }

    fn apply(&mut self, pod: Pod) {
        let meta = &pod.metadata;
        let (Some(uid), Some(name), Some(namespace)) = (&meta.uid, &meta.name, &meta.namespace) else {
            return;
        };
        let (uid, key) = (uid.clone(), (namespace.clone(), name.clone()));
        if self.ended.contains(&uid) {
            return;
        }
        let deleted = meta.deletion_timestamp.is_some().then(|| seconds(meta.deletion_grace_period_seconds));
        let pod = Arc::new(pod);
        if !self.running.contains_key(&uid) {
            self.host.names().insert(key, uid.clone());
            self.begin(uid.clone(), Arc::clone(&pod));
        }
        let Some(worker) = self.running.get(&uid) else { return };
        worker.object.send_replace(pod);
        if let Some(grace) = deleted {
            worker.end.send_if_modified(|end| {
                let first = *end != End::Deleted && *end != End::Gone;
                *end = if first { End::Deleted } else { *end };
                first
            });
            worker.stopper.by(Instant::now() + grace);
        }
    }

    fn begin(&mut self, uid: String, pod: Arc<Pod>) {
        let (object, newest) = watch::channel(pod);
        let (end, ends) = watch::channel(End::None);
        let (stopper, stop) = Stopper::new();
        let work = pod::run(Arc::clone(&self.host), newest, stop, ends);
        let named = uid.clone();
        self.tasks.spawn(async move {
            work.await;
            named
        });
        self.running.insert(uid, Worker { object, end, stopper });
    }

    fn gone(&self, uid: &str) {
        if let Some(worker) = self.running.get(uid) {
            worker.end.send_replace(End::Gone);
            worker.stopper.by(Instant::now() + GONE);
        }
    }

    /// Removes what predecessors left of pods that are no more.
    fn sweep(&self, listed: &HashSet<String>) {
        let host = &self.host;
        let known: HashSet<_> = listed.iter().map(|uid| host.pod_namespace(uid)).collect();
        let names = Namespace::list(&format!("{}-", host.namespace.name()));
        for name in names.iter().filter(|name| !known.contains(*name)) {
            if let Err(error) = network::remove(name) {
                tracing::error!("{name}, which a predecessor left, is not removed: {error:#}");
            }
        }
        for uid in left(host).into_iter().filter(|uid| !listed.contains(uid)) {
            let dir = host.pod_dir(&uid);
            // Those that had the node's network were in none of these namespaces.
            let containers = std::fs::read_dir(dir.join("containers")).into_iter().flatten().flatten();
            for container in containers.map(|entry| entry.path()) {
                for number in instance::numbers(&container) {
                    let started: Option<Started> = shim::read(&instance::dir(&container, number), CONTAINER);
                    if let Some(started) = started.filter(|started| started.process.is_alive()) {
                        let _ = killpg(Pid::from_raw(started.process.pid()), Signal::SIGKILL);
                    }
                }
            }
            if let Some(address) = network::assigned(&dir) {
                host.pool().release(address);
            }
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                tracing::error!("{} is not removed: {error}", dir.display());
            }
        }
    }
}

/// The pods that have a folder.
fn left(host: &Host) -> Vec<String> {
    let entries = std::fs::read_dir(host.pods_dir()).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn seconds(grace: Option<i64>) -> Duration {
    Duration::from_secs(grace.and_then(|grace| u64::try_from(grace).ok()).unwrap_or(30))
}
