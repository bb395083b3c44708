//! A fleet comes, is broken and mended, and goes. Where root or the binaries are missing, this says so and passes.

#![allow(clippy::expect_used, clippy::panic)] // a test that cannot go on says so and fails

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace as Scope, Node as NodeObject};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};
use portolan_rig::cluster::{connect, is_ready};
use portolan_rig::net::Namespace;
use portolan_rig::{Cluster, Fleet, Node, Options, wait};
use serde_json::json;

/// What something may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// What an API server that answers does so within.
const SHORT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts clusters, which CI has no binaries for yet"]
async fn a_fleet_is_broken_mended_and_gone() {
    if let Err(missing) = Fleet::can_start() {
        eprintln!("skipped: {missing:#}");
        return;
    }
    let fleet = Fleet::up(Options::new(["lb", "paris"])).await.expect("a fleet");
    println!("{}", fleet.report());
    let (lb, paris) = (fleet.cluster("lb").expect("there"), fleet.cluster("paris").expect("there"));

    credentials_fit_one_cluster(lb, paris).await;
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

async fn credentials_fit_one_cluster(lb: &Cluster, paris: &Cluster) {
    let somebody = lb.kubeconfig_of("somebody", None).expect("a kubeconfig");
    let scopes: Api<Scope> = Api::all(connect(&somebody).await.expect("a client"));
    let refused = scopes.list(&Default::default()).await.expect_err("no role says so").to_string();
    assert!(refused.contains("somebody") && refused.contains("forbidden"), "{refused}");

    // The administrator of one cluster at the door of the other.
    let text =
        std::fs::read_to_string(lb.kubeconfig()).expect("a file").replace(&lb.server(), &paris.server());
    let folder = tempfile::tempdir().expect("a folder");
    let stranger = folder.path().join("kubeconfig");
    std::fs::write(&stranger, text).expect("written");
    let scopes: Api<Scope> = Api::all(connect(&stranger).await.expect("a client"));
    scopes.list(&Default::default()).await.expect_err("each cluster trusts its own authority alone");
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
    let unschedulable = |node: &NodeObject| node.spec.as_ref().and_then(|spec| spec.unschedulable);
    assert_eq!(unschedulable(&nodes.get("paris-2").await.expect("there")), Some(true));
    node.uncordon(&client).await.expect("uncordoned");
    assert_ne!(unschedulable(&nodes.get("paris-2").await.expect("there")), Some(true));

    let echo = deploy(&client, 4).await;
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

/// A Deployment of the echo server, all of whose pods are available.
async fn deploy(client: &Client, replicas: i32) -> Api<Deployment> {
    let labels = json!({"app": "echo"});
    let deployment = serde_json::from_value(json!({
        "metadata": {"name": "echo"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{
                    "name": "echo",
                    "image": "echo",
                    "readinessProbe": {"httpGet": {"port": 3000}, "periodSeconds": 1},
                }]},
            },
        },
    }));
    let deployments = Api::default_namespaced(client.clone());
    deployments.create(&Default::default(), &deployment.expect("a Deployment")).await.expect("created");
    has_available(&deployments, replicas).await;
    deployments
}

async fn has_available(deployments: &Api<Deployment>, wanted: i32) {
    let available = |it: &Deployment| it.status.as_ref()?.available_replicas;
    let condition = |it: Option<&Deployment>| it.and_then(available) == Some(wanted);
    let seen = tokio::time::timeout(LONG, await_condition(deployments.clone(), "echo", condition)).await;
    seen.unwrap_or_else(|_| panic!("never had {wanted} available pods")).expect("a watch");
}

async fn becomes_ready(nodes: &Api<NodeObject>, node: &Node, wanted: bool) {
    let condition = |node: Option<&NodeObject>| node.is_some_and(|node| is_ready(node) == wanted);
    let seen = tokio::time::timeout(LONG, await_condition(nodes.clone(), node.name(), condition)).await;
    seen.unwrap_or_else(|_| panic!("{} never became ready: {wanted}", node.name())).expect("a watch");
}

#[tokio::test]
#[ignore = "takes minutes: twenty fleets, one after another"]
async fn twenty_fleets_leave_nothing() {
    if let Err(missing) = Fleet::can_start() {
        eprintln!("skipped: {missing:#}");
        return;
    }
    let before = open_files();
    for _ in 0..20 {
        let fleet = Fleet::up(Options::new(["lb", "paris"])).await.expect("a fleet");
        let dir = fleet.dir().to_owned();
        let number = dir.file_name().expect("a number").to_string_lossy().into_owned();
        let client = fleet.cluster("paris").expect("there").client().await.expect("a client");
        deploy(&client, 3).await;
        println!("{}", fleet.report());
        fleet.down().expect("nothing stays");
        assert!(!dir.exists());
        assert!(!Path::new(&format!("/sys/class/net/rig{number}")).exists());
        assert_eq!(Namespace::list(&format!("rig{number}-")), Vec::<String>::new());
        assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD), "a child is left");
    }
    // The clients' connections are closed by tasks in the background.
    let closed = || async { (open_files() <= before).then_some(()) };
    wait::until("files to be closed", LONG, closed).await.expect("no file stays open");
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("our own").count()
}
