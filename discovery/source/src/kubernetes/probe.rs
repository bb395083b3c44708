//! Does the API server answer, and is it one that we can talk to?
//!
//! Asked every five seconds, by its version, which every `ServiceAccount` may read. A watch says nothing while nothing happens:
//! only so is it known that what is in force is what is wanted.

use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::request;
use crate::version::check_version;

/// Between two questions.
const EVERY: Duration = Duration::from_secs(5);
/// The same while the server does not answer.
const AWAY: Duration = Duration::from_secs(1);
/// For an answer.
const ANSWER: Duration = Duration::from_secs(3);
/// The oldest minor version of Kubernetes 1 that will do.
const OLDEST: u32 = 29;
/// The answer is shorter.
const BODY: usize = 64 << 10;

/// What is known of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing yet.
    Unknown,
    /// It answers.
    Answers,
    /// It does not, or is none that we can talk to: since when, and why.
    Away { since: Instant, reason: String },
}

/// Asks until nobody listens any more. `outage` is told since when there was no answer, once there is one again.
pub(crate) async fn probe(
    client: Client,
    health: watch::Sender<Health>,
    outage: watch::Sender<Option<Instant>>,
) {
    loop {
        let began = Instant::now();
        let found = match timeout(ANSWER, version(&client)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {ANSWER:?}")),
        };
        let before = health.borrow().clone();
        let (now, pause) = match (found, before) {
            (Ok(()), before) => {
                if let Health::Away { since, .. } = before {
                    outage.send_replace(Some(since));
                }
                (Health::Answers, EVERY)
            }
            (Err(reason), Health::Away { since, .. }) => (Health::Away { since, reason }, AWAY),
            (Err(reason), _) => (Health::Away { since: began, reason }, AWAY),
        };
        if health.send(now).is_err() {
            return;
        }
        tokio::select! {
            () = sleep_until(began + pause) => {}
            () = health.closed() => return,
        }
    }
}

#[derive(Deserialize)]
struct Info {
    major: String,
    minor: String,
}

async fn version(client: &Client) -> Result<(), String> {
    let body = match request::get(client, "/version").await {
        Ok(body) => body,
        // It answers, which is the question; what may be read is for the watches to find out.
        Err(error) if matches!(error.status(), Some(401 | 403)) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let read = Limited::new(body, BODY).collect().await;
    let bytes = read.map_err(|error| request::shown(&error.to_string()))?.to_bytes();
    let info: Info = serde_json::from_slice(&bytes).map_err(|error| format!("its version: {error}"))?;
    check_version("it", &info.major, &info.minor, OLDEST).map_err(|error| error.to_string())
}
