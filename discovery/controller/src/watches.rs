//! What the API server tells of the objects whose statuses are written, and of who is alive.
//!
//! Watches of their own beside those of the source: they keep the statuses, and nothing of what the objects say. Each begins anew
//! after errors, ever more slowly.

use std::pin::Pin;

use futures_util::stream::{BoxStream, SelectAll, Stream, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use portolan_api::contract::{AGENT, REPLICA_LABEL};
use portolan_model::id::Kind;
use serde_json::Value;

use crate::control::ServiceName;
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

/// All of it.
pub(crate) fn watch(
    client: &Client,
    system: &str,
    service: &ServiceName,
) -> SelectAll<BoxStream<'static, News>> {
    let mut all = SelectAll::new();
    for kind in KINDS {
        if let Some(resource) = api_resource(kind) {
            let api = Api::<AnyObject<Value>>::all_with(client.clone(), &resource);
            let what = kind.as_str();
            all.push(steady(what, watcher(api, watcher::Config::default()), move |event| {
                News::Object(kind, Box::new(event))
            }));
        }
    }
    let replicas = Api::<Lease>::namespaced(client.clone(), system);
    let config = watcher::Config::default().labels(&format!("{REPLICA_LABEL}=proxy"));
    all.push(steady("Leases of replicas", watcher(replicas, config), News::Replica));
    let agents = Api::<Lease>::all(client.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={AGENT}"));
    all.push(steady("Leases of agents", watcher(agents, config), News::Agent));
    let services = Api::<Service>::namespaced(client.clone(), &service.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", service.name));
    all.push(steady("the proxy's Service", watcher(services, config), |event| {
        News::Service(Box::new(event))
    }));
    all
}

fn steady<K: Send + 'static>(
    what: &'static str,
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    news: impl Fn(Event<K>) -> News + Send + 'static,
) -> Pin<Box<dyn Stream<Item = News> + Send>> {
    let told = events
        .default_backoff()
        .filter_map(move |event| std::future::ready(event.map_err(|error| watch_failed(what, error)).ok()));
    told.map(news).boxed()
}
