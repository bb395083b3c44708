//! Probes ask servers that others wrote: the echo server over TLS, and etcd by gRPC's health protocol.

use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::api::ListParams;
use kube::{Api, Client};
use portolan_rig::{Fleet, Options, binaries::Binaries, wait};
use serde_json::{Value, json};

use crate::objects::{LONG, create, holds, pod, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs clusters: make test"]
async fn probes_believe_what_servers_say() {
    let etcd = Binaries::built().expect("built").etcd;
    let fleet = Fleet::up(Options::new(["lb"]).image("etcd", &etcd)).await.expect("a fleet");
    let client = fleet.cluster("lb").expect("there").client().await.expect("a client");
    // The authority is nobody's: a kubelet takes every certificate.
    let own = rcgen::generate_simple_self_signed(["echo.example.com".to_owned()]).expect("a certificate");
    let pair = json!({"tls.crt": own.cert.pem(), "tls.key": own.signing_key.serialize_pem()});
    let secret = json!({"metadata": {"name": "pair"}, "type": "kubernetes.io/tls", "stringData": pair});
    create::<Secret>(&client, secret).await;

    let https = |path| json!({"httpGet": {"scheme": "HTTPS", "path": path, "port": 8443}});
    let grpc = |service| json!({"grpc": {"port": 2379, "service": service}});
    // What is asked, and why it is not ready, if it is not.
    let rows = [
        ("https-good", echo(), https("/health"), None),
        ("https-bad", echo(), https("/status/503"), Some("statuscode: 503")),
        ("grpc-good", database(), grpc(""), None),
        ("grpc-bad", database(), grpc("shop"), Some("gRPC status 5")),
    ];
    for (name, container, probe, _) in &rows {
        let mut asked = container.clone();
        asked["readinessProbe"] = probe.clone();
        asked["readinessProbe"]["periodSeconds"] = json!(1);
        let mut pod = pod(name, asked);
        pod["spec"]["volumes"] = json!([{"name": "pair", "secret": {"secretName": "pair"}}]);
        create::<Pod>(&client, pod).await;
    }
    for (name, _, _, refused) in rows {
        match refused {
            None => until(&client, name, "ready", |pod: &Pod| holds(pod, "Ready").then_some(())).await,
            Some(why) => {
                until_told(&client, name, why).await;
                let pod = Api::<Pod>::default_namespaced(client.clone()).get(name).await.expect("there");
                assert!(!holds(&pod, "Ready"), "{name}");
            }
        }
    }
    fleet.down().expect("nothing stays");
}

/// The echo server, which speaks TLS at 8443.
fn echo() -> Value {
    let env = json!([
        {"name": "TLS_SERVER_CERT", "value": "/etc/pair/tls.crt"},
        {"name": "TLS_SERVER_PRIVKEY", "value": "/etc/pair/tls.key"},
    ]);
    let mount = json!([{"name": "pair", "mountPath": "/etc/pair"}]);
    json!({"image": "echo", "command": null, "env": env, "volumeMounts": mount})
}

/// etcd, which says by gRPC how it is.
fn database() -> Value {
    let args = [
        "--data-dir=/tmp/etcd",
        "--listen-client-urls=http://0.0.0.0:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
    ];
    json!({"image": "etcd", "command": null, "args": args})
}

/// Waits for an event of the pod that says why its probe failed.
async fn until_told(client: &Client, pod: &str, why: &str) {
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let of = ListParams::default().fields(&format!("involvedObject.name={pod},reason=Unhealthy"));
    wait::until(&format!("an event of {pod} with {why:?}"), LONG, || async {
        let told = events.list(&of).await.ok()?.items;
        told.iter().any(|event| event.message.as_ref().is_some_and(|text| text.contains(why))).then_some(())
    })
    .await
    .expect("in time");
}
