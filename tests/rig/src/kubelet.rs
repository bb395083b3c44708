//! The kubelet of one node: pods as processes, without containers.
//!
//! ```text
//!  API server ── watch: pods of this node ─► worker per pod ─► runner per container ─► shim ─► process
//!      ▲  ▲                                       │                   │
//!      │  └────────── report: status ◄────── board ◄──────────────────┘
//!      └───────────── node: object, lease          server: logs ◄── API server
//! ```
//!
//! A process of its own for each node, in the node's network namespace, so that a test can pause, kill and restart it like any other. All that
//! must outlive it lies in its folder: see `shim`. SIGKILL leaves its pods running, and its successor takes them over; SIGTERM is the
//! shutdown of the node, which ends its pods first.

mod backoff;
mod board;
mod container;
mod env;
mod events;
mod facts;
mod images;
mod instance;
mod logs;
mod network;
mod node;
mod objects;
mod pod;
mod probe;
mod report;
mod root;
mod server;
mod shim;
mod status;
mod stop;
mod volumes;
mod workers;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::client::{RETRY, WATCH_SECONDS, connect};
use crate::net::Namespace;
use events::Events;
use images::Images;
use network::Pool;
use objects::Objects;
use workers::Workers;

/// How long pods may take to end when the node goes out of service, whatever they say.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// What a kubelet has to know.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How to reach the API server, as which node.
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// The node's name.
    #[arg(long)]
    pub node: String,
    /// The node's address.
    #[arg(long)]
    pub address: Ipv4Addr,
    /// The range of its pods' addresses.
    #[arg(long)]
    pub pod_cidr: String,
    /// The node's network namespace; those of its pods are called after it.
    #[arg(long)]
    pub namespace: String,
    /// Where it keeps its pods.
    #[arg(long)]
    pub dir: PathBuf,
    /// The file that says which image is which binary.
    #[arg(long)]
    pub images: PathBuf,
    /// The certificate it serves logs with.
    #[arg(long)]
    pub tls_cert: PathBuf,
    /// Its key.
    #[arg(long)]
    pub tls_key: PathBuf,
    /// The authority whose clients may read logs.
    #[arg(long)]
    pub client_ca: PathBuf,
    /// The first delay before a container that failed twice is started again, in milliseconds; the real kubelet's is 10 s.
    #[arg(long, default_value_t = 1000)]
    pub backoff: u64,
}

/// What all pods of a node share.
struct Host {
    client: Client,
    node: String,
    boot: String,
    address: Ipv4Addr,
    pod_cidr: String,
    namespace: Namespace,
    dir: PathBuf,
    images: Images,
    objects: Objects,
    events: Events,
    backoff: Duration,
    pool: Mutex<Pool>,
    /// Names of pods, with their namespaces, and the pods they stand for now.
    names: Mutex<std::collections::HashMap<(String, String), String>>,
    serving: AtomicBool,
}

impl Host {
    /// The folder of a pod.
    fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir().join(uid)
    }

    /// The folder of all pods.
    fn pods_dir(&self) -> PathBuf {
        self.dir.join("pods")
    }

    /// The name of a pod's network namespace.
    fn pod_namespace(&self, uid: &str) -> String {
        let short: String = uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        format!("{}-{short}", self.namespace.name())
    }

    /// The pod that has a name now.
    fn uid(&self, namespace: &str, name: &str) -> Option<String> {
        self.names().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn names(&self) -> MutexGuard<'_, std::collections::HashMap<(String, String), String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the kubelet until it is told to end.
pub async fn run(options: Options) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let client = connect(&options.kubeconfig).await?;
    let tls = server::tls(&options.tls_cert, &options.tls_key, &options.client_ca)?;
    let listener = TcpListener::bind((options.address, node::PORT))
        .await
        .with_context(|| format!("cannot listen at {}:{}", options.address, node::PORT))?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let host = Arc::new(Host {
        objects: Objects::new(client.clone()),
        events: Events::begin(client.clone(), &options.node),
        client,
        node: options.node,
        boot: boot.trim().to_owned(),
        address: options.address,
        pool: Mutex::new(Pool::parse(&options.pod_cidr)?),
        pod_cidr: options.pod_cidr,
        namespace: Namespace::open(&options.namespace)?,
        dir: options.dir,
        images: Images::of(options.images),
        backoff: Duration::from_millis(options.backoff),
        names: Mutex::default(),
        serving: AtomicBool::new(true),
    });
    tokio::spawn(node::keep(Arc::clone(&host)));
    tokio::spawn(server::serve(Arc::clone(&host), listener, tls));
    let mut workers = Workers::take_over(Arc::clone(&host));
    let pods: Api<Pod> = Api::all(host.client.clone());
    let config =
        watcher::Config::default().fields(&format!("spec.nodeName={}", host.node)).timeout(WATCH_SECONDS);
    let events = watcher(pods, config);
    pin_mut!(events);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => workers.hear(event),
                Some(Err(error)) => {
                    tracing::info!("the watch of pods is begun anew: {error}");
                    sleep(RETRY).await;
                }
                None => anyhow::bail!("the watch of pods has ended"),
            },
            () = workers.reap() => {}
            _ = terminate.recv() => break,
        }
    }
    host.serving.store(false, Ordering::Relaxed);
    if let Err(error) = node::tell(&host).await {
        tracing::warn!("the API server does not know that we go: {error:#}");
    }
    workers.shut_down(SHUTDOWN);
    // What has not ended a while after its time is left to whoever ends the node.
    let _ = timeout(SHUTDOWN + Duration::from_secs(5), workers.ended()).await;
    Ok(())
}

/// Runs the shim of one container: see `shim`. Never asynchronous: it must be one thread that starts it.
pub fn shim(dir: &Path) -> Result<()> {
    shim::run(dir)
}
