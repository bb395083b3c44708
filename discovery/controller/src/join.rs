//! What does a member cluster need in order to join, and what is to go when it leaves? A credential of the LB cluster, and the agent.
//!
//! ```text
//!  kubeconfig of the LB cluster ─► Cluster, its ServiceAccount ─► token ─► Credential ─┐
//!  deploy/manifests/agent.yaml ────────────────────────────────────────────────────────┴─► manifests ─► printed, or applied
//! ```
//!
//! It needs somebody who may read `Cluster`s and make tokens in tenant namespaces. To join writes nothing in the LB cluster; to [`leave`]
//! undoes it on both sides.

mod credential;
pub mod leave;
mod manifests;
mod url;

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::version::Info;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::DeserializeGuard;
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, Config, ResourceExt};
use portolan_api::YamlError;
use portolan_api::contract::AGENT;
use portolan_api::kinds::Cluster;
use portolan_model::id::tenant_namespace;
use portolan_source::member::{Taken, member_of, taken};
use serde_json::Value;

pub use self::credential::{Credential, credential};
pub use self::manifests::manifests;
pub use self::url::{Url, UrlError};
use crate::refusal::Refusal;
use crate::version::{TooOld, check_member};

/// Opening a connection takes no longer.
const CONNECT: Duration = Duration::from_secs(10);
/// Nor does an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// Who applies manifests in member clusters.
const MANAGER: &str = "portolan-join";

/// Why a cluster cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A kubeconfig.
    #[error("cannot use the kubeconfig{}", shown(.0.as_ref()))]
    Kubeconfig(Option<PathBuf>, #[source] Box<KubeconfigError>),
    /// What a kubeconfig says.
    #[error("cannot talk to {0}")]
    Connect(String, #[source] Refusal),
    /// A request.
    #[error("{0}")]
    Request(String, #[source] Refusal),
    /// The API server knows no `Cluster`s at all.
    #[error(
        "{0} serves no Clusters: Portolan is not installed there (deploy/docs/fleet.md), or it is not the LB cluster"
    )]
    NotInstalled(String),
    /// The API server does not know the token that the LB cluster made.
    #[error("the server at {0} does not take the token of the LB cluster: it is another one")]
    AnotherServer(String),
    /// The URL of a kubeconfig, as a member cluster is to use it.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Nobody declared that cluster.
    #[error("the LB cluster has no Cluster {cluster:?}{}; apply one first", known(.there))]
    NoCluster {
        /// Which.
        cluster: String,
        /// The clusters that there are.
        there: Vec<String>,
    },
    /// What the controller makes is not there.
    #[error("{what} is not there after {waited:?}: does `portolan controller` run in the LB cluster?")]
    NotProvisioned {
        /// What.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// What was deleted does not go.
    #[error(
        "still there after {waited:?}: {what}; `kubectl get -o yaml` says what holds it up, then do this again"
    )]
    NotGone {
        /// What.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Generated names that stay where they are.
    #[error("{count} of the statuses could not be written, so do this again")]
    Unwritten {
        /// How many.
        count: usize,
        /// Why the first one of them.
        #[source]
        first: Box<JoinError>,
    },
    /// The server handed out no token.
    #[error("the LB cluster made no token for the account {0}")]
    NoToken(String),
    /// The manifests that are built in.
    #[error("the manifests of the agent cannot be read")]
    Manifests(#[from] YamlError),
    /// The member cluster.
    #[error(transparent)]
    TooOld(#[from] TooOld),
}

fn shown(file: Option<&PathBuf>) -> String {
    file.map(|file| format!(" {}", file.display())).unwrap_or_default()
}

fn known(there: &[String]) -> String {
    if there.is_empty() { String::new() } else { format!(" (it has {})", there.join(", ")) }
}

/// An API server, as a person reaches it.
pub struct Server {
    client: Client,
    url: String,
    /// PEM, base64: what the server's certificate is verified against. The machine's own trust store without.
    authority: Option<Vec<u8>>,
}

impl Server {
    /// By which URL it is reached, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The one that a kubeconfig says; without, that of `$KUBECONFIG` or `~/.kube/config`.
    pub async fn of(kubeconfig: Option<PathBuf>, context: Option<String>) -> Result<Self, JoinError> {
        let wrong = |error| JoinError::Kubeconfig(kubeconfig.clone(), Box::new(error));
        let read = kubeconfig.as_ref().map_or_else(Kubeconfig::read, Kubeconfig::read_from).map_err(wrong)?;
        let authority = credential::authority(&read, context.as_deref());
        let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        let mut config = Config::from_custom_kubeconfig(read, &options).await.map_err(wrong)?;
        // The library's client tries again what a busy server refuses.
        config.connect_timeout = Some(CONNECT);
        (config.read_timeout, config.reset_reader_on_write) = (Some(ANSWER), true);
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        match Client::try_from(config) {
            Ok(client) => Ok(Self { client, url, authority }),
            Err(error) => Err(JoinError::Connect(url, error.into())),
        }
    }

    /// The names of its `Cluster`s; the first of them, where they are many.
    pub async fn clusters(&self) -> Result<Vec<String>, JoinError> {
        let clusters = Api::<DeserializeGuard<Cluster>>::all(self.client.clone());
        let listed = clusters.list_metadata(&ListParams::default().limit(20)).await;
        let wrong = |error| {
            JoinError::Request(format!("cannot list the Clusters of {}", self.url), Refusal::from(error))
        };
        Ok(listed.map_err(wrong)?.iter().map(ResourceExt::name_any).collect())
    }

    /// Which other member cluster is served as that `Cluster` of this LB cluster, if one is alive.
    pub async fn taken(&self, cluster: &str, member: &Server) -> Result<Option<Taken>, JoinError> {
        let wrong = |what: String| move |error| JoinError::Request(what, Refusal::from(error));
        let found = member_of(&member.client).await;
        let Some(found) = found.map_err(wrong(format!("cannot tell which cluster {} is", member.url)))?
        else {
            return Ok(None);
        };
        let leases = Api::<Lease>::namespaced(self.client.clone(), &tenant_namespace(cluster));
        let lease = leases.get_opt(AGENT).await;
        let lease =
            lease.map_err(wrong(format!("cannot read the Lease of Cluster {cluster} of {}", self.url)))?;
        Ok(lease.and_then(|lease| taken(&lease, cluster, &found, Timestamp::now())))
    }

    /// Applies manifests there, in their order, by server-side apply. What each is called is told as it is done.
    pub async fn apply(&self, manifests: &[Value], mut done: impl FnMut(&str)) -> Result<(), JoinError> {
        let info: Info = self.client.apiserver_version().await.map_err(|error| {
            JoinError::Request(format!("{} does not say its version", self.url), error.into())
        })?;
        check_member(&info)?;
        for manifest in manifests {
            let text = |path: &str| manifest.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
            let what = format!("{kind} {name}");
            let wrong = |error| JoinError::Request(format!("cannot apply {what}"), Refusal::from(error));
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let kind = GroupVersionKind::gvk(group, version, kind);
            let (resource, capabilities) = pinned_kind(&self.client, &kind).await.map_err(wrong)?;
            let objects: Api<DynamicObject> = match capabilities.scope {
                Scope::Cluster => Api::all_with(self.client.clone(), &resource),
                Scope::Namespaced => {
                    Api::namespaced_with(self.client.clone(), text("/metadata/namespace"), &resource)
                }
            };
            let params = PatchParams::apply(MANAGER).force();
            objects.patch(name, &params, &Patch::Apply(manifest)).await.map_err(wrong)?;
            done(&what);
        }
        Ok(())
    }
}
