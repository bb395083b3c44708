use portolan_api::kinds::{ClusterLimits, ClusterSpec};
use serde_json::{Value, json};

use super::*;

fn cluster(limit: Option<u32>) -> Cluster {
    let limits = limit.map(|limit| ClusterLimits { load_balancers: Some(limit), ..ClusterLimits::default() });
    let mut cluster = Cluster::new("paris", ClusterSpec { limits, ..ClusterSpec::default() });
    cluster.metadata.uid = Some("uid-1".into());
    cluster
}

fn paris() -> Tenant {
    tenant(&cluster(None), "portolan-system", true).unwrap()
}

fn all(tenant: &Tenant) -> Vec<Value> {
    let Tenant { namespace, admission, quota, account, lease, cluster_role, reader, cluster_binding, writer } =
        tenant;
    [
        serde_json::to_value(namespace),
        serde_json::to_value(admission),
        serde_json::to_value(quota),
        serde_json::to_value(account),
        serde_json::to_value(lease),
        serde_json::to_value(cluster_role),
        serde_json::to_value(reader),
        serde_json::to_value(cluster_binding),
        serde_json::to_value(writer),
    ]
    .map(Result::unwrap)
    .into()
}

#[test]
fn everything_is_owned_by_the_cluster_and_says_whose_it_is() {
    for object in all(&paris()) {
        let meta = &object["metadata"];
        assert_eq!(meta["ownerReferences"][0]["uid"], "uid-1", "{object}");
        assert_eq!(meta["ownerReferences"][0]["name"], "paris", "{object}");
        // Two who apply the same label would take it from each other.
        let manager = if object["kind"] == "Lease" { Value::Null } else { json!(CONTROLLER) };
        assert_eq!(meta["labels"][MANAGED_BY_LABEL], manager, "{object}");
        assert_eq!(meta["labels"][CLUSTER_LABEL], "paris", "{object}");
        let namespaced = !matches!(
            object["kind"].as_str().unwrap(),
            "Namespace" | "ClusterRole" | "ClusterRoleBinding" | "ValidatingAdmissionPolicyBinding"
        );
        let namespace = namespaced.then_some("tenant-paris");
        assert_eq!(meta.get("namespace").and_then(Value::as_str), namespace, "{object}");
    }
}

#[test]
fn who_may_do_what() {
    let tenant = paris();
    let agent = json!([{"kind": "ServiceAccount", "name": "portolan-agent", "namespace": "tenant-paris"}]);
    let readers = json!([
        {"kind": "ServiceAccount", "name": "portolan-proxy", "namespace": "portolan-system"},
        {"kind": "ServiceAccount", "name": "portolan-controller", "namespace": "portolan-system"},
    ]);
    let value = |binding: &RoleBinding| serde_json::to_value(binding).unwrap();
    for (binding, role, subjects) in [
        (value(&tenant.writer), "portolan-tenant-agent", &agent),
        (value(&tenant.reader), "portolan-tenant-reader", &readers),
        (serde_json::to_value(&tenant.cluster_binding).unwrap(), "portolan-tenant-paris", &agent),
    ] {
        assert_eq!(binding["roleRef"]["name"], role);
        assert_eq!(binding["roleRef"]["kind"], "ClusterRole");
        assert_eq!(binding["subjects"], *subjects);
    }
    let rules = serde_json::to_value(&tenant.cluster_role.rules).unwrap();
    let expected = json!([{
        "apiGroups": ["portolan.dev"],
        "resources": ["clusters"],
        "resourceNames": ["paris"],
        "verbs": ["get", "list", "watch"],
    }]);
    assert_eq!(rules, expected);
}

#[test]
fn the_policy_is_bound_to_the_namespace_with_the_cluster_as_parameter() {
    let binding = serde_json::to_value(paris().admission).unwrap();
    let expected = json!({
        "policyName": "portolan-tenants",
        "paramRef": {"name": "paris", "parameterNotFoundAction": "Deny"},
        "matchResources": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tenant-paris"}}
        },
        "validationActions": ["Deny"],
    });
    assert_eq!(binding["spec"], expected);
}

#[test]
fn the_quota_is_a_wall_behind_the_limit() {
    for (limit, counted, expected) in [
        (None, true, Some("50000")),
        (Some(10), true, Some("120")),
        (Some(0), true, Some("100")),
        (Some(u32::MAX), true, Some("4294967295")),
        (Some(10), false, None),
    ] {
        let tenant = tenant(&cluster(limit), "portolan-system", counted).unwrap();
        let hard = tenant.quota.spec.unwrap().hard.unwrap();
        let load_balancers = hard.get("count/httploadbalancers.portolan.dev").map(|count| &*count.0);
        assert_eq!(load_balancers, expected, "{limit:?} {counted}");
        assert_eq!((&*hard["pods"].0, &*hard["services"].0), ("0", "0"));
    }
}

#[test]
fn quotas_count_our_kinds_once_they_say_how_many_there_are() {
    let mut quota = quota_of_system("portolan-system");
    assert!(!counts_ours(&quota));
    let used = |kinds: &[&str]| {
        let kinds = kinds.iter().map(|&kind| (kind.to_owned(), Quantity("0".into())));
        Some(k8s_openapi::api::core::v1::ResourceQuotaStatus { used: Some(kinds.collect()), hard: None })
    };
    quota.status = used(&OURS[..2]);
    assert!(!counts_ours(&quota));
    quota.status = used(&OURS);
    assert!(counts_ours(&quota));
}

#[test]
fn what_is_going_or_was_never_there_needs_nothing() {
    let mut going = cluster(None);
    going.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(tenant(&going, "portolan-system", true), None);
    let mut nameless = cluster(None);
    nameless.metadata.uid = None;
    assert_eq!(tenant(&nameless, "portolan-system", true), None);
}
