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
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, IngressLoadBalancerIngress};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::{Client, Resource, ResourceExt};
use portolan_api::contract::{AGENT, CREDENTIAL, MANAGED_BY_LABEL};
use portolan_api::kinds::{Cluster, Proxy};
use portolan_model::id::{DEFAULT_PROXY, tenant_namespace};
use portolan_model::naming;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;

use super::{JoinError, MANAGER, Server};
use crate::refusal::Refusal;
use crate::tenant::cluster_wide;

/// So long what is being deleted is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// From the end of the agent to that of the node ports: requests that proxies sent there end meanwhile. It is kept whichever half was done
/// when, for nobody knows here since when the LB cluster sends nothing.
const GRACE: Duration = Duration::from_secs(10);
/// An agent that was told to end and did not renew its `Lease` for so long writes no more, though its pod stays: its node is gone, say.
const SILENT: Duration = Duration::from_secs(30);
/// What of the agent has which label, by its chart and by `portolan join`.
const NAME_LABEL: &str = "app.kubernetes.io/name";
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

    /// Takes a cluster out of this LB cluster. What goes is told to `gone` as it does, and to `stays` what bears the cluster's name, but is not
    /// the cluster's.
    pub async fn forget(
        &self,
        cluster: &str,
        mut gone: impl FnMut(&str),
        stays: impl FnMut(&String),
    ) -> Result<(), JoinError> {
        let clusters = Api::<DeserializeGuard<Cluster>>::all(self.client.clone());
        match clusters.list_metadata(&ListParams::default().limit(1)).await {
            // Not the LB cluster: that nothing is there says nothing.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(JoinError::NotInstalled(self.url.clone()));
            }
            Ok(_) | Err(_) => {}
        }
        let Made { its: mut left, others } = made_for(&self.client, cluster).await?;
        others.iter().for_each(stays);
        delete(&clusters, cluster, &DeleteParams::background()).await?;
        until_gone(async || {
            let still = made_for(&self.client, cluster).await?.its;
            left.iter().filter(|what| !still.contains(what)).for_each(|what| gone(what));
            left = still;
            Ok(left.clone())
        })
        .await
    }

    /// What the generated names of this LB cluster end in, if that is said.
    pub async fn lb_domain(&self) -> Result<Option<String>, JoinError> {
        let proxies = Api::<DeserializeGuard<Proxy>>::all(self.client.clone());
        let found = proxies.get_opt(DEFAULT_PROXY).await;
        let found = found.map_err(failed(format!("cannot read Proxy {DEFAULT_PROXY} of {}", self.url)))?;
        Ok(found.and_then(|found| found.0.ok()).map(|proxy| proxy.spec.lb_domain))
    }

    /// Takes away from this member cluster what it has of being that cluster: of the names under `domain`, the lb domain of today, those too that
    /// it had as another, for its agent may not have come to write them anew. What goes is told as it does.
    pub async fn clear(
        &self,
        cluster: &str,
        domain: Option<&str>,
        mut gone: impl FnMut(&str),
    ) -> Result<(), JoinError> {
        let client = &self.client;
        let deployments = Api::<Deployment>::namespaced(client.clone(), AGENT);
        let deleted = delete(&deployments, AGENT, &DeleteParams::background()).await?;
        stopped(client).await?;
        if deleted {
            gone(&format!("Deployment {AGENT}/{AGENT}"));
        }
        companions(client, &mut gone).await?;
        // Whatever becomes of statuses, the rest goes: they can be written again without it.
        let written = statuses(client, cluster, domain, &mut gone).await;
        labelled::<IngressClass>(client, &mut gone).await?;
        labelled::<ClusterRoleBinding>(client, &mut gone).await?;
        labelled::<ClusterRole>(client, &mut gone).await?;
        // Last, since it says as what this cluster has joined.
        let namespaces = Api::<Namespace>::all(client.clone());
        if delete(&namespaces, AGENT, &DeleteParams::background()).await? {
            until_gone(async || {
                Ok(named::<Namespace>(client, AGENT).await?.map(|(what, _)| what).into_iter().collect())
            })
            .await?;
            gone(&format!("Namespace {AGENT}"));
        }
        written
    }
}

/// Looks until nothing is found any more. A look that fails is not the last: what was begun is seen to its end.
async fn until_gone(mut look: impl AsyncFnMut() -> Result<Vec<String>, JoinError>) -> Result<(), JoinError> {
    let begun = Instant::now();
    loop {
        let failure = match look().await {
            Ok(left) if left.is_empty() => return Ok(()),
            Ok(left) => JoinError::NotGone { what: left.join(", "), waited: PATIENCE },
            Err(error) => error,
        };
        if begun.elapsed() > PATIENCE {
            return Err(failure);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What bears the name of a cluster in the LB cluster.
struct Made {
    /// Its `Cluster`, and what goes with that.
    its: Vec<String>,
    /// What a person made, or what lost its owner.
    others: Vec<String>,
}

async fn made_for(client: &Client, cluster: &str) -> Result<Made, JoinError> {
    let (namespace, wide) = (tenant_namespace(cluster), cluster_wide(cluster));
    let itself = named::<DeserializeGuard<Cluster>>(client, cluster).await?;
    let there = [
        named::<Namespace>(client, &namespace).await?,
        named::<ValidatingAdmissionPolicyBinding>(client, &wide).await?,
        named::<ClusterRole>(client, &wide).await?,
        named::<ClusterRoleBinding>(client, &wide).await?,
    ];
    let (owned, others): (Vec<_>, Vec<_>) =
        there.into_iter().flatten().partition(|(_, meta)| is_owned(meta, cluster));
    let what = |(what, _): (String, ObjectMeta)| what;
    Ok(Made {
        its: itself.into_iter().chain(owned).map(what).collect(),
        others: others.into_iter().map(what).collect(),
    })
}

/// Whether Kubernetes takes it away with the `Cluster`.
fn is_owned(meta: &ObjectMeta, cluster: &str) -> bool {
    meta.owner_references.iter().flatten().any(|owner| {
        owner.api_version.starts_with("portolan.dev/") && owner.kind == "Cluster" && owner.name == cluster
    })
}

/// What an object is called, and its metadata, if it is there.
async fn named<K>(client: &Client, name: &str) -> Result<Option<(String, ObjectMeta)>, JoinError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let what = format!("{} {name}", K::kind(&()));
    match Api::<K>::all(client.clone()).get_metadata_opt(name).await {
        Ok(found) => Ok(found.map(|found| (what, found.metadata))),
        Err(error) => Err(failed(format!("cannot read {what}"))(error)),
    }
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
    let mut renewed = (None, Instant::now());
    until_gone(async || {
        let failed_to_list = failed(format!("cannot list the pods of the namespace {AGENT}"));
        let there = pods.list(&of_agent).await.map_err(failed_to_list)?;
        if there.items.is_empty() {
            return Ok(Vec::new());
        }
        let lease = leases.get_opt(AGENT).await.map_err(failed(format!("cannot read the Lease {AGENT}")))?;
        let version = lease.and_then(|lease| lease.metadata.resource_version);
        if renewed.0 != version {
            renewed = (version, Instant::now());
        }
        let silent = renewed.1.elapsed() > SILENT;
        Ok(if silent {
            Vec::new()
        } else {
            there.iter().map(|pod| format!("Pod {AGENT}/{}", pod.name_any())).collect()
        })
    })
    .await
}

/// Deletes the node ports that the agent made.
async fn companions(client: &Client, gone: &mut impl FnMut(&str)) -> Result<(), JoinError> {
    let labelled = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={AGENT}"));
    let all = Api::<Service>::all(client.clone());
    let all = all.list(&labelled).await.map_err(failed("cannot list Services".to_owned()))?;
    let companions: Vec<_> = all.items.into_iter().filter(is_companion).collect();
    if !companions.is_empty() {
        tokio::time::sleep(GRACE).await;
    }
    for service in companions {
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

/// What has our label may also be a copy that somebody made of one.
fn is_companion(service: &Service) -> bool {
    let ObjectMeta { name, owner_references, .. } = &service.metadata;
    let owners = owner_references.iter().flatten().filter(|owner| owner.kind == "Service");
    let owners = owners.map(|owner| owner.name.as_str());
    name.as_deref().is_some_and(|name| naming::companion_owner(name, owners).is_some())
}

/// Takes the generated names of that cluster out of the statuses of `Ingress`es; what others wrote there stays. One that cannot be written
/// does not hold up the others.
async fn statuses(
    client: &Client,
    cluster: &str,
    domain: Option<&str>,
    gone: &mut impl FnMut(&str),
) -> Result<(), JoinError> {
    let all = Api::<Ingress>::all(client.clone());
    let all = all.list(&ListParams::default()).await.map_err(failed("cannot list Ingresses".to_owned()))?;
    let mut failures = Vec::new();
    for ingress in all {
        let what = format!(
            "the status of Ingress {}/{}",
            ingress.namespace().unwrap_or_default(),
            ingress.name_any()
        );
        match without_name(client, cluster, domain, ingress).await {
            Ok(true) => gone(&format!("the name in {what}")),
            Ok(false) => {}
            Err(error) => failures.push(failed(format!("cannot write {what}"))(error)),
        }
    }
    let count = failures.len();
    match failures.into_iter().next() {
        Some(first) => Err(JoinError::Unwritten { count, first: Box::new(first) }),
        None => Ok(()),
    }
}

/// Whether there was a name to be taken out.
async fn without_name(
    client: &Client,
    cluster: &str,
    domain: Option<&str>,
    mut ingress: Ingress,
) -> kube::Result<bool> {
    let (namespace, name) = (ingress.namespace().unwrap_or_default(), ingress.name_any());
    let ingresses = Api::<Ingress>::namespaced(client.clone(), &namespace);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let mut left = TRIES;
    while let Some(entries) = without_ours(&ingress, cluster, domain) {
        // The list is one piece to the API, so it is written only if nobody else wrote it in between.
        let patch = json!({
            "metadata": { "resourceVersion": ingress.resource_version() },
            "status": { "loadBalancer": { "ingress": entries } },
        });
        left -= 1;
        match ingresses.patch_status(&name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => return Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
            Err(kube::Error::Api(status)) if status.code == 409 && left > 0 => {
                let Some(now) = ingresses.get_opt(&name).await? else { return Ok(false) };
                ingress = now;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// The entries of a status without generated names of that cluster; nothing where there are none of these.
fn without_ours(
    ingress: &Ingress,
    cluster: &str,
    domain: Option<&str>,
) -> Option<Vec<IngressLoadBalancerIngress>> {
    let (namespace, name) = (ingress.namespace()?, ingress.metadata.name.as_deref()?);
    let entries = ingress.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    let is_ours = |entry: &IngressLoadBalancerIngress| {
        let host = entry.hostname.as_deref().filter(|_| entry.ip.is_none());
        let kind = Ingress::kind(&());
        host.is_some_and(|host| naming::is_generated_ever(host, cluster, domain, &kind, &namespace, name))
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

    /// Regression: a namespace that a person had made under the cluster's name was waited for until patience was over.
    #[test]
    fn only_what_the_cluster_owns_goes_with_it() {
        let owner = |version: &str, kind: &str, name: &str| json!([{ "apiVersion": version, "kind": kind, "name": name, "uid": "u" }]);
        for (owners, expected) in [
            (owner("portolan.dev/v1alpha1", "Cluster", "paris"), true),
            (owner("portolan.dev/v1alpha1", "Cluster", "tokyo"), false),
            (owner("cluster.x-k8s.io/v1beta1", "Cluster", "paris"), false),
            (owner("portolan.dev/v1alpha1", "Proxy", "paris"), false),
            (json!([]), false),
        ] {
            let meta: ObjectMeta = serde_json::from_value(json!({ "ownerReferences": owners })).unwrap();
            assert_eq!(is_owned(&meta, "paris"), expected, "{owners}");
        }
    }

    /// Regression: one answer that did not come ended it all halfway.
    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_is_not_the_last() {
        let broken = || JoinError::NotInstalled("https://lb".into());
        let mut looks = [Err(broken()), Ok(vec!["a".to_owned()]), Err(broken()), Ok(vec![])].into_iter();
        until_gone(async || looks.next().unwrap()).await.unwrap();
        assert!(looks.next().is_none());

        let begun = Instant::now();
        let error = until_gone(async || Err(broken())).await.unwrap_err();
        assert!(matches!(error, JoinError::NotInstalled(_)), "{error}");
        let error = until_gone(async || Ok(vec!["Namespace tenant-paris".to_owned()])).await.unwrap_err();
        assert!(error.to_string().contains("Namespace tenant-paris"), "{error}");
        assert!(begun.elapsed() >= 2 * PATIENCE);
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
        let before = json!({ "hostname": "web.tokyo.lb.example.net" });
        let another = json!({ "hostname": "edge.tokyo.lb.example.net" });
        let today = Some("lb.example.net");
        for (what, entries, domain, left) in [
            ("ours", json!([ours]), None, Some(json!([]))),
            (
                "ours under an older domain, beside theirs",
                json!([theirs, older, ours]),
                today,
                Some(json!([theirs])),
            ),
            ("theirs", json!([theirs, cloud]), today, None),
            ("nothing", json!([]), today, None),
            ("of another cluster, under a domain that is not known", json!([before]), None, None),
            ("of another cluster, under another domain", json!([before]), Some("example.net"), None),
            // Regression: after `join --replace` and `leave` it stayed for good.
            (
                "from when it was another cluster",
                json!([another, before, ours]),
                today,
                Some(json!([another])),
            ),
        ] {
            let found = without_ours(&ingress(entries), "paris", domain);
            assert_eq!(found.map(|left| serde_json::to_value(left).unwrap()), left, "{what}");
        }
        assert_eq!(without_ours(&Ingress::default(), "paris", today), None);
    }

    #[test]
    fn only_what_the_agent_made_is_a_companion() {
        let owner =
            |kind: &str, name: &str| json!([{ "apiVersion": "v1", "kind": kind, "name": name, "uid": "u" }]);
        for (name, owners, expected) in [
            ("web-portolan", owner("Service", "web"), true),
            ("web-portolan", owner("Service", "other"), false),
            ("left-portolan", json!([]), true),
            ("left-portolan", owner("Deployment", "other"), true),
            ("my-own", json!([]), false),
        ] {
            let service: Service = serde_json::from_value(json!({
                "metadata": { "name": name, "namespace": "shop", "ownerReferences": owners },
            }))
            .unwrap();
            assert_eq!(is_companion(&service), expected, "{name}: {owners}");
        }
    }
}
