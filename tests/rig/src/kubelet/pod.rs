//! One pod of this node, from when the node hears of it until it is gone.
//!
//! ```text
//!  network ─► volumes ─► init containers, one by one ─► containers ─► over ─► deleted
//!     │          │                                          ▲
//!     └─ retried ┘          volumes follow their objects ───┘
//! ```
//!
//! What was made by a kubelet before us is taken over at each of these steps.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures_util::future::join_all;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1 as core;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Resource};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::board::{Board, View};
use super::container::{Policy, Runner};
use super::events::Kind;
use super::facts::Facts;
use super::objects::{self, Watched};
use super::shim::Exit;
use super::stop::{Stop, Stopper};
use super::volumes::{self, Content, TokenKey, Tokens};
use super::{Host, network, report, status};
use crate::net::Namespace;

/// Between two tries to make what a pod needs.
const RETRY: Duration = Duration::from_secs(1);
/// How long the API server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long what a pod's namespace holds may take to say that it ended, beyond the pod's grace.
const SIDECARS: Duration = Duration::from_secs(30);

/// A pod that has its network.
pub(crate) struct Pod {
    pub(crate) node: Arc<Host>,
    /// Keeps what its volumes and environments refer to watched.
    pub(crate) watched: Vec<Arc<Watched>>,
    first: Arc<core::Pod>,
    spec: core::PodSpec,
    newest: watch::Receiver<Arc<core::Pod>>,
    dir: PathBuf,
    network: Option<Namespace>,
    address: Ipv4Addr,
    board: Arc<watch::Sender<Board>>,
    tokens: Mutex<BTreeMap<TokenKey, Token>>,
}

#[derive(Debug)]
struct Token {
    text: String,
    renew: Instant,
}

/// What ends a pod, as its worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Not yet.
    None,
    /// It is to be deleted.
    Deleted,
    /// It is deleted already.
    Gone,
    /// The node goes out of service.
    Shutdown,
}

impl Pod {
    /// The pod as it was when we first saw it.
    pub(crate) fn spec(&self) -> &core::PodSpec {
        &self.spec
    }

    pub(crate) fn namespace(&self) -> &str {
        self.first.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Its host name.
    pub(crate) fn hostname(&self) -> String {
        self.spec.hostname.clone().or_else(|| self.first.metadata.name.clone()).unwrap_or_default()
    }

    /// Its network namespace, unless it has that of its node.
    pub(crate) fn network(&self) -> Option<&Namespace> {
        self.network.as_ref()
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub(crate) fn container_dir(&self, name: &str) -> PathBuf {
        self.dir.join("containers").join(name)
    }

    pub(crate) fn volume_dir(&self, name: &str) -> PathBuf {
        self.dir.join("volumes").join(name)
    }

    /// What its containers may know of it, now.
    pub(crate) fn facts(&self) -> Facts {
        Facts { pod: Arc::clone(&self.newest.borrow()), pod_ip: self.address, host_ip: self.node.address }
    }

    /// Whether a container was started and ready, as its status said when we first saw it.
    pub(crate) fn was(&self, container: &str) -> (bool, bool) {
        let status = self.first.status.clone().unwrap_or_default();
        let all = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
        let found = all.into_iter().find(|status| status.name == container);
        found.map_or((false, false), |status| (status.started == Some(true), status.ready))
    }

    /// Changes what is known of a container.
    pub(crate) fn view(&self, container: &str, change: impl FnOnce(&mut View)) {
        self.board.send_if_modified(|board| match board.containers.get_mut(container) {
            Some(view) => {
                let before = view.clone();
                change(view);
                *view != before
            }
            None => false,
        });
    }

    /// Looks at what is known of a container.
    pub(crate) fn seen<T>(&self, container: &str, look: impl FnOnce(&View) -> T) -> T {
        match self.board.borrow().containers.get(container) {
            Some(view) => look(view),
            None => look(&View::waiting("Unknown")),
        }
    }

    /// Tells what happened to it.
    pub(crate) fn event(&self, kind: Kind, reason: &str, note: &str) {
        self.node.events.tell(self.first.object_ref(&()), kind, reason, note);
    }

    /// Writes its volumes as they are to be now, or says what is missing.
    async fn write_volumes(&self) -> Result<(), String> {
        let tokens = self.renew_tokens().await?;
        let snapshot = objects::snapshot(&self.watched)?;
        let facts = self.facts();
        for volume in self.spec().volumes.iter().flatten() {
            let dir = self.volume_dir(&volume.name);
            let failed = |error: std::io::Error| format!("cannot write volume {:?}: {error}", volume.name);
            match volumes::content(volume, &facts, &snapshot, &tokens)? {
                Content::Files(files) => {
                    volumes::swap(&dir, &files).map_err(failed)?;
                }
                Content::Empty => volumes::open(&dir).map_err(failed)?,
                Content::Host(path) if path.exists() => {}
                Content::Host(path) => {
                    let kind = volume.host_path.as_ref().and_then(|host| host.type_.as_deref());
                    if kind != Some("DirectoryOrCreate") {
                        return Err(format!("no {} on the node", path.display()));
                    }
                    std::fs::create_dir_all(&path).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    /// Its tokens, renewed where four fifths of their time are over.
    async fn renew_tokens(&self) -> Result<Tokens, String> {
        for key in volumes::tokens(&self.first) {
            let due = self.tokens().get(&key).is_none_or(|token| token.renew <= Instant::now());
            if due {
                match self.request_token(&key).await {
                    Ok(token) => {
                        self.tokens().insert(key, token);
                    }
                    // The old one is good for a while.
                    Err(_) if self.tokens().contains_key(&key) => {}
                    Err(error) => return Err(format!("no token: {error:#}")),
                }
            }
        }
        Ok(self.tokens().iter().map(|(key, token)| (key.clone(), token.text.clone())).collect())
    }

    async fn request_token(&self, key: &TokenKey) -> Result<Token> {
        let meta = &self.first.metadata;
        let accounts: Api<core::ServiceAccount> = Api::namespaced(self.node.client.clone(), self.namespace());
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(key.audience.clone().into_iter().collect()),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: meta.name.clone(),
                    uid: meta.uid.clone(),
                }),
                expiration_seconds: Some(key.seconds),
                ..Default::default()
            }),
            ..Default::default()
        };
        let account = self.spec.service_account_name.as_deref().unwrap_or("default");
        let params = PostParams::default();
        let answer = timeout(ANSWER, accounts.create_token_request(account, &params, &request)).await;
        let status = answer.context("the API server does not answer")??.status;
        let text = status.and_then(|status| status.token).context("an answer without a token")?;
        let lives = Duration::from_secs(u64::try_from(key.seconds).unwrap_or(3600));
        Ok(Token { text, renew: Instant::now() + lives * 4 / 5 })
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, BTreeMap<TokenKey, Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes volumes until all are there.
    async fn mount(&self, newest: &mut watch::Receiver<Arc<core::Pod>>) {
        let mut changes = self.node.objects.changes();
        let mut told = String::new();
        while let Err(why) = self.write_volumes().await {
            if why != told {
                self.event(Kind::Warning, "FailedMount", &why);
                told = why;
            }
            tokio::select! {
                () = sleep(RETRY) => {}
                _ = changes.changed() => {}
                _ = newest.changed() => {}
            }
        }
    }

    /// Keeps volumes as their objects are, for ever.
    async fn follow(self: Arc<Self>) {
        let mut changes = self.node.objects.changes();
        let mut newest = self.newest.clone();
        loop {
            let renewal = self.tokens().values().map(|token| token.renew).min();
            let renewal = renewal.map_or(Duration::from_secs(3600), |at| at.duration_since(Instant::now()));
            tokio::select! {
                () = sleep(renewal.max(RETRY)) => {}
                _ = changes.changed() => {}
                changed = newest.changed() => if changed.is_err() { return },
            }
            if let Err(why) = self.write_volumes().await {
                // What was there stays.
                self.event(Kind::Warning, "FailedMount", &why);
            }
        }
    }

    /// Runs its containers until all are over.
    async fn live(self: &Arc<Self>, stop: &mut Stop) {
        let mut newest = self.newest.clone();
        tokio::select! {
            () = self.mount(&mut newest) => {}
            _ = stop.requested() => return,
        }
        let mut following = JoinSet::new();
        following.spawn(Arc::clone(self).follow());
        let (sidecars_stop, sidecars_see) = Stopper::new();
        let mut sidecars = JoinSet::new();
        let spec = self.spec();
        let policy = match spec.restart_policy.as_deref() {
            Some("Never") => Policy::Never,
            Some("OnFailure") => Policy::OnFailure,
            _ => Policy::Always,
        };
        let once = if policy == Policy::Always { Policy::OnFailure } else { policy };
        let mut good = true;
        for container in spec.init_containers.iter().flatten() {
            if status::is_sidecar(container) {
                let runner = Runner::new(self, container, Policy::Always, &sidecars_see);
                sidecars.spawn(async move { runner.run().await.is_some() });
                let mut board = self.board.subscribe();
                let started =
                    |board: &Board| board.containers.get(&container.name).is_some_and(|view| view.started);
                tokio::select! {
                    _ = board.wait_for(started) => {}
                    _ = stop.requested() => good = false,
                }
            } else {
                let exit: Option<Exit> = Runner::new(self, container, once, stop).run().await;
                good = exit.is_some_and(|exit| exit.code == 0);
            }
            if !good || stop.deadline().is_some() {
                good = false;
                break;
            }
        }
        if good {
            let runners = spec.containers.iter().map(|container| Runner::new(self, container, policy, stop));
            join_all(runners.map(Runner::run)).await;
        }
        sidecars_stop.by(stop.deadline().unwrap_or_else(|| Instant::now() + SIDECARS));
        while sidecars.join_next().await.is_some() {}
    }
}

/// Looks after a pod until it is gone.
pub(crate) async fn run(
    host: Arc<Host>,
    mut newest: watch::Receiver<Arc<core::Pod>>,
    mut stop: Stop,
    end: watch::Receiver<End>,
) {
    let first = Arc::clone(&newest.borrow_and_update());
    let board = Arc::new(watch::Sender::new(status::fresh(&first, jiff::Timestamp::now())));
    let uid = first.metadata.uid.clone().unwrap_or_default();
    let dir = host.pod_dir(&uid);
    let over = status::is_over(&first);
    if !over {
        let reporter = tokio::spawn(report::run(Arc::clone(&host), newest.clone(), board.subscribe()));
        let pod = tokio::select! {
            pod = prepare(&host, &first, &newest, &board) => Some(Arc::new(pod)),
            _ = stop.requested() => None,
        };
        if let Some(pod) = &pod {
            pod.live(&mut stop).await;
        }
        drop(pod);
        let shutdown = *end.borrow() == End::Shutdown;
        board.send_modify(|board| {
            board.over = true;
            for view in board.containers.values_mut() {
                (view.started, view.ready) = (false, false);
            }
            if shutdown {
                let message = "Pod was terminated in response to imminent node shutdown.";
                board.given_up = Some(("Terminated".to_owned(), message.to_owned()));
            }
        });
        // Where the API server is away for long, the end of the pod waits for it; that of the node does not.
        if shutdown {
            let _ = timeout(ANSWER, reporter).await;
        } else {
            let _ = reporter.await;
        }
    }
    stop.requested().await;
    let namespace = host.pod_namespace(&uid);
    let removal = tokio::task::spawn_blocking(move || network::remove(&namespace)).await;
    if let Err(error) = removal.map_err(anyhow::Error::from).and_then(|removed| removed) {
        tracing::error!("the namespace of pod {uid} is not removed: {error:#}");
    }
    if *end.borrow() != End::Shutdown {
        if let Some(address) = network::assigned(&dir) {
            host.pool().release(address);
        }
        if let Err(error) = std::fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::error!("{} is not removed: {error}", dir.display());
        }
    }
    if *end.borrow() == End::Deleted {
        delete(&host, &first, end).await;
    }
}

/// Makes a pod's network, however often it has to be tried.
async fn prepare(
    host: &Arc<Host>,
    first: &Arc<core::Pod>,
    newest: &watch::Receiver<Arc<core::Pod>>,
    board: &Arc<watch::Sender<Board>>,
) -> Pod {
    let watched = host.objects.watch(first);
    let uid = first.metadata.uid.clone().unwrap_or_default();
    loop {
        match connect(host, first, &uid).await {
            Ok((network, address)) => {
                board.send_modify(|board| board.address = Some(address));
                return Pod {
                    node: Arc::clone(host),
                    watched,
                    first: Arc::clone(first),
                    spec: first.spec.clone().unwrap_or_default(),
                    newest: newest.clone(),
                    dir: host.pod_dir(&uid),
                    network,
                    address,
                    board: Arc::clone(board),
                    tokens: Mutex::default(),
                };
            }
            Err(error) => {
                let note = format!("{error:#}");
                host.events.tell(first.object_ref(&()), Kind::Warning, "FailedCreatePodSandBox", &note);
                sleep(RETRY).await;
            }
        }
    }
}

async fn connect(host: &Arc<Host>, first: &core::Pod, uid: &str) -> Result<(Option<Namespace>, Ipv4Addr)> {
    let dir = host.pod_dir(uid);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    if first.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
        return Ok((None, host.address));
    }
    let address = match network::assigned(&dir) {
        Some(address) => address,
        None => {
            let address = host.pool().take().ok_or_else(|| anyhow!("no address is free on this node"))?;
            network::assign(&dir, address)?;
            address
        }
    };
    let (host, name) = (Arc::clone(host), host.pod_namespace(uid));
    let made = tokio::task::spawn_blocking(move || network::make(&host.namespace, &name, address)).await?;
    Ok((Some(made?), address))
}

/// Tells the API server that nothing is left of a pod, until it knows.
async fn delete(host: &Host, first: &core::Pod, mut end: watch::Receiver<End>) {
    let meta = &first.metadata;
    let pods: Api<core::Pod> =
        Api::namespaced(host.client.clone(), meta.namespace.as_deref().unwrap_or_default());
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: None }),
        ..Default::default()
    };
    loop {
        let name = meta.name.as_deref().unwrap_or_default();
        match timeout(ANSWER, pods.delete(name, &params)).await {
            Ok(Ok(_)) => return,
            Ok(Err(kube::Error::Api(refused))) if matches!(refused.code, 404 | 409) => return,
            Ok(Err(error)) => tracing::warn!("cannot delete pod {name}: {error}"),
            Err(_) => {}
        }
        tokio::select! {
            () = sleep(RETRY) => {}
            _ = end.wait_for(|end| *end == End::Gone) => return,
        }
    }
}
