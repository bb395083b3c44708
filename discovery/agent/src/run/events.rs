//! Events in the member cluster.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use portolan_api::contract::AGENT;

use crate::notices::{About, Told};

/// The longest note that the API takes.
const NOTE: usize = 1024;

/// How long writing an event may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Who tells.
pub(super) fn recorder(client: Client, identity: &str) -> Recorder {
    Recorder::new(client, Reporter { controller: AGENT.to_owned(), instance: Some(identity.to_owned()) })
}

/// Tells of a refusal at an object; of what is about the whole cluster at the agent's own `Deployment`, in its namespace.
pub(super) async fn tell(recorder: Recorder, namespace: String, about: About, uid: Box<str>, told: Told) {
    let (reason, mut note) = (String::from(told.0), String::from(told.1));
    cut(&mut note);
    let (api_version, kind, namespace, name) = match about {
        About::Ingress(key) => {
            ("networking.k8s.io/v1", "Ingress", Some(key.namespace.to_string()), key.name.to_string())
        }
        About::Node(name) => ("v1", "Node", None, name.to_string()),
        About::Agent => ("apps/v1", "Deployment", Some(namespace), AGENT.to_owned()),
    };
    let object = format!("{kind} {}{name}", namespace.iter().map(|it| format!("{it}/")).collect::<String>());
    let reference = ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        namespace,
        name: Some(name),
        uid: Some(uid.into()).filter(|uid: &String| !uid.is_empty()),
        ..ObjectReference::default()
    };
    tracing::info!(%object, %reason, "{note}");
    let event = Event {
        type_: EventType::Warning,
        reason,
        note: Some(note),
        action: "Sync".to_owned(),
        secondary: None,
    };
    match tokio::time::timeout(LIMIT, recorder.publish(&event, &reference)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%object, %error, "an event could not be written"),
        Err(_) => tracing::debug!(%object, "an event could not be written in time"),
    }
}

/// Cuts a text to what the API takes as a note.
pub(super) fn cut(note: &mut String) {
    if note.len() > NOTE {
        note.truncate(note.floor_char_boundary(NOTE - 3));
        note.push_str("...");
    }
}
