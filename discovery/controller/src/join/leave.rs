//! What has to go when a cluster leaves the fleet, on both sides?
//!
//! ```text
//!  LB cluster:      Cluster ─► its namespace, account, rights and policy, which are owned by it
//!  member cluster:  agent ─► node ports of its own ─► names in statuses ─► its namespace, rights and class
//! ```
//!
//! The LB cluster comes first: hosts that other clusters serve too go on there from then on, and requests under way still find the node ports,
//! which go last. Each half may be done alone, and again: what is not there is passed over. Of the member cluster nothing goes but what
//! the agent made, or was made for it.

use std::fmt;
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, IngressLoadBalancerIngress};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::{Client, Resource, ResourceExt};
use portolan_api::contract::{AGENT, CREDENTIAL, MANAGED_BY_LABEL};
use portolan_api::kinds::Cluster;
use portolan_model::id::tenant_namespace;
use portolan_model::naming;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{JoinError, MANAGER, Server};
use crate::refusal::Refusal;
use crate::tenant::cluster_wide;

/// So long what is being deleted is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// From the end of the `Cluster` to that of the node ports: requests that proxies sent there end meanwhile.
pub const GRACE: Duration = Duration::from_secs(10);
/// An agent that was told to end and did not renew its `Lease` for so long writes no more, though its pod stays: its node is gone, say.
const SILENT: Duration = Duration::from_secs(30);
/// What of the agent has which label, by its chart and by `portolan join`.
const NAME_LABEL: &str = "app.kubernetes.io/name";
/// What companions are called after their `Service`.
const COMPANION: &str = "-portolan";
/// The longest that a `Service` may be called.
const LABEL: usize = 63;
/// Tries to write a status that somebody else writes too.
const TRIES: usize = 5;

/// As which `Cluster` a member cluster has joined, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The name of its `Cluster`.
    pub cluster: String,
    /// The URL of the LB cluster's API server.
    pub server: String,
}

impl Membership {
    /// Whether it is that cluster of the LB cluster at that URL; of any LB cluster without one. The name alone says little: two LB clusters
    /// may each have a `Cluster` of it.
    pub fn is(&self, cluster: &str, server: Option<&str>) -> bool {
        self.cluster == cluster && server.is_none_or(|server| self.server == server)
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster {:?} of {}", self.cluster, self.server)
    }
}

impl Server {
    /// As what this cluster has joined, if it has.
    pub async fn membership(&self) -> Result<Option<Membership>, JoinError> {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), AGENT);
        let what = || format!("cannot read the Secret {AGENT}/{CREDENTIAL} of {}", self.url);
        let secret = secrets.get_opt(CREDENTIAL).await.map_err(failed(what()))?;
        Ok(secret.as_ref().and_then(membership))
    }

    /// Takes a cluster out of this LB cluster, and says whether there was anything of it. What goes is told as it does.
    pub async fn forget(&self, cluster: &str, mut gone: impl FnMut(&str)) -> Result<bool, JoinError> {
        let clusters = Api::<DeserializeGuard<Cluster>>::all(self.client.clone());
        match clusters.list_metadata(&ListParams::default().limit(1)).await {
            // Not the LB cluster: that nothing is there says nothing.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(JoinError::NotInstalled(self.url.clone()));
            }
            Ok(_) | Err(_) => {}
        }
        let mut left = made_for(&self.client, cluster).await?;
        let any = !left.is_empty();
        delete(&clusters, cluster, &DeleteParams::background()).await?;
        let begun = Instant::now();
        while !left.is_empty() {
            let still = made_for(&self.client, cluster).await?;
            left.iter().filter(|what| !still.contains(what)).for_each(|what| gone(what));
            left = still;
            if begun.elapsed() > PATIENCE {
                return Err(JoinError::NotGone { what: left.join(", "), waited: PATIENCE });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(any)
    }

    /// Takes away from this member cluster what it has of being that cluster. Between the end of the agent and that of the node ports
    /// `grace` passes. What goes is told as it does.
    pub async fn clear(
        &self,
        cluster: &str,
        grace: Duration,
        mut gone: impl FnMut(&str),
    ) -> Result<(), JoinError> {
        let client = &self.client;
        let deployments = Api::<Deployment>::namespaced(client.clone(), AGENT);
        let deleted = delete(&deployments, AGENT, &DeleteParams::background()).await?;
        stopped(client).await?;
        if deleted {
            gone(&format!("Deployment {AGENT}/{AGENT}"));
        }
        tokio::time::sleep(grace).await;
        companions(client, &mut gone).await?;
        statuses(client, cluster, &mut gone).await?;
        labelled::<IngressClass>(client, &mut gone).await?;
        labelled::<ClusterRoleBinding>(client, &mut gone).await?;
        labelled::<ClusterRole>(client, &mut gone).await?;
        // Last, since it says as what this cluster has joined: until then all this can be done again.
        let namespaces = Api::<Namespace>::all(client.clone());
        let what = format!("Namespace {AGENT}");
        if is_there(&namespaces, AGENT).await? {
            delete(&namespaces, AGENT, &DeleteParams::background()).await?;
            let begun = Instant::now();
            while is_there(&namespaces, AGENT).await? {
                if begun.elapsed() > PATIENCE {
                    return Err(JoinError::NotGone { what, waited: PATIENCE });
                }
                tokio::time::sleep(LOOK).await;
            }
            gone(&what);
        }
        Ok(())
    }
}

/// What there is of a cluster in the LB cluster.
async fn made_for(client: &Client, cluster: &str) -> Result<Vec<String>, JoinError> {
    let (namespace, wide) = (tenant_namespace(cluster), cluster_wide(cluster));
    let there = [
        named::<DeserializeGuard<Cluster>>(client, cluster).await?,
        named::<Namespace>(client, &namespace).await?,
        named::<ValidatingAdmissionPolicyBinding>(client, &wide).await?,
        named::<ClusterRole>(client, &wide).await?,
        named::<ClusterRoleBinding>(client, &wide).await?,
    ];
    Ok(there.into_iter().flatten().collect())
}

/// What an object is called, if it is there.
async fn named<K>(client: &Client, name: &str) -> Result<Option<String>, JoinError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let there = is_there(&Api::<K>::all(client.clone()), name).await?;
    Ok(there.then(|| format!("{} {name}", K::kind(&()))))
}

fn membership(secret: &Secret) -> Option<Membership> {
    let text = |key: &str| {
        let value = secret.data.as_ref()?.get(key)?;
        Some(std::str::from_utf8(&value.0).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
    };
    Some(Membership { cluster: text("cluster")?, server: text("server").unwrap_or_default() })
}

/// Waits until no agent writes any more.
async fn stopped(client: &Client) -> Result<(), JoinError> {
    let pods = Api::<Pod>::namespaced(client.clone(), AGENT);
    let leases = Api::<Lease>::namespaced(client.clone(), AGENT);
    let of_agent = ListParams::default().labels(&format!("{NAME_LABEL}={AGENT}"));
    let begun = Instant::now();
    let mut renewed = (None, begun);
    loop {
        let what = || format!("cannot list the pods of the namespace {AGENT}");
        let there = pods.list(&of_agent).await.map_err(failed(what()))?;
        if there.items.is_empty() {
            return Ok(());
        }
        let lease = leases.get_opt(AGENT).await.map_err(failed(format!("cannot read the Lease {AGENT}")))?;
        let version = lease.and_then(|lease| lease.metadata.resource_version);
        if renewed.0 != version {
            renewed = (version, Instant::now());
        } else if renewed.1.elapsed() > SILENT {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let names: Vec<_> = there.iter().map(ResourceExt::name_any).collect();
            let what = format!("the pods {} of the agent", names.join(", "));
            return Err(JoinError::NotGone { what, waited: PATIENCE });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Deletes the node ports that the agent made.
async fn companions(client: &Client, gone: &mut impl FnMut(&str)) -> Result<(), JoinError> {
    let labelled = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={AGENT}"));
    let all = Api::<Service>::all(client.clone());
    let all = all.list(&labelled).await.map_err(failed("cannot list Services".to_owned()))?;
    for service in all.items.into_iter().filter(is_companion) {
        let namespace = service.namespace().unwrap_or_default();
        let services = Api::<Service>::namespaced(client.clone(), &namespace);
        let same = Preconditions { uid: service.uid(), resource_version: None };
        let name = service.name_any();
        if delete(&services, &name, &DeleteParams::background().preconditions(same)).await? {
            gone(&format!("Service {namespace}/{name}"));
        }
    }
    Ok(())
}

/// A copy that somebody made of one under a name of their own is theirs.
fn is_companion(service: &Service) -> bool {
    let meta = &service.metadata;
    let mut owners =
        meta.owner_references.iter().flatten().filter(|owner| owner.kind == "Service").peekable();
    let Some(stem) = meta.name.as_deref().and_then(|name| name.strip_suffix(COMPANION)) else { return false };
    // A long name is cut and marked.
    let is_cut = |owner: &str| {
        let cut = stem.rsplit_once('-').filter(|_| owner.len() + COMPANION.len() > LABEL);
        cut.is_some_and(|(cut, _)| owner.starts_with(cut))
    };
    owners.peek().is_none() || owners.any(|owner| stem == owner.name || is_cut(&owner.name))
}

/// Takes the generated names of that cluster out of the statuses of `Ingress`es; what others wrote there stays.
async fn statuses(client: &Client, cluster: &str, gone: &mut impl FnMut(&str)) -> Result<(), JoinError> {
    let all = Api::<Ingress>::all(client.clone());
    let all = all.list(&ListParams::default()).await.map_err(failed("cannot list Ingresses".to_owned()))?;
    for mut ingress in all {
        let (namespace, name) = (ingress.namespace().unwrap_or_default(), ingress.name_any());
        let ingresses = Api::<Ingress>::namespaced(client.clone(), &namespace);
        let what = || format!("cannot write the status of Ingress {namespace}/{name}");
        for left in (0..TRIES).rev() {
            let Some(entries) = without_ours(&ingress, cluster) else { break };
            // The list is one piece to the API, so it is written only if nobody else wrote it in between.
            let patch = json!({
                "metadata": { "resourceVersion": ingress.resource_version() },
                "status": { "loadBalancer": { "ingress": entries } },
            });
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            match ingresses.patch_status(&name, &params, &Patch::Merge(&patch)).await {
                Ok(_) => {
                    gone(&format!("the name in the status of Ingress {namespace}/{name}"));
                    break;
                }
                Err(kube::Error::Api(status)) if status.code == 404 => break,
                Err(kube::Error::Api(status)) if status.code == 409 && left > 0 => {
                    let Some(now) = ingresses.get_opt(&name).await.map_err(failed(what()))? else { break };
                    ingress = now;
                }
                Err(error) => return Err(failed(what())(error)),
            }
        }
    }
    Ok(())
}

/// The entries of a status without generated names of that cluster; nothing where there are none of these.
fn without_ours(ingress: &Ingress, cluster: &str) -> Option<Vec<IngressLoadBalancerIngress>> {
    let (namespace, name) = (ingress.namespace()?, ingress.metadata.name.as_deref()?);
    let entries = ingress.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    let is_ours = |entry: &IngressLoadBalancerIngress| {
        let host = entry.hostname.as_deref().filter(|_| entry.ip.is_none());
        host.is_some_and(|host| naming::is_generated(host, cluster, &Ingress::kind(&()), &namespace, name))
    };
    let others: Vec<_> = entries.iter().filter(|entry| !is_ours(entry)).cloned().collect();
    (others.len() < entries.len()).then_some(others)
}

/// Deletes what was installed with the agent outside of its namespace.
async fn labelled<K>(client: &Client, gone: &mut impl FnMut(&str)) -> Result<(), JoinError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let objects = Api::<K>::all(client.clone());
    let of_agent = ListParams::default().labels(&format!("{NAME_LABEL}={AGENT}"));
    let kind = K::kind(&());
    let found = objects.list_metadata(&of_agent).await.map_err(failed(format!("cannot list {kind}s")))?;
    for object in found {
        let name = object.name_any();
        if delete(&objects, &name, &DeleteParams::background()).await? {
            gone(&format!("{kind} {name}"));
        }
    }
    Ok(())
}

/// Deletes an object, and says whether it was there. One that is another by now is none of ours.
async fn delete<K>(objects: &Api<K>, name: &str, params: &DeleteParams) -> Result<bool, JoinError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    match objects.delete(name, params).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(failed(format!("cannot delete {} {name}", K::kind(&())))(error)),
    }
}

async fn is_there<K>(objects: &Api<K>, name: &str) -> Result<bool, JoinError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let found = objects.get_metadata_opt(name).await;
    found.map(|found| found.is_some()).map_err(failed(format!("cannot read {} {name}", K::kind(&()))))
}

fn failed(what: String) -> impl FnOnce(kube::Error) -> JoinError {
    move |error| JoinError::Request(what, Refusal::from(error))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_credential_says_as_what_a_cluster_has_joined() {
        let secret = |data: Value| -> Secret { serde_json::from_value(json!({ "data": data })).unwrap() };
        let found = membership(&secret(json!({ "cluster": "cGFyaXM=", "server": "aHR0cHM6Ly9sYgo=" })));
        assert_eq!(found, Some(Membership { cluster: "paris".into(), server: "https://lb".into() }));
        for odd in [json!({}), json!({ "cluster": "" }), json!({ "cluster": "/w==" })] {
            assert_eq!(membership(&secret(odd.clone())), None, "{odd}");
        }
    }

    /// Regression: what bore the same name in another LB cluster counted as the same.
    #[test]
    fn a_cluster_is_known_by_its_name_and_its_lb_cluster() {
        let joined = Membership { cluster: "paris".into(), server: "https://prod".into() };
        for (cluster, server, expected) in [
            ("paris", Some("https://prod"), true),
            ("paris", Some("https://staging"), false),
            ("tokyo", Some("https://prod"), false),
            ("paris", None, true),
            ("tokyo", None, false),
        ] {
            assert_eq!(joined.is(cluster, server), expected, "{cluster} of {server:?}");
        }
        assert_eq!(joined.to_string(), "Cluster \"paris\" of https://prod");
    }

    #[test]
    fn only_our_own_name_leaves_a_status() {
        let ingress = |entries: Value| -> Ingress {
            serde_json::from_value(json!({
                "metadata": { "name": "web", "namespace": "shop" },
                "status": { "loadBalancer": { "ingress": entries } },
            }))
            .unwrap()
        };
        let (ours, older) = (
            json!({ "hostname": "web.paris.lb.example.net" }),
            json!({ "hostname": "web.paris.old.example" }),
        );
        let theirs = json!({ "ip": "192.0.2.7", "ports": [{ "port": 80, "protocol": "TCP" }] });
        let cloud = json!({ "hostname": "web.eu.cloud.example" });
        for (what, entries, left) in [
            ("ours", json!([ours]), Some(json!([]))),
            (
                "ours under an older domain, beside theirs",
                json!([theirs, older, ours]),
                Some(json!([theirs])),
            ),
            ("theirs", json!([theirs, cloud]), None),
            ("nothing", json!([]), None),
            ("of another cluster", json!([{ "hostname": "web.tokyo.lb.example.net" }]), None),
        ] {
            let found =
                without_ours(&ingress(entries), "paris").map(|left| serde_json::to_value(left).unwrap());
            assert_eq!(found, left, "{what}");
        }
        assert_eq!(without_ours(&Ingress::default(), "paris"), None);
    }

    #[test]
    fn only_what_the_agent_made_is_a_companion() {
        let long = "x".repeat(60);
        let owner = |name: &str| json!([{ "apiVersion": "v1", "kind": "Service", "name": name, "uid": "u" }]);
        for (name, owners, expected) in [
            ("web-portolan", owner("web"), true),
            ("web-portolan", owner("other"), false),
            ("my-copy", owner("web"), false),
            ("my-own", json!([]), false),
            ("left-portolan", json!([]), true),
            ("web-1-portolan", owner("web-12"), false),
            (&format!("{}-0123456789-portolan", &long[..43]), owner(&long), true),
        ] {
            let service: Service = serde_json::from_value(json!({
                "metadata": { "name": name, "namespace": "shop", "ownerReferences": owners },
            }))
            .unwrap();
            assert_eq!(is_companion(&service), expected, "{name}: {owners}");
        }
    }
}
