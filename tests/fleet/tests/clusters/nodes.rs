//! Under load: nodes come and go, are cordoned, fall silent, die; a link is cut.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::jiff::Timestamp;
use portolan_fleet::{App, Load, Report, World, pause};
use portolan_rig::{Cluster, Node};
use serde_json::{Value, json};

use crate::slow::{RATE, Subject};
use crate::stage::{LONG, remove};
use crate::witness::{Logged, access_log, in_time, none_later};

/// After this time a dead endpoint gets no new request.
const FORGOTTEN: Duration = Duration::from_secs(5);

/// P06: nodes are added and removed, as planned: one, three, one.
pub(crate) async fn nodes_come_and_go(world: &World) -> Result<()> {
    let paris = world.cluster("paris")?;
    let second = paris.node(2)?;
    leave(world, &second).await?;
    known(world, 1).await?;
    let subject = Subject::start(world, "nodes", 3).await?;

    second.start()?;
    let third = paris.add_node().await?;
    known(world, 3).await?;
    spread(world, "nodes", &[&second, &third]).await?;
    for node in [&second, &third] {
        leave(world, node).await?;
    }
    known(world, 1).await?;
    subject.end_whole("nodes from one to three and back to one").await?;
    back(paris, &second).await?;
    known(world, 2).await
}

/// A node's kubelet falls silent, while its pods and its kube-proxy go on.
pub(crate) async fn a_node_is_not_ready(world: &World) -> Result<()> {
    let paris = world.cluster("paris")?;
    let node = paris.node(2)?;
    let subject = Subject::start(world, "silent", 4).await?;
    let before = subject.load.so_far();
    node.kubelet().pause()?;
    known(world, 1).await?;
    // Everybody has heard of it.
    pause(Duration::from_secs(1)).await;
    let left = Timestamp::now();
    pause(Duration::from_secs(10)).await;
    let silent = subject.load.so_far();
    let log = access_log(world, &subject.host, left).await?;
    node.kubelet().resume()?;
    back(paris, &node).await?;
    known(world, 2).await?;
    println!("not ready: {}", none_later(&log, &[node.address().into()], left, Duration::ZERO)?);
    ensure!(silent.good > before.good + 1000, "{silent}");
    subject.end_whole("a node not ready, its pods alive").await
}

/// A node is cordoned; then one loses its power. Two applications: the nodes' ports of one lead to pods of all nodes, those of the other to the
/// node's own alone. Of the first, the living node goes on sending every other connection to dead pods, until Kubernetes takes note of the death:
/// those are lost where no try came to a living pod. The rig takes note after six seconds; by default it is forty, for which a kube-proxy that
/// stands still stands in.
pub(crate) async fn a_node_is_cordoned_and_one_dies(world: &World) -> Result<()> {
    let paris = world.cluster("paris")?;
    let client = paris.client().await?;
    let node = paris.node(2)?;
    let any = Subject::start(world, "mortal", 4).await?;
    let app = App::new("mortal-local").replicas(4);
    let app = app.service(json!({"type": "NodePort", "externalTrafficPolicy": "Local"}));
    let local = Subject::of(world, "mortal-local", app).await?;
    node.cordon(&client).await?;
    pause(Duration::from_secs(3)).await;
    node.uncordon(&client).await?;
    pause(Duration::from_secs(2)).await;
    for subject in [&any, &local] {
        let cordoned = subject.load.so_far();
        ensure!(cordoned.failed.is_empty(), "{} cordoned: {cordoned}", subject.host);
    }

    let deaths = [&any, &local].map(|subject| Death::now(&subject.load));
    // Without power a machine forwards nothing either.
    node.link().cut()?;
    node.kill()?;
    paris.node(1)?.proxy().pause()?;
    pause(Duration::from_secs(40)).await;
    paris.node(1)?.proxy().resume()?;
    // A kube-proxy and health checks take some seconds.
    pause(Duration::from_secs(5)).await;
    let late = any.load.elapsed();
    pause(Duration::from_secs(5)).await;
    let mut logs = Vec::new();
    for (subject, death) in [&any, &local].into_iter().zip(&deaths) {
        logs.push(access_log(world, &subject.host, death.time).await?);
    }
    node.link().heal()?;
    node.start()?;
    back(paris, &node).await?;
    let any = any.end("a node killed, all pods behind each port").await?;
    let local = local.end("a node killed, externalTrafficPolicy: Local").await?;
    let dead = [node.address().into()];
    println!("Local: {}", none_later(&logs[1], &dead, deaths[1].time, FORGOTTEN)?);
    deaths[1].is_over(&local, &logs[1])?;
    // Its other tries are at the living node.
    logs[0].iter_mut().for_each(|request| request.retried = false);
    println!("all pods: {}", none_later(&logs[0], &dead, deaths[0].time, FORGOTTEN)?);
    let lost = any.failed.len();
    println!("all pods: {lost} lost until Kubernetes knew, {} after", any.failed_after(late));
    ensure!(lost * 20 < any.sent, "{any}");
    ensure!(any.failed_after(late) == 0, "{any}");
    Ok(())
}

/// A link is cut for a minute: requests to that cluster fail while it is, and no longer; a shared host goes on at the other.
pub(crate) async fn a_link_is_cut(world: &World) -> Result<()> {
    let host = "both.shared.example.com";
    for (cluster, name) in [("paris", "both-p"), ("tokyo", "both-t")] {
        world.kubectl(cluster)?.apply(&App::new(name).host(host).manifests()).await?;
        world.served(&format!("{name}.{cluster}.lb.example.net"), name).await?;
    }
    let load = Load::start(world.address().await?, host, "/", RATE);
    pause(Duration::from_secs(3)).await;
    let before = load.so_far();
    ensure!(before.failed.is_empty(), "{before}");
    let link = world.fleet().link("lb", "paris")?;
    let death = Death::now(&load);
    link.cut()?;
    pause(Duration::from_secs(60)).await;
    let log = access_log(world, host, death.time).await?;
    link.heal()?;
    world.served("both-p.paris.lb.example.net", "both-p").await?;
    pause(Duration::from_secs(5)).await;
    let report = load.stop().await?;
    println!("a link cut for a minute: {report}");
    death.is_over(&report, &log)?;
    let nodes: Vec<IpAddr> =
        world.cluster("paris")?.nodes().iter().map(|node| node.address().into()).collect();
    println!("a link cut: {}", none_later(&log, &nodes, death.time, FORGOTTEN)?);
    for (cluster, name) in [("paris", "both-p"), ("tokyo", "both-t")] {
        remove(&world.kubectl(cluster)?, &App::new(name)).await?;
    }
    Ok(())
}

/// What the library calls it where no connection came about; `HTTPStatus` where another try found no endpoint.
const UNCONNECTED: [&str; 5] =
    ["ConnectTimedout", "ConnectRefused", "ConnectNoRoute", "ConnectError", "HTTPStatus"];

/// The moment before something was made to die.
struct Death {
    /// Since the load began.
    at: Duration,
    time: Timestamp,
}

impl Death {
    fn now(load: &Load) -> Self {
        Self { at: load.elapsed(), time: Timestamp::now() }
    }

    /// What was under way is lost, at most; whatever could not connect was tried elsewhere.
    fn is_over(&self, report: &Report, log: &[Logged]) -> Result<()> {
        let last = report.failed.iter().map(|(at, _)| at.saturating_sub(self.at)).max();
        println!("lost in flight: {}, the last {last:?} after the death", report.failed.len());
        ensure!(report.failed_after(self.at + FORGOTTEN) == 0, "{report}");
        let unconnected = log.iter().find(|request| UNCONNECTED.contains(&&*request.detail));
        ensure!(unconnected.is_none(), "what could not connect is tried elsewhere: {unconnected:?}");
        Ok(())
    }
}

/// A node is removed as planned.
async fn leave(world: &World, node: &Node) -> Result<()> {
    let kubectl = world.kubectl("paris")?;
    let before = ready(world).await?;
    kubectl
        .run(&["drain", node.name(), "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=90s"])
        .await?;
    known(world, before - 1).await?;
    // Whoever removes a node waits until load balancers have left it.
    pause(Duration::from_secs(5)).await;
    node.stop().await?;
    kubectl.run(&["delete", "node", node.name()]).await.map(drop)
}

/// A node is there again.
async fn back(paris: &Cluster, node: &Node) -> Result<()> {
    if !node.kubelet().is_running() {
        node.start()?;
    }
    let client = paris.client().await?;
    node.ready(&client).await
}

/// How many nodes of paris the LB cluster knows as ready.
async fn ready(world: &World) -> Result<usize> {
    let set = world.kubectl("lb")?.get(&["nodeset", "nodes", "-n", "tenant-paris"]).await?;
    let nodes = set["spec"]["nodes"].as_array().cloned().unwrap_or_default();
    Ok(nodes.iter().filter(|node| node["ready"] != false).count())
}

async fn known(world: &World, nodes: usize) -> Result<()> {
    let what = format!("{nodes} nodes to be known");
    in_time(&what, LONG, || async { (ready(world).await.ok()? == nodes).then_some(()) }).await
}

/// Pods come to new nodes too.
async fn spread(world: &World, app: &str, nodes: &[&Arc<Node>]) -> Result<()> {
    let kubectl = world.kubectl("paris")?;
    let deployment = format!("deployment/{app}");
    kubectl.run(&["rollout", "restart", &deployment]).await?;
    kubectl.run(&["rollout", "status", "--timeout=120s", &deployment]).await?;
    let pods = kubectl.get(&["pods", "-l", &format!("app={app}")]).await?;
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    for node in nodes {
        let on_it = |pod: &Value| pod["spec"]["nodeName"] == node.name();
        ensure!(pods.iter().any(on_it), "no pod of {app} came to {}", node.name());
    }
    Ok(())
}
