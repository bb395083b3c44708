//! Carries out one write, and says how it ended.
//!
//! Everything is applied by server-side apply under one field manager, so that what others added to an object stays. No write takes longer
//! than [`LIMIT`].

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource};
use portolan_api::Names;
use portolan_api::contract::AGENT;
use portolan_api::kinds::{HTTPLoadBalancer, NodeSet, UpstreamPool};
use portolan_source::one_line;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::cause;
use crate::keeper::{MemberId, Report, Write};
use crate::ledger::Outcome;
use crate::meta::{digest, metadata, version};
use crate::objects::{Body, Id, Kind, ReadBack};
use crate::view::{Key, StatusEntry, read};

const LIMIT: Duration = Duration::from_secs(10);

/// What was written.
#[derive(Clone, Debug)]
pub(super) enum Target {
    There(Id),
    Here(MemberId),
}

/// Both clusters.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) member: Client,
    pub(super) lb: Client,
    /// Of this cluster, in the LB cluster.
    pub(super) namespace: String,
}

/// Writes.
pub(super) async fn write(clients: Clients, write: Write) -> (Target, bool, Report) {
    let (target, deletes, done) = match write {
        Write::LoadBalancer(id, body) => {
            let deletes = body.is_none();
            let done = tokio::time::timeout(LIMIT, there(&clients, &id, body)).await;
            (Target::There(id), deletes, done)
        }
        Write::Companion(key, object) => {
            let done = tokio::time::timeout(LIMIT, companion(&clients.member, &key, &object)).await;
            (Target::Here(MemberId::Companion(key)), false, done)
        }
        Write::NoCompanion(key, uid) => {
            // Somebody's own Service may have its name by now.
            let same = Preconditions { uid: Some(uid.into()), resource_version: None };
            let params = DeleteParams::background().preconditions(same);
            let services: Api<Service> = Api::namespaced(clients.member.clone(), &key.namespace);
            let done = tokio::time::timeout(LIMIT, delete(&services, &key.name, &params)).await;
            (Target::Here(MemberId::Companion(key)), true, done)
        }
        Write::Status { key, version, entries } => {
            let done = tokio::time::timeout(LIMIT, status(&clients.member, &key, &version, &entries)).await;
            (Target::Here(MemberId::Status(key)), false, done)
        }
    };
    let report = match done {
        Ok(Ok(Outcome::Unread)) => {
            let reason = Some("the API server of this cluster does not give it".into());
            Report { outcome: Outcome::Unread, reason }
        }
        Ok(Ok(outcome)) => Report { outcome, reason: None },
        Ok(Err(error)) => report(&error),
        Err(_) => Report { outcome: Outcome::Unreachable, reason: Some("it does not answer".into()) },
    };
    (target, deletes, report)
}

async fn there(clients: &Clients, id: &Id, body: Option<Body>) -> kube::Result<Outcome> {
    let Some(body) = body else {
        return match id.kind {
            Kind::NodeSet => gone::<NodeSet>(clients, id).await,
            Kind::Secret => gone::<Secret>(clients, id).await,
            Kind::Pool => gone::<UpstreamPool>(clients, id).await,
            Kind::Slice => gone::<EndpointSlice>(clients, id).await,
            Kind::LoadBalancer => gone::<HTTPLoadBalancer>(clients, id).await,
        };
    };
    match body {
        Body::NodeSet(spec) => {
            let mut object = NodeSet::new(&id.name, spec);
            object.metadata = metadata(&id.name);
            apply(clients, &id.name, &object).await
        }
        Body::Pool(spec) => {
            let mut object = UpstreamPool::new(&id.name, *spec);
            object.metadata = metadata(&id.name);
            apply(clients, &id.name, &object).await
        }
        Body::LoadBalancer(spec) => {
            let mut object = HTTPLoadBalancer::new(&id.name, *spec);
            object.metadata = metadata(&id.name);
            apply(clients, &id.name, &object).await
        }
        Body::Slice(body) => apply(clients, &id.name, &body.object(&id.name)).await,
        Body::Secret(key, content) => secret(clients, id, &key, content).await,
    }
}

async fn apply<K>(clients: &Clients, name: &str, object: &K) -> kube::Result<Outcome>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + ReadBack
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug,
{
    let api: Api<K> = Api::namespaced(clients.lb.clone(), &clients.namespace);
    let params = PatchParams::apply(AGENT).force();
    let written = api.patch(name, &params, &Patch::Apply(object)).await?;
    let found = written.found(&mut Names::default());
    Ok(Outcome::Done(found.map(|(_, found)| (found.digest, found.version))))
}

/// Certificates are not kept here: they are read when they are written.
async fn secret(clients: &Clients, id: &Id, key: &Key, content: u64) -> kube::Result<Outcome> {
    let secrets: Api<Secret> = Api::namespaced(clients.member.clone(), &key.namespace);
    let read = tokio::time::timeout(LIMIT / 2, secrets.get_opt(&key.name)).await;
    let found = match as_told(read.ok(), content) {
        Ok(found) => found,
        Err(outcome) => return Ok(outcome),
    };
    let mut data = found.data.unwrap_or_default();
    data.retain(|name, _| matches!(&**name, "tls.crt" | "tls.key"));
    let copy = Secret {
        metadata: metadata(&id.name),
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    apply(clients, &id.name, &copy).await
}

/// A `Secret` as the watch told of it, out of an answer of the member cluster, if there was one: its troubles are not those of the LB cluster,
/// and what is newer is told in a moment.
fn as_told(answer: Option<kube::Result<Option<Secret>>>, content: u64) -> Result<Secret, Outcome> {
    match answer {
        Some(Ok(Some(found))) => match read::secret(&found) {
            Some(read) if read == content => Ok(found),
            Some(_) => Err(Outcome::Late),
            None => Err(Outcome::Void),
        },
        Some(Ok(None)) => Err(Outcome::Void),
        // The agent may not read it: that takes a person.
        Some(Err(kube::Error::Api(status))) if status.code == 403 => Err(Outcome::Refused),
        Some(Err(_)) | None => Err(Outcome::Unread),
    }
}

async fn gone<K>(clients: &Clients, id: &Id) -> kube::Result<Outcome>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + Debug,
{
    let api: Api<K> = Api::namespaced(clients.lb.clone(), &clients.namespace);
    delete(&api, &id.name, &DeleteParams::background()).await
}

async fn delete<K>(api: &Api<K>, name: &str, params: &DeleteParams) -> kube::Result<Outcome>
where
    K: DeserializeOwned + Clone + Debug,
{
    match api.delete(name, params).await {
        Ok(_) => Ok(Outcome::Done(None)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Outcome::Done(None)),
        Err(error) => Err(error),
    }
}

async fn companion(client: &Client, key: &Key, object: &Service) -> kube::Result<Outcome> {
    let api: Api<Service> = Api::namespaced(client.clone(), &key.namespace);
    let params = PatchParams::apply(AGENT).force();
    let written = api.patch(&key.name, &params, &Patch::Apply(object)).await?;
    let revision = version(&written.metadata);
    let read = read::service(&written, &mut Names::default());
    Ok(Outcome::Done(read.companion.map(|companion| (companion.digest, revision))))
}

async fn status(client: &Client, key: &Key, known: &str, entries: &[StatusEntry]) -> kube::Result<Outcome> {
    let api: Api<Ingress> = Api::namespaced(client.clone(), &key.namespace);
    // The list is one piece to the API, so it is written only if nobody else wrote it in between.
    let patch = json!({
        "metadata": { "resourceVersion": known },
        "status": { "loadBalancer": { "ingress": entries } },
    });
    let params = PatchParams { field_manager: Some(AGENT.to_owned()), ..PatchParams::default() };
    match api.patch_status(&key.name, &params, &Patch::Merge(&patch)).await {
        Ok(written) => {
            let meta: &ObjectMeta = &written.metadata;
            let read = read::ingress(&written, &mut Names::default());
            Ok(Outcome::Done(Some((digest(&read.status), version(meta)))))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Outcome::Void),
        Err(error) => Err(error),
    }
}

fn report(error: &kube::Error) -> Report {
    let (outcome, reason) = match error {
        kube::Error::Api(status) => {
            let outcome = match status.code {
                409 => Outcome::Conflict,
                // The credential is not good any more; another may come.
                401 => Outcome::Unreachable,
                500 if is_too_large(&status.message) => Outcome::Refused,
                408 | 429 | 500.. => Outcome::Failed,
                _ => Outcome::Refused,
            };
            let reason = if status.code == 401 { cause(error) } else { status.message.clone() };
            (outcome, reason.into())
        }
        kube::Error::SerdeError(_) => (Outcome::Failed, one_line(error).into()),
        other => (Outcome::Unreachable, one_line(other).into()),
    };
    Report { outcome, reason: Some(reason) }
}

/// What etcd does not take comes as an internal error.
fn is_too_large(message: &str) -> bool {
    message.contains("request is too large") || message.contains("message larger than max")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: one object that etcd would not take held everything else up.
    #[test]
    fn what_is_too_large_is_refused() {
        for (code, message, expected) in [
            (500, "etcdserver: request is too large", Outcome::Refused),
            (
                500,
                "rpc error: code = ResourceExhausted desc = trying to send message larger than max",
                Outcome::Refused,
            ),
            (413, "Request entity too large", Outcome::Refused),
            (500, "etcdserver: leader changed", Outcome::Failed),
            (429, "later", Outcome::Failed),
            (401, "Unauthorized", Outcome::Unreachable),
            (409, "another", Outcome::Conflict),
        ] {
            let status = json!({ "status": "Failure", "code": code, "message": message, "reason": "x" });
            let error = kube::Error::Api(serde_json::from_value(status).unwrap());
            assert_eq!(report(&error).outcome, expected, "{message}");
        }
    }

    /// Regression: that the member cluster did not answer counted as if the LB cluster had not, and a certificate that was newer than the watch
    /// was written again and again until that had heard of it.
    #[test]
    fn a_certificate_is_written_as_it_was_told() {
        let secret = |kind: &str, key: &str| -> Secret {
            let data = json!({ "tls.crt": "Y2VydA==", "tls.key": key });
            serde_json::from_value(json!({ "type": kind, "data": data })).unwrap()
        };
        let tls = secret("kubernetes.io/tls", "a2V5");
        let content = read::secret(&tls).unwrap();
        let error = |code: u16| {
            let status = json!({ "status": "Failure", "code": code, "message": "no", "reason": "no" });
            kube::Error::Api(serde_json::from_value(status).unwrap())
        };
        for (answer, expected) in [
            (Some(Ok(Some(tls.clone()))), Ok(tls.clone())),
            (Some(Ok(Some(secret("kubernetes.io/tls", "bmV3")))), Err(Outcome::Late)),
            (Some(Ok(Some(secret("Opaque", "a2V5")))), Err(Outcome::Void)),
            (Some(Ok(None)), Err(Outcome::Void)),
            (Some(Err(error(503))), Err(Outcome::Unread)),
            (Some(Err(error(403))), Err(Outcome::Refused)),
            (None, Err(Outcome::Unread)),
        ] {
            assert_eq!(as_told(answer, content), expected);
        }
    }
}
