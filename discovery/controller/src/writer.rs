//! Writes one status, and how fast they may follow each other.

use std::time::{Duration, Instant};

use k8s_openapi::serde::de::DeserializeOwned;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, NotUsed, Object};
use portolan_api::contract::CONTROLLER;
use portolan_api::kinds::{Cluster, HTTPLoadBalancer, NodeSet, Proxy, TrafficPolicy, UpstreamPool};
use portolan_model::id::{Kind, ObjectRef};
use serde_json::json;

use crate::refusal::Refusal;
use crate::status::{Outcome, Write};

/// What a write may take: less than is between the end of a leader's term and the beginning of another's.
const REQUEST: Duration = Duration::from_secs(3);

/// Objects of any of our kinds, but for what they say.
pub(crate) type AnyObject<S> = Object<NotUsed, S>;

/// How the API server calls a kind that has a status of ours.
pub(crate) fn api_resource(kind: Kind) -> Option<ApiResource> {
    match kind {
        Kind::Proxy => Some(ApiResource::erase::<Proxy>(&())),
        Kind::Cluster => Some(ApiResource::erase::<Cluster>(&())),
        Kind::HttpLoadBalancer => Some(ApiResource::erase::<HTTPLoadBalancer>(&())),
        Kind::UpstreamPool => Some(ApiResource::erase::<UpstreamPool>(&())),
        Kind::NodeSet => Some(ApiResource::erase::<NodeSet>(&())),
        Kind::TrafficPolicy => Some(ApiResource::erase::<TrafficPolicy>(&())),
        Kind::EndpointSlice | Kind::Secret | Kind::ConfigMap => None,
    }
}

/// The objects of a kind in the namespace of `id`, or all that have none.
fn api<S>(client: Client, id: &ObjectRef, resource: &ApiResource) -> Api<AnyObject<S>>
where
    S: Clone + DeserializeOwned + std::fmt::Debug,
{
    if id.namespace.is_empty() {
        Api::all_with(client, resource)
    } else {
        Api::namespaced_with(client, &id.namespace, resource)
    }
}

/// Writes a status by server-side apply.
pub(crate) async fn write(client: Client, write: &Write) -> Outcome {
    let Write { id, uid, standing } = write;
    let Some(resource) = api_resource(id.kind) else { return Outcome::Gone };
    let mut patch = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": &*id.name, "uid": &**uid},
        "status": standing,
    });
    if !id.namespace.is_empty() {
        patch["metadata"]["namespace"] = json!(&*id.namespace);
    }
    let objects = api::<NotUsed>(client, id, &resource);
    let params = PatchParams::apply(CONTROLLER).force();
    let patch = Patch::Apply(patch);
    match tokio::time::timeout(REQUEST, objects.patch_status(&id.name, &params, &patch)).await {
        Ok(Ok(_)) => Outcome::Written,
        // A conflict is one of identity: the field manager forces what it owns.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Outcome::Gone,
        Ok(Err(error)) => {
            let error = Refusal::from(error);
            tracing::warn!(object = %id, %error, "cannot write the status");
            Outcome::Failed
        }
        Err(_) => {
            tracing::warn!(object = %id, "cannot write the status: the API server does not answer");
            Outcome::Failed
        }
    }
}

/// At most so many in a second, and so many at once after a pause.
#[derive(Debug)]
pub(crate) struct Rate {
    between: Duration,
    burst: u32,
    /// When it would have no debts, if nothing more came.
    even_at: Instant,
}

impl Rate {
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        Self { between: Duration::from_secs(1) / per_second.max(1), burst, even_at: now }
    }

    /// When the next may be.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.even_at.checked_sub(self.between * self.burst)
    }

    /// Takes one, if there may be one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if self.next().is_some_and(|next| next > now) {
            return false;
        }
        self.even_at = self.even_at.max(now) + self.between;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_may_come_at_once_and_then_the_rate_holds() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut rate = Rate::new(10, 3, start);
        let taken = |rate: &mut Rate, millis| (0..10).filter(|_| rate.take(at(millis))).count();
        assert_eq!(taken(&mut rate, 0), 4, "three in advance and the one that is due");
        assert_eq!(taken(&mut rate, 50), 0);
        assert_eq!(rate.next(), Some(at(100)));
        assert_eq!(taken(&mut rate, 200), 2);
        assert_eq!(taken(&mut rate, 60_000), 4);
    }

    #[test]
    fn every_kind_with_a_status_has_a_name() {
        for kind in crate::status::KINDS {
            let resource = api_resource(kind).unwrap();
            assert_eq!((&*resource.kind, &*resource.api_version), (kind.as_str(), kind.api_version()));
        }
    }
}
