//! Is an API server new enough?

use std::time::Duration;

use kube::Client;
pub(super) use portolan_source::TooOld;
use portolan_source::check_version;

use super::cause;

/// The oldest minor version that is served.
const OLDEST: u32 = 29;

/// Asks until there is an answer.
pub(super) async fn wait(client: &Client, whose: &str) -> Result<(), TooOld> {
    let mut pause = Duration::from_millis(200);
    let mut told = None;
    loop {
        let asked = tokio::time::timeout(Duration::from_secs(10), client.apiserver_version()).await;
        let why = match asked {
            Ok(Ok(info)) => return check_version(whose, &info.major, &info.minor, OLDEST),
            Ok(Err(error)) => cause(&error),
            Err(_) => "it does not answer".to_owned(),
        };
        if told.as_ref() == Some(&why) {
            tracing::debug!(%why, "{whose} does not say its version");
        } else {
            tracing::warn!(%why, "{whose} does not say its version; asking on");
        }
        told = Some(why);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}
