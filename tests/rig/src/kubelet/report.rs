//! Who tells the API server how a pod is? A task for each pod, that writes its status each time that it says something new, and again until it is
//! written.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Host;
use super::board::Board;
use super::status;

/// Between two tries to write a status.
const RETRY: Duration = Duration::from_millis(500);
/// How long a write may take before it is tried again.
const ANSWER: Duration = Duration::from_secs(5);

/// Reports until the pod is over and that is written, or the pod is gone.
pub(crate) async fn run(
    host: Arc<Host>,
    mut object: watch::Receiver<Arc<Pod>>,
    mut board: watch::Receiver<Board>,
) {
    let mut newest = Arc::clone(&object.borrow_and_update());
    let namespace = newest.metadata.namespace.clone().unwrap_or_default();
    let name = newest.metadata.name.clone().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(host.client.clone(), &namespace);
    let mut written = Value::Null;
    loop {
        let seen = Arc::clone(&object.borrow_and_update());
        if version(&seen) > version(&newest) {
            newest = seen;
        }
        let now = board.borrow_and_update().clone();
        let status = status::status(&newest, &now, host.address, Timestamp::now());
        if status != written {
            let params = PatchParams::default();
            let patch = Patch::Strategic(&status);
            let answer = timeout(ANSWER, pods.patch_status(&name, &params, &patch)).await;
            match answer {
                Ok(Ok(pod)) => {
                    newest = Arc::new(pod);
                    written = status;
                    // Its own answer changes no status: look again only when something else does.
                    let again = status::status(&newest, &now, host.address, Timestamp::now());
                    if again == written && now.over {
                        return;
                    }
                    written = again;
                }
                Ok(Err(kube::Error::Api(refused))) if matches!(refused.code, 404 | 409) => {
                    // Gone, or another of that name.
                    if refused.code == 404 || now.over {
                        return;
                    }
                    sleep(RETRY).await;
                    continue;
                }
                other => {
                    if let Ok(Err(error)) = other {
                        tracing::warn!("cannot write the status of {namespace}/{name}: {error}");
                    }
                    sleep(RETRY).await;
                    continue;
                }
            }
        } else if now.over {
            return;
        }
        tokio::select! {
            changed = board.changed() => if changed.is_err() { return },
            changed = object.changed() => if changed.is_err() { return },
        }
    }
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}
