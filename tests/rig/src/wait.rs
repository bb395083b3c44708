//! Waiting for a condition, bounded, and saying what was waited for.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep};

/// Between two looks at a condition that nobody announces.
pub(crate) const STEP: Duration = Duration::from_millis(20);

/// Asks again until there is an answer; an error that names `what` once the time is over. A question that gets no answer in time is
/// dropped.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let end = Instant::now() + within;
    loop {
        if let Ok(Some(answer)) = tokio::time::timeout_at(end, ask()).await {
            return Ok(answer);
        }
        if Instant::now() >= end {
            return Err(anyhow!("waited {within:?} in vain for {what}"));
        }
        sleep(STEP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn asks_until_there_is_an_answer() {
        let mut asked = 0;
        let answer = until("three", Duration::from_secs(5), || {
            asked += 1;
            std::future::ready((asked == 3).then_some(asked))
        });
        assert_eq!(answer.await.expect("an answer"), 3);
    }

    #[tokio::test]
    async fn says_what_it_waited_for() {
        let never = until("the sea to dry", Duration::from_millis(30), std::future::pending::<Option<()>>);
        assert_eq!(never.await.unwrap_err().to_string(), "waited 30ms in vain for the sea to dry");
    }
}
