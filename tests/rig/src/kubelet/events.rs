//! What happens to pods, as Events that `kubectl describe` shows. Written beside everything else: nothing waits for them, and where many come at
//! once some are lost.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

/// How many may wait to be written.
const WAITING: usize = 256;

/// Whether something went well.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Normal,
    Warning,
}

/// Takes events.
#[derive(Clone, Debug)]
pub(crate) struct Events(mpsc::Sender<(Event, ObjectReference)>);

impl Events {
    /// Starts the task that writes them, which ends with the last of these.
    pub(crate) fn begin(client: Client, node: &str) -> Self {
        let (sender, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(WAITING);
        let reporter = Reporter { controller: "kubelet".to_owned(), instance: Some(node.to_owned()) };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            while let Some((event, about)) = waiting.recv().await {
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::debug!("an event was lost: {error}");
                }
            }
        });
        Self(sender)
    }

    /// Tells of something.
    pub(crate) fn tell(&self, about: ObjectReference, kind: Kind, reason: &str, note: &str) {
        let type_ = match kind {
            Kind::Normal => EventType::Normal,
            Kind::Warning => EventType::Warning,
        };
        let note = note.chars().take(1000).collect();
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: reason.to_owned(),
            secondary: None,
        };
        let _ = self.0.try_send((event, about));
    }
}
