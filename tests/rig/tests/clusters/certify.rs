//! The rig certifies itself, without Portolan: what a user of Kubernetes takes for granted holds.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use portolan_rig::binaries::Binaries;
use portolan_rig::cluster::connect;
use portolan_rig::net::Namespace;
use portolan_rig::{Cluster, Fleet, Options, wait};
use serde_json::{Value, json};

use crate::objects::{LONG, create, deploy, get, holds, pod, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs clusters: make test"]
async fn clusters_are_what_users_take_for_granted() {
    let options = Options::new(["lb", "paris"]).cloud(true).image("sh", Path::new("/bin/sh"));
    let fleet = Fleet::up(options).await.expect("a fleet");
    println!("{}", fleet.report());
    let (lb, paris) = (fleet.cluster("lb").expect("there"), fleet.cluster("paris").expect("there"));
    paris.add_node().await.expect("a second node");
    let client = paris.client().await.expect("a client");

    deploy(&client, 3).await;
    services_answer_from_everywhere(lb, paris, &client).await;
    a_load_balancer_has_an_address(&fleet, &client).await;
    roles_and_tokens_are_for_one_cluster(lb, paris).await;
    logs_are_read_by_kubectl(paris, &client).await;
    a_killed_node_leaves_the_slice(paris, &client).await;
    fleet.down().expect("nothing stays");
}

/// The EndpointSlice, the ClusterIP and the NodePort of a Deployment of three: from a node, from another pod, and across the wan.
async fn services_answer_from_everywhere(lb: &Cluster, paris: &Cluster, client: &Client) {
    let service: Service = create(client, service("echo", "NodePort")).await;
    let spec = service.spec.expect("a spec");
    let cluster_ip: Ipv4Addr = spec.cluster_ip.expect("given").parse().expect("an address");
    let port = spec.ports.expect("ports")[0].node_port.expect("given");
    let node_port = u16::try_from(port).expect("a port");
    let endpoints = until_ready(client, "three of two nodes", |endpoints| {
        endpoints.len() == 3 && nodes(endpoints) == ["paris-1", "paris-2"]
    })
    .await;

    let (one, two) = (paris.node(1).expect("there"), paris.node(2).expect("there"));
    let far = lb.node(1).expect("there");
    let asking = asking_pod(paris, client).await;
    let mut inside: Vec<(Ipv4Addr, u16)> =
        endpoints.iter().map(|endpoint| (endpoint.address, 3000)).collect();
    inside.push((cluster_ip, 80));
    let outside = vec![(one.address(), node_port), (two.address(), node_port)];
    let all = [inside.clone(), outside.clone()].concat();
    // Where a client stands, what answers it, and what does not.
    let rows = [
        ("a node", one.namespace(), &all, &vec![]),
        ("the other node", two.namespace(), &all, &vec![]),
        ("another pod", &asking, &all, &vec![]),
        // Pods and Services have addresses of their own cluster alone.
        ("across the wan", far.namespace(), &outside, &inside),
    ];
    for (place, from, answer, silent) in rows {
        for &(address, port) in answer {
            until_answer(place, Some(from), address, port).await;
        }
        for &(address, port) in silent {
            assert!(ask(Some(from), address, port).is_none(), "{address}:{port} answers {place}");
        }
    }
    // Each of the three takes its part.
    let mut heard = BTreeSet::new();
    wait::until("an answer of each pod", LONG, || {
        heard.extend(ask(Some(far.namespace()), one.address(), node_port));
        std::future::ready((heard.len() == 3).then_some(()))
    })
    .await
    .expect("three answer");
    assert_eq!(heard, endpoints.into_iter().map(|endpoint| endpoint.pod).collect());
}

/// A Service of type LoadBalancer answers the host, another cluster and its own, at an address that it gives back.
async fn a_load_balancer_has_an_address(fleet: &Fleet, client: &Client) {
    create::<Service>(client, service("front", "LoadBalancer")).await;
    let address = until(client, "front", "given an address", |service: &Service| {
        let status = service.status.as_ref()?.load_balancer.as_ref()?;
        let ingress = status.ingress.as_ref()?.first()?;
        assert_eq!(ingress.ip_mode.as_deref(), Some("Proxy"));
        ingress.ip.as_ref()?.parse::<Ipv4Addr>().ok()
    })
    .await;
    let node = |cluster| fleet.cluster(cluster).and_then(|cluster| cluster.node(1)).expect("there");
    let (near, far) = (node("paris"), node("lb"));
    let places = [("the host", None), ("its cluster", Some(&near)), ("another cluster", Some(&far))];
    for (place, from) in places {
        until_answer(place, from.map(|node| node.namespace()), address, 80).await;
    }
    let services: Api<Service> = Api::default_namespaced(client.clone());
    services.delete("front", &DeleteParams::default()).await.expect("deleted");
    wait::until("the address to be given back", LONG, || async { get(address, 80).is_err().then_some(()) })
        .await
        .expect("nobody listens");
}

/// RBAC: who has no role is refused, who has one is not, and what one cluster believes is nothing to another.
async fn roles_and_tokens_are_for_one_cluster(lb: &Cluster, paris: &Cluster) {
    let (here, there) = (paris.client().await.expect("a client"), lb.client().await.expect("a client"));
    create::<ServiceAccount>(&here, json!({"metadata": {"name": "reader"}})).await;
    let binding = json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
    });
    create::<RoleBinding>(&here, binding).await;
    create::<ServiceAccount>(&there, json!({"metadata": {"name": "reader"}})).await;
    let reader = json!({"token": token(&here, "reader").await});
    // The role is known a moment after it is made.
    wait::until("the role", LONG, || async { refusal(paris, &reader).await.is_none().then_some(()) })
        .await
        .expect("it may list");

    let somebody = paris.kubeconfig_of("somebody", None).expect("a kubeconfig");
    let rows = [
        ("its administrator", user(&paris.kubeconfig()), None),
        ("its account with a role", reader, None),
        ("its account without a role", json!({"token": token(&here, "default").await}), Some(403)),
        ("its user without a role", user(&somebody), Some(403)),
        ("an account of another cluster", json!({"token": token(&there, "reader").await}), Some(401)),
        ("the administrator of another cluster", user(&lb.kubeconfig()), Some(401)),
        ("a token that nobody signed", json!({"token": "e30.e30.e30"}), Some(401)),
    ];
    for (who, user, wanted) in rows {
        assert_eq!(refusal(paris, &user).await, wanted, "{who}");
    }
}

async fn logs_are_read_by_kubectl(cluster: &Cluster, client: &Client) {
    let kubectl = Binaries::built().expect("built").kubectl;
    for pod in pods(client).list(&ListParams::default().labels("app=echo")).await.expect("a list") {
        let mut command = Command::new(&kubectl);
        command.env("KUBECONFIG", cluster.kubeconfig()).args(["logs", &pod.name_any()]);
        let output = command.output().expect("it runs");
        let (said, wrong) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("Starting server"), "{said}{wrong}");
    }
}

/// Its endpoints are not ready, the Service goes on without them, and they come back with the node.
async fn a_killed_node_leaves_the_slice(cluster: &Cluster, client: &Client) {
    let (stays, dies) = (cluster.node(1).expect("there"), cluster.node(2).expect("there"));
    dies.kill().expect("killed");
    let left = until_ready(client, "of one node", |endpoints| nodes(endpoints) == [stays.name()]).await;
    let alive: BTreeSet<_> = left.into_iter().map(|endpoint| endpoint.pod).collect();
    let service: Service = Api::default_namespaced(client.clone()).get("echo").await.expect("there");
    let port = service.spec.and_then(|spec| spec.ports?.first()?.node_port).expect("given");
    let port = u16::try_from(port).expect("a port");
    for _ in 0..10 {
        let answer = until_answer("the host", None, stays.address(), port).await;
        assert!(alive.contains(&answer), "{answer} of {alive:?}");
    }
    dies.start().expect("started");
    until_ready(client, "three of two nodes", |endpoints| {
        endpoints.len() == 3 && nodes(endpoints) == [stays.name(), dies.name()]
    })
    .await;
}

fn service(name: &str, kind: &str) -> Value {
    let ports = json!([{"port": 80, "targetPort": 3000}]);
    json!({"metadata": {"name": name}, "spec": {"type": kind, "selector": {"app": "echo"}, "ports": ports}})
}

fn pods(client: &Client) -> Api<Pod> {
    Api::default_namespaced(client.clone())
}

/// An endpoint that is ready.
struct Ready {
    address: Ipv4Addr,
    node: String,
    pod: String,
}

/// The names of their nodes.
fn nodes(endpoints: &[Ready]) -> Vec<&str> {
    let names: BTreeSet<_> = endpoints.iter().map(|endpoint| endpoint.node.as_str()).collect();
    names.into_iter().collect()
}

/// Waits until the ready endpoints of the Service are as they should be.
async fn until_ready(client: &Client, what: &str, wanted: impl Fn(&[Ready]) -> bool) -> Vec<Ready> {
    let slices: Api<EndpointSlice> = Api::default_namespaced(client.clone());
    let of = ListParams::default().labels("kubernetes.io/service-name=echo");
    let what = format!("the ready endpoints to be {what}");
    let found = wait::until(&what, LONG, || async {
        let list = slices.list(&of).await.ok()?.items;
        let all = list.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
        let ready =
            all.filter(|it| it.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true)));
        let ready: Option<Vec<_>> = ready
            .map(|it| {
                let address = it.addresses.first()?.parse().ok()?;
                Some(Ready { address, node: it.node_name?, pod: it.target_ref?.name? })
            })
            .collect();
        ready.filter(|ready| wanted(ready))
    });
    found.await.expect("in time")
}

/// The place of a pod that is none of the endpoints.
async fn asking_pod(cluster: &Cluster, client: &Client) -> Namespace {
    create::<Pod>(client, pod("asking", json!({}))).await;
    let (uid, node) = until(client, "asking", "ready", |pod: &Pod| {
        holds(pod, "Ready").then(|| Some((pod.uid()?, pod.spec.as_ref()?.node_name.clone()?)))?
    })
    .await;
    let nodes = cluster.nodes();
    let node = nodes.iter().find(|it| it.name() == node).expect("a node of the cluster");
    let mut pods = node.pods().into_iter();
    pods.find(|place| place.name().ends_with(&uid[..8])).expect("a pod of the node")
}

/// The pod of the echo server that answers, if one does, to somebody who stands in this place or on the host.
fn ask(from: Option<&Namespace>, address: Ipv4Addr, port: u16) -> Option<String> {
    let answer = match from {
        Some(place) => place.run(|| get(address, port)).expect("inside"),
        None => get(address, port),
    };
    let body = answer.ok()?.split_once("\r\n\r\n")?.1.to_owned();
    let said: Value = serde_json::from_str(&body).ok()?;
    said["pod"].as_str().map(str::to_owned)
}

async fn until_answer(place: &str, from: Option<&Namespace>, address: Ipv4Addr, port: u16) -> String {
    let what = format!("{address}:{port} to answer {place}");
    let answer = wait::until(&what, LONG, || std::future::ready(ask(from, address, port)));
    answer.await.expect("an answer")
}

/// A token of a service account.
async fn token(client: &Client, account: &str) -> String {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    let (params, request) = (PostParams::default(), TokenRequest::default());
    let answer = accounts.create_token_request(account, &params, &request).await.expect("an answer");
    answer.status.and_then(|status| status.token).expect("a token")
}

/// How the user of a kubeconfig shows who it is.
fn user(kubeconfig: &Path) -> Value {
    read(kubeconfig)["users"][0]["user"].clone()
}

fn read(kubeconfig: &Path) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(kubeconfig).expect("a file")).expect("a kubeconfig")
}

/// The code with which the API server of a cluster refuses to list pods to a user, if it does.
async fn refusal(cluster: &Cluster, user: &Value) -> Option<u16> {
    let mut config = read(&cluster.kubeconfig());
    config["users"][0]["user"] = user.clone();
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("kubeconfig");
    std::fs::write(&path, config.to_string()).expect("written");
    match pods(&connect(&path).await.expect("a client")).list(&ListParams::default()).await {
        Ok(_) => None,
        Err(kube::Error::Api(refused)) => Some(refused.code),
        Err(error) => panic!("no answer: {error}"),
    }
}
