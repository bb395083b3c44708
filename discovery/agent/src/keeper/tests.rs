//! The member cluster and the LB cluster, as far as an agent sees them, and what it writes into them.

mod companions;
mod histories;
mod reach;
mod refusals;

use std::net::{IpAddr, Ipv4Addr};

use portolan_api::Names;
use portolan_api::kinds::{HTTPLoadBalancer, Reach, UpstreamPool};
use proptest::prelude::*;

use super::*;
use crate::meta::digest;
use crate::objects::{Endpoints, ReadBack};
use crate::view::{Backend, Endpoint, Path, PathKind, Port, PortRef, Rule, ServiceKind, Tls};

const PACE: Pace = Pace { rate: 1e6, burst: 1e6, in_flight: 4, quiet: Duration::ZERO };

/// What somebody does in the member cluster.
#[derive(Clone, Debug)]
enum Act {
    Ingress(u8, Option<(u8, u8, bool, bool)>),
    Service(u8, Option<u8>),
    Slice(u8, u8, Option<u8>),
    Secret(u8, Option<u64>),
    Node(u8, Option<bool>),
    Reach(u8),
    /// The `Cluster` is deleted, or made anew.
    Cluster(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let service = prop_oneof![3 => any::<u8>().prop_map(Some), 1 => Just(None)];
    prop_oneof![
        4 => (0..3u8, prop::option::weighted(0.8, (0..4u8, 0..4u8, any::<bool>(), prop::bool::weighted(0.8))))
            .prop_map(|(name, it)| Act::Ingress(name, it)),
        4 => (0..4u8, service).prop_map(|(name, it)| Act::Service(name, it)),
        3 => (0..4u8, 0..3u8, prop::option::weighted(0.7, any::<u8>())).prop_map(|(s, n, it)| Act::Slice(s, n, it)),
        1 => (0..2u8, prop::option::weighted(0.7, 1..4u64)).prop_map(|(name, it)| Act::Secret(name, it)),
        1 => (0..3u8, prop::option::weighted(0.8, any::<bool>())).prop_map(|(name, it)| Act::Node(name, it)),
        1 => (0..3u8).prop_map(Act::Reach),
        1 => any::<bool>().prop_map(Act::Cluster),
    ]
}

fn key(name: String) -> Key {
    Key::new("shop", name)
}

fn ingress(service: u8, port: u8, tls: bool, ours: bool) -> Ingress {
    let backend = |service: u8| Backend::Service {
        name: format!("s{service}").into(),
        port: if port == 0 { PortRef::Name("http".into()) } else { PortRef::Number(80 + u16::from(port)) },
    };
    Ingress {
        uid: "u".into(),
        class: Some(if ours { "portolan" } else { "other" }.into()),
        rules: [Rule {
            host: Some("a.example".into()),
            paths: [
                Path { path: "/".into(), kind: PathKind::Prefix, backend: backend(service) },
                Path { path: "/x".into(), kind: PathKind::Exact, backend: backend((service + 1) % 4) },
            ]
            .into(),
        }]
        .into(),
        tls: if tls {
            [Tls { hosts: ["a.example".into()].into(), secret: Some("t0".into()) }].into()
        } else {
            [].into()
        },
        ..Ingress::default()
    }
}

fn service(seed: u8) -> Service {
    let kind = match seed % 4 {
        0 => ServiceKind::ClusterIp,
        1 => ServiceKind::NodePort,
        2 => ServiceKind::LoadBalancer,
        _ => ServiceKind::ExternalName("db.example.com".into()),
    };
    let node_port = if matches!(kind, ServiceKind::NodePort) { 30000 + u16::from(seed) } else { 0 };
    let port = |name: &str, number, node_port| Port {
        name: name.into(),
        number,
        tcp: true,
        app_protocol: None,
        node_port,
        target: PortRef::Number(8080),
    };
    Service {
        uid: "u".into(),
        kind,
        selector: if seed & 16 == 0 { [("app".into(), "x".into())].into() } else { [].into() },
        local: seed & 32 != 0,
        ports: [
            port("http", 81, node_port),
            port("admin", 82, if node_port == 0 { 0 } else { node_port + 1 }),
        ]
        .into(),
        ..Service::default()
    }
}

fn slice(service: u8, seed: u8) -> Slice {
    let endpoint = |n: u8| Endpoint {
        address: IpAddr::V4(Ipv4Addr::new(10, 0, service, n)),
        node: Some(format!("n{}", n % 3).into()),
        zone: None,
        ready: seed & 1 == 0 || n == 0,
        serving: true,
        terminating: false,
    };
    Slice {
        service: format!("s{service}").into(),
        v6: false,
        ports: [("http".into(), 8080), ("admin".into(), 8082)].into(),
        endpoints: (0..seed % 4).map(endpoint).collect(),
    }
}

/// The member cluster and the LB cluster, as far as an agent sees them.
#[derive(Default)]
struct World {
    ingresses: BTreeMap<Key, Ingress>,
    services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, Slice>,
    secrets: BTreeMap<Key, u64>,
    nodes: BTreeMap<Name, Node>,
    settings: Settings,
    there: BTreeMap<Id, (Body, u64)>,
    revision: u64,
    next_port: u16,
    writes: usize,
    refused_companion: bool,
    /// Whether the `Cluster` is.
    gone: bool,
}

impl World {
    fn act(&mut self, act: &Act) -> Input {
        fn put<K: Clone + Ord, V: Clone>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Change<K, V> {
            match value {
                Some(value) => {
                    map.insert(key.clone(), value.clone());
                    Change::Put(key, value)
                }
                None => {
                    map.remove(&key);
                    Change::Gone(key)
                }
            }
        }
        self.revision += 1;
        match act {
            Act::Ingress(name, it) => {
                let key = key(format!("i{name}"));
                let status = self.ingresses.get(&key).map(|it| it.status.clone()).unwrap_or_default();
                let it = it.map(|(service, port, tls, ours)| Ingress {
                    status,
                    ..ingress(service, port, tls, ours)
                });
                Input::Ingress(put(&mut self.ingresses, key, it), Some(self.revision.to_string().into()))
            }
            Act::Service(name, it) => {
                Input::Service(put(&mut self.services, key(format!("s{name}")), it.map(service)))
            }
            Act::Slice(name, number, it) => {
                let key = key(format!("s{name}-{number}"));
                Input::Slice(put(&mut self.slices, key, it.map(|seed| slice(*name, seed))))
            }
            Act::Secret(name, it) => Input::Secret(put(&mut self.secrets, key(format!("t{name}")), *it)),
            Act::Node(name, it) => {
                let node = it.map(|eligible| Node {
                    internal: [IpAddr::V4(Ipv4Addr::new(192, 0, 2, *name))].into(),
                    ready: eligible,
                    meant: true,
                    ..Node::default()
                });
                Input::Node(put(&mut self.nodes, format!("n{name}").into(), node))
            }
            Act::Reach(reach) => {
                self.settings.reach = [Reach::NodePort, Reach::PodIP, Reach::Gateway][usize::from(*reach)];
                self.act(&Act::Cluster(true))
            }
            Act::Cluster(there) => {
                self.gone = !there;
                Input::Cluster(if *there {
                    Change::Put("paris".into(), self.settings.clone())
                } else {
                    Change::Gone("paris".into())
                })
            }
        }
    }

    /// Everything, as lists have it.
    fn lists(&self) -> Vec<Input> {
        fn list<K: Clone, V: Clone>(
            map: &BTreeMap<K, V>,
            input: impl Fn(Change<K, V>) -> Input,
        ) -> Vec<Input> {
            let put = map.iter().map(|(key, value)| input(Change::Put(key.clone(), value.clone())));
            std::iter::once(input(Change::Restart)).chain(put).chain([input(Change::Listed)]).collect()
        }
        let clusters = [("paris".into(), self.settings.clone())].into_iter().filter(|_| !self.gone).collect();
        let mut lists = list(&self.services, Input::Service);
        lists.extend(list(&self.ingresses, |change| Input::Ingress(change, Some("1".into()))));
        lists.extend(list(&self.slices, Input::Slice));
        lists.extend(list(&self.secrets, Input::Secret));
        lists.extend(list(&self.nodes, Input::Node));
        lists.extend(list(&BTreeMap::new(), Input::Class));
        lists.extend(list(&clusters, Input::Cluster));
        for kind in Kind::ALL {
            let found = self.there.iter().filter(|(id, _)| id.kind == kind);
            let found: BTreeMap<_, _> = found
                .map(|(id, (body, revision))| (id.name.clone(), found_of(id, body, *revision)))
                .collect();
            lists.extend(list(&found, move |change| Input::Found(kind, change)));
        }
        lists
    }

    /// Carries a write out, and says what watches tell of it.
    fn write(
        &mut self,
        keeper: &mut Keeper,
        write: Write,
        outcome: Option<Outcome>,
        now: Instant,
    ) -> Vec<Input> {
        self.writes += 1;
        self.revision += 1;
        let reason = Some("because".into());
        match write {
            Write::LoadBalancer(id, body) => {
                if let Some(outcome) = outcome {
                    keeper.done_there(&id, &Report { outcome, reason }, now, 0.5);
                    return Vec::new();
                }
                self.check(&id, body.as_ref());
                let (change, done) = match body {
                    Some(body) => {
                        let found = found_of(&id, &body, self.revision);
                        self.there.insert(id.clone(), (body, self.revision));
                        let done = Some((found.digest, self.revision));
                        (Change::Put(id.name.clone(), found), done)
                    }
                    None => {
                        assert!(self.there.remove(&id).is_some(), "{id} is not there");
                        (Change::Gone(id.name.clone()), None)
                    }
                };
                keeper.done_there(&id, &Report { outcome: Outcome::Done(done), reason: None }, now, 0.5);
                vec![Input::Found(id.kind, change)]
            }
            Write::NoCompanion(key, _) => {
                let id = MemberId::Companion(key.clone());
                if let Some(outcome) = outcome {
                    keeper.done_here(&id, &Report { outcome, reason }, now, 0.5);
                    return Vec::new();
                }
                assert!(self.services.remove(&key).is_some_and(|it| it.companion.is_some()), "{key}");
                keeper.done_here(&id, &Report { outcome: Outcome::Done(None), reason: None }, now, 0.5);
                vec![Input::Service(Change::Gone(key))]
            }
            Write::Companion(key, mut object) => {
                let id = MemberId::Companion(key.clone());
                if let Some(outcome) = outcome {
                    self.refused_companion |= outcome == Outcome::Refused;
                    keeper.done_here(&id, &Report { outcome, reason }, now, 0.5);
                    return Vec::new();
                }
                object.metadata.resource_version = Some(self.revision.to_string());
                for port in object.spec.iter_mut().flat_map(|spec| spec.ports.iter_mut().flatten()) {
                    self.next_port += 1;
                    port.node_port = Some(i32::from(31000 + self.next_port));
                }
                let read = crate::view::read::service(&object, &mut Names::default());
                let digest = read.companion.as_ref().unwrap().digest;
                self.services.insert(key.clone(), read.clone());
                let done = Outcome::Done(Some((digest, self.revision)));
                keeper.done_here(&id, &Report { outcome: done, reason: None }, now, 0.5);
                vec![Input::Service(Change::Put(key, read))]
            }
            Write::Status { key, entries, .. } => {
                let id = MemberId::Status(key.clone());
                if let Some(outcome) = outcome {
                    keeper.done_here(&id, &Report { outcome, reason }, now, 0.5);
                    return Vec::new();
                }
                let done = Outcome::Done(Some((digest(&entries), self.revision)));
                keeper.done_here(&id, &Report { outcome: done, reason: None }, now, 0.5);
                let Some(ingress) = self.ingresses.get_mut(&key) else { return Vec::new() };
                ingress.status = entries.into();
                vec![Input::Ingress(
                    Change::Put(key, ingress.clone()),
                    Some(self.revision.to_string().into()),
                )]
            }
        }
    }

    /// What no write may do: let requests meet a pool that is gone, or not there yet though it is to be.
    fn check(&self, id: &Id, body: Option<&Body>) {
        let uses = |body: &Body| -> Vec<Id> {
            let Body::LoadBalancer(spec) = body else { return Vec::new() };
            let pools = spec.rules.iter().flat_map(|rule| &rule.backends);
            pools.map(|backend| Id::new(Kind::Pool, &*backend.pool)).collect()
        };
        if id.kind == Kind::Pool && body.is_none() {
            // The rule may stand on where the Service is gone; its object is up to date then.
            let users = self.there.iter().filter(|(_, (body, _))| uses(body).contains(id));
            for (user, (body, _)) in users {
                let Body::LoadBalancer(spec) = body else { continue };
                let origin = spec.origin.as_ref().unwrap();
                let key = Key::new(&*origin.namespace, &*origin.name);
                let current = self.ingresses.get(&key).map(|ingress| self.translated(&key, ingress));
                let current = current.and_then(|current| match current.object {
                    translate::Outcome::Object(spec) => Some(Body::LoadBalancer(spec)),
                    translate::Outcome::Foreign | translate::Outcome::Held => None,
                });
                if current.is_none() && self.refused_companion {
                    // Nobody waits for a companion that was refused.
                    continue;
                }
                assert_eq!(
                    current.as_ref(),
                    Some(body),
                    "{id} goes before {user}, which names it and is out of date"
                );
            }
        }
    }

    fn view(&self) -> View {
        let mut view = View::default();
        for (key, it) in &self.services {
            view.service(Change::Put(key.clone(), it.clone()));
        }
        for (key, it) in &self.secrets {
            view.secret(Change::Put(key.clone(), *it));
        }
        view
    }

    fn translated(&self, key: &Key, ingress: &Ingress) -> translate::Translation {
        let load_balancer = Id::new(Kind::LoadBalancer, names::load_balancer(&key.namespace, &key.name));
        let gateway = match self.there.get(&load_balancer) {
            Some((Body::LoadBalancer(spec), _)) => {
                let mut pools = spec.rules.iter().flat_map(|rule| &rule.backends);
                pools.any(|backend| names::is_ingress_pool(&backend.pool))
            }
            _ => false,
        };
        let stands = |source: &PoolSource| match self.there.get(&Id::new(Kind::Pool, source.name())) {
            Some((Body::Pool(spec), _)) => Some(Endpoints::of(spec)),
            _ => None,
        };
        let ways = translate::Ways { gateway, stands: &stands };
        translate::ingress(&self.view(), &self.settings, ways, "paris", key, ingress)
    }
}

fn found_of(id: &Id, body: &Body, revision: u64) -> Found {
    let mut names = Names::default();
    let (_, mut found) = match body.clone() {
        Body::LoadBalancer(spec) => {
            let mut object = HTTPLoadBalancer::new(&id.name, *spec);
            let host = Some(format!("{}.paris.lb.example.net", id.name.rsplit('.').next().unwrap()));
            object.status = Some(portolan_api::kinds::HTTPLoadBalancerStatus { host, ..Default::default() });
            object.found(&mut names).unwrap()
        }
        Body::Pool(spec) => UpstreamPool::new(&id.name, *spec).found(&mut names).unwrap(),
        Body::Slice(body) => body.object(&id.name).found(&mut names).unwrap(),
        Body::NodeSet(spec) => portolan_api::kinds::NodeSet::new(&id.name, spec).found(&mut names).unwrap(),
        Body::Secret(_, digest) => (id.name.clone(), Found::new(digest, 0)),
    };
    assert_eq!(found.digest, body.digest(), "{id} reads back as another");
    found.version = revision;
    found
}

fn keeper() -> Keeper {
    Keeper::new("paris", NodeAddress::Internal, PACE, PACE)
}

/// Lets everything come to rest. `fate` decides how each write ends; `None` lets it be done.
fn rest(
    world: &mut World,
    keeper: &mut Keeper,
    now: &mut Instant,
    mut fate: impl FnMut() -> Option<Outcome>,
) {
    for _ in 0..10_000 {
        keeper.settle(*now);
        match keeper.next_write(*now) {
            Ok(write) => {
                for input in world.write(keeper, write, fate(), *now) {
                    keeper.apply(input, *now);
                }
            }
            Err(Some(at)) => *now = at.max(*now),
            Err(None) => return,
        }
    }
    panic!("it does not come to rest: {:?}", keeper.figures());
}

fn digests(keeper: &Keeper) -> BTreeMap<Id, Want> {
    keeper.wanted().into_iter().filter(|(_, want)| matches!(want, Want::Digest(_))).collect()
}

/// A refusal that stands though nothing is to be written any more.
fn stale(keeper: &Keeper) -> Option<&Id> {
    keeper.refused.keys().find(|id| !keeper.lb.differs(id))
}

fn settled(acts: &[Act]) -> (World, Keeper, Instant) {
    let mut now = Instant::now();
    let mut world = World::default();
    let mut keeper = keeper();
    for act in acts {
        world.act(act);
    }
    for input in world.lists() {
        keeper.apply(input, now);
    }
    rest(&mut world, &mut keeper, &mut now, || None);
    (world, keeper, now)
}

const CLUSTER_IP: u8 = 0;
const NODE_PORT: u8 = 1;
const LOCAL: u8 = 32;

#[test]
fn nothing_is_written_before_every_list_is_in() {
    let mut world = World::default();
    world.act(&Act::Ingress(0, Some((0, 1, false, true))));
    world.act(&Act::Service(0, Some(NODE_PORT)));
    let id = Id::new(Kind::Pool, "service.shop.gone.80");
    world.there.insert(id, (Body::Pool(Box::default()), 1));
    let now = Instant::now();
    let lists = world.lists();
    let ends: Vec<usize> =
        (0..lists.len()).filter(|at| format!("{:?}", lists[*at]).contains("Listed")).collect();
    for missing in ends {
        let mut keeper = keeper();
        for (at, input) in lists.iter().enumerate() {
            if at != missing {
                keeper.apply(input.clone(), now);
            }
        }
        keeper.settle(now);
        assert!(!keeper.synced(), "{:?}", lists[missing]);
        assert!(keeper.next_write(now).is_err());
    }
}

#[test]
fn a_change_writes_what_it_changes() {
    let mut acts = vec![Act::Reach(1)];
    acts.extend((0..4).map(|n| Act::Service(n, Some(CLUSTER_IP))));
    acts.extend((0..3).map(|n| Act::Ingress(n, Some((n, 1, true, true)))));
    acts.extend((0..4).flat_map(|s| (0..3).map(move |n| Act::Slice(s, n, Some(3)))));
    acts.push(Act::Secret(0, Some(1)));
    acts.extend([0, 1].map(|n| Act::Node(n, Some(true))));
    let (mut world, mut keeper, mut now) = settled(&acts);
    let rows = [
        ("the same again", Act::Service(0, Some(CLUSTER_IP)), 0),
        ("an endpoint", Act::Slice(1, 1, Some(2)), 1),
        ("a slice that nobody uses", Act::Slice(3, 7, Some(0)), 0),
        ("a node", Act::Node(0, Some(false)), 1),
        ("the last node, so that all count again", Act::Node(1, Some(false)), 1),
        ("a certificate", Act::Secret(0, Some(2)), 1),
        ("a certificate that nobody names", Act::Secret(1, Some(2)), 0),
        ("a foreign Ingress", Act::Ingress(7, Some((0, 1, true, false))), 0),
    ];
    for (what, act, writes) in rows {
        let before = world.writes;
        let input = world.act(&act);
        keeper.apply(input, now);
        rest(&mut world, &mut keeper, &mut now, || None);
        assert_eq!(world.writes - before, writes, "{what}");
    }
}
