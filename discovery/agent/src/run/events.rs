//! Events in the member cluster.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use portolan_api::contract::AGENT;

use crate::notices::Told;
use crate::view::Key;

/// The longest note that the API takes.
const NOTE: usize = 1024;

/// How long writing an event may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Who tells.
pub(super) fn recorder(client: Client, identity: &str) -> Recorder {
    Recorder::new(client, Reporter { controller: AGENT.to_owned(), instance: Some(identity.to_owned()) })
}

/// Tells of a refusal at an `Ingress`.
pub(super) async fn tell(recorder: Recorder, key: Key, uid: Box<str>, told: Told) {
    let (reason, mut note) = (String::from(told.0), String::from(told.1));
    if note.len() > NOTE {
        let cut = (0..=NOTE - 3).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        note.truncate(cut);
        note.push_str("...");
    }
    let reference = ObjectReference {
        api_version: Some("networking.k8s.io/v1".to_owned()),
        kind: Some("Ingress".to_owned()),
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        uid: Some(uid.into()),
        ..ObjectReference::default()
    };
    tracing::info!(ingress = %key, %reason, "{note}");
    let event = Event {
        type_: EventType::Warning,
        reason,
        note: Some(note),
        action: "Sync".to_owned(),
        secondary: None,
    };
    match tokio::time::timeout(LIMIT, recorder.publish(&event, &reference)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(ingress = %key, %error, "an event could not be written"),
        Err(_) => tracing::debug!(ingress = %key, "an event could not be written in time"),
    }
}
