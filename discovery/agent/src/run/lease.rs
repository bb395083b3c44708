//! The sign of life in the LB cluster: a `Lease` with the agent's version, and with what is refused of its writes, which nobody would see there
//! otherwise.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use portolan_api::contract::{AGENT, REFUSED_ANNOTATION, VERSION_ANNOTATION};
use tokio::sync::watch;

use super::cause;
use crate::meta::metadata;

/// How often it is given, and for how long it counts.
const EVERY: Duration = Duration::from_secs(10);
const LASTS: i32 = 30;

/// Gives it, until it is aborted.
pub(super) async fn keep(
    client: Client,
    server: String,
    namespace: String,
    identity: String,
    refused: watch::Receiver<Option<String>>,
) {
    let leases: Api<Lease> = Api::namespaced(client, &namespace);
    let params = PatchParams::apply(AGENT).force();
    let mut failing = false;
    loop {
        let mut metadata = metadata(AGENT);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let refused = refused.borrow().clone().map(|refused| (REFUSED_ANNOTATION.to_owned(), refused));
        let version = (VERSION_ANNOTATION.to_owned(), version);
        metadata.annotations = Some(std::iter::once(version).chain(refused).collect());
        let spec = LeaseSpec {
            holder_identity: Some(identity.clone()),
            lease_duration_seconds: Some(LASTS),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        let lease = Lease { metadata, spec: Some(spec) };
        let written = tokio::time::timeout(EVERY, leases.patch(AGENT, &params, &Patch::Apply(&lease))).await;
        match written {
            Ok(Ok(_)) => failing = false,
            Ok(Err(error)) if !failing => {
                failing = true;
                tracing::warn!(%server, error = %cause(&error), "no sign of life can be given in the LB cluster");
            }
            Err(_) if !failing => {
                failing = true;
                tracing::warn!(%server, "no sign of life can be given in the LB cluster: it does not answer");
            }
            _ => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}
