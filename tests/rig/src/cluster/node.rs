//! One machine of a cluster: its namespace, its link to the wan, its kubelet and kube-proxy.
//!
//! ```text
//!  [down] ─ up, start ─► [running] ─ kill, stop ─► [down]
//!                         │    ▲                 link().cut(), heal(): alone with its pods
//!                       pause  resume            cordon(), uncordon(): gets no new pods
//! ```
//!
//! The first node of a cluster also carries etcd, the API server and the controllers: what is done to it as a machine is done to them.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::addresses::{PODS, pods};
use crate::net::{Link, Namespace};
use crate::pki::Pki;
use crate::process::{self, Process, Program, Record};
use crate::site::Site;
use crate::wait;

/// How long a node may take to be ready.
const READY: Duration = Duration::from_secs(60);
/// How long a kubelet may take to end its pods.
const STOP: Duration = Duration::from_secs(40);
/// Where kube-proxy says how it is.
const PROXY_HEALTH: u16 = 10256;

/// A namespace joined to the wan, with nothing running in it yet.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    number: u8,
    pods: String,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) address: Ipv4Addr,
    pub(crate) dir: PathBuf,
}

impl Place {
    /// Node `index` (from 1) of a cluster.
    pub(crate) fn create(site: &Site, cluster: &str, cluster_number: u8, index: usize) -> Result<Self> {
        let (name, number, pods) = (format!("{cluster}-{index}"), site.next_node()?, pods(index));
        let namespace = Namespace::create(&format!("rig{}-{name}", site.addresses.fleet))?;
        site.wan.join(&namespace, number, cluster_number, &pods)?;
        let (address, _) = site.addresses.node(number);
        let dir = site.dir.join(cluster).join(&name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { name, number, pods, namespace: Arc::new(namespace), address, dir })
    }
}

/// A node of a cluster.
#[derive(Debug)]
pub struct Node {
    place: Place,
    link: Link,
    kubelet: Process,
    proxy: Process,
}

impl Node {
    /// Starts its processes. It is in use once it is [`Node::ready`].
    pub(crate) fn start_in(place: Place, site: &Site, pki: &Pki, server: &str) -> Result<Self> {
        let kubelet = Process::start(&place.namespace, &place.dir, kubelet(&place, site, pki, server)?)?;
        let proxy = Process::start(&place.namespace, &place.dir, proxy(&place, site, pki, server)?)?;
        let link = Link::of(&site.wan, place.number);
        Ok(Self { place, link, kubelet, proxy })
    }

    /// Its name, that of the Node object too.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Its address on the wan, which is the Node's InternalIP.
    pub fn address(&self) -> Ipv4Addr {
        self.place.address
    }

    /// Its number within the fleet.
    pub(crate) fn number(&self) -> u8 {
        self.place.number
    }

    /// Its place in the network: to run a client there, for example.
    pub fn namespace(&self) -> &Namespace {
        &self.place.namespace
    }

    /// Its namespace, for a process that outlives the borrow.
    pub(crate) fn place(&self) -> &Arc<Namespace> {
        &self.place.namespace
    }

    /// What joins it to everybody else.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Its kubelet.
    pub fn kubelet(&self) -> &Process {
        &self.kubelet
    }

    /// Its kube-proxy.
    pub fn proxy(&self) -> &Process {
        &self.proxy
    }

    /// Waits until the cluster calls it ready and gives it pods, and its kube-proxy has written its rules.
    pub async fn ready(&self, client: &Client) -> Result<()> {
        let nodes: Api<core::Node> = Api::all(client.clone());
        // The taint goes a moment after the condition has come.
        let ready = |node: Option<&core::Node>| node.is_some_and(|node| is_ready(node) && !is_shunned(node));
        let condition = async {
            // A watch that ends with an error is begun anew: the API server may be on its way back.
            while await_condition(nodes.clone(), self.name(), ready).await.is_err() {
                tokio::time::sleep(wait::STEP).await;
            }
        };
        let known = tokio::time::timeout(READY, condition).await;
        self.kubelet.must_run()?;
        known.map_err(|_| {
            anyhow!("node {} is not ready after {READY:?}; {}", self.name(), self.kubelet.last_words())
        })?;
        let rules = wait::until("kube-proxy's rules", READY, || async {
            if let Err(error) = self.proxy.must_run() {
                return Some(Err(error));
            }
            answers_ok(self.address(), PROXY_HEALTH).await.ok()?.then_some(Ok(()))
        });
        rules.await.with_context(|| self.proxy.last_words())?
    }

    /// Gives it no new pods.
    pub async fn cordon(&self, client: &Client) -> Result<()> {
        self.set_unschedulable(client, true).await
    }

    /// Gives it new pods again.
    pub async fn uncordon(&self, client: &Client) -> Result<()> {
        self.set_unschedulable(client, false).await
    }

    async fn set_unschedulable(&self, client: &Client, unschedulable: bool) -> Result<()> {
        let nodes: Api<core::Node> = Api::all(client.clone());
        let patch = Patch::Merge(json!({"spec": {"unschedulable": unschedulable}}));
        nodes
            .patch(self.name(), &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("cannot patch node {}", self.name()))?;
        Ok(())
    }

    /// Stops the clock for everything on it, pods too.
    pub fn pause(&self) -> Result<()> {
        process::signal_all(&self.processes(), Signal::SIGSTOP)
    }

    /// Lets everything on it go on.
    pub fn resume(&self) -> Result<()> {
        process::signal_all(&self.processes(), Signal::SIGCONT)
    }

    /// Ends everything on it at once, pods too, as a loss of power does.
    pub fn kill(&self) -> Result<()> {
        process::kill_all(|| self.processes())?;
        for pod in self.pods() {
            pod.delete()?;
        }
        Ok(())
    }

    /// Takes it out of service as a shutdown does: the kubelet is asked to end, then all that is left is killed.
    pub async fn stop(&self) -> Result<()> {
        self.kubelet.stop(STOP).await?;
        self.kill()
    }

    /// Starts its kubelet and its kube-proxy again; what else a first node carries is for [`Cluster::start`](super::Cluster::start).
    pub fn start(&self) -> Result<()> {
        self.kubelet.restart()?;
        self.proxy.restart()
    }

    /// The namespaces of its pods.
    pub fn pods(&self) -> Vec<Namespace> {
        let names = Namespace::list(&format!("{}-", self.place.namespace.name()));
        // One that is gone by now is no pod.
        names.iter().filter_map(|name| Namespace::open(name).ok()).collect()
    }

    fn processes(&self) -> Vec<Record> {
        let mut namespaces = self.pods();
        namespaces.extend(Namespace::open(self.place.namespace.name()));
        process::inside_or_at(&namespaces, Some(&self.place.dir))
    }
}

/// Whether it still has a taint of a node that is not ready.
fn is_shunned(node: &core::Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| {
        matches!(taint.key.as_str(), "node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable")
    })
}

/// Whether its condition Ready is true.
pub fn is_ready(node: &core::Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn kubelet(place: &Place, site: &Site, pki: &Pki, server: &str) -> Result<Program> {
    let name = &place.name;
    let config = place.dir.join("kubelet.kubeconfig");
    let client =
        pki.client(&format!("{name}-kubelet"), &format!("system:node:{name}"), Some("system:nodes"))?;
    pki.kubeconfig(&config, name, server, &client)?;
    let serving = pki.server(name, &[name], &[place.address, Ipv4Addr::LOCALHOST])?;
    let args = [
        "kubelet".to_owned(),
        format!("--kubeconfig={}", config.display()),
        format!("--node={name}"),
        format!("--address={}", place.address),
        format!("--pod-cidr={}", place.pods),
        format!("--namespace={}", place.namespace.name()),
        format!("--dir={}", place.dir.display()),
        format!("--images={}", site.images.display()),
        format!("--tls-cert={}", serving.cert.display()),
        format!("--tls-key={}", serving.key.display()),
        format!("--client-ca={}", pki.ca().display()),
    ];
    Ok(Program::new("kubelet", &site.rig, args))
}

fn proxy(place: &Place, site: &Site, pki: &Pki, server: &str) -> Result<Program> {
    let name = &place.name;
    let kubeconfig = place.dir.join("kube-proxy.kubeconfig");
    let client = pki.client(&format!("{name}-kube-proxy"), "system:kube-proxy", None)?;
    pki.kubeconfig(&kubeconfig, name, server, &client)?;
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": name,
        "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": kubeconfig},
        "healthzBindAddress": format!("0.0.0.0:{PROXY_HEALTH}"),
        "metricsBindAddress": "127.0.0.1:10249",
        // The machine's limits are not for a namespace to write.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "oomScoreAdj": 0,
        "nodePortAddresses": ["primary"],
        // A second by default: a test would wait for it.
        "nftables": {"minSyncPeriod": "50ms"},
    });
    let path = place.dir.join("kube-proxy.yaml");
    write(&path, &serde_saphyr::to_string(&config)?)?;
    Ok(Program::new("kube-proxy", &site.binaries.kube_proxy, [format!("--config={}", path.display())]))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Whether `/healthz` on a port says 200.
async fn answers_ok(address: Ipv4Addr, port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((address, port)).await?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    Ok(status.ends_with(b" 200"))
}
