//! How long a change takes to reach traffic: at all proxies that the connections lead to, from the answer to the write. And how long one of a
//! node takes to reach the LB cluster.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use portolan_api::kinds::NodeSet;
use portolan_fleet::{App, Connection, Kubectl, World, pause};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::stage::remove;

/// Changes of each kind, and of nodes.
const CHANGES: usize = 300;
const NODE_CHANGES: usize = 100;
/// Kept connections: that all of them are to one of two proxies happens once in 8 runs. More would keep the machine busy by themselves.
const CONNECTIONS: usize = 4;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// What a busy machine adds is no reason to fail; so many times of what is aimed at is.
const ALLOWANCE: u32 = 4;
const NAMES: [&str; 2] = ["switch-one", "switch-two"];

/// An `EndpointSlice` is switched between two applications: in the LB cluster, then in the member cluster.
pub(crate) async fn changes_arrive(world: &World) -> Result<()> {
    let (lb, tokyo) = (world.kubectl("lb")?, world.kubectl("tokyo")?);
    let apps = NAMES.map(|name| App::new(name).replicas(1).service(json!({"type": "NodePort"})));
    let mut ports = Vec::new();
    for app in &apps {
        tokyo.apply(&app.manifests()).await?;
    }
    for name in NAMES {
        world.served(&format!("{name}.tokyo.lb.example.net"), name).await?;
        let service = tokyo.get(&["service", name]).await?;
        ports.push(service["spec"]["ports"][0]["nodePort"].as_i64().context("no node port")?);
    }
    let nodes = tokyo.get(&["nodes"]).await?;
    let addresses = nodes["items"][0]["status"]["addresses"].as_array().cloned().unwrap_or_default();
    let node = addresses.iter().find(|address| address["type"] == "InternalIP").context("no address")?;
    let node = node["address"].clone();
    let slice = |namespace: &str, label: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "switched", "namespace": namespace, "labels": {label: "switched"}},
            "endpoints": [{"addresses": [node], "conditions": {"ready": true}}],
            "ports": [{"name": "web", "port": ports[0], "protocol": "TCP"}],
        })
    };

    // In the LB cluster, as an agent writes it.
    let backends = json!([{"backends": [{"pool": "switched"}]}]);
    lb.apply(&list(&[
        json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "UpstreamPool", "metadata": {"name": "switched", "namespace": "tenant-tokyo"},
            "spec": {"endpointSlices": {"portName": "web"}},
        }),
        json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "HTTPLoadBalancer", "metadata": {"name": "switched", "namespace": "tenant-tokyo"},
            "spec": {"hosts": ["there.example.com"], "rules": backends},
        }),
        slice("tenant-tokyo", "portolan.dev/pool"),
    ]))
    .await?;
    let there = Switch { host: "there.example.com", cluster: "lb", namespace: "tenant-tokyo", ports: &ports };
    there.measure(world, &lb, Duration::from_millis(30)).await?;
    lb.run(&[
        "delete",
        "-n",
        "tenant-tokyo",
        "httploadbalancer/switched",
        "upstreampool/switched",
        "endpointslice/switched",
    ])
    .await?;

    // In the member cluster: a Service whose endpoints somebody writes is reached without node ports.
    let reach = |reach: Value| json!({"spec": {"reach": reach}}).to_string();
    let patch = ["patch", "clusters.portolan.dev", "tokyo", "--type=merge", "-p"];
    lb.run(&[&patch[..], &[&reach(json!("PodIP"))]].concat()).await?;
    let app = App::new("switched").host("here.example.com");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "switched", "namespace": "default"},
        "spec": {"ports": [{"name": "web", "port": 80}]},
    });
    tokyo.apply(&list(&[service, slice("default", "kubernetes.io/service-name"), app.ingress()])).await?;
    let here = Switch { host: "here.example.com", cluster: "tokyo", namespace: "default", ports: &ports };
    here.measure(world, &tokyo, Duration::from_millis(300)).await?;
    tokyo
        .run(&[
            "delete",
            "ingress/switched",
            "service/switched",
            "endpointslice/switched",
            "--ignore-not-found",
        ])
        .await?;
    lb.run(&[&patch[..], &[&reach(Value::Null)]].concat()).await?;
    nodes_arrive(&lb, &tokyo, Duration::from_millis(300)).await?;
    for app in &apps {
        remove(&tokyo, app).await?;
    }
    Ok(())
}

/// An object of a kind that we have a type of.
trait Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static {}

impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static> Object
    for K
{
}

/// A host whose endpoint is switched.
struct Switch<'a> {
    host: &'a str,
    cluster: &'a str,
    namespace: &'a str,
    ports: &'a [i64],
}

impl Switch<'_> {
    /// Prints how long changes take.
    async fn measure(&self, world: &World, kubectl: &Kubectl, aim: Duration) -> Result<()> {
        world.served(self.host, NAMES[0]).await?;
        let slices: Api<EndpointSlice> = Api::namespaced(client(kubectl).await?, self.namespace);
        let address = world.address().await?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(address).await?);
        }
        let mut seen = watch(&slices, "switched").await?;
        let (mut times, mut watched) = (Vec::new(), Vec::new());
        for change in 1..=CHANGES {
            let port = json!({"ports": [{"name": "web", "port": self.ports[change % 2], "protocol": "TCP"}]});
            let slice = slices.patch("switched", &PatchParams::default(), &Patch::Merge(&port)).await?;
            let written = Instant::now();
            let arrivals = connections.iter_mut().map(|connection| async {
                while connection.request("GET", self.host, "/", &[]).await?.echo("service")
                    != NAMES[change % 2]
                {
                    ensure!(written.elapsed() < Duration::from_secs(30), "change {change} did not arrive");
                    pause(LOOK).await;
                }
                Ok(written.elapsed())
            });
            let arrived = try_join_all(arrivals).await?;
            times.extend(arrived.into_iter().max());
            let this_one =
                |seen: &EndpointSlice| seen.metadata.resource_version == slice.metadata.resource_version;
            watched.push(until(&mut seen, this_one).await?.saturating_duration_since(written));
            // Not in step with anything's pace.
            pause(Duration::from_millis(40 + (change as u64 * 37) % 61)).await;
        }
        println!("a change in {} (aim: p99 within {aim:?}): {}", self.cluster, figures(&mut times));
        println!("of that, until a watch says it to the test itself: {}", figures(&mut watched));
        ensure!(percentile(&times, 99) < aim * ALLOWANCE, "p99 is {:?}", percentile(&times, 99));
        Ok(())
    }
}

/// A node is cordoned and freed again: until a watch of its `NodeSet` in the LB cluster says so. From there on it is a change like any.
async fn nodes_arrive(lb: &Kubectl, member: &Kubectl, aim: Duration) -> Result<()> {
    let sets: Api<NodeSet> = Api::namespaced(client(lb).await?, "tenant-tokyo");
    let nodes: Api<Node> = Api::all(client(member).await?);
    let [set, node] = [name_of_first(&sets).await?, name_of_first(&nodes).await?];
    let mut seen = watch(&sets, &set).await?;
    let mut times = Vec::new();
    for change in 0..NODE_CHANGES {
        let ready = change % 2 == 1;
        let written = if ready { nodes.uncordon(&node).await } else { nodes.cordon(&node).await };
        let written = written.map(|_| Instant::now())?;
        let says_so = |set: &NodeSet| set.spec.nodes.iter().any(|it| it.name == node && it.ready == ready);
        times.push(until(&mut seen, says_so).await?.saturating_duration_since(written));
        pause(Duration::from_millis(100 + (change as u64 * 37) % 61)).await;
    }
    println!("a change of a node, in the LB cluster (aim: p99 within {aim:?}): {}", figures(&mut times));
    ensure!(percentile(&times, 99) < aim * ALLOWANCE, "p99 is {:?}", percentile(&times, 99));
    Ok(())
}

async fn name_of_first<K: Object>(objects: &Api<K>) -> Result<String> {
    let first = objects.list_metadata(&ListParams::default().limit(1)).await?.items.into_iter().next();
    Ok(first.context("there is none")?.name_any())
}

/// What a watch says of an object, and when.
async fn watch<K: Object>(objects: &Api<K>, name: &str) -> Result<UnboundedReceiver<(K, Instant)>> {
    let (told, seen) = unbounded_channel();
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = objects.watch(&only, "0").await?.boxed();
    tokio::spawn(async move {
        while let Some(Ok(event)) = events.next().await {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
            if told.send((object, Instant::now())).is_err() {
                return;
            }
        }
    });
    Ok(seen)
}

/// When a watch first says that.
async fn until<K>(seen: &mut UnboundedReceiver<(K, Instant)>, that: impl Fn(&K) -> bool) -> Result<Instant> {
    let first = async {
        loop {
            let (object, at) = seen.recv().await.context("the watch ended")?;
            if that(&object) {
                return Ok(at);
            }
        }
    };
    timeout(Duration::from_secs(30), first).await.context("it did not arrive")?
}

fn figures(times: &mut [Duration]) -> String {
    times.sort();
    let [median, most, nearly_all, all] = [50, 95, 99, 100].map(|percent| percentile(times, percent));
    format!("median {median:?}, p95 {most:?}, p99 {nearly_all:?}, longest {all:?}, of {}", times.len())
}

/// Of sorted times.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

async fn client(kubectl: &Kubectl) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubectl.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}
