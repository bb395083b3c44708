//! One Kubernetes cluster: etcd, an API server and controllers on its first node, and its nodes.
//!
//! All of it is upstream code but the kubelet, the scheduler and the cloud. The flags are the least that a real cluster of that kind runs
//! with; what differs is said beside the flag.

mod history;
mod kubectl;
mod node;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::runtime::conditions;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};

use crate::addresses::{API_SERVICE, SERVICES};
use crate::client;
use crate::pki::Pki;
use crate::process::{Process, Program};
use crate::site::Site;
use crate::wait;
use node::Place;

pub use node::{Node, is_ready};

/// How long a control plane may take.
const READY: Duration = Duration::from_secs(60);
/// How long an API server may take to say that it is ready.
const ANSWER: Duration = Duration::from_secs(2);
/// Controllers that run: those that pods, Services and their endpoints need, and those that look after nodes.
const CONTROLLERS: &[&str] = &[
    "clusterrole-aggregation-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "service-cidr-controller",
    "serviceaccount-controller",
    "statefulset-controller",
    "taint-eviction-controller",
];

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    number: u8,
    site: Arc<Site>,
    dir: PathBuf,
    address: Ipv4Addr,
    pki: Pki,
    etcd: Process,
    api: Process,
    controllers: Process,
    scheduler: Process,
    cloud: Mutex<Option<Process>>,
    nodes: Mutex<Vec<Arc<Node>>>,
    steps: Vec<Step>,
}

impl Cluster {
    /// Starts it, and returns when it can run pods.
    pub(crate) async fn up(
        site: &Arc<Site>,
        name: &str,
        number: u8,
        nodes: usize,
        cloud: bool,
    ) -> Result<Self> {
        let dir = site.dir.join(name);
        let mut steps = Steps::begin();
        let first = Place::create(site, name, number, 1)?;
        let range = site.addresses.load_balancers(number);
        site.wan.route_to(&first.namespace, first.address, &range)?;
        let (namespace, address) = (Arc::clone(&first.namespace), first.address);
        let pki = Pki::create(&dir.join("pki"), name)?;
        let server = server(address);
        let admin = pki.client("admin", "admin", Some("system:masters"))?;
        pki.kubeconfig(&dir.join("kubeconfig"), name, &server, &admin)?;
        steps.took("network and certificates");

        let etcd = Process::start(&namespace, &dir, etcd(site, &dir))?;
        let api = Process::start(&namespace, &dir, api_server(site, &pki, address)?)?;
        let client = connect(&dir.join("kubeconfig")).await?;
        api_ready(&client, &etcd, &api).await?;
        steps.took("API server");

        let controllers = Process::start(&namespace, &dir, controller_manager(site, &pki, &dir, &server)?)?;
        let scheduler = Process::start(&namespace, &dir, scheduler(site, &pki, &dir, &server)?)?;
        let mut places = vec![first];
        for index in 2..=nodes {
            places.push(Place::create(site, name, number, index)?);
        }
        let nodes = places.into_iter().map(|place| Ok(Arc::new(Node::start_in(place, site, &pki, &server)?)));
        let nodes = nodes.collect::<Result<Vec<_>>>()?;
        accounts_ready(&client, &controllers).await?;
        steps.took("controllers");
        try_join_all(nodes.iter().map(|node| node.ready(&client))).await?;
        steps.took("nodes");
        let cluster = Self {
            name: name.to_owned(),
            number,
            site: Arc::clone(site),
            dir,
            address,
            pki,
            etcd,
            api,
            controllers,
            scheduler,
            cloud: Mutex::new(None),
            nodes: Mutex::new(nodes),
            steps: steps.taken,
        };
        if cloud {
            cluster.start_cloud()?;
        }
        Ok(cluster)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The administrator's kubeconfig: a file that needs no other.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// The API server's URL.
    pub fn server(&self) -> String {
        server(self.address)
    }

    /// The addresses that lead to its first node, for Services of type LoadBalancer.
    pub fn load_balancers(&self) -> String {
        self.site.addresses.load_balancers(self.number)
    }

    /// A client of the administrator's.
    pub async fn client(&self) -> Result<Client> {
        connect(&self.kubeconfig()).await
    }

    /// A kubeconfig of a user of any name, in a group or not, who may do what RBAC says.
    pub fn kubeconfig_of(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let file = user.replace([':', '/'], "-");
        let path = self.dir.join(format!("{file}.kubeconfig"));
        let client = self.pki.client(&file, user, group)?;
        self.pki.kubeconfig(&path, &self.name, &self.server(), &client)?;
        Ok(path)
    }

    /// What each step of its start took.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Its nodes, in order.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its node of that number, from 1.
    pub fn node(&self, number: usize) -> Result<Arc<Node>> {
        let name = format!("{}-{number}", self.name);
        self.nodes().into_iter().find(|node| node.name() == name).with_context(|| format!("no node {name}"))
    }

    /// Adds a node, and returns when it can run pods.
    pub async fn add_node(&self) -> Result<Arc<Node>> {
        let place = Place::create(&self.site, &self.name, self.number, self.nodes().len() + 1)?;
        let node = Arc::new(Node::start_in(place, &self.site, &self.pki, &self.server())?);
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&node));
        node.ready(&self.client().await?).await?;
        Ok(node)
    }

    /// The API server's process.
    pub fn api(&self) -> &Process {
        &self.api
    }

    /// The database's process.
    pub fn etcd(&self) -> &Process {
        &self.etcd
    }

    /// The controllers' process.
    pub fn controllers(&self) -> &Process {
        &self.controllers
    }

    /// The scheduler's process.
    pub fn scheduler(&self) -> &Process {
        &self.scheduler
    }

    /// Switches the cloud on: Services of type LoadBalancer without a class get an address.
    pub fn start_cloud(&self) -> Result<()> {
        let mut cloud = self.cloud.lock().unwrap_or_else(PoisonError::into_inner);
        if cloud.is_none() {
            let program =
                self::cloud(&self.site, &self.pki, &self.dir, &self.server(), &self.load_balancers())?;
            *cloud = Some(Process::start(self.node(1)?.place(), &self.dir, program)?);
        }
        Ok(())
    }

    /// Lets the API server answer nothing, its connections kept.
    pub fn pause_api(&self) -> Result<()> {
        self.api.pause()
    }

    /// Lets the API server go on.
    pub fn resume_api(&self) -> Result<()> {
        self.api.resume()
    }

    /// Ends the API server at once.
    pub fn kill_api(&self) -> Result<()> {
        self.api.kill()
    }

    /// Starts the API server again, and returns when it is ready.
    pub async fn restart_api(&self) -> Result<()> {
        self.api.restart()?;
        api_ready(&self.client().await?, &self.etcd, &self.api).await
    }

    /// Lets its database forget all that was, but for how things stand now.
    pub fn forget(&self) -> Result<()> {
        history::forget(self.node(1)?.namespace())
    }

    /// Stops the clock for everything in it, pods too.
    pub fn pause(&self) -> Result<()> {
        self.nodes().iter().try_for_each(|node| node.pause())
    }

    /// Lets everything in it go on.
    pub fn resume(&self) -> Result<()> {
        self.nodes().iter().try_for_each(|node| node.resume())
    }

    /// Cuts it off: all its nodes, from each other too.
    pub fn cut(&self) -> Result<()> {
        self.nodes().iter().try_for_each(|node| node.link().cut())
    }

    /// Joins it to the others again.
    pub fn heal(&self) -> Result<()> {
        self.nodes().iter().try_for_each(|node| node.link().heal())
    }

    /// Ends everything in it at once, pods too; what etcd has written stays.
    pub fn kill(&self) -> Result<()> {
        self.nodes().iter().try_for_each(|node| node.kill())
    }

    /// Starts everything that has ended again, and returns when it can run pods.
    pub async fn start(&self) -> Result<()> {
        let restart = |process: &Process| if process.is_running() { Ok(()) } else { process.restart() };
        restart(&self.etcd)?;
        restart(&self.api)?;
        let client = self.client().await?;
        api_ready(&client, &self.etcd, &self.api).await?;
        restart(&self.controllers)?;
        restart(&self.scheduler)?;
        if let Some(cloud) = &*self.cloud.lock().unwrap_or_else(PoisonError::into_inner) {
            restart(cloud)?;
        }
        for node in self.nodes() {
            restart(node.kubelet())?;
            restart(node.proxy())?;
        }
        try_join_all(self.nodes().iter().map(|node| node.ready(&client))).await?;
        Ok(())
    }
}

/// What was done, and how long it took.
pub type Step = (&'static str, Duration);

/// Times of what is done one after another.
#[derive(Debug)]
struct Steps {
    last: Instant,
    taken: Vec<Step>,
}

impl Steps {
    fn begin() -> Self {
        Self { last: Instant::now(), taken: Vec::new() }
    }

    fn took(&mut self, what: &'static str) {
        self.taken.push((what, self.last.elapsed()));
        self.last = Instant::now();
    }
}

/// A client for a kubeconfig.
pub async fn connect(kubeconfig: &Path) -> Result<Client> {
    Ok(Client::try_from(client::config(kubeconfig).await?)?)
}

/// Whether the API server says that it is ready.
async fn answers(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok()
}

async fn api_ready(client: &Client, etcd: &Process, api: &Process) -> Result<()> {
    let ready = wait::until("the API server", READY, || async {
        if let Err(error) = etcd.must_run().and_then(|()| api.must_run()) {
            return Some(Err(error));
        }
        // A server that is on its way up may leave a question open.
        tokio::time::timeout(ANSWER, answers(client)).await.is_ok_and(|ready| ready).then_some(Ok(()))
    });
    ready.await.with_context(|| api.last_words())?
}

/// The first thing that the controllers do, and without which no pod is admitted.
async fn accounts_ready(client: &Client, controllers: &Process) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    let made =
        tokio::time::timeout(READY, await_condition(accounts, "default", conditions::is_created())).await;
    controllers.must_run()?;
    made.map_err(|_| anyhow!("no ServiceAccount after {READY:?}; {}", controllers.last_words()))??;
    Ok(())
}

fn server(address: Ipv4Addr) -> String {
    format!("https://{address}:6443")
}

fn etcd(site: &Site, dir: &Path) -> Program {
    let data = format!("--data-dir={}", dir.join("etcd").display());
    let args = [
        data.as_str(),
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        // What a power failure of the real machine would lose, nobody will miss.
        "--unsafe-no-fsync",
    ];
    Program::new("etcd", &site.binaries.etcd, args)
}

fn api_server(site: &Site, pki: &Pki, address: Ipv4Addr) -> Result<Program> {
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    let serving = pki.server("kube-apiserver", &names, &[address, Ipv4Addr::LOCALHOST, API_SERVICE])?;
    let kubelet =
        pki.client("kube-apiserver-kubelet", "kube-apiserver-kubelet-client", Some("system:masters"))?;
    let args = [
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--bind-address={address}"),
        format!("--advertise-address={address}"),
        "--secure-port=6443".to_owned(),
        format!("--tls-cert-file={}", serving.cert.display()),
        format!("--tls-private-key-file={}", serving.key.display()),
        format!("--client-ca-file={}", pki.ca().display()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", pki.token_public().display()),
        format!("--service-account-signing-key-file={}", pki.token_key().display()),
        format!("--service-cluster-ip-range={SERVICES}"),
        format!("--kubelet-client-certificate={}", kubelet.cert.display()),
        format!("--kubelet-client-key={}", kubelet.key.display()),
        format!("--kubelet-certificate-authority={}", pki.ca().display()),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--event-ttl=10m".to_owned(),
        "--profiling=false".to_owned(),
    ];
    Ok(Program::new("kube-apiserver", &site.binaries.kube_apiserver, args))
}

fn scheduler(site: &Site, pki: &Pki, dir: &Path, server: &str) -> Result<Program> {
    let config = dir.join("scheduler.kubeconfig");
    let client = pki.client("scheduler", "system:kube-scheduler", None)?;
    pki.kubeconfig(&config, "scheduler", server, &client)?;
    let args = ["scheduler".to_owned(), format!("--kubeconfig={}", config.display())];
    Ok(Program::new("scheduler", &site.rig, args))
}

fn controller_manager(site: &Site, pki: &Pki, dir: &Path, server: &str) -> Result<Program> {
    let config = dir.join("kube-controller-manager.kubeconfig");
    let client = pki.client("kube-controller-manager", "system:kube-controller-manager", None)?;
    pki.kubeconfig(&config, "kube-controller-manager", server, &client)?;
    let args = [
        format!("--kubeconfig={}", config.display()),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        "--secure-port=10257".to_owned(),
        format!("--root-ca-file={}", pki.ca().display()),
        format!("--service-account-private-key-file={}", pki.token_key().display()),
        "--use-service-account-credentials=true".to_owned(),
        format!("--controllers={}", CONTROLLERS.join(",")),
        // 20 requests a second by default, which is a second or two of starting.
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=1000".to_owned(),
        // A dead node is noticed after 6 s; near 50 s by default.
        "--node-monitor-period=1s".to_owned(),
        "--node-monitor-grace-period=6s".to_owned(),
    ];
    Ok(Program::new("kube-controller-manager", &site.binaries.kube_controller_manager, args))
}

fn cloud(site: &Site, pki: &Pki, dir: &Path, server: &str, range: &str) -> Result<Program> {
    let config = dir.join("cloud.kubeconfig");
    // Every cluster has a role for whoever goes by this name.
    let client = pki.client("cloud", "system:serviceaccount:kube-system:service-controller", None)?;
    pki.kubeconfig(&config, "cloud", server, &client)?;
    let args = ["cloud".to_owned(), format!("--kubeconfig={}", config.display()), format!("--range={range}")];
    Ok(Program::new("cloud", &site.rig, args))
}
