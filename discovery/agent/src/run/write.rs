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
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, Resource};
use portolan_api::Names;
use portolan_api::contract::AGENT;
use portolan_api::kinds::{HTTPLoadBalancer, NodeSet, UpstreamPool};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::chain;
use crate::keeper::{MemberId, Report, Write};
use crate::ledger::Outcome;
use crate::objects::{Body, Id, Kind, ReadBack, digest, metadata, version};
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
            let deletes = object.is_none();
            let done = tokio::time::timeout(LIMIT, companion(&clients.member, &key, object.as_deref())).await;
            (Target::Here(MemberId::Companion(key)), deletes, done)
        }
        Write::Status { key, version, entries } => {
            let done = tokio::time::timeout(LIMIT, status(&clients.member, &key, &version, &entries)).await;
            (Target::Here(MemberId::Status(key)), false, done)
        }
    };
    let report = match done {
        Ok(Ok(outcome)) => Report { outcome, reason: None },
        Ok(Err(error)) => report(&error),
        Err(_) => Report { outcome: Outcome::Unreachable, reason: Some("it does not answer".into()) },
    };
    (target, deletes, report)
}

async fn there(clients: &Clients, id: &Id, body: Option<Body>) -> kube::Result<Outcome> {
    let Some(body) = body else {
        let (client, namespace, name) = (&clients.lb, &clients.namespace, &*id.name);
        return match id.kind {
            Kind::NodeSet => delete::<NodeSet>(client, namespace, name).await,
            Kind::Secret => delete::<Secret>(client, namespace, name).await,
            Kind::Pool => delete::<UpstreamPool>(client, namespace, name).await,
            Kind::Slice => delete::<EndpointSlice>(client, namespace, name).await,
            Kind::LoadBalancer => delete::<HTTPLoadBalancer>(client, namespace, name).await,
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
        Body::Secret(key, _) => secret(clients, id, &key).await,
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
async fn secret(clients: &Clients, id: &Id, key: &Key) -> kube::Result<Outcome> {
    let secrets: Api<Secret> = Api::namespaced(clients.member.clone(), &key.namespace);
    let Some(found) = secrets.get_opt(&key.name).await? else { return Ok(Outcome::Void) };
    if read::secret(&found).is_none() {
        return Ok(Outcome::Void);
    }
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

async fn delete<K>(client: &Client, namespace: &str, name: &str) -> kube::Result<Outcome>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(Outcome::Done(None)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Outcome::Done(None)),
        Err(error) => Err(error),
    }
}

async fn companion(client: &Client, key: &Key, object: Option<&Service>) -> kube::Result<Outcome> {
    let Some(object) = object else { return delete::<Service>(client, &key.namespace, &key.name).await };
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
                408 | 429 | 500.. => Outcome::Failed,
                _ => Outcome::Refused,
            };
            (outcome, status.message.as_str().into())
        }
        kube::Error::SerdeError(_) => (Outcome::Failed, chain(error).into()),
        other => (Outcome::Unreachable, chain(other).into()),
    };
    Report { outcome, reason: Some(reason) }
}
