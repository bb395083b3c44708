//! How long a change takes to reach traffic: at all proxies that the connections lead to, from the answer to the write.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use portolan_fleet::{App, Connection, Kubectl, World, pause};
use serde_json::{Value, json};

use crate::stage::remove;

/// Changes of each kind.
const CHANGES: usize = 300;
/// Kept connections: that all of them are to one of two proxies happens once in 8 runs. More would keep the machine busy by themselves.
const CONNECTIONS: usize = 4;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);
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
    for app in &apps {
        remove(&tokyo, app).await?;
    }
    Ok(())
}

/// A host whose endpoint is switched.
struct Switch<'a> {
    host: &'a str,
    cluster: &'a str,
    namespace: &'a str,
    ports: &'a [i64],
}

impl Switch<'_> {
    /// Prints how long changes take. What a busy machine adds is no reason to fail; ten times of what is aimed at is.
    async fn measure(&self, world: &World, kubectl: &Kubectl, aim: Duration) -> Result<()> {
        world.served(self.host, NAMES[0]).await?;
        let slices: Api<EndpointSlice> = Api::namespaced(client(kubectl).await?, self.namespace);
        let address = world.address().await?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(address).await?);
        }
        let mut times = Vec::new();
        for change in 1..=CHANGES {
            let port = json!({"ports": [{"name": "web", "port": self.ports[change % 2], "protocol": "TCP"}]});
            slices.patch("switched", &PatchParams::default(), &Patch::Merge(&port)).await?;
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
            // Not in step with anything's pace.
            pause(Duration::from_millis(40 + (change as u64 * 37) % 61)).await;
        }
        times.sort();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        println!(
            "a change in {}: median {:?}, p95 {:?}, p99 {:?}, longest {:?}, of {CHANGES} (aim: p99 within {aim:?})",
            self.cluster,
            at(50),
            at(95),
            at(99),
            at(100)
        );
        ensure!(at(99) < aim * 10, "p99 is {:?}", at(99));
        Ok(())
    }
}

async fn client(kubectl: &Kubectl) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubectl.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}
