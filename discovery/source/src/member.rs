//! Which member cluster is it that is known as a `Cluster`? Two that joined by one name would take each other's objects away.
//!
//! A cluster is known by the uid of its namespace `kube-system`, which lives as long as the cluster. The agent's `Lease` in the tenant namespace
//! says whose it is; while it is renewed, it is nobody else's.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use portolan_api::contract::MEMBER_ANNOTATION;

/// An agent that was silent for so long may be another's.
pub const SILENT: Duration = Duration::from_secs(60);

/// Another member cluster is there already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another member cluster is served as Cluster {cluster:?}: its agent {holder} was heard of {heard} s ago"
)]
pub struct Taken {
    cluster: String,
    holder: String,
    heard: i64,
}

/// Which cluster that is.
pub async fn member_of(client: &Client) -> kube::Result<Option<String>> {
    let namespaces = Api::<Namespace>::all(client.clone());
    Ok(namespaces.get_metadata("kube-system").await?.metadata.uid)
}

/// Whether, by the agent's `Lease` of a `Cluster`, another than `member` is it, silent or not, and when it was heard of last by its own clock. A
/// `Lease` that does not say whose it is is nobody's.
pub fn another(lease: &Lease, cluster: &str, member: &str, now: Timestamp) -> Option<(Taken, MicroTime)> {
    let whose = lease.metadata.annotations.as_ref()?.get(MEMBER_ANNOTATION)?;
    let spec = lease.spec.as_ref()?;
    let renewed = spec.renew_time.clone()?;
    (whose != member).then(|| {
        let taken = Taken {
            cluster: cluster.to_owned(),
            holder: spec.holder_identity.clone().unwrap_or_default(),
            heard: (now.as_second() - renewed.0.as_second()).max(0),
        };
        (taken, renewed)
    })
}

/// Whether another than `member` is it, and not silent as far as clocks agree.
pub fn taken(lease: &Lease, cluster: &str, member: &str, now: Timestamp) -> Option<Taken> {
    let (taken, _) = another(lease, cluster, member, now)?;
    let heard = u64::try_from(taken.heard).unwrap_or_default();
    (heard < SILENT.as_secs()).then_some(taken)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_cluster_is_taken_while_another_member_shows_signs_of_life() {
        let now = "2026-01-01T12:00:00Z".parse::<Timestamp>().unwrap();
        let lease = |annotations: Value, spec: Value| -> Lease {
            serde_json::from_value(json!({ "metadata": { "annotations": annotations }, "spec": spec }))
                .unwrap()
        };
        let renewed =
            |at: &str| json!({ "holderIdentity": "a-1", "renewTime": format!("2026-01-01T{at}.000000Z") });
        let theirs = json!({ MEMBER_ANNOTATION: "theirs" });
        for (what, lease, expected) in [
            ("alive", lease(theirs.clone(), renewed("11:59:57")), Some(3)),
            ("alive, by a clock that is ahead", lease(theirs.clone(), renewed("12:00:05")), Some(0)),
            ("silent", lease(theirs.clone(), renewed("11:59:00")), None),
            ("never heard of", lease(theirs, json!({})), None),
            ("ours", lease(json!({ MEMBER_ANNOTATION: "ours" }), renewed("11:59:57")), None),
            ("of an older agent", lease(json!({}), renewed("11:59:57")), None),
            ("made by the controller", lease(Value::Null, Value::Null), None),
        ] {
            let found = taken(&lease, "paris", "ours", now);
            assert_eq!(found.as_ref().map(|taken| taken.heard), expected, "{what}");
            if let Some(taken) = found {
                let said = taken.to_string();
                assert!(said.contains("\"paris\"") && said.contains("a-1"), "{said}");
            }
        }
    }
}
