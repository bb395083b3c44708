//! Which node does a pod go to? The smallest scheduler that is right: among the nodes that a pod fits on (`fit`), the one with the fewest pods of
//! the same owner, then with the fewest pods, then the first by name.
//!
//! A process for each cluster, as a user who may bind pods: nodes may not. It knows all nodes and pods from watches, binds one pod after another,
//! and remembers what it has bound until the watch says it too. What fits nowhere is tried again with each change.

mod fit;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use futures_util::{StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::client::{ANSWER, RETRY, WATCH_SECONDS, connect};
use crate::wait;

/// What the scheduler has to know.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How to reach the API server, as whom.
    #[arg(long)]
    pub kubeconfig: PathBuf,
}

/// Binds pods to nodes, for ever.
pub async fn run(options: Options) -> Result<()> {
    let client = connect(&options.kubeconfig).await?;
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let (pods, mut pods_in) = reflector::store::<Pod>();
    let (nodes, mut nodes_in) = reflector::store::<Node>();
    let pod_events = watcher(Api::<Pod>::all(client.clone()), config.clone());
    let node_events = watcher(Api::<Node>::all(client.clone()), config);
    pin_mut!(pod_events, node_events);
    let mut scheduler = Scheduler { client, pods, nodes, bound: HashMap::new() };
    let (mut pods_known, mut nodes_known, mut refused) = (false, false, false);
    loop {
        tokio::select! {
            event = pod_events.next() => match event {
                Some(Ok(event)) => {
                    pods_known |= matches!(event, watcher::Event::InitDone);
                    pods_in.apply_watcher_event(&event);
                }
                Some(Err(_)) => sleep(wait::STEP).await,
                None => bail!("the watch of pods has ended"),
            },
            event = node_events.next() => match event {
                Some(Ok(event)) => {
                    nodes_known |= matches!(event, watcher::Event::InitDone);
                    nodes_in.apply_watcher_event(&event);
                }
                Some(Err(_)) => sleep(wait::STEP).await,
                None => bail!("the watch of nodes has ended"),
            },
            () = sleep(RETRY), if refused => {}
        }
        if pods_known && nodes_known {
            refused = !scheduler.pass().await;
        }
    }
}

struct Scheduler {
    client: Client,
    pods: Store<Pod>,
    nodes: Store<Node>,
    /// Where pods went that the watch still calls unbound, by uid.
    bound: HashMap<String, String>,
}

impl Scheduler {
    /// Binds every pod that waits and fits somewhere. False if the API server would not have it.
    async fn pass(&mut self) -> bool {
        let mut pods = self.pods.state();
        // One that was deleted is no pod of this list, and need not be remembered.
        self.bound.retain(|uid, _| {
            pods.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid) && fit::node_of(pod).is_none())
        });
        let mut nodes = self.nodes.state();
        nodes.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        // The oldest first.
        pods.sort_by(|a, b| {
            let key = |pod: &Pod| (pod.metadata.creation_timestamp.clone(), pod.metadata.name.clone());
            key(a).cmp(&key(b))
        });
        let mut good = true;
        for pod in pods.iter().filter(|pod| fit::waits(pod)) {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            if self.bound.contains_key(&uid) {
                continue;
            }
            match fit::choose(pod, &nodes, &pods, &self.bound) {
                Ok(node) => match self.bind(pod, &node).await {
                    Ok(()) => {
                        self.bound.insert(uid, node);
                    }
                    Err(error) => {
                        tracing::info!("cannot bind {:?} to {node}: {error:#}", pod.metadata.name);
                        good = false;
                    }
                },
                Err(why) => good &= self.say(pod, &why).await.is_ok(),
            }
        }
        good
    }

    async fn bind(&self, pod: &Pod, node: &str) -> Result<()> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                uid: pod.metadata.uid.clone(),
                ..Default::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..Default::default()
            },
        };
        let (pods, params) = (self.api(pod), PostParams::default());
        let answer = pods.create_subresource::<_, serde_json::Value>("binding", &name, &params, &binding);
        match timeout(ANSWER, answer).await? {
            // Deleted, or bound by somebody else: the watch will say it.
            Err(kube::Error::Api(refused)) if matches!(refused.code, 404 | 409) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Writes into a pod's status why it has no node, unless it stands there.
    async fn say(&self, pod: &Arc<Pod>, why: &str) -> Result<()> {
        let status = pod.status.clone().unwrap_or_default();
        let mut conditions = status.conditions.iter().flatten();
        let said = conditions
            .any(|condition| condition.type_ == "PodScheduled" && condition.message.as_deref() == Some(why));
        if said {
            return Ok(());
        }
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": why,
            "observedGeneration": pod.metadata.generation,
            "lastTransitionTime": Time(Timestamp::now()),
        });
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        let name = pod.metadata.name.clone().unwrap_or_default();
        let (pods, params) = (self.api(pod), PatchParams::default());
        match timeout(ANSWER, pods.patch_status(&name, &params, &patch)).await? {
            Err(kube::Error::Api(refused)) if refused.code == 404 => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default())
    }
}
