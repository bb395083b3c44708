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
    supported(&info.major, &info.minor)
}

fn supported(major: &str, minor: &str) -> Result<(), String> {
    // Some vendors' minor versions end in a plus sign.
    let digits = minor.trim_end_matches(|c: char| !c.is_ascii_digit());
    match (major.parse::<u32>(), digits.parse::<u32>()) {
        (Ok(1), Ok(minor)) if minor < OLDEST => {
            Err(format!("it is Kubernetes 1.{minor}; 1.{OLDEST} or newer is required"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_servers_are_refused_in_a_sentence() {
        for (major, minor, fine) in [
            ("1", "28", false),
            ("1", "28+", false),
            ("1", "29", true),
            ("1", "36", true),
            ("2", "0", true),
            ("", "", true),
        ] {
            assert_eq!(supported(major, minor).is_ok(), fine, "{major}.{minor}");
        }
        let refusal = supported("1", "27+").unwrap_err();
        assert_eq!(refusal, "it is Kubernetes 1.27; 1.29 or newer is required");
    }
}
