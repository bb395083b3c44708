//! Events in the member cluster.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use portolan_api::contract::AGENT;

use super::{Options, cause};
use crate::notices::{About, Told};

/// The longest note that the API takes.
const NOTE: usize = 1024;

/// How long writing an event may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Who tells.
#[derive(Clone)]
pub(super) struct Teller {
    client: Client,
    reporter: Reporter,
    /// Where it tells what is about the whole cluster.
    agent: ObjectReference,
    /// Whether the last event could not be written.
    failing: Arc<AtomicBool>,
}

impl Teller {
    /// For an agent with those options.
    pub(super) fn new(client: Client, options: &Options) -> Self {
        let reporter = Reporter { controller: AGENT.to_owned(), instance: Some(options.identity.clone()) };
        Self {
            client,
            reporter,
            agent: agent(&options.namespace, &options.identity, options.pod_uid.as_deref()),
            failing: Arc::default(),
        }
    }

    /// Tells of a refusal at an object.
    pub(super) async fn tell(self, about: About, uid: Box<str>, told: Told) {
        let (reason, mut note) = (String::from(told.0), String::from(told.1));
        cut(&mut note);
        let uid = Some(uid.into()).filter(|uid: &String| !uid.is_empty());
        let reference = match about {
            About::Ingress(key) => ObjectReference {
                uid,
                ..reference("networking.k8s.io/v1", "Ingress", Some(&key.namespace), &key.name)
            },
            About::Node(name) => ObjectReference { uid, ..reference("v1", "Node", None, &name) },
            About::Agent => self.agent,
        };
        let object = [&reference.kind, &reference.namespace, &reference.name];
        let object = object.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("/");
        tracing::info!(%object, %reason, "{note}");
        let event = Event {
            type_: EventType::Warning,
            reason,
            note: Some(note),
            action: "Sync".to_owned(),
            secondary: None,
        };
        // A recorder counts what has the same reason as the same, whatever it says: one for each that is told.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        let error = match tokio::time::timeout(LIMIT, recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => return self.failing.store(false, Relaxed),
            Ok(Err(error)) => cause(&error),
            Err(_) => format!("no answer after {LIMIT:?}"),
        };
        // One line until one is written again.
        if self.failing.swap(true, Relaxed) {
            tracing::debug!(%object, %error, "an event could not be written");
        } else {
            tracing::warn!(%object, %error, "events cannot be written; what they would tell is in this log");
        }
    }
}

/// The agent's own pod. Where its uid is not known, the `Deployment` by its name alone: `kubectl describe` does not show what is told there.
fn agent(namespace: &str, identity: &str, pod_uid: Option<&str>) -> ObjectReference {
    match pod_uid {
        Some(uid) => {
            ObjectReference { uid: Some(uid.to_owned()), ..reference("v1", "Pod", Some(namespace), identity) }
        }
        None => reference("apps/v1", "Deployment", Some(namespace), AGENT),
    }
}

fn reference(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        namespace: namespace.map(str::to_owned),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

/// Cuts a text to what the API takes as a note.
pub(super) fn cut(note: &mut String) {
    if note.len() > NOTE {
        note.truncate(note.floor_char_boundary(NOTE - 3));
        note.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use kube::Config;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Regression: `kubectl describe` shows no events without the uid of what it describes.
    #[test]
    fn the_agent_is_known_by_its_pod() {
        let pod = agent("portolan-agent", "portolan-agent-x", Some("u-1"));
        assert_eq!(
            [pod.kind.as_deref(), pod.name.as_deref(), pod.uid.as_deref()],
            [Some("Pod"), Some("portolan-agent-x"), Some("u-1")]
        );
        let elsewhere = agent("portolan-agent", "laptop", None);
        assert_eq!([elsewhere.kind.as_deref(), elsewhere.name.as_deref()], [Some("Deployment"), Some(AGENT)]);
    }

    /// Regression: where the right to write events was missing, no line of the log said so.
    #[tokio::test]
    async fn events_that_are_not_written_are_a_streak() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
        let teller = Teller {
            client,
            reporter: AGENT.to_owned().into(),
            agent: agent("portolan-agent", "x", Some("u")),
            failing: Arc::default(),
        };
        let refused =
            r#"{"kind":"Status","status":"Failure","code":403,"reason":"Forbidden","message":"no"}"#;
        let written = r#"{"metadata":{},"eventTime":null}"#;
        for (status, body, failing) in [
            ("403 Forbidden", refused, true),
            ("403 Forbidden", refused, true),
            ("201 Created", written, false),
            // Regression: of one reason the second message was counted as the first again.
            ("201 Created", written, false),
        ] {
            let told = teller.clone().tell(About::Agent, "".into(), ("Reason".into(), status.into()));
            let answer = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"}") {
                    stream.read_buf(&mut request).await.unwrap();
                }
                assert!(request.starts_with(b"POST "), "{}", String::from_utf8_lossy(&request));
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
                );
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            };
            tokio::join!(told, answer);
            assert_eq!(teller.failing.load(Relaxed), failing, "{status}");
        }
    }
}
