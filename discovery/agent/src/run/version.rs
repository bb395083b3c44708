//! Is an API server new enough?

use std::time::Duration;

use kube::Client;

use super::chain;

/// The oldest minor version that is served.
const OLDEST: u32 = 29;

/// It is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Kubernetes 1.{OLDEST} or newer is required; {whose} runs {found}")]
pub struct TooOld {
    whose: String,
    found: String,
}

/// Asks until there is an answer.
pub(super) async fn wait(client: &Client, whose: &str) -> Result<(), TooOld> {
    let mut pause = Duration::from_millis(200);
    let mut told = false;
    loop {
        let asked = tokio::time::timeout(Duration::from_secs(10), client.apiserver_version()).await;
        let why = match asked {
            Ok(Ok(info)) => return check(whose, &info.major, &info.minor),
            Ok(Err(error)) => chain(&error),
            Err(_) => "it does not answer".to_owned(),
        };
        if std::mem::replace(&mut told, true) {
            tracing::debug!(%why, "{whose} does not say its version");
        } else {
            tracing::warn!(%why, "{whose} does not say its version; asking on");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

/// Some providers add a sign to the minor version.
fn check(whose: &str, major: &str, minor: &str) -> Result<(), TooOld> {
    let number =
        |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().unwrap_or(0);
    if (number(major), number(minor)) >= (1, OLDEST) {
        Ok(())
    } else {
        Err(TooOld { whose: whose.to_owned(), found: format!("{major}.{minor}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused_by_a_sentence() {
        for (major, minor, new) in [
            ("1", "29", true),
            ("1", "36", true),
            ("1", "29+", true),
            ("2", "0", true),
            ("1", "28", false),
            ("1", "9+", false),
        ] {
            assert_eq!(check("paris", major, minor).is_ok(), new, "{major}.{minor}");
        }
        let error = check("the LB cluster", "1", "27").map_err(|error| error.to_string());
        assert_eq!(error, Err("Kubernetes 1.29 or newer is required; the LB cluster runs 1.27".to_owned()));
    }
}
