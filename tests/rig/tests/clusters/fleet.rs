//! A fleet comes, is broken and mended, and goes.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use k8s_openapi::api::core::v1::{Namespace as Scope, Node as NodeObject, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use portolan_rig::cluster::is_ready;
use portolan_rig::net::Namespace;
use portolan_rig::{Cluster, Fleet, Node, Options, wait};
use serde_json::json;

use crate::objects::{LONG, SHORT, deploy, has_available};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs clusters: make test"]
async fn a_fleet_is_broken_mended_and_gone() {
    let fleet = Fleet::up(Options::new(["lb", "paris"])).await.expect("a fleet");
    println!("{}", fleet.report());
    let (lb, paris) = (fleet.cluster("lb").expect("there"), fleet.cluster("paris").expect("there"));

    an_api_server_pauses_and_dies(paris).await;
    links_are_cut(&fleet, lb, paris).await;
    nodes_come_and_go(paris).await;
    a_cluster_loses_its_power(paris).await;

    let dir = fleet.dir().to_owned();
    let prefix = format!("rig{}-", dir.file_name().expect("a number").to_string_lossy());
    assert!(Namespace::list(&prefix).len() >= 4, "the wan, three nodes, and pods");
    fleet.down().expect("nothing stays");
    assert!(Namespace::list(&prefix).is_empty() && !dir.exists());
}

async fn an_api_server_pauses_and_dies(cluster: &Cluster) {
    let client = cluster.client().await.expect("a client");
    assert!(answers(&client).await);
    cluster.pause_api().expect("paused");
    assert!(!answers(&client).await);
    cluster.resume_api().expect("resumed");
    wait::until("an answer", LONG, || async { answers(&client).await.then_some(()) })
        .await
        .expect("it goes on");
    cluster.kill_api().expect("killed");
    assert!(!answers(&client).await);
    cluster.restart_api().await.expect("it comes back");
    assert!(answers(&client).await);
}

async fn links_are_cut(fleet: &Fleet, lb: &Cluster, paris: &Cluster) {
    let (near, far) = (lb.node(1).expect("there"), paris.node(1).expect("there"));
    assert!(reaches(Some(&near), far.address()) && reaches(None, far.address()));

    far.link().cut().expect("cut");
    far.link().cut().expect("what is cut may be cut");
    assert!(!reaches(Some(&near), far.address()) && !reaches(None, far.address()));
    assert!(reaches(None, near.address()), "the other link is whole");
    far.link().heal().expect("healed");
    far.link().heal().expect("what is whole may be healed");
    assert!(reaches(Some(&near), far.address()) && reaches(None, far.address()));

    let between = fleet.link("lb", "paris").expect("both are there");
    between.cut().expect("cut");
    assert!(!reaches(Some(&near), far.address()) && !reaches(Some(&far), near.address()));
    assert!(reaches(None, far.address()) && reaches(None, near.address()), "the host sees both");
    between.heal().expect("healed");
    assert!(reaches(Some(&near), far.address()) && reaches(Some(&far), near.address()));
}

async fn nodes_come_and_go(cluster: &Cluster) {
    let client = cluster.client().await.expect("a client");
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let node = cluster.add_node().await.expect("a second node");
    assert_eq!(node.name(), "paris-2");
    assert!(reaches(Some(&node), cluster.node(1).expect("there").address()));

    node.cordon(&client).await.expect("cordoned");
    let echo = deploy(&client, 2).await;
    assert_eq!(homes(&client).await, ["paris-1", "paris-1"]);
    node.uncordon(&client).await.expect("uncordoned");
    let more = Patch::Merge(json!({"spec": {"replicas": 4}}));
    echo.patch("echo", &PatchParams::default(), &more).await.expect("patched");
    has_available(&echo, 4).await;
    assert_eq!(homes(&client).await, ["paris-1", "paris-1", "paris-2", "paris-2"]);

    node.kill().expect("killed");
    becomes_ready(&nodes, &node, false).await;
    has_available(&echo, 2).await;
    node.start().expect("started");
    node.ready(&client).await.expect("it comes back");
    has_available(&echo, 4).await;

    node.link().cut().expect("cut");
    becomes_ready(&nodes, &node, false).await;
    node.link().heal().expect("healed");
    becomes_ready(&nodes, &node, true).await;

    node.pause().expect("paused");
    becomes_ready(&nodes, &node, false).await;
    node.resume().expect("resumed");
    becomes_ready(&nodes, &node, true).await;

    node.stop().await.expect("stopped");
    becomes_ready(&nodes, &node, false).await;
}

/// The nodes of all pods of the Deployment.
async fn homes(client: &Client) -> Vec<String> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let all = pods.list(&ListParams::default().labels("app=echo")).await.expect("a list").items;
    let mut homes: Vec<_> = all.into_iter().filter_map(|pod| pod.spec?.node_name).collect();
    homes.sort();
    homes
}

async fn a_cluster_loses_its_power(cluster: &Cluster) {
    cluster.kill().expect("killed");
    let client = cluster.client().await.expect("a client");
    assert!(!answers(&client).await);
    cluster.start().await.expect("it comes back");
    let nodes: Api<NodeObject> = Api::all(client);
    let known = nodes.list(&Default::default()).await.expect("a list").items;
    assert_eq!(known.len(), 2, "what etcd has written stays");
}

async fn answers(client: &Client) -> bool {
    let scopes: Api<Scope> = Api::all(client.clone());
    matches!(tokio::time::timeout(SHORT, scopes.get("default")).await, Ok(Ok(_)))
}

/// Whether a TCP connection to an API server comes about, from a node or from the host.
fn reaches(from: Option<&Node>, to: Ipv4Addr) -> bool {
    let connect = || TcpStream::connect_timeout(&SocketAddr::from((to, 6443)), SHORT).is_ok();
    from.map_or_else(connect, |node| node.namespace().run(connect).expect("inside"))
}

async fn becomes_ready(nodes: &Api<NodeObject>, node: &Node, wanted: bool) {
    let condition = |node: Option<&NodeObject>| node.is_some_and(|node| is_ready(node) == wanted);
    let seen = tokio::time::timeout(LONG, await_condition(nodes.clone(), node.name(), condition)).await;
    seen.unwrap_or_else(|_| panic!("{} never became ready: {wanted}", node.name())).expect("a watch");
}
