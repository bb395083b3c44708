//! Objects that tests make, and what they wait for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource};
use portolan_rig::wait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What something may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// What a server that answers does so within.
pub(crate) const SHORT: Duration = Duration::from_secs(2);

/// Makes an object.
pub(crate) async fn create<K>(client: &Client, object: Value) -> K
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::default_namespaced(client.clone());
    let object = serde_json::from_value(object).expect("an object");
    api.create(&PostParams::default(), &object).await.expect("created")
}

/// Waits until an object is as it should be, and says what was found.
pub(crate) async fn until<K, T>(client: &Client, name: &str, what: &str, found: impl Fn(&K) -> Option<T>) -> T
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::default_namespaced(client.clone());
    let what = format!("{name} to be {what}");
    wait::until(&what, LONG, || async { found(&api.get(name).await.ok()?) }).await.expect("in time")
}

/// A Deployment `echo` of the echo server, all of whose pods are available.
pub(crate) async fn deploy(client: &Client, replicas: i32) -> Api<Deployment> {
    let labels = json!({"app": "echo"});
    let container = json!({
        "name": "echo",
        "image": "echo",
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 3000}, "periodSeconds": 1},
    });
    let deployment = json!({
        "metadata": {"name": "echo"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    });
    create::<Deployment>(client, deployment).await;
    let deployments = Api::default_namespaced(client.clone());
    has_available(&deployments, replicas).await;
    deployments
}

/// Waits until that many pods of the Deployment are available.
pub(crate) async fn has_available(deployments: &Api<Deployment>, wanted: i32) {
    let available = |it: &Deployment| it.status.as_ref()?.available_replicas;
    let condition = |it: Option<&Deployment>| it.and_then(available) == Some(wanted);
    let seen = tokio::time::timeout(LONG, await_condition(deployments.clone(), "echo", condition)).await;
    seen.unwrap_or_else(|_| panic!("never had {wanted} available pods")).expect("a watch");
}

/// A pod with one container that sleeps, unless `change` says otherwise.
pub(crate) fn pod(name: &str, change: Value) -> Value {
    let mut container = json!({"name": "main", "image": "sh", "command": ["sleep", "1000"]});
    for (key, value) in change.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}})
}

/// Whether a condition of the pod is true.
pub(crate) fn holds(pod: &Pod, kind: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

/// How the first container is.
pub(crate) fn status(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// What a server says to `GET /`, head and all.
pub(crate) fn get(address: Ipv4Addr, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&(address, port).into(), SHORT)?;
    stream.set_read_timeout(Some(SHORT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: echo\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
