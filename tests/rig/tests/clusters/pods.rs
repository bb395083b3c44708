//! Pods are what the API says they are: the kubelet and the scheduler against a real API server.

use std::path::Path;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use kube::api::{DeleteParams, LogParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use portolan_rig::{Cluster, Fleet, Options, wait};
use serde_json::json;

use crate::objects::{LONG, create, holds, pod, status, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs clusters: make test"]
async fn pods_are_what_the_api_says() {
    let fleet = Fleet::up(Options::new(["lb"]).image("sh", Path::new("/bin/sh"))).await.expect("a fleet");
    let cluster = fleet.cluster("lb").expect("there");
    let client = cluster.client().await.expect("a client");

    tokio::join!(
        volumes_and_environment(&client),
        what_is_missing_is_waited_for(&fleet, &client),
        containers_are_restarted(&client),
        pods_come_to_their_end(&client),
        gates_are_opened_by_others(&client),
        deletion_is_graceful(&client),
    );
    a_kubelet_is_followed_by_another(cluster, &client).await;
    nothing_goes_to_a_cordoned_node(cluster, &client).await;
    fleet.down().expect("nothing stays");
}

async fn volumes_and_environment(client: &Client) {
    let map = json!({"metadata": {"name": "settings"}, "data": {"colour": "red", "size": "1"}});
    create::<ConfigMap>(client, map).await;
    create::<Secret>(client, json!({"metadata": {"name": "key"}, "stringData": {"k": "s3"}})).await;
    let script = "echo env $(A) $B $C $P_colour; cat /shared/first; echo sub $(cat /etc/size); \
                  echo mode $(stat -L -c %a /etc/key/deep/k); echo label $(cat /etc/info/labels); \
                  echo ca $(head -c 10 /var/run/secrets/kubernetes.io/serviceaccount/ca.crt); \
                  echo token $(wc -c < /var/run/secrets/kubernetes.io/serviceaccount/token); \
                  touch /usr/x 2> /dev/null || echo host untouched; touch /etc/config/x 2> /dev/null || echo volume untouched; \
                  while :; do echo colour $(cat /etc/config/colour); sleep 0.1; done";
    let pod = json!({
        "metadata": {"name": "full", "labels": {"app": "full"}},
        "spec": {
            "initContainers": [
                {"name": "first", "image": "sh", "command": ["sh", "-c", "echo from init > /shared/first"],
                 "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
                {"name": "side", "image": "sh", "restartPolicy": "Always", "command": ["sleep", "1000"],
                 "startupProbe": {"exec": {"command": ["true"]}}},
            ],
            "containers": [{
                "name": "main", "image": "sh", "command": ["sh", "-c", script],
                "env": [
                    {"name": "A", "value": "$(KUBERNETES_SERVICE_PORT)"},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "size"}}},
                    {"name": "C", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}},
                ],
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "settings"}}],
                "volumeMounts": [
                    {"name": "shared", "mountPath": "/shared"},
                    {"name": "config", "mountPath": "/etc/config"},
                    {"name": "config", "mountPath": "/etc/size", "subPath": "size"},
                    {"name": "key", "mountPath": "/etc/key"},
                    {"name": "info", "mountPath": "/etc/info"},
                ],
            }],
            "terminationGracePeriodSeconds": 0,
            "volumes": [
                {"name": "shared", "emptyDir": {}},
                {"name": "config", "configMap": {"name": "settings"}},
                {"name": "key", "secret": {"secretName": "key", "items": [{"key": "k", "path": "deep/k", "mode": 256}]}},
                {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            ],
        },
    });
    create::<Pod>(client, pod).await;
    until(client, "full", "ready", |pod: &Pod| holds(pod, "Ready").then_some(())).await;
    let log = log_until(client, "full", Some("main"), "colour red").await;
    let wanted = [
        "env 443 1 s3 red",
        "from init",
        "sub 1",
        "mode 400",
        "label app=\"full\"",
        "ca -----BEGIN",
        "host untouched",
        "volume untouched",
    ];
    for line in wanted {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!Path::new("/usr/x").exists());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let blue = Patch::Merge(json!({"data": {"colour": "blue"}}));
    maps.patch("settings", &PatchParams::default(), &blue).await.expect("patched");
    log_until(client, "full", Some("main"), "colour blue").await;
}

async fn what_is_missing_is_waited_for(fleet: &Fleet, client: &Client) {
    create::<Pod>(client, pod("late-image", json!({"image": "later:v1"}))).await;
    let mut mounted = pod("late-secret", json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
    mounted["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "late"}}]);
    create::<Pod>(client, mounted).await;
    for reason in ["ErrImagePull", "ImagePullBackOff"] {
        until(client, "late-image", reason, |pod: &Pod| (waits(pod)? == reason).then_some(())).await;
    }
    assert_eq!(until(client, "late-secret", "a reason", waits).await, "ContainerCreating");
    create::<Secret>(client, json!({"metadata": {"name": "late"}, "stringData": {"k": "s3"}})).await;
    fleet.add_image("later", Path::new("/bin/sh")).expect("added");
    for name in ["late-image", "late-secret"] {
        until(client, name, "ready", |pod: &Pod| holds(pod, "Ready").then_some(())).await;
    }
}

async fn containers_are_restarted(client: &Client) {
    create::<Pod>(client, pod("crash", json!({"command": ["sh", "-c", "echo once; exit 3"]}))).await;
    let liveness = json!({"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1});
    let sick =
        json!({"command": ["sh", "-c", "sleep 0.2; touch /tmp/sick; sleep 1000"], "livenessProbe": liveness});
    create::<Pod>(client, pod("sick", sick)).await;
    let looping = until(client, "crash", "in a loop", |pod: &Pod| {
        (waits(pod)? == "CrashLoopBackOff").then(|| status(pod).cloned())?
    })
    .await;
    assert!(looping.restart_count >= 1 && !looping.ready);
    let before = looping.last_state.and_then(|state| state.terminated).expect("it ended");
    assert_eq!((before.exit_code, before.reason.as_deref()), (3, Some("Error")));
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let previous = LogParams { previous: true, ..Default::default() };
    assert_eq!(pods.logs("crash", &previous).await.expect("a log"), "once\n");
    until(client, "sick", "restarted", |pod: &Pod| (status(pod)?.restart_count >= 1).then_some(())).await;
}

async fn pods_come_to_their_end(client: &Client) {
    for (name, script, phase) in [("good", "exit 0", "Succeeded"), ("bad", "exit 1", "Failed")] {
        let mut pod = pod(name, json!({"command": ["sh", "-c", script]}));
        pod["spec"]["restartPolicy"] = json!("Never");
        create::<Pod>(client, pod).await;
        until(client, name, phase, |pod: &Pod| {
            (pod.status.as_ref()?.phase.as_deref() == Some(phase)).then_some(())
        })
        .await;
    }
}

async fn gates_are_opened_by_others(client: &Client) {
    let mut gated = pod("gated", json!({}));
    gated["spec"]["readinessGates"] = json!([{"conditionType": "example.com/gate"}]);
    create::<Pod>(client, gated).await;
    let ready = until(client, "gated", "with ready containers", |pod: &Pod| {
        holds(pod, "ContainersReady").then(|| holds(pod, "Ready"))
    })
    .await;
    assert!(!ready);
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let open = json!({"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}});
    pods.patch_status("gated", &PatchParams::default(), &Patch::Strategic(open)).await.expect("patched");
    until(client, "gated", "ready", |pod: &Pod| holds(pod, "Ready").then_some(())).await;
}

async fn deletion_is_graceful(client: &Client) {
    let script = "trap 'cat /tmp/hook; echo bye; exit 0' TERM; echo hello; while :; do sleep 0.05; done";
    let hook = json!({"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /tmp/hook"]}}});
    let mut polite = pod("polite", json!({"command": ["sh", "-c", script], "lifecycle": hook}));
    polite["spec"]["terminationGracePeriodSeconds"] = json!(30);
    create::<Pod>(client, polite).await;
    log_until(client, "polite", None, "hello").await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let follow = LogParams { follow: true, ..Default::default() };
    // Read to its end: the container's.
    let said = async { pods.logs("polite", &follow).await.expect("a log") };
    let deleted = async {
        pods.delete("polite", &DeleteParams::default()).await.expect("deleted");
        let gone = await_condition(pods.clone(), "polite", |pod: Option<&Pod>| pod.is_none());
        tokio::time::timeout(LONG, gone).await.expect("in time").expect("gone");
    };
    let (said, ()) = tokio::join!(said, deleted);
    assert_eq!(said, "hello\nhook\nbye\n");
}

async fn a_kubelet_is_followed_by_another(cluster: &Cluster, client: &Client) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let before =
        status(&pods.get("gated").await.expect("there")).and_then(|status| status.container_id.clone());
    let node = cluster.node(1).expect("there");
    node.kubelet().kill().expect("killed");
    pods.delete("late-secret", &DeleteParams::default()).await.expect("deleted");
    node.kubelet().restart().expect("restarted");
    let gone = await_condition(pods.clone(), "late-secret", |pod: Option<&Pod>| pod.is_none());
    tokio::time::timeout(LONG, gone).await.expect("in time").expect("gone");
    let after = pods.get("gated").await.expect("there");
    let status = status(&after).expect("a status");
    assert_eq!((status.restart_count, &status.container_id, status.ready), (0, &before, true));
    log_until(client, "full", Some("main"), "colour blue").await;
}

async fn nothing_goes_to_a_cordoned_node(cluster: &Cluster, client: &Client) {
    let node = cluster.node(1).expect("there");
    node.cordon(client).await.expect("cordoned");
    let nodes: Api<Node> = Api::all(client.clone());
    let cordoned = |node: Option<&Node>| {
        node.and_then(|node| node.spec.as_ref()).is_some_and(|spec| spec.unschedulable == Some(true))
    };
    await_condition(nodes, node.name(), cordoned).await.expect("known");
    create::<Pod>(client, pod("homeless", json!({}))).await;
    let why = until(client, "homeless", "a reason", |pod: &Pod| {
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == "PodScheduled")?.message.clone()
    })
    .await;
    assert_eq!(why, "0/1 nodes are available: 1 node(s) were unschedulable.");
    node.uncordon(client).await.expect("uncordoned");
    until(client, "homeless", "ready", |pod: &Pod| holds(pod, "Ready").then_some(())).await;
}

/// Waits until a log holds a text, and gives all of it.
async fn log_until(client: &Client, pod: &str, container: Option<&str>, text: &str) -> String {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let params = LogParams { container: container.map(str::to_owned), ..Default::default() };
    let what = format!("{text:?} in the log of {pod}");
    let log = wait::until(&what, LONG, || async {
        pods.logs(pod, &params).await.ok().filter(|log| log.contains(text))
    });
    log.await.expect("in time")
}

/// Why the first container waits.
fn waits(pod: &Pod) -> Option<String> {
    status(pod)?.state.as_ref()?.waiting.as_ref()?.reason.clone()
}
