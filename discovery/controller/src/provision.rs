//! Makes what the clusters need, and makes it again where somebody changed it.
//!
//! ```text
//!  Clusters, the objects made for them (metadata) ─► queue of clusters ─► server-side apply, in the order of Tenant
//! ```
//!
//! Whatever happens to an object of ours has its cluster applied again; a quiet cluster is applied every ten minutes all the same, for
//! what is not watched. What is as it should be costs the API server a comparison and no write. Removal is the garbage
//! collector's: everything is owned by the `Cluster`.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{BoxStream, SelectAll, StreamExt};
use ipnet::IpNet;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use portolan_api::contract::{CONTROLLER, MANAGED_BY_LABEL};
use portolan_api::kinds::Cluster;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admission::{POLICY, policy};
use crate::figures::Figures;
use crate::queue::Queue;
use crate::refusal::Refusal;
use crate::tenant::{CLUSTER_LABEL, QUOTA, Tenant, counts_ours, quota_of_system, tenant};
use crate::watches::steady;

/// From an event to what is done about it: others of the same cluster come with it.
const SETTLE: Duration = Duration::from_millis(100);
/// Every cluster is applied again after so long.
const AGAIN: Duration = Duration::from_secs(600);
/// The first wait after a failure; it doubles.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait is `RETRY` times two to this power.
const RETRY_DOUBLINGS: u32 = 6;
/// Clusters that are applied at a time.
const AT_ONCE: usize = 4;
/// What a request may take.
const REQUEST: Duration = Duration::from_secs(5);

/// What is to be applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Job {
    /// To find out whether quotas can count our kinds.
    Quota,
    /// The policy that holds for all.
    Policy,
    /// The objects of a cluster.
    Cluster(String),
}

enum News {
    Cluster(Box<Event<DeserializeGuard<Cluster>>>),
    /// Something happened to an object that was made for a cluster, or for all.
    Owned(Job),
    /// The namespace of a cluster is gone.
    NoNamespace(String),
    /// A watch began anew: anything may have happened.
    Anything,
}

/// Does so until it is dropped. `reserved` are the ranges that the LB cluster has for itself.
pub(crate) async fn provision(
    client: Client,
    system: String,
    mut reserved: watch::Receiver<Arc<[IpNet]>>,
    figures: Arc<Figures>,
) {
    let mut clusters: HashMap<String, Arc<Cluster>> = HashMap::new();
    let mut queue = Queue::default();
    let mut failures: HashMap<Job, u32> = HashMap::new();
    let mut news = watches(&client);
    let mut under_way = JoinSet::new();
    queue.mark(&Job::Policy, Instant::now());
    let mut counted = count(&client, &system).await.unwrap_or_else(|error| {
        let error = Refusal::from(error);
        tracing::warn!(%error, "cannot find out whether quotas count load balancers; asked again soon");
        false
    });
    if !counted {
        queue.mark(&Job::Quota, Instant::now() + RETRY);
    }
    // Whether the policy stands: clusters are bound to it.
    let mut stands = false;
    loop {
        let now = Instant::now();
        while under_way.len() < AT_ONCE
            && let Some(job) = queue.pop(now)
        {
            let (client, job_again) = (client.clone(), job.clone());
            match &job {
                Job::Quota => {
                    let system = system.clone();
                    under_way.spawn(async move { (job_again, count(&client, &system).await) });
                }
                Job::Policy => {
                    let policy = policy(&reserved.borrow_and_update());
                    under_way
                        .spawn(async move { (job_again, apply_all(&client, &policy).await.map(|_| true)) });
                }
                Job::Cluster(_) if !stands => queue.mark(&job, now + SETTLE),
                Job::Cluster(name) => {
                    let Some(tenant) =
                        clusters.get(name).and_then(|cluster| tenant(cluster, &system, counted))
                    else {
                        continue;
                    };
                    under_way.spawn(async move { (job_again, apply(&client, &tenant).await) });
                }
            }
        }
        let room = under_way.len() < AT_ONCE;
        let next = queue.next().filter(|_| room).map(tokio::time::Instant::from_std);
        tokio::select! {
            news = news.next() => match news {
                Some(News::Cluster(event)) => take_in(*event, &mut clusters, &mut queue),
                Some(News::Owned(job)) => queue.mark(&job, Instant::now() + SETTLE),
                Some(News::NoNamespace(name)) => {
                    let cluster = clusters.get(&name);
                    if cluster.is_some_and(|cluster| cluster.metadata.deletion_timestamp.is_none()) {
                        tracing::warn!(
                            cluster = name,
                            "its namespace was deleted, with its credential and all that it brought: it is made anew, and the cluster has to join again"
                        );
                    }
                    queue.mark(&Job::Cluster(name), Instant::now() + SETTLE);
                }
                Some(News::Anything) => {
                    all(&clusters).for_each(|job| queue.mark(&job, Instant::now() + SETTLE));
                }
                None => return,
            },
            Some(done) = under_way.join_next() => {
                // One that panicked is told by the runtime, and comes again with the next event.
                let Ok((job, result)) = done else { continue };
                figures.provisioned(result.is_ok());
                let wait = match result {
                    Ok(true) => {
                        failures.remove(&job);
                        stands |= job == Job::Policy;
                        if job == Job::Quota {
                            counted = true;
                            all(&clusters).for_each(|job| queue.mark(&job, Instant::now()));
                        }
                        AGAIN
                    }
                    refused => {
                        if let Err(error) = refused {
                            let error = Refusal::from(error);
                            tracing::warn!(?job, %error, "cannot apply what is needed");
                        }
                        let failed = failures.entry(job.clone()).or_default();
                        // Quotas count a new kind within half a minute, and clusters wait for that.
                        let longest = if job == Job::Quota { 2 } else { RETRY_DOUBLINGS };
                        let wait = RETRY * 2_u32.pow((*failed).min(longest));
                        *failed = (*failed + 1).min(RETRY_DOUBLINGS);
                        wait
                    }
                };
                if job != Job::Quota || !counted {
                    queue.mark(&job, Instant::now() + wait);
                }
            }
            changed = reserved.changed() => match changed {
                Ok(()) => queue.mark(&Job::Policy, Instant::now()),
                Err(_) => return,
            },
            () = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

fn all(clusters: &HashMap<String, Arc<Cluster>>) -> impl Iterator<Item = Job> {
    clusters.keys().map(|name| Job::Cluster(name.clone()))
}

/// Whether quotas can count our kinds. A quota is looked at when it is made: one that could not be counted is made anew.
async fn count(client: &Client, system: &str) -> kube::Result<bool> {
    let quotas = Api::<ResourceQuota>::namespaced(client.clone(), system);
    match quotas.get_opt(QUOTA).await? {
        Some(quota) if counts_ours(&quota) => return Ok(true),
        Some(_) => drop(quotas.delete(QUOTA, &DeleteParams::default()).await?),
        None => {}
    }
    apply_in(client, &quota_of_system(system)).await.map(|_| false)
}

/// What is known of the clusters now, and which is to be applied.
fn take_in(
    event: Event<DeserializeGuard<Cluster>>,
    clusters: &mut HashMap<String, Arc<Cluster>>,
    queue: &mut Queue<Job>,
) {
    match event {
        Event::Apply(DeserializeGuard(Ok(cluster))) | Event::InitApply(DeserializeGuard(Ok(cluster))) => {
            let name = cluster.name_any();
            let identity = |cluster: &Cluster| {
                let ObjectMeta { uid, generation, deletion_timestamp, .. } = &cluster.metadata;
                (uid.clone(), *generation, deletion_timestamp.is_some())
            };
            // Its status changes every minute; nothing of that matters here.
            let same = clusters.get(&name).is_some_and(|known| identity(known) == identity(&cluster));
            if !same {
                queue.mark(&Job::Cluster(name.clone()), Instant::now());
                clusters.insert(name, Arc::new(cluster));
            }
        }
        Event::Apply(DeserializeGuard(Err(error))) | Event::InitApply(DeserializeGuard(Err(error))) => {
            let name = error.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!(cluster = name, %error, "the Cluster cannot be read; it is left as it is");
        }
        Event::Delete(cluster) => {
            let name = cluster.name_any();
            queue.remove(&Job::Cluster(name.clone()));
            clusters.remove(&name);
        }
        // One that went unseen stays known until then: its objects refuse to be applied again, being owned by what is gone.
        Event::Init => clusters.clear(),
        Event::InitDone => {}
    }
}

fn watches(client: &Client) -> SelectAll<BoxStream<'static, News>> {
    let mut all = SelectAll::new();
    let clusters = Api::<DeserializeGuard<Cluster>>::all(client.clone());
    let clusters = steady("Clusters", watcher(clusters, watcher::Config::default()));
    all.push(clusters.map(|event| News::Cluster(Box::new(event))).boxed());
    all.push(owned::<Namespace>(client));
    all.push(owned::<ServiceAccount>(client));
    all.push(owned::<RoleBinding>(client));
    all.push(owned::<ClusterRole>(client));
    all.push(owned::<ClusterRoleBinding>(client));
    all.push(owned::<ValidatingAdmissionPolicy>(client));
    all.push(owned::<ValidatingAdmissionPolicyBinding>(client));
    all
}

/// What happens to the objects of that kind that were made here.
fn owned<K>(client: &Client) -> BoxStream<'static, News>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={CONTROLLER}"));
    let objects = Api::<PartialObjectMeta<K>>::all(client.clone());
    let news = steady(K::kind(&()), watcher(objects, config)).filter_map(|event| {
        std::future::ready(match event {
            Event::Apply(object) => job(&object.metadata).map(News::Owned),
            Event::Delete(object) => job(&object.metadata).map(|job| match job {
                Job::Cluster(cluster) if K::kind(&()) == "Namespace" => News::NoNamespace(cluster),
                job => News::Owned(job),
            }),
            Event::InitDone => Some(News::Anything),
            Event::Init | Event::InitApply(_) => None,
        })
    });
    news.boxed()
}

fn job(meta: &ObjectMeta) -> Option<Job> {
    if meta.name.as_deref() == Some(POLICY) {
        return Some(Job::Policy);
    }
    meta.labels.as_ref()?.get(CLUSTER_LABEL).cloned().map(Job::Cluster)
}

/// Applies all of it, in its order. Not while the namespace is on its way out, which takes nothing any more: it is made anew once it is gone.
async fn apply(client: &Client, tenant: &Tenant) -> kube::Result<bool> {
    if apply_all(client, &tenant.namespace).await?.metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    apply_all(client, &tenant.admission).await?;
    apply_in(client, &tenant.quota).await?;
    apply_in(client, &tenant.account).await?;
    apply_in(client, &tenant.lease).await?;
    apply_all(client, &tenant.cluster_role).await?;
    apply_in(client, &tenant.reader).await?;
    apply_all(client, &tenant.cluster_binding).await?;
    apply_in(client, &tenant.writer).await.map(|_| true)
}

async fn apply_all<K>(client: &Client, object: &K) -> kube::Result<K>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + Debug,
{
    server_side(Api::all(client.clone()), object).await
}

async fn apply_in<K>(client: &Client, object: &K) -> kube::Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + Debug,
{
    let namespace = object.meta().namespace.clone().unwrap_or_default();
    server_side(Api::namespaced(client.clone(), &namespace), object).await
}

async fn server_side<K>(api: Api<K>, object: &K) -> kube::Result<K>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug,
{
    let params = PatchParams::apply(CONTROLLER).force();
    let name = object.name_any();
    let patch = Patch::Apply(object);
    match tokio::time::timeout(REQUEST, api.patch(&name, &params, &patch)).await {
        Ok(applied) => applied,
        Err(late) => Err(kube::Error::Service(Box::new(late))),
    }
}
