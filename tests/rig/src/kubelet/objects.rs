//! What do the ConfigMaps and Secrets hold that pods of this node refer to?
//!
//! Each is watched by itself (a node may read no other), once for all pods, for as long as a pod refers to it. Whoever uses them takes a
//! [`Snapshot`] and looks again when [`Objects::changes`] says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::WATCH_SECONDS;

/// Between two tries, the first and the longest. The first is short: a node may not read what a new pod refers to until the API server
/// has noticed that the pod is there.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What an object may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    ConfigMap,
    Secret,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ref {
    kind: Kind,
    namespace: String,
    name: String,
}

impl Ref {
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::ConfigMap => "configmap",
            Kind::Secret => "secret",
        };
        write!(f, "{kind} {}/{}", self.namespace, self.name)
    }
}

/// What an object holds.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

/// What was known of some objects at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot(BTreeMap<Ref, Option<Arc<Data>>>);

impl Snapshot {
    /// What an object holds; nothing where it is missing and optional, a sentence where it is missing.
    pub(crate) fn get(&self, of: &Ref, optional: bool) -> Result<Option<&Data>, String> {
        match self.0.get(of) {
            Some(Some(data)) => Ok(Some(data)),
            _ if optional => Ok(None),
            _ => Err(format!("{of} not found")),
        }
    }

    #[cfg(test)]
    pub(crate) fn insert(&mut self, of: Ref, data: Option<Data>) {
        self.0.insert(of, data.map(Arc::new));
    }
}

/// What is known of an object.
#[derive(Clone, Debug)]
enum Known {
    NotYet(String),
    Missing,
    Found(Arc<Data>),
}

/// All that is watched.
pub(crate) struct Objects {
    client: Client,
    live: Mutex<HashMap<Ref, Weak<Watched>>>,
    changes: watch::Sender<()>,
}

/// A watch that lasts as long as this is held.
#[derive(Debug)]
pub(crate) struct Watched {
    of: Ref,
    known: watch::Receiver<Known>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Objects {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, live: Mutex::default(), changes: watch::Sender::new(()) }
    }

    /// Says when any of them has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Watches all that a pod refers to.
    pub(crate) fn watch(&self, pod: &Pod) -> Vec<Arc<Watched>> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|_, watched| watched.strong_count() > 0);
        let watches = references(pod).into_iter().map(|of| {
            if let Some(watched) = live.get(&of).and_then(Weak::upgrade) {
                return watched;
            }
            let watched = Arc::new(self.begin(of.clone()));
            live.insert(of, Arc::downgrade(&watched));
            watched
        });
        watches.collect()
    }

    fn begin(&self, of: Ref) -> Watched {
        let (sender, known) = watch::channel(Known::NotYet(format!("{of} was not read yet")));
        let (client, changes, wanted) = (self.client.clone(), self.changes.clone(), of.clone());
        let task = tokio::spawn(async move {
            match wanted.kind {
                Kind::ConfigMap => follow(client, &wanted, config_map_data, &sender, &changes).await,
                Kind::Secret => follow(client, &wanted, secret_data, &sender, &changes).await,
            }
        });
        Watched { of, known, task }
    }
}

/// What is known of these objects now, or the sentence that says what is not known yet.
pub(crate) fn snapshot(watched: &[Arc<Watched>]) -> Result<Snapshot, String> {
    let each = watched.iter().map(|watched| {
        let data = match &*watched.known.borrow() {
            Known::NotYet(why) => return Err(why.clone()),
            Known::Missing => None,
            Known::Found(data) => Some(Arc::clone(data)),
        };
        Ok((watched.of.clone(), data))
    });
    each.collect::<Result<_, _>>().map(Snapshot)
}

async fn follow<K>(
    client: Client,
    of: &Ref,
    data: fn(K) -> Data,
    known: &watch::Sender<Known>,
    changes: &watch::Sender<()>,
) where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let api: Api<K> = Api::namespaced(client, &of.namespace);
    let config =
        watcher::Config::default().fields(&format!("metadata.name={}", of.name)).timeout(WATCH_SECONDS);
    let events = watcher(api, config);
    pin_mut!(events);
    let (mut seen, mut delay) = (false, RETRY.0);
    while let Some(event) = events.next().await {
        let now = match event {
            Ok(watcher::Event::Init) => {
                seen = false;
                continue;
            }
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                seen = true;
                Known::Found(Arc::new(data(object)))
            }
            Ok(watcher::Event::InitDone) if seen => continue,
            Ok(watcher::Event::InitDone | watcher::Event::Delete(_)) => Known::Missing,
            Err(error) => {
                // What was known stays known.
                known.send_if_modified(|known| match known {
                    Known::NotYet(why) => {
                        *why = format!("{of} cannot be read: {error}");
                        true
                    }
                    _ => false,
                });
                changes.send_replace(());
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RETRY.1);
                continue;
            }
        };
        delay = RETRY.0;
        known.send_replace(now);
        changes.send_replace(());
    }
}

fn config_map_data(map: ConfigMap) -> Data {
    let texts = map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
    texts.chain(map.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0))).collect()
}

fn secret_data(secret: Secret) -> Data {
    secret.data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)).collect()
}

/// All that a pod's volumes and environments refer to.
fn references(pod: &Pod) -> BTreeSet<Ref> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut found = BTreeSet::new();
    let mut add = |kind, name: &str| {
        found.insert(Ref::new(kind, namespace, name));
    };
    let Some(spec) = &pod.spec else { return found };
    for volume in spec.volumes.iter().flatten() {
        if let Some(map) = &volume.config_map {
            add(Kind::ConfigMap, &map.name);
        }
        if let Some(name) = volume.secret.as_ref().and_then(|secret| secret.secret_name.as_ref()) {
            add(Kind::Secret, name);
        }
        let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        for source in sources {
            if let Some(map) = &source.config_map {
                add(Kind::ConfigMap, &map.name);
            }
            if let Some(secret) = &source.secret {
                add(Kind::Secret, &secret.name);
            }
        }
    }
    let containers: Vec<&Container> =
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).collect();
    for from in containers.iter().flat_map(|container| container.env_from.iter().flatten()) {
        if let Some(map) = &from.config_map_ref {
            add(Kind::ConfigMap, &map.name);
        }
        if let Some(secret) = &from.secret_ref {
            add(Kind::Secret, &secret.name);
        }
    }
    let variables = containers.iter().flat_map(|container| container.env.iter().flatten());
    for source in variables.filter_map(|variable| variable.value_from.as_ref()) {
        if let Some(map) = &source.config_map_key_ref {
            add(Kind::ConfigMap, &map.name);
        }
        if let Some(secret) = &source.secret_key_ref {
            add(Kind::Secret, &secret.name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_that_a_pod_refers_to() {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "volumes": [
                    {"name": "a", "configMap": {"name": "one"}},
                    {"name": "b", "secret": {"secretName": "two"}},
                    {"name": "c", "projected": {"sources": [{"configMap": {"name": "three"}}, {"secret": {"name": "four"}}]}},
                    {"name": "d", "emptyDir": {}},
                ],
                "containers": [{
                    "name": "main",
                    "envFrom": [{"configMapRef": {"name": "five"}}, {"secretRef": {"name": "six"}}],
                    "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "k"}}}],
                }],
                "initContainers": [{
                    "name": "first",
                    "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "seven", "key": "k"}}}],
                }],
            },
        });
        let found = references(&serde_json::from_value(pod).expect("a pod"));
        let names: Vec<_> = found.iter().map(ToString::to_string).collect();
        let wanted = [
            "configmap shop/five",
            "configmap shop/one",
            "configmap shop/three",
            "secret shop/four",
            "secret shop/seven",
            "secret shop/six",
            "secret shop/two",
        ];
        assert_eq!(names, wanted);
    }
}
