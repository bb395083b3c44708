//! Watches of either cluster, as inputs of the keeper.
//!
//! Lists are taken in pages, and a watch is opened anew every minute, so that a connection that died without a word is noticed. An object
//! that cannot be read is a name without content, and stops nothing. In the member cluster a kind that is not served counts as empty, save
//! `Ingress`es, without which nothing can be said; that a kind is not served, or not to the agent, is told to people on both sides. Memory: a
//! page of whole objects per kind while it is listed.

mod lenient;

use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::runtime::watcher::{Config, Error, Event, watcher};
use kube::{Api, Client, Resource};
use portolan_api::Names;
use portolan_api::contract::{AGENT, CREDENTIAL as SECRET, MANAGED_BY_LABEL};
use portolan_api::kinds::{Cluster, HTTPLoadBalancer, NodeSet, UpstreamPool};
use portolan_source::{ApiServer, one_line};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::lenient::Lenient;
use super::cause;
use super::credential::Credential;
use crate::keeper::{Input, Watched};
use crate::meta::version;
use crate::notices::Told;
use crate::objects::{Found, Kind, ReadBack};
use crate::view::{Change, Name, Settings, read};

/// Objects of a page: few, since of large ones only little is kept.
const PAGE: u32 = 100;
/// How long a watch stays open, in seconds.
const OPEN: u32 = 60;
/// The shortest and the longest pause after an error.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// The pause where a kind is not served, or may not be read.
const UNSERVED: Duration = Duration::from_secs(30);

type Inputs = mpsc::Sender<Input>;

/// Watches everything of the member cluster.
pub(super) fn member(server: &ApiServer, inputs: &Inputs, tasks: &mut JoinSet<()>) {
    let mut names = Names::default();
    let ingresses = Watch { optional: false, ..optional::<Ingress>(server, inputs) };
    ingresses.spawn(tasks, move |event| {
        let version = match &event {
            Event::Apply(it) | Event::InitApply(it) => it.metadata.resource_version.as_deref().map(Box::from),
            Event::Delete(_) | Event::Init | Event::InitDone => None,
        };
        let change = change(event, |it| {
            Some((read::key(&it.metadata, &mut names)?, Some(read::ingress(it, &mut names))))
        });
        change.map(|change| Input::Ingress(change, version))
    });
    let mut names = Names::default();
    optional(server, inputs).spawn(tasks, move |event| {
        let read =
            |it: &Service| Some((read::key(&it.metadata, &mut names)?, Some(read::service(it, &mut names))));
        change(event, read).map(Input::Service)
    });
    let mut names = Names::default();
    optional(server, inputs).spawn(tasks, move |event| {
        let read =
            |it: &EndpointSlice| Some((read::key(&it.metadata, &mut names)?, read::slice(it, &mut names)));
        change(event, read).map(Input::Slice)
    });
    let mut names = Names::default();
    optional(server, inputs).spawn(tasks, move |event| {
        let read = |it: &Node| Some((it.metadata.name.as_deref()?.into(), Some(read::node(it, &mut names))));
        change(event, read).map(Input::Node)
    });
    optional(server, inputs).spawn(tasks, move |event| {
        let read = |it: &IngressClass| Some((it.metadata.name.as_deref()?.into(), Some(read::class(it))));
        change(event, read).map(Input::Class)
    });
    let mut names = Names::default();
    let secrets = optional::<Secret>(server, inputs);
    let secrets = Watch { config: config().fields("type=kubernetes.io/tls"), ..secrets };
    secrets.spawn(tasks, move |event| {
        let read = |it: &Secret| Some((read::key(&it.metadata, &mut names)?, read::secret(it)));
        change(event, read).map(Input::Secret)
    });
}

/// Watches what the LB cluster has of this cluster.
pub(super) fn load_balancer(
    client: &Client,
    credential: &Credential,
    inputs: &Inputs,
    tasks: &mut JoinSet<()>,
) {
    let cluster: Name = credential.cluster.as_str().into();
    let clusters = Watch {
        api: Api::<Lenient<Cluster>>::all(client.clone()),
        server: credential.server.as_str().into(),
        config: config().fields(&format!("metadata.name={cluster}")),
        inputs,
        there: true,
        optional: false,
    };
    clusters.spawn(tasks, |event| settings(event).map(Input::Cluster));
    written::<NodeSet>(client, credential, Kind::NodeSet, inputs, tasks);
    written::<Secret>(client, credential, Kind::Secret, inputs, tasks);
    written::<UpstreamPool>(client, credential, Kind::Pool, inputs, tasks);
    written::<EndpointSlice>(client, credential, Kind::Slice, inputs, tasks);
    written::<HTTPLoadBalancer>(client, credential, Kind::LoadBalancer, inputs, tasks);
}

/// What an event says of a `Cluster`. One that cannot be read says what it said before.
fn settings(event: Event<Lenient<Cluster>>) -> Option<Change<Name, Settings>> {
    if let Event::Apply(it) | Event::InitApply(it) = &event
        && it.object.is_none()
    {
        return Some(Change::Kept(it.metadata.name.as_deref()?.into()));
    }
    change(event, |it| {
        let settings = it.object.as_ref().map(read::settings);
        Some((it.metadata.name.as_deref()?.into(), settings))
    })
}

/// Watches what was written of a kind.
fn written<K>(client: &Client, credential: &Credential, kind: Kind, inputs: &Inputs, tasks: &mut JoinSet<()>)
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + ReadBack
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static,
{
    let watch = Watch {
        api: Api::<Lenient<K>>::namespaced(client.clone(), &credential.namespace),
        server: credential.server.as_str().into(),
        config: config().labels(&format!("{MANAGED_BY_LABEL}={AGENT}")),
        inputs,
        there: true,
        optional: false,
    };
    let mut names = Names::default();
    watch.spawn(tasks, move |event| {
        let read = |it: &Lenient<K>| {
            // What cannot be read is there, and is nothing that is wanted.
            let unreadable =
                || Some((it.metadata.name.as_deref()?.into(), Found::new(0, version(&it.metadata))));
            let (name, found) = it.object.as_ref().and_then(|it| it.found(&mut names)).or_else(unreadable)?;
            Some((name, Some(found)))
        };
        change(event, read).map(|change| Input::Found(kind, change))
    });
}

/// Watches the credential: what is read is sent, and `None` where there is none.
pub(super) async fn credential(
    client: Client,
    namespace: String,
    found: tokio::sync::watch::Sender<Option<Credential>>,
) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let mut events = Box::pin(watcher(api, config().fields(&format!("metadata.name={SECRET}"))));
    let mut pauses = Pauses::default();
    let mut listed = false;
    while let Some(event) = events.next().await {
        if let Ok(event) = &event {
            pauses.heard(event);
        }
        match event {
            Ok(Event::Apply(secret) | Event::InitApply(secret)) => {
                listed = true;
                match Credential::read(&secret) {
                    Ok(credential) => {
                        found.send_if_modified(|known| {
                            let new = Some(credential);
                            let changed = *known != new;
                            *known = new;
                            changed
                        });
                    }
                    Err(error) => tracing::error!(%error, "the credential for the LB cluster cannot be read"),
                }
            }
            // What was good stays good until another comes.
            Ok(Event::Delete(_)) => {
                tracing::warn!("the Secret {SECRET} was deleted; it is used on while the agent runs")
            }
            Ok(Event::Init) => listed = false,
            Ok(Event::InitDone) if !listed => {
                tracing::warn!(%namespace, "there is no Secret {SECRET} yet: `portolan join` makes it");
            }
            Ok(Event::InitDone) => {}
            Err(error) => pauses.after(&error, "the member cluster", "Secret (credential)").await,
        }
    }
}

fn config() -> Config {
    Config::default().page_size(PAGE).timeout(OPEN)
}

fn optional<'a, K: Resource<DynamicType = ()>>(server: &ApiServer, inputs: &'a Inputs) -> Watch<'a, K> {
    let ApiServer { client, url } = server;
    Watch {
        api: Api::all(client.clone()),
        server: url.as_str().into(),
        config: config(),
        inputs,
        there: false,
        optional: true,
    }
}

struct Watch<'a, K> {
    api: Api<K>,
    /// Whose objects: its URL.
    server: Arc<str>,
    config: Config,
    inputs: &'a Inputs,
    /// Whether they are the LB cluster's.
    there: bool,
    /// Whether it counts as empty where it is not served.
    optional: bool,
}

impl<K> Watch<'_, K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
{
    fn spawn(
        self,
        tasks: &mut JoinSet<()>,
        mut read: impl FnMut(Event<K>) -> Option<Input> + Send + 'static,
    ) {
        let Self { api, server, config, inputs, there, optional } = self;
        let inputs = inputs.clone();
        tasks.spawn(async move {
            let kind = K::kind(&());
            let watched = Watched { there, kind: Name::from(&*kind) };
            let mut events = Box::pin(watcher(api, config));
            let mut pauses = Pauses::default();
            let mut served = false;
            // What was told last of whether it can be watched. Before this connection another may have told what is over by now.
            let mut told: Option<Option<Told>> = None;
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(event) => {
                        pauses.heard(&event);
                        event
                    }
                    Err(error) => {
                        if optional && !served && is_unserved(&error) {
                            tracing::warn!("the member cluster does not serve {kind}s: they count as none");
                            for event in [Event::Init, Event::InitDone] {
                                if let Some(input) = read(event)
                                    && inputs.send(input).await.is_err()
                                {
                                    return;
                                }
                            }
                            served = true;
                        }
                        let why = unwatched(&error, &watched, &server, optional);
                        if why.is_some() && told.as_ref() != Some(&why) {
                            told = Some(why.clone());
                            if inputs.send(Input::Watched(watched.clone(), why)).await.is_err() {
                                return;
                            }
                        }
                        pauses.after(&error, &server, &kind).await;
                        continue;
                    }
                };
                if is_served(&event) {
                    served = true;
                    if told.replace(None) != Some(None)
                        && inputs.send(Input::Watched(watched.clone(), None)).await.is_err()
                    {
                        return;
                    }
                }
                let Some(input) = read(event) else { continue };
                // Nobody listens any more.
                if inputs.send(input).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// What an event says of an object that is read so; an object without a value is none of those that count.
fn change<K, V, T>(event: Event<T>, read: impl FnOnce(&T) -> Option<(K, Option<V>)>) -> Option<Change<K, V>> {
    match event {
        Event::Init => Some(Change::Restart),
        Event::InitDone => Some(Change::Listed),
        Event::Apply(object) | Event::InitApply(object) => {
            let (key, value) = read(&object)?;
            Some(match value {
                Some(value) => Change::Put(key, value),
                None => Change::Gone(key),
            })
        }
        Event::Delete(object) => Some(Change::Gone(read(&object)?.0)),
    }
}

/// Whether an event shows that a kind is served: from then on none of its objects is gone because the API server says otherwise for a while.
fn is_served<K>(event: &Event<K>) -> bool {
    match event {
        Event::Init => false,
        Event::InitApply(_) | Event::InitDone | Event::Apply(_) | Event::Delete(_) => true,
    }
}

fn is_unserved(error: &Error) -> bool {
    matches!(code(error), Some(404))
}

/// What people are told of a kind that cannot be watched, where it takes one of them.
fn unwatched(error: &Error, watched: &Watched, server: &str, optional: bool) -> Option<Told> {
    let Watched { there, kind } = watched;
    let whose = if *there { format!("the LB cluster at {server}") } else { "this cluster".to_owned() };
    match code(error)? {
        404 => {
            let counts =
                if optional { "; it counts as having none" } else { ", without which nothing is synced" };
            Some(("KindNotServed".into(), format!("{whose} does not serve the kind {kind}{counts}").into()))
        }
        403 => {
            let why = why(error);
            Some((
                "KindNotReadable".into(),
                format!("{whose} does not let the agent list the kind {kind}: {why}").into(),
            ))
        }
        _ => None,
    }
}

fn why(error: &Error) -> String {
    match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => {
            cause(error)
        }
        Error::WatchError(_) | Error::NoResourceVersion => one_line(error),
    }
}

fn code(error: &Error) -> Option<u16> {
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

/// Pauses after errors: ever longer ones, and a word in the log for the first of a row.
struct Pauses {
    failures: u32,
    /// Of them the last ones that no waiting helps against.
    settled: u32,
    chance: RandomState,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { failures: 0, settled: 0, chance: RandomState::new() }
    }
}

impl Pauses {
    /// All is well again. That a list begins says nothing: it does so before each try.
    fn heard<K>(&mut self, event: &Event<K>) {
        match event {
            Event::Init | Event::InitApply(_) => {}
            Event::Apply(_) | Event::Delete(_) | Event::InitDone => (self.failures, self.settled) = (0, 0),
        }
    }

    async fn after(&mut self, error: &Error, server: &str, kind: &str) {
        tokio::time::sleep(self.next(error, server, kind)).await;
    }

    fn next(&mut self, error: &Error, server: &str, kind: &str) -> Duration {
        let settled = matches!(code(error), Some(401 | 403 | 404));
        // An API server that has just come back says so for a moment too.
        self.settled = if settled { self.settled.saturating_add(1) } else { 0 };
        // That a watch has to be begun anew is nothing to tell.
        if self.failures == 1 || (settled && self.failures == 0) {
            tracing::warn!(kind, server, error = %why(error), "cannot be watched; trying on");
        } else {
            tracing::debug!(kind, server, error = %why(error), "cannot be watched");
        }
        let full = PAUSE.0.saturating_mul(1 << self.failures.min(10)).min(PAUSE.1);
        let full = if self.settled > 4 { UNSERVED } else { full };
        let thousandths = u32::try_from(self.chance.hash_one(self.failures) % 500).unwrap_or_default();
        self.failures = self.failures.saturating_add(1);
        full / 2 + full * thousandths / 1000
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Regression: an agent stopped when a `Cluster` that it cannot read was listed again.
    #[test]
    fn a_cluster_that_cannot_be_read_says_what_it_said_before() {
        let cluster = |spec: serde_json::Value| -> Lenient<Cluster> {
            serde_json::from_value(json!({
                "apiVersion": "portolan.dev/v1alpha1", "kind": "Cluster", "metadata": { "name": "paris" }, "spec": spec,
            }))
            .unwrap()
        };
        let mut clusters = crate::view::Shelf::default();
        let mut tell = |event| {
            let change = settings(event).unwrap();
            clusters.apply(change, |_, _, _| {});
            clusters.get(&Name::from("paris")).map(|settings: &Settings| settings.classes.len())
        };
        let readable = cluster(json!({ "classes": ["nginx"] }));
        let odd = cluster(json!({ "classes": "of a time to come" }));
        for (event, expected) in [
            (Event::Init, None),
            (Event::InitApply(readable), Some(1)),
            (Event::InitDone, Some(1)),
            (Event::Apply(odd.clone()), Some(1)),
            (Event::Init, Some(1)),
            (Event::InitApply(odd.clone()), Some(1)),
            (Event::InitDone, Some(1)),
            (Event::Delete(odd), None),
        ] {
            assert_eq!(tell(event), expected);
        }
    }

    /// Regression: a kind counted as not served, and so as empty, where only the rest of its first list was not found.
    #[test]
    fn a_kind_with_an_object_is_served() {
        assert!(!is_served(&Event::<Secret>::Init));
        assert!(is_served(&Event::InitApply(Secret::default())));
        assert!(is_served(&Event::<Secret>::InitDone));
    }

    #[test]
    fn what_cannot_be_watched_is_told_where_it_takes_a_person() {
        let error = |code: u16| {
            let status = json!({ "status": "Failure", "code": code, "message": "no", "reason": "no" });
            Error::InitialListFailed(kube::Error::Api(serde_json::from_value(status).unwrap()))
        };
        let away = || Error::InitialListFailed(kube::Error::LinesCodecMaxLineLengthExceeded);
        for (error, there, kind, optional, expected) in [
            (
                error(404),
                false,
                "Service",
                true,
                Some("this cluster does not serve the kind Service; it counts as having none"),
            ),
            (
                error(404),
                false,
                "Ingress",
                false,
                Some("this cluster does not serve the kind Ingress, without which nothing is synced"),
            ),
            (
                error(404),
                true,
                "UpstreamPool",
                false,
                Some(
                    "the LB cluster at https://lb does not serve the kind UpstreamPool, without which nothing is synced",
                ),
            ),
            (
                error(403),
                false,
                "Node",
                true,
                Some("this cluster does not let the agent list the kind Node: 403 no"),
            ),
            (error(401), true, "NodeSet", false, None),
            (error(500), false, "Service", true, None),
            (away(), false, "Service", true, None),
        ] {
            let watched = Watched { there, kind: kind.into() };
            let told = unwatched(&error, &watched, "https://lb", optional);
            assert_eq!(told.as_ref().map(|(_, message)| &**message), expected);
        }
    }

    fn forbidden() -> Error {
        let status = json!({ "status": "Failure", "code": 403, "message": "no", "reason": "Forbidden" });
        Error::InitialListFailed(kube::Error::Api(serde_json::from_value(status).unwrap()))
    }

    /// Regression: a list begins before each try, which was taken for success, so that a kind that may not be read was asked for, and
    /// complained of, four times a second.
    #[test]
    fn pauses_grow_until_something_is_heard() {
        let mut pauses = Pauses::default();
        let mut last = Duration::ZERO;
        for _ in 0..6 {
            pauses.heard(&Event::<Secret>::Init);
            last = pauses.next(&forbidden(), "https://lb", "Secret");
        }
        assert!(last >= UNSERVED / 2, "{last:?}");
        pauses.heard(&Event::<Secret>::InitDone);
        assert!(pauses.next(&forbidden(), "https://lb", "Secret") <= PAUSE.0);
    }

    /// Regression: after an outage the first refusal of an API server that was still reading its roles cost half a minute.
    #[test]
    fn what_is_refused_after_an_outage_is_asked_for_again_soon() {
        let away = || Error::InitialListFailed(kube::Error::LinesCodecMaxLineLengthExceeded);
        let mut pauses = Pauses::default();
        for _ in 0..20 {
            pauses.next(&away(), "https://lb", "Secret");
        }
        assert!(pauses.next(&forbidden(), "https://lb", "Secret") <= PAUSE.1);
    }
}
