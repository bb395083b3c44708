//! What the API server tells of the objects whose statuses are written, and of who is alive.
//!
//! Watches of their own beside those of the source: they keep the statuses, and nothing of what the objects say. Each begins anew
//! after errors, ever more slowly.

use std::borrow::Cow;
use std::time::Duration;

use futures_util::stream::{BoxStream, SelectAll, Stream, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::{Backoff, ResetTimerBackoff};
use kube::runtime::watcher::{self, Event, watcher};
use portolan_api::contract::{AGENT, PROXY, REPLICA_LABEL};
use portolan_model::id::Kind;
use serde_json::Value;

use crate::refusal::watch_failed;
use crate::status::KINDS;
use crate::writer::{AnyObject, api_resource};

/// Something happened.
pub(crate) enum News {
    /// To an object with a status.
    Object(Kind, Box<Event<AnyObject<Value>>>),
    /// To the `Lease` of a replica of the proxy.
    Replica(Event<Lease>),
    /// To the `Lease` of an agent.
    Agent(Event<Lease>),
    /// To the proxy's `Service`.
    Service(Box<Event<Service>>),
}

/// A watch that did not fail for so long is well.
const WELL: Duration = Duration::from_secs(30);

/// Between two tries of a watch that fails: a second, and up to five. Replicas must not be taken for dead because nobody listened.
#[derive(Default)]
struct Pauses {
    tries: u32,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_secs(1) + Duration::from_millis(500) * self.tries;
        self.tries = (self.tries + 1).min(8);
        Some(pause)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.tries = 0;
    }
}

/// All of it.
pub(crate) fn watch(client: &Client, system: &str) -> SelectAll<BoxStream<'static, News>> {
    let mut all = SelectAll::new();
    for kind in KINDS {
        if let Some(resource) = api_resource(kind) {
            let api = Api::<AnyObject<Value>>::all_with(client.clone(), &resource);
            let what = kind.as_str();
            let events = steady(what, watcher(api, watcher::Config::default()));
            all.push(events.map(move |event| News::Object(kind, Box::new(event))).boxed());
        }
    }
    let replicas = Api::<Lease>::namespaced(client.clone(), system);
    let config = watcher::Config::default().labels(&format!("{REPLICA_LABEL}=proxy"));
    all.push(steady("Leases of replicas", watcher(replicas, config)).map(News::Replica).boxed());
    let agents = Api::<Lease>::all(client.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={AGENT}"));
    all.push(steady("Leases of agents", watcher(agents, config)).map(News::Agent).boxed());
    let services = Api::<Service>::namespaced(client.clone(), system);
    let config = watcher::Config::default().fields(&format!("metadata.name={PROXY}"));
    let events = steady("the proxy's Service", watcher(services, config));
    all.push(events.map(|event| News::Service(Box::new(event))).boxed());
    all
}

/// The events of a watch that begins anew after errors, which are told to the log.
pub(crate) fn steady<K: Send + 'static>(
    what: impl Into<Cow<'static, str>>,
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
) -> impl Stream<Item = Event<K>> + Send + 'static {
    let what = what.into();
    let events = events.backoff(ResetTimerBackoff::new(Pauses::default(), WELL));
    events.filter_map(move |event| std::future::ready(event.map_err(|error| watch_failed(&what, error)).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_five_seconds() {
        let mut pauses = Pauses::default();
        let longest = pauses.by_ref().take(20).max();
        assert_eq!(longest, Some(Duration::from_secs(5)));
        pauses.reset();
        assert_eq!(pauses.next(), Some(Duration::from_secs(1)));
    }
}
