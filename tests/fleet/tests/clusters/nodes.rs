//! Under load: nodes come and go, and fall silent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::jiff::Timestamp;
use portolan_fleet::{World, pause};
use portolan_rig::{Cluster, Node};
use serde_json::Value;

use crate::slow::Subject;
use crate::stage::LONG;
use crate::witness::{access_log, in_time, none_later};

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
