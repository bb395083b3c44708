//! What does this replica of the proxy serve, as the controller can see it?
//!
//! A `Lease` of its own, renewed every two seconds, whose annotation [`SERVES_ANNOTATION`] has what is in force. Invariant: the
//! annotation never says more than was given to [`ReplicaLease::serves`]. It is written at once when that changes, five times
//! a second at most. Where the API server does not take it, the next try is soon, and it is said once.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use portolan_api::contract::{PROXY, REPLICA_LABEL, SERVES_ANNOTATION};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::versions::Versions;

/// So long it counts without renewal.
const LASTS: i32 = 15;
/// Between two renewals.
const RENEW: Duration = Duration::from_secs(2);
/// Between two writes, at least.
const AT_LEAST: Duration = Duration::from_millis(200);
/// What a request about it may take.
const REQUEST: Duration = Duration::from_secs(3);
/// What deleting it at the end may take.
const END: Duration = Duration::from_secs(1);

/// See the module's documentation. It is not there before the first [`ReplicaLease::serves`].
#[derive(Debug)]
pub struct ReplicaLease {
    serves: watch::Sender<Option<Versions>>,
    task: JoinHandle<()>,
}

impl ReplicaLease {
    /// The `Lease` `portolan-proxy-<replica>` in that namespace. Runs on the tokio runtime that this is called on.
    pub fn start(client: Client, namespace: &str, replica: &str) -> Self {
        let (serves, served) = watch::channel(None);
        let keeper = Keeper {
            leases: Api::namespaced(client, namespace),
            name: format!("{PROXY}-{replica}"),
            holder: replica.to_owned(),
            since: Timestamp::now(),
            refused: false,
        };
        Self { serves, task: tokio::spawn(keeper.keep(served)) }
    }

    /// All of this is in force now, beside what was before.
    pub fn serves(&self, versions: &Versions) {
        self.serves.send_if_modified(|known| {
            let before = *known;
            known.get_or_insert_default().merge(versions);
            *known != before
        });
    }

    /// Deletes it: this replica serves no more.
    pub async fn end(self) {
        drop(self.serves);
        let _ = timeout(END + REQUEST, self.task).await;
    }
}

struct Keeper {
    leases: Api<Lease>,
    name: String,
    holder: String,
    since: Timestamp,
    /// Whether it was said that it cannot be written.
    refused: bool,
}

impl Keeper {
    /// Until nobody can change any more what is served.
    async fn keep(mut self, mut served: watch::Receiver<Option<Versions>>) {
        loop {
            let versions = *served.borrow_and_update();
            if let Some(versions) = versions {
                self.write(&versions).await;
                sleep(AT_LEAST).await;
            }
            if let Ok(Err(_)) = timeout(RENEW, served.changed()).await {
                break;
            }
        }
        if served.borrow().is_none() {
            return;
        }
        let deleted = timeout(END, self.leases.delete(&self.name, &DeleteParams::default())).await;
        match deleted {
            Ok(Ok(_)) => {}
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
            _ => tracing::warn!(lease = self.name, "cannot delete the lease; it runs out by itself"),
        }
    }

    async fn write(&mut self, versions: &Versions) {
        let refusal = match timeout(REQUEST, self.try_to_write(versions)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the API server does not answer".to_owned()),
        };
        match &refusal {
            Some(error) if !self.refused => {
                tracing::warn!(lease = self.name, error, "cannot say what this replica serves; trying on");
            }
            None if self.refused => tracing::info!(lease = self.name, "the lease is written again"),
            _ => {}
        }
        self.refused = refusal.is_some();
    }

    async fn try_to_write(&self, versions: &Versions) -> kube::Result<()> {
        let now = MicroTime(Timestamp::now());
        let patch = json!({
            "metadata": {"annotations": {SERVES_ANNOTATION: versions.to_json()}},
            "spec": {"renewTime": now, "holderIdentity": self.holder, "leaseDurationSeconds": LASTS},
        });
        let params = PatchParams { field_manager: Some(PROXY.to_owned()), ..PatchParams::default() };
        match self.leases.patch(&self.name, &params, &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            patched => return patched.map(|_| ()),
        }
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some([(REPLICA_LABEL.to_owned(), "proxy".to_owned())].into()),
                annotations: Some([(SERVES_ANNOTATION.to_owned(), versions.to_json())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.holder.clone()),
                lease_duration_seconds: Some(LASTS),
                acquire_time: Some(MicroTime(self.since)),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        let params = PostParams { field_manager: Some(PROXY.to_owned()), ..PostParams::default() };
        self.leases.create(&params, &lease).await.map(|_| ())
    }
}
