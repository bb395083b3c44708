//! What does the cluster know of this node? Its Node object, and the Lease whose renewal says that it is alive.
//!
//! The object is made if it is not there, and corrected each time that the lease is renewed and the cluster calls the node not ready.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::Host;
use super::facts::{CORES, MEMORY};
use crate::client::{ANSWER, RETRY};

/// How often the lease is renewed.
const RENEW: Duration = Duration::from_secs(2);
/// For how long it is valid.
const VALID: i32 = 10;
/// Where logs are served.
pub(crate) const PORT: u16 = 10250;
/// Where leases of nodes are.
const LEASES: &str = "kube-node-lease";
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// Registers the node and keeps it registered, for ever.
pub(crate) async fn keep(host: Arc<Host>) {
    while let Err(error) = register(&host).await {
        tracing::info!("not registered yet: {error:#}");
        sleep(RETRY).await;
    }
    let mut ticks = interval(RENEW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = renew(&host).await {
            tracing::warn!("the lease is not renewed: {error:#}");
        } else if let Err(error) = register(&host).await {
            tracing::warn!("the node is not registered: {error:#}");
        }
    }
}

/// Says whether the node is ready, now; the node as it is then.
pub(crate) async fn tell(host: &Host) -> Result<Node> {
    let nodes: Api<Node> = Api::all(host.client.clone());
    let (patch, params) = (Patch::Strategic(status(host)), PatchParams::default());
    let told = nodes.patch_status(&host.node, &params, &patch);
    Ok(timeout(ANSWER, told).await.context("no answer")??)
}

async fn register(host: &Host) -> Result<()> {
    let nodes: Api<Node> = Api::all(host.client.clone());
    let found = timeout(ANSWER, nodes.get_opt(&host.node)).await.context("no answer")??;
    let mut node = match found {
        Some(node) => node,
        None => timeout(ANSWER, nodes.create(&PostParams::default(), &object(host)))
            .await
            .context("no answer")??,
    };
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready =
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let complete = node.status.as_ref().is_some_and(|status| status.daemon_endpoints.is_some());
    if ready != host.is_serving() || !complete {
        node = tell(host).await?;
    }
    let taints = node.spec.clone().unwrap_or_default().taints.unwrap_or_default();
    if host.is_serving() && taints.iter().any(|taint| taint.key == NOT_READY) {
        let left: Vec<_> = taints.into_iter().filter(|taint| taint.key != NOT_READY).collect();
        // Refused if somebody else has changed it meanwhile: the next time will do.
        let version = &node.metadata.resource_version;
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "spec": {"taints": left}}));
        timeout(ANSWER, nodes.patch(&host.node, &PatchParams::default(), &patch))
            .await
            .context("no answer")??;
    }
    Ok(())
}

async fn renew(host: &Host) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(host.client.clone(), LEASES);
    let now = MicroTime(Timestamp::now());
    let spec = json!({
        "holderIdentity": host.node,
        "leaseDurationSeconds": VALID,
        "renewTime": now,
    });
    let patch = Patch::Merge(json!({"spec": spec}));
    match timeout(ANSWER, leases.patch(&host.node, &PatchParams::default(), &patch))
        .await
        .context("no answer")?
    {
        Err(kube::Error::Api(refused)) if refused.code == 404 => {
            let lease = json!({"metadata": {"name": host.node}, "spec": spec});
            let lease = serde_json::from_value(lease)?;
            timeout(ANSWER, leases.create(&PostParams::default(), &lease)).await.context("no answer")??;
            Ok(())
        }
        other => Ok(other.map(drop)?),
    }
}

fn object(host: &Host) -> Node {
    let labels = [
        ("kubernetes.io/hostname", host.node.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch()),
    ];
    let labels: BTreeMap<_, _> =
        labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Node {
        metadata: ObjectMeta { name: Some(host.node.clone()), labels: Some(labels), ..Default::default() },
        spec: Some(NodeSpec {
            pod_cidr: Some(host.pod_cidr.clone()),
            pod_cidrs: Some(vec![host.pod_cidr.clone()]),
            provider_id: Some(format!("rig://{}", host.node)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn status(host: &Host) -> Value {
    let now = Time(Timestamp::now());
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        json!({
            "type": kind,
            "status": if holds { "True" } else { "False" },
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        })
    };
    let ready = if host.is_serving() {
        condition("Ready", true, "KubeletReady", "kubelet is posting ready status")
    } else {
        condition("Ready", false, "KubeletNotReady", "node is shutting down")
    };
    let resources = json!({
        "cpu": CORES.to_string(),
        "memory": MEMORY.to_string(),
        "ephemeral-storage": "64Gi",
        "pods": "250",
    });
    json!({"status": {
        "addresses": [
            {"type": "InternalIP", "address": host.address},
            {"type": "Hostname", "address": host.node},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ready,
        ],
        "nodeInfo": {
            "architecture": arch(),
            "bootID": host.boot,
            "containerRuntimeVersion": concat!("rig://", env!("CARGO_PKG_VERSION")),
            "kernelVersion": kernel(),
            "kubeProxyVersion": "",
            "kubeletVersion": concat!("v", env!("CARGO_PKG_VERSION"), "-rig"),
            "machineID": host.node,
            "operatingSystem": "linux",
            "osImage": "processes",
            "systemUUID": host.node,
        },
    }})
}

/// The processor as Go calls it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

impl Host {
    /// Whether the node is in service.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
    }
}
