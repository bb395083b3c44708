//! What does the LB cluster need for a member cluster? A `Cluster` to the objects that it owns.
//!
//! ```text
//!  Cluster ─► Namespace tenant-<c>: ServiceAccount, Lease, quota, bindings ─► the agent may write the synced kinds there
//!         └─► ClusterRole: read this Cluster          └─► the proxy and the controller may read its Secrets
//!         └─► admission binding (see crate::admission): where endpoints may lie
//! ```
//!
//! Pure. Everything is owned by the `Cluster`, so that the garbage collection of Kubernetes removes it with it; the namespace
//! takes with it whatever the tenant wrote, its account, and with that its credential.
//!
//! Invariant: nothing here lets a tenant write a status, a policy, or a namespace that is not its own, or read another's.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, ParamRef, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, ResourceQuotaSpec, ServiceAccount};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use portolan_api::contract::{AGENT, CONTROLLER, MANAGED_BY_LABEL, PROXY};
use portolan_api::kinds::Cluster;
use portolan_model::id::tenant_namespace;

use crate::admission;

/// The label that says which cluster an object was made for.
pub const CLUSTER_LABEL: &str = "portolan.dev/cluster";

/// The `ClusterRole` that says what an agent may do in its namespace: write the synced kinds, and nothing else. It is installed with the
/// controller, which may hand it out without having it.
pub const WRITER: &str = "portolan-tenant-agent";

/// The `ClusterRole` that lets the proxy and the controller read a tenant's `Secret`s and `ConfigMap`s.
pub const READER: &str = "portolan-tenant-reader";

/// What a tenant may have of each synced kind, where its limits do not say less.
const CAP: u32 = 50_000;
/// What it may have beyond its limit of load balancers: those are refused one by one, with a condition; the quota is the wall behind.
const HEADROOM: u32 = 100;

/// The objects of one member cluster, in the order in which they are to be applied: what restricts comes before what permits.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    /// Its namespace.
    pub namespace: Namespace,
    /// Where its endpoints may lie.
    pub admission: ValidatingAdmissionPolicyBinding,
    /// How many objects it may have.
    pub quota: ResourceQuota,
    /// Its agent's account.
    pub account: ServiceAccount,
    /// Its agent's sign of life, for the agent to fill in.
    pub lease: Lease,
    /// That its agent may read its own `Cluster`.
    pub cluster_role: ClusterRole,
    /// That the proxy and the controller may read its `Secret`s and `ConfigMap`s.
    pub reader: RoleBinding,
    /// Binds `cluster_role`.
    pub cluster_binding: ClusterRoleBinding,
    /// That its agent may write the synced kinds.
    pub writer: RoleBinding,
}

/// What `cluster` needs, where the platform's own accounts live in the namespace `system`. `None` for a `Cluster` that was not
/// read from an API server, or is on its way out. `counted`: whether quotas can count our kinds already (see [`quota_of_system`]).
pub fn tenant(cluster: &Cluster, system: &str, counted: bool) -> Option<Tenant> {
    let name = cluster.metadata.name.as_deref()?;
    let uid = cluster.metadata.uid.clone()?;
    if cluster.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let about = About { cluster: name, uid, namespace: tenant_namespace(name) };
    Some(Tenant {
        namespace: about.namespace(),
        admission: about.admission(),
        quota: about.quota(cluster, counted),
        account: ServiceAccount {
            metadata: about.inside(AGENT),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        lease: about.lease(),
        cluster_role: ClusterRole {
            metadata: about.outside(cluster_wide(name)),
            rules: Some(vec![PolicyRule {
                api_groups: Some(vec!["portolan.dev".into()]),
                resources: Some(vec!["clusters".into()]),
                resource_names: Some(vec![name.to_owned()]),
                verbs: vec!["get".into(), "list".into(), "watch".into()],
                ..PolicyRule::default()
            }]),
            ..ClusterRole::default()
        },
        reader: RoleBinding {
            metadata: about.inside(READER),
            role_ref: role(READER),
            subjects: Some(vec![account(PROXY, system), account(CONTROLLER, system)]),
        },
        cluster_binding: ClusterRoleBinding {
            metadata: about.outside(cluster_wide(name)),
            role_ref: role(&cluster_wide(name)),
            subjects: Some(vec![account(AGENT, &about.namespace)]),
        },
        writer: RoleBinding {
            metadata: about.inside(WRITER),
            role_ref: role(WRITER),
            subjects: Some(vec![account(AGENT, &about.namespace)]),
        },
    })
}

/// The name of a cluster's objects outside of its namespace.
pub fn cluster_wide(cluster: &str) -> String {
    format!("portolan-{}", tenant_namespace(cluster))
}

struct About<'a> {
    cluster: &'a str,
    uid: String,
    namespace: String,
}

impl About<'_> {
    fn outside(&self, name: impl Into<String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            labels: Some(BTreeMap::from([
                (MANAGED_BY_LABEL.to_owned(), CONTROLLER.to_owned()),
                (CLUSTER_LABEL.to_owned(), self.cluster.to_owned()),
            ])),
            owner_references: Some(vec![OwnerReference {
                api_version: "portolan.dev/v1alpha1".into(),
                kind: "Cluster".into(),
                name: self.cluster.to_owned(),
                uid: self.uid.clone(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        }
    }

    fn inside(&self, name: &str) -> ObjectMeta {
        ObjectMeta { namespace: Some(self.namespace.clone()), ..self.outside(name) }
    }

    fn namespace(&self) -> Namespace {
        let mut metadata = self.outside(&self.namespace);
        let labels = metadata.labels.get_or_insert_default();
        // Nothing runs there.
        labels.insert("pod-security.kubernetes.io/enforce".into(), "restricted".into());
        Namespace { metadata, ..Namespace::default() }
    }

    /// The label of who manages it is the agent's, who manages it from its first sign of life on.
    fn lease(&self) -> Lease {
        let mut metadata = self.inside(AGENT);
        if let Some(labels) = &mut metadata.labels {
            labels.remove(MANAGED_BY_LABEL);
        }
        Lease { metadata, ..Lease::default() }
    }

    fn admission(&self) -> ValidatingAdmissionPolicyBinding {
        ValidatingAdmissionPolicyBinding {
            metadata: self.outside(cluster_wide(self.cluster)),
            spec: ValidatingAdmissionPolicyBindingSpec {
                policy_name: admission::POLICY.into(),
                param_ref: Some(ParamRef {
                    name: Some(self.cluster.to_owned()),
                    parameter_not_found_action: Some("Deny".into()),
                    ..ParamRef::default()
                }),
                match_resources: Some(MatchResources {
                    namespace_selector: Some(LabelSelector {
                        match_labels: Some(BTreeMap::from([(
                            "kubernetes.io/metadata.name".to_owned(),
                            self.namespace.clone(),
                        )])),
                        ..LabelSelector::default()
                    }),
                    ..MatchResources::default()
                }),
                validation_actions: vec!["Deny".into()],
            },
        }
    }

    fn quota(&self, cluster: &Cluster, counted: bool) -> ResourceQuota {
        let limits = cluster.spec.limits.as_ref();
        let limit = limits.and_then(|limits| limits.load_balancers);
        let load_balancers = limit.map_or(CAP, |limit| limit.saturating_mul(2).saturating_add(HEADROOM));
        let ours = OURS.into_iter().zip([load_balancers, CAP, 16]).filter(|_| counted);
        let others = [
            ("count/endpointslices.discovery.k8s.io", CAP),
            ("count/secrets", CAP),
            ("count/leases.coordination.k8s.io", 16),
            ("pods", 0),
            ("services", 0),
            ("persistentvolumeclaims", 0),
        ];
        quota(self.inside(QUOTA), ours.chain(others))
    }
}

/// What quotas are called.
pub(crate) const QUOTA: &str = "portolan";

/// How quotas call the kinds of ours that tenants write.
const OURS: [&str; 3] = [
    "count/httploadbalancers.portolan.dev",
    "count/upstreampools.portolan.dev",
    "count/nodesets.portolan.dev",
];

/// A quota in the platform's own namespace, where no tenant's objects belong. It tells whether quotas can count our kinds: Kubernetes
/// learns to count a new kind half a minute after its definition, and until then refuses every object of it where a quota asks.
pub fn quota_of_system(system: &str) -> ResourceQuota {
    let metadata = ObjectMeta {
        name: Some(QUOTA.into()),
        namespace: Some(system.to_owned()),
        labels: Some([(MANAGED_BY_LABEL.to_owned(), CONTROLLER.to_owned())].into()),
        ..ObjectMeta::default()
    };
    quota(metadata, OURS.into_iter().zip([0; 3]))
}

/// Whether a quota counts our kinds.
pub fn counts_ours(quota: &ResourceQuota) -> bool {
    let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
    used.is_some_and(|used| OURS.iter().all(|&kind| used.contains_key(kind)))
}

fn quota<'a>(metadata: ObjectMeta, hard: impl IntoIterator<Item = (&'a str, u32)>) -> ResourceQuota {
    let hard = hard.into_iter().map(|(name, count)| (name.to_owned(), Quantity(count.to_string()))).collect();
    ResourceQuota {
        metadata,
        spec: Some(ResourceQuotaSpec { hard: Some(hard), ..ResourceQuotaSpec::default() }),
        ..ResourceQuota::default()
    }
}

fn role(name: &str) -> RoleRef {
    RoleRef {
        api_group: Some("rbac.authorization.k8s.io".into()),
        kind: "ClusterRole".into(),
        name: name.to_owned(),
    }
}

fn account(name: &str, namespace: &str) -> Subject {
    Subject {
        kind: "ServiceAccount".into(),
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()),
        ..Subject::default()
    }
}

#[cfg(test)]
mod tests;
