//! The small cloud: Services of type LoadBalancer without a class get an address, and what comes to that address gets to the Service.
//!
//! A Service keeps the address that its status says, and gives it back when it is deleted or becomes of another type or class. What the status says
//! is the only memory: a cloud that comes back finds it there. `ipMode: Proxy` tells kube-proxy to leave the address alone, so that traffic
//! from inside the cluster takes the same way as traffic from outside: through the cloud's own listeners, see `forward`.

mod forward;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{Node, Service};
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::client::{ANSWER, RETRY, WATCH_SECONDS, connect};
use crate::cluster::is_ready;
use forward::{Forwards, Front, Protocol};

/// What the cloud has to know.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How to reach the API server, as whom.
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// The range of its addresses.
    #[arg(long)]
    pub range: String,
}

/// Gives addresses and forwards what comes to them, for ever.
pub async fn run(options: Options) -> Result<()> {
    let client = connect(&options.kubeconfig).await?;
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let services = watcher::watcher(Api::<Service>::all(client.clone()), config.clone());
    let nodes = watcher::watcher(Api::<Node>::all(client.clone()), config);
    pin_mut!(services, nodes);
    let mut book = Book::parse(&options.range)?;
    let (mut known, mut known_nodes) = (Listed::default(), Listed::default());
    let (ready, nodes_seen) = watch::channel(Vec::new());
    let mut forwards = Forwards::new(nodes_seen);
    let mut open = false;
    loop {
        tokio::select! {
            event = services.next() => match event {
                Some(Ok(event)) => open |= known.hear(event),
                Some(Err(_)) => sleep(RETRY).await,
                None => bail!("the watch of Services has ended"),
            },
            event = nodes.next() => match event {
                Some(Ok(event)) => {
                    if known_nodes.hear(event) {
                        ready.send_replace(known_nodes.all.values().filter_map(serves).collect());
                    }
                }
                Some(Err(_)) => sleep(RETRY).await,
                None => bail!("the watch of Nodes has ended"),
            },
            () = sleep(RETRY), if open => {}
        }
        if !open {
            continue;
        }
        let mut good = true;
        let changes = book.settle(&known.all);
        // Who reads the status finds somebody who listens.
        if let Err(error) = forwards.settle(&book.fronts(&known.all)).await {
            tracing::warn!("{error}");
            good = false;
        }
        for (key, given) in changes {
            if let Err(error) = write(&client, &key, given).await {
                tracing::info!("cannot write the status of Service {key:?}: {error:#}");
                good = false;
            }
        }
        open = !good;
    }
}

/// What a watch says there is.
#[derive(Debug)]
struct Listed<K> {
    all: BTreeMap<Key, K>,
    coming: BTreeMap<Key, K>,
}

impl<K> Default for Listed<K> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), coming: BTreeMap::new() }
    }
}

impl<K: ResourceExt> Listed<K> {
    /// Takes an event. Says whether what is known has changed.
    fn hear(&mut self, event: Event<K>) -> bool {
        let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        match event {
            Event::Init => self.coming.clear(),
            Event::InitApply(object) => {
                self.coming.insert(key(&object), object);
            }
            Event::InitDone => self.all = std::mem::take(&mut self.coming),
            Event::Apply(object) => {
                self.all.insert(key(&object), object);
            }
            Event::Delete(object) => {
                self.all.remove(&key(&object));
            }
        }
        self.coming.is_empty()
    }
}

/// The address of a node that is ready.
fn serves(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses.iter().find(|address| address.type_ == "InternalIP")?;
    is_ready(node).then(|| internal.address.parse().ok())?
}

/// Namespace and name.
type Key = (String, String);

/// Who has which address.
#[derive(Debug)]
struct Book {
    first: u32,
    last: u32,
    given: BTreeMap<Key, Ipv4Addr>,
}

impl Book {
    /// All addresses of a range but its first and its last.
    fn parse(range: &str) -> Result<Self> {
        let refused = || format!("{range:?} is no range of addresses, as 10.200.0.0/24 is");
        let (base, length) = range.split_once('/').with_context(refused)?;
        let (base, length): (Ipv4Addr, u32) =
            (base.parse().with_context(refused)?, length.parse().with_context(refused)?);
        if !(8..=30).contains(&length) {
            bail!(refused());
        }
        let size = 1 << (32 - length);
        let base = u32::from(base) & !(size - 1);
        Ok(Self { first: base + 1, last: base + size - 2, given: BTreeMap::new() })
    }

    /// Brings the book in line with the Services that there are, and says which statuses are to be written: an address, or none.
    fn settle(&mut self, services: &BTreeMap<Key, Service>) -> Vec<(Key, Option<Ipv4Addr>)> {
        self.given.retain(|key, _| services.get(key).is_some_and(is_ours));
        let mut taken: BTreeSet<u32> = self.given.values().map(|&address| address.into()).collect();
        let mut wanting = Vec::new();
        for (key, service) in services {
            if !is_ours(service) || self.given.contains_key(key) {
                continue;
            }
            match address(service).filter(|&address| self.holds(address)) {
                Some(address) if taken.insert(address.into()) => {
                    self.given.insert(key.clone(), address);
                }
                _ => wanting.push(key),
            }
        }
        for key in wanting {
            // Where no address is free, it waits for one.
            if let Some(free) = (self.first..=self.last).find(|address| !taken.contains(address)) {
                taken.insert(free);
                self.given.insert(key.clone(), free.into());
            }
        }
        let change = |(key, service): (&Key, &Service)| {
            let (given, has) = (self.given.get(key).copied(), address(service));
            // The status of a Service that was never ours belongs to somebody else.
            let ours =
                is_ours(service) || (has.is_some_and(|has| self.holds(has)) && class(service).is_none());
            (ours && given != has).then(|| (key.clone(), given))
        };
        services.iter().filter_map(change).collect()
    }

    /// Where clients of these Services come, and the node ports behind.
    fn fronts(&self, services: &BTreeMap<Key, Service>) -> BTreeMap<Front, u16> {
        let fronts = self.given.iter().flat_map(|(key, &address)| {
            let spec = services.get(key).and_then(|service| service.spec.as_ref());
            let ports = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten());
            ports.filter_map(move |port| {
                let protocol = match port.protocol.as_deref() {
                    None | Some("TCP") => Protocol::Tcp,
                    Some("UDP") => Protocol::Udp,
                    Some(_) => return None,
                };
                let own = u16::try_from(port.port).ok()?;
                Some(((protocol, address, own), u16::try_from(port.node_port?).ok()?))
            })
        });
        fronts.collect()
    }

    fn holds(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&u32::from(address))
    }
}

fn class(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.load_balancer_class.as_deref()
}

/// Whether a Service is to have an address of this cloud.
fn is_ours(service: &Service) -> bool {
    let balanced = service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
    balanced && class(service).is_none() && service.metadata.deletion_timestamp.is_none()
}

/// The address that a Service's status says.
fn address(service: &Service) -> Option<Ipv4Addr> {
    let status = service.status.as_ref()?.load_balancer.as_ref()?;
    status.ingress.as_ref()?.first()?.ip.as_ref()?.parse().ok()
}

async fn write(client: &Client, (namespace, name): &Key, given: Option<Ipv4Addr>) -> Result<()> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let ingress: Vec<_> = given.iter().map(|address| json!({"ip": address, "ipMode": "Proxy"})).collect();
    let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
    match timeout(ANSWER, services.patch_status(name, &PatchParams::default(), &patch)).await? {
        Err(kube::Error::Api(refused)) if refused.code == 404 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn services(list: &[(&str, Value)]) -> BTreeMap<Key, Service> {
        let service = |name: &str, change: &Value| -> Service {
            let status = match change.get("has") {
                Some(has) => json!({"loadBalancer": {"ingress": [{"ip": has}]}}),
                None => json!({}),
            };
            let mut spec = json!({"type": "LoadBalancer"});
            for key in ["type", "loadBalancerClass"] {
                if let Some(value) = change.get(key) {
                    spec[key] = value.clone();
                }
            }
            let object =
                json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec, "status": status});
            serde_json::from_value(object).expect("a Service")
        };
        list.iter()
            .map(|(name, change)| (("shop".to_owned(), (*name).to_owned()), service(name, change)))
            .collect()
    }

    fn settle(book: &mut Book, list: &[(&str, Value)]) -> Vec<(String, Option<String>)> {
        let changes = book.settle(&services(list));
        changes
            .into_iter()
            .map(|((_, name), address)| (name, address.map(|address| address.to_string())))
            .collect()
    }

    fn writes(list: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
        list.iter().map(|(name, address)| ((*name).to_owned(), address.map(str::to_owned))).collect()
    }

    #[test]
    fn addresses_are_stable_and_come_back() {
        let mut book = Book::parse("10.200.0.0/30").expect("a range");
        let (one, two) = ("10.200.0.1", "10.200.0.2");
        assert_eq!(settle(&mut book, &[("a", json!({}))]), writes(&[("a", Some(one))]));
        // Asked again before the status came back: the same.
        assert_eq!(settle(&mut book, &[("a", json!({}))]), writes(&[("a", Some(one))]));
        assert_eq!(settle(&mut book, &[("a", json!({"has": one}))]), writes(&[]));
        let three = [("a", json!({"has": one})), ("b", json!({})), ("c", json!({}))];
        assert_eq!(settle(&mut book, &three), writes(&[("b", Some(two))]));
        let two_left = [("b", json!({"has": two})), ("c", json!({}))];
        assert_eq!(settle(&mut book, &two_left), writes(&[("c", Some(one))]));
    }

    #[test]
    fn what_a_cloud_before_us_gave_is_kept() {
        let mut book = Book::parse("10.200.0.0/24").expect("a range");
        let list =
            [("a", json!({})), ("b", json!({"has": "10.200.0.1"})), ("c", json!({"has": "192.0.2.1"}))];
        let wanted = writes(&[("a", Some("10.200.0.2")), ("c", Some("10.200.0.3"))]);
        assert_eq!(settle(&mut book, &list), wanted);
    }

    #[test]
    fn only_load_balancers_without_a_class() {
        let mut book = Book::parse("10.200.0.0/24").expect("a range");
        let list = [
            ("a", json!({"type": "ClusterIP"})),
            ("b", json!({"loadBalancerClass": "example.com/other"})),
            ("c", json!({"loadBalancerClass": "example.com/other", "has": "10.200.0.9"})),
            ("d", json!({"type": "ClusterIP", "has": "10.200.0.9"})),
        ];
        assert_eq!(settle(&mut book, &list), writes(&[("d", None)]));
        for wrong in ["10.200.0.0", "10.200.0.0/31", "x/24"] {
            assert!(Book::parse(wrong).is_err(), "{wrong}");
        }
    }
}
