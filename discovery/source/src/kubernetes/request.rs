//! Asking an API server, and what it says where it refuses.

use std::error::Error;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use tokio::time::timeout;

/// The head of an answer comes within this; of a list it may take a while.
pub(crate) const ANSWER: Duration = Duration::from_secs(15);
/// Of a refusal so much is read.
const REFUSAL: usize = 64 << 10;
/// Of what somebody else says so much is shown.
const SHOWN: usize = 300;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("{}", whole(.0))]
    Unreachable(kube::Error),
    #[error("no answer within {ANSWER:?}")]
    NoAnswer,
    #[error("{}", refused(.status, .message))]
    Refused {
        status: u16,
        message: String,
        /// When to try again, if the server has a wish.
        after: Option<Duration>,
    },
    #[error(transparent)]
    Request(#[from] http::Error),
}

/// What an API server says of a request that it refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) message: String,
    pub(crate) code: u16,
}

impl RequestError {
    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Asks, and hands out the body of an answer that is no refusal.
pub(crate) async fn get(client: &Client, path_and_query: &str) -> Result<Body, RequestError> {
    let request = http::Request::get(path_and_query)
        .header(http::header::ACCEPT, "application/json")
        // A watch that is compressed comes late.
        .header(http::header::ACCEPT_ENCODING, "identity")
        .body(Body::empty())?;
    let response = match timeout(ANSWER, client.send(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(RequestError::Unreachable(error)),
        Err(_) => return Err(RequestError::NoAnswer),
    };
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let header = response.headers().get(http::header::RETRY_AFTER);
    let after = header.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let body = timeout(ANSWER, Limited::new(response.into_body(), REFUSAL).collect()).await;
    let text = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    let message = match serde_json::from_slice::<Status>(&text) {
        Ok(said) => said.message,
        Err(_) => String::from_utf8_lossy(&text).into_owned(),
    };
    Err(RequestError::Refused { status: status.as_u16(), message, after })
}

fn refused(status: &u16, message: &str) -> String {
    format!("{status}: {}", shown(message))
}

/// The beginning of a sentence that somebody else wrote.
pub(crate) fn shown(text: &str) -> String {
    let line = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(SHOWN).collect()
}

/// An error with all that caused it, each said once.
pub(crate) fn whole(error: &kube::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = error.source();
    }
    shown(said.strip_prefix("ServiceError: ").unwrap_or(&said))
}
