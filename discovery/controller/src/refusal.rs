//! What an API server says when it refuses: its sentence, and not its whole answer.

use std::fmt;

use kube::runtime::watcher;
use portolan_source::one_line;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub struct Refusal(#[from] Box<kube::Error>);

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            kube::Error::Api(status) if !status.message.is_empty() => f.write_str(&status.message),
            error => f.write_str(&one_line(error)),
        }
    }
}

/// Says in the log why a watch failed. It begins anew by itself; that the server is away the source says once for all.
pub(crate) fn watch_failed(what: &str, error: watcher::Error) {
    let error = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error,
        watcher::Error::WatchError(status) => kube::Error::Api(status),
        watcher::Error::NoResourceVersion => {
            tracing::warn!(what, "the API server names no version; the watch begins anew");
            return;
        }
    };
    // 410: the server no longer has what came after the last event.
    let refused = matches!(&error, kube::Error::Api(status) if status.code != 410);
    let error = Refusal::from(error);
    if refused {
        tracing::warn!(what, %error, "the watch failed; it begins anew");
    } else {
        tracing::debug!(what, %error, "the watch failed; it begins anew");
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_refusal_is_its_sentence() {
        let status = Status::failure("pods \"x\" is forbidden: no", "Forbidden").with_code(403);
        let refusal = Refusal::from(kube::Error::Api(status.boxed()));
        assert_eq!(refusal.to_string(), "pods \"x\" is forbidden: no");
        let broken = kube::Error::Service(Box::new(std::io::Error::other("cut")));
        assert_eq!(Refusal::from(broken).to_string(), "ServiceError: cut");
    }
}
