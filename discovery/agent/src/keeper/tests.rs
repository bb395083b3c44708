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
                Input::Cluster(Change::Put("paris".into(), self.settings.clone()))
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
        let clusters = [("paris".into(), self.settings.clone())].into();
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
        translate::ingress(&self.view(), &self.settings, "paris", key, ingress)
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happened in whatever order, it ends as if what is there now had been there from the start: in the LB cluster, in companions
    /// and in statuses. On the way writes fail, are refused, and the agent starts anew.
    #[test]
    fn any_history_ends_as_its_end_alone(
        acts in prop::collection::vec(act(), 1..40),
        fates in prop::collection::vec(0..12u8, 16),
        restarts in prop::collection::vec(any::<bool>(), 40),
    ) {
        let mut now = Instant::now();
        let mut world = World::default();
        let mut keeper = keeper();
        for input in world.lists() {
            keeper.apply(input, now);
        }
        let mut fate = fates.iter().cycle().map(|fate| match fate {
            0 => Some(Outcome::Failed),
            1 => Some(Outcome::Unreachable),
            2 => Some(Outcome::Refused),
            3 => Some(Outcome::Conflict),
            _ => None,
        });
        let mut under_way = Vec::new();
        for (act, restart) in acts.iter().zip(&restarts) {
            let input = world.act(act);
            keeper.apply(input, now);
            if !under_way.is_empty() {
                // What was wanted may be another by now.
                keeper.settle(now);
            }
            for (write, outcome) in under_way.drain(..) {
                world.write(&mut keeper, write, Some(outcome), now);
            }
            prop_assert_eq!(stale(&keeper), None);
            if let Act::Service(name, None) = act {
                // Its owner takes a companion with it.
                let companion = companion_of(&self::key(format!("s{name}")));
                if world.services.remove(&companion).is_some() {
                    keeper.apply(Input::Service(Change::Gone(companion)), now);
                }
            }
            if *restart {
                // A few writes, and then a new start somewhere in between.
                for _ in 0..3 {
                    keeper.settle(now);
                    let Ok(write) = keeper.next_write(now) else { break };
                    match fate.next().flatten() {
                        Some(outcome) => under_way.push((write, outcome)),
                        None => {
                            for input in world.write(&mut keeper, write, None, now) {
                                keeper.apply(input, now);
                            }
                        }
                    }
                }
                if acts.len() % 2 == 0 {
                    under_way.clear();
                    keeper = self::keeper();
                    for input in world.lists() {
                        keeper.apply(input, now);
                    }
                }
            }
        }
        for (write, outcome) in under_way {
            world.write(&mut keeper, write, Some(outcome), now);
        }
        rest(&mut world, &mut keeper, &mut now, || None);
        prop_assert_eq!(keeper.refused.len(), 0);

        // What is wanted is there, and nothing else.
        let there: BTreeMap<Id, Want> =
            world.there.iter().map(|(id, (body, _))| (id.clone(), Want::Digest(body.digest()))).collect();
        let held: Vec<_> = keeper.wanted().into_iter().filter(|(_, want)| *want == Want::Held).map(|(id, _)| id).collect();
        let without_held = |all: BTreeMap<Id, Want>| -> BTreeMap<Id, Want> {
            all.into_iter().filter(|(id, _)| !held.contains(id)).collect()
        };
        prop_assert_eq!(without_held(there.clone()), without_held(digests(&keeper)));

        // A new start writes nothing, and wants the same.
        let before = world.writes;
        let mut fresh = self::keeper();
        for input in world.lists() {
            fresh.apply(input, now);
        }
        rest(&mut world, &mut fresh, &mut now, || None);
        prop_assert_eq!(world.writes, before, "a restart wrote");
        prop_assert_eq!(digests(&fresh), digests(&keeper));

        // Lists that are taken again change nothing either.
        for input in world.lists() {
            keeper.apply(input, now);
        }
        rest(&mut world, &mut keeper, &mut now, || None);
        prop_assert_eq!(world.writes, before, "a list wrote");

        // Statuses have the names of what is ours, and only of that.
        for (key, ingress) in &world.ingresses {
            let ours = ingress.class.as_deref() == Some("portolan");
            let there = world.there.contains_key(&Id::new(Kind::LoadBalancer, names::load_balancer("shop", &key.name)));
            if ours && there {
                prop_assert_eq!(ingress.status.len(), 1);
            } else if !ours {
                prop_assert_eq!(ingress.status.len(), 0);
            }
        }
    }
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
fn a_companion_lives_as_long_as_its_last_user() {
    let users = [
        Act::Service(0, Some(CLUSTER_IP)),
        Act::Service(1, Some(CLUSTER_IP)),
        Act::Ingress(0, Some((0, 1, false, true))),
        Act::Ingress(1, Some((0, 1, false, true))),
    ];
    let (mut world, mut keeper, mut now) = settled(&users);
    let companion = key("s0-portolan".to_owned());
    let port = world.services[&companion].ports[0].node_port;
    assert_ne!(port, 0);
    let act = |world: &mut World, keeper: &mut Keeper, now: &mut Instant, act: Act| {
        let input = world.act(&act);
        keeper.apply(input, *now);
        rest(world, keeper, now, || None);
    };
    act(&mut world, &mut keeper, &mut now, Act::Ingress(0, None));
    assert_eq!(world.services[&companion].ports[0].node_port, port, "the other one still uses it");
    // It leaves the class.
    act(&mut world, &mut keeper, &mut now, Act::Ingress(1, Some((0, 1, false, false))));
    assert!(!world.services.contains_key(&companion));
    let left: Vec<_> = world.there.keys().map(|id| id.kind).collect();
    assert_eq!(left, [Kind::NodeSet]);
}

#[test]
fn a_companion_goes_only_after_its_pool() {
    let (mut world, mut keeper, now) = settled(&[
        Act::Service(0, Some(CLUSTER_IP)),
        Act::Service(1, Some(NODE_PORT)),
        Act::Ingress(0, Some((0, 1, false, true))),
    ]);
    let input = world.act(&Act::Ingress(0, None));
    keeper.apply(input, now);
    let mut order = Vec::new();
    let mut now = now;
    loop {
        keeper.settle(now);
        match keeper.next_write(now) {
            Ok(write) => {
                order.push(match &write {
                    Write::LoadBalancer(id, None) => format!("{:?}", id.kind),
                    Write::NoCompanion(..) => "Companion".to_owned(),
                    other => format!("{other:?}"),
                });
                for input in world.write(&mut keeper, write, None, now) {
                    keeper.apply(input, now);
                }
            }
            Err(Some(at)) => now = at.max(now),
            Err(None) => break,
        }
    }
    assert_eq!(order, ["LoadBalancer", "Pool", "Pool", "Companion"]);
}

/// Regression: where the LB cluster refused the pool as it is to be, the companion went all the same that the pool led to.
#[test]
fn a_companion_stays_while_its_pool_cannot_be_changed() {
    let (mut world, mut keeper, mut now) = settled(&[
        Act::Service(0, Some(CLUSTER_IP)),
        Act::Service(1, Some(NODE_PORT)),
        Act::Ingress(0, Some((0, 1, false, true))),
    ]);
    let input = world.act(&Act::Reach(1));
    keeper.apply(input, now);
    let end = now + Duration::from_secs(3600);
    while now < end {
        keeper.settle(now);
        match keeper.next_write(now) {
            Ok(write) => {
                let refused =
                    matches!(&write, Write::LoadBalancer(id, _) if *id.name == *"service.shop.s0.81");
                for input in world.write(&mut keeper, write, refused.then_some(Outcome::Refused), now) {
                    keeper.apply(input, now);
                }
            }
            Err(Some(at)) => now = at.max(now),
            Err(None) => break,
        }
    }
    let companion = key("s0-portolan".to_owned());
    assert!(world.services.contains_key(&companion));
    rest(&mut world, &mut keeper, &mut now, || None);
    assert!(!world.services.contains_key(&companion));
}

/// Regression: a port of a companion went at once, while proxies were still led to it.
#[test]
fn a_port_of_a_companion_goes_only_after_its_pool() {
    let (mut world, mut keeper, mut now) = settled(&[
        Act::Service(0, Some(CLUSTER_IP)),
        Act::Service(1, Some(NODE_PORT)),
        Act::Ingress(0, Some((0, 1, false, true))),
    ]);
    let start = now;
    let input = world.act(&Act::Ingress(0, Some((0, 2, false, true))));
    keeper.apply(input, now);
    let mut order = Vec::new();
    loop {
        keeper.settle(now);
        match keeper.next_write(now) {
            Ok(write) => {
                order.push(match &write {
                    Write::LoadBalancer(id, Some(_)) => id.name.to_string(),
                    Write::LoadBalancer(id, None) => format!("no {}", id.name),
                    Write::Companion(_, object) => {
                        let ports = object.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
                        let ports: Vec<_> = ports.map(|port| port.port).collect();
                        let after = now.duration_since(start).as_secs();
                        format!("companion {ports:?} after {after} s")
                    }
                    other => format!("{other:?}"),
                });
                for input in world.write(&mut keeper, write, None, now) {
                    keeper.apply(input, now);
                }
            }
            Err(Some(at)) => now = at.max(now),
            Err(None) => break,
        }
    }
    let at =
        |what: &str| order.iter().position(|it| it == what).unwrap_or_else(|| panic!("{what}: {order:?}"));
    let sequence = [
        "companion [81, 82] after 0 s",
        "service.shop.s0.82",
        "ingress.shop.i0",
        "no service.shop.s0.81",
        "companion [82] after 10 s",
    ];
    assert!(sequence.map(at).is_sorted(), "{order:?}");
}

#[test]
fn another_reach_never_leaves_a_pool_without_endpoints() {
    let (mut world, mut keeper, mut now) = settled(&[
        Act::Service(0, Some(CLUSTER_IP)),
        Act::Service(1, Some(NODE_PORT)),
        Act::Ingress(0, Some((0, 1, false, true))),
        Act::Slice(0, 0, Some(3)),
        Act::Slice(1, 0, Some(3)),
        Act::Node(0, Some(true)),
    ]);
    for reach in [1, 0, 1, 0] {
        let input = world.act(&Act::Reach(reach));
        keeper.apply(input, now);
        for _ in 0..100 {
            keeper.settle(now);
            match keeper.next_write(now) {
                Ok(write) => {
                    for input in world.write(&mut keeper, write, None, now) {
                        keeper.apply(input, now);
                    }
                }
                Err(Some(at)) => now = at.max(now),
                Err(None) => break,
            }
            let slices =
                |pool: &str| world.there.keys().any(|id| id.kind == Kind::Slice && id.name.starts_with(pool));
            for (id, (body, _)) in &world.there {
                let Body::Pool(pool) = body else { continue };
                assert!(pool.node_port.is_some() || slices(&id.name), "{id} has no endpoints");
            }
            let Some((Body::LoadBalancer(spec), _)) =
                world.there.get(&Id::new(Kind::LoadBalancer, "ingress.shop.i0"))
            else {
                panic!("it is gone");
            };
            for backend in spec.rules.iter().flat_map(|rule| &rule.backends) {
                assert!(
                    world.there.contains_key(&Id::new(Kind::Pool, &*backend.pool)),
                    "{} is gone",
                    backend.pool
                );
            }
        }
    }
}

/// Regression: where the LB cluster refused what another reach leads to, pools were switched to it all the same, and what they led to before went.
#[test]
fn what_is_served_does_not_give_way_to_what_is_refused() {
    fn slice_of(id: &Id) -> bool {
        id.kind == Kind::Slice
    }
    fn other_slice(id: &Id) -> bool {
        slice_of(id) && *id.name != *names::slice("service.shop.s1.81", "shop", "s1-0")
    }
    fn nodes(id: &Id) -> bool {
        id.kind == Kind::NodeSet
    }
    fn gateway(id: &Id) -> bool {
        id.kind == Kind::Pool && id.name.starts_with("ingress.")
    }
    fn pool(id: &Id) -> bool {
        id.kind == Kind::Pool
    }
    const NODES: u8 = 0;
    const PODS: u8 = 1;
    const GATEWAY: u8 = 2;
    type Refuses = fn(&Id) -> bool;
    let rows: [(&str, [u8; 2], Refuses, bool); 8] = [
        ("slices, from the gateway", [GATEWAY, PODS], slice_of, false),
        ("nodes, from the gateway", [GATEWAY, NODES], nodes, false),
        ("all slices", [NODES, PODS], slice_of, false),
        ("one slice of two", [NODES, PODS], other_slice, true),
        ("nodes", [PODS, NODES], nodes, false),
        ("the pool as it is to be", [PODS, NODES], pool, false),
        ("the gateway's address", [PODS, GATEWAY], gateway, false),
        ("nothing", [GATEWAY, PODS], |_| false, true),
    ];
    for (what, [from, to], refuses, moves) in rows {
        let mut now = Instant::now();
        let (mut world, mut keeper) = (World::default(), keeper());
        for act in [
            Act::Service(1, Some(NODE_PORT)),
            Act::Ingress(0, Some((1, 1, false, true))),
            Act::Slice(1, 0, Some(3)),
            Act::Slice(1, 1, Some(3)),
            Act::Node(0, Some(true)),
            Act::Reach(from),
        ] {
            world.act(&act);
        }
        let address = StatusEntry { ip: Some("192.0.2.9".into()), ..StatusEntry::default() };
        world.ingresses.get_mut(&key("i0".to_owned())).unwrap().status = [address].into();
        for input in world.lists() {
            keeper.apply(input, now);
        }
        let mut before = None;
        for reach in [from, to] {
            let input = world.act(&Act::Reach(reach));
            keeper.apply(input, now);
            let until = now + Duration::from_secs(600);
            while now < until {
                keeper.settle(now);
                match keeper.next_write(now) {
                    Ok(write) => {
                        // The nodes are refused from the start, the others with the other reach.
                        let refused = matches!(&write, Write::LoadBalancer(id, _)
                            if refuses(id) && (reach == to || nodes(id)));
                        for input in world.write(&mut keeper, write, refused.then_some(Outcome::Refused), now)
                        {
                            keeper.apply(input, now);
                        }
                    }
                    Err(at) => now = at.unwrap_or(until).max(now),
                }
                if before.is_some() {
                    assert!(serves(&world), "{what}: {:?}", world.there.keys());
                }
            }
            assert!(serves(&world), "{what}: {:?}", world.there.keys());
            let leads = named(&world);
            match &before {
                Some(before) => assert_eq!(*before != leads, moves, "{what}: {before:?} {leads:?}"),
                None => before = Some(leads),
            }
        }
        assert_eq!(keeper.refused(now).is_some(), what != "nothing", "{what}");
    }
}

/// Where the endpoints stand of the pools that are named.
fn named(world: &World) -> Vec<Option<Endpoints>> {
    let there = |id: &Id| world.there.get(id).map(|(body, _)| body);
    match there(&Id::new(Kind::LoadBalancer, "ingress.shop.i0")) {
        Some(Body::LoadBalancer(lb)) => {
            let backends = lb.rules.iter().flat_map(|rule| &rule.backends);
            backends.map(|backend| there(&Id::new(Kind::Pool, &*backend.pool)).and_then(leads_to)).collect()
        }
        _ => Vec::new(),
    }
}

fn leads_to(body: &Body) -> Option<Endpoints> {
    if let Body::Pool(spec) = body { Some(Endpoints::of(spec)) } else { None }
}

/// Whether the pools that are named are there, with something that holds their endpoints.
fn serves(world: &World) -> bool {
    let there = |id: &Id| world.there.get(id).map(|(body, _)| body);
    let Some(Body::LoadBalancer(lb)) = there(&Id::new(Kind::LoadBalancer, "ingress.shop.i0")) else {
        return false;
    };
    lb.rules.iter().flat_map(|rule| &rule.backends).any(|backend| {
        let endpoints = there(&Id::new(Kind::Pool, &*backend.pool)).and_then(leads_to);
        endpoints.is_some_and(|endpoints| match endpoints {
            Endpoints::Slices => world
                .there
                .keys()
                .any(|id| id.kind == Kind::Slice && names::pool_of_slice(&id.name) == backend.pool),
            Endpoints::Nodes => there(&Id::new(Kind::NodeSet, names::NODE_SET)).is_some(),
            Endpoints::Pool => true,
        })
    })
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

#[test]
fn what_is_refused_is_told_and_harms_nothing_else() {
    let mut now = Instant::now();
    let mut world = World::default();
    let mut keeper = keeper();
    world.act(&Act::Service(0, Some(NODE_PORT)));
    world.act(&Act::Service(1, Some(NODE_PORT)));
    world.act(&Act::Ingress(0, Some((0, 1, false, true))));
    for input in world.lists() {
        keeper.apply(input, now);
    }
    // The first pool is refused for good.
    for _ in 0..10 {
        keeper.settle(now);
        let Ok(write) = keeper.next_write(now) else { break };
        let refused = matches!(&write, Write::LoadBalancer(id, _) if *id.name == *"service.shop.s0.81");
        for input in world.write(&mut keeper, write, refused.then_some(Outcome::Refused), now) {
            keeper.apply(input, now);
        }
    }
    let kinds: Vec<_> = world.there.keys().map(|id| id.kind).collect();
    assert_eq!(kinds, [Kind::NodeSet, Kind::Pool, Kind::LoadBalancer]);
    now += Duration::from_secs(6);
    keeper.settle(now);
    let (about, _, (reason, message)) = keeper.next_notice(now).unwrap();
    assert_eq!((about, &*reason), (About::Ingress(key("i0".to_owned())), "WriteRefused"));
    assert_eq!(&*message, "the LB cluster refuses port 81 of Service shop/s0: because");
    // The LB cluster is told as well, until it is over.
    assert_eq!(keeper.refused(now).as_deref(), Some(&*message));
    rest(&mut world, &mut keeper, &mut now, || None);
    assert_eq!(keeper.refused(now + Duration::from_secs(60)), None);
}

/// Regression: that the LB cluster refused the nodes of a cluster stood in its agent's log alone.
#[test]
fn nodes_that_are_refused_are_told_of_on_both_sides() {
    let mut now = Instant::now();
    let mut world = World::default();
    let mut keeper = keeper();
    world.act(&Act::Service(0, Some(NODE_PORT)));
    world.act(&Act::Service(1, Some(NODE_PORT)));
    world.act(&Act::Ingress(0, Some((0, 1, false, true))));
    world.act(&Act::Node(0, Some(true)));
    for input in world.lists() {
        keeper.apply(input, now);
    }
    for _ in 0..10 {
        keeper.settle(now);
        let Ok(write) = keeper.next_write(now) else { break };
        let refused = matches!(&write, Write::LoadBalancer(id, _) if id.kind == Kind::NodeSet);
        for input in world.write(&mut keeper, write, refused.then_some(Outcome::Refused), now) {
            keeper.apply(input, now);
        }
    }
    keeper.settle(now);
    assert_eq!(keeper.refused(now), None, "much is over in a moment");
    now += Duration::from_secs(6);
    let expected = "the LB cluster refuses the nodes of this cluster: because";
    assert_eq!(keeper.refused(now).as_deref(), Some(expected));
    let (about, _, (reason, message)) = keeper.next_notice(now).unwrap();
    assert_eq!((about, &*reason, &*message), (About::Agent, "WriteRefused", expected));
    rest(&mut world, &mut keeper, &mut now, || None);
    assert_eq!(keeper.refused(now + Duration::from_secs(60)), None);
    assert_eq!(keeper.figures().refusals, 0);
    // It is over as well where what was refused is not wanted any more.
    let input = world.act(&Act::Node(1, Some(true)));
    keeper.apply(input, now);
    keeper.settle(now);
    now += Duration::from_secs(1);
    let write = keeper.next_write(now).unwrap();
    world.write(&mut keeper, write, Some(Outcome::Refused), now);
    now += Duration::from_secs(6);
    assert!(keeper.refused(now).is_some());
    let input = world.act(&Act::Node(1, None));
    keeper.apply(input, now);
    rest(&mut world, &mut keeper, &mut now, || None);
    assert_eq!(keeper.refused(now), None);
    assert_eq!(keeper.figures().refusals, 0);
}

/// Regression: that an API server does not serve a kind stood in the agent's log alone.
#[test]
fn kinds_that_cannot_be_watched_are_told_of_on_both_sides() {
    let mut now = Instant::now();
    let mut keeper = keeper();
    let watched = |there: bool, kind: &str| Watched { there, kind: kind.into() };
    let told = |kind: &str| -> Told { ("KindNotServed".into(), kind.into()) };
    // Nothing has been listed: without these kinds nothing may ever be.
    for (there, kind) in [(true, "UpstreamPool"), (false, "Service")] {
        keeper.apply(Input::Watched(watched(there, kind), Some(told(kind))), now);
    }
    assert_eq!((keeper.refused(now), keeper.figures().refusals), (None, 2), "it may be over in a moment");
    now += Duration::from_secs(6);
    assert_eq!(keeper.refused(now).as_deref(), Some("Service; and 1 more"));
    let notices = [keeper.next_notice(now).unwrap(), keeper.next_notice(now).unwrap()];
    let expected = ["UpstreamPool", "Service"].map(|kind| (About::Agent, Box::default(), told(kind)));
    assert_eq!(notices, expected);
    // It is installed, and what is said of nodes is another matter.
    keeper.apply(Input::Watched(watched(true, "UpstreamPool"), None), now);
    for input in World::default().lists() {
        keeper.apply(input, now);
    }
    keeper.settle(now);
    assert_eq!(keeper.refused(now).as_deref(), Some("Service"));
    keeper.apply(Input::Watched(watched(false, "Service"), None), now);
    assert_eq!(keeper.refused(now), None);
}

/// Regression: a refusal stood for good where its object was gone, held or right again when the write was refused, or came to be held afterwards.
#[test]
fn a_refusal_goes_with_what_was_refused() {
    let users = [
        Act::Service(0, Some(NODE_PORT)),
        Act::Service(1, Some(NODE_PORT)),
        Act::Service(2, Some(CLUSTER_IP)),
        Act::Service(3, Some(NODE_PORT)),
    ];
    let plain = Some((0, 1, false, true));
    let rows = [
        ("gone", None, None),
        ("held", None, Some((2, 1, false, true))),
        ("held, and there", plain, Some((2, 1, false, true))),
        ("right again", plain, plain),
    ];
    for (what, before, after) in rows {
        for late in [false, true] {
            let (mut world, mut keeper, mut now) = settled(&users);
            if before.is_some() {
                let input = world.act(&Act::Ingress(0, before));
                keeper.apply(input, now);
                rest(&mut world, &mut keeper, &mut now, || None);
            }
            let input = world.act(&Act::Ingress(0, Some((0, 2, false, true))));
            keeper.apply(input, now);
            let write = loop {
                keeper.settle(now);
                match keeper.next_write(now).unwrap() {
                    write @ Write::LoadBalancer(Id { kind: Kind::LoadBalancer, .. }, _) => break write,
                    other => {
                        for input in world.write(&mut keeper, other, None, now) {
                            keeper.apply(input, now);
                        }
                    }
                }
            };
            let change = world.act(&Act::Ingress(0, after));
            if late {
                keeper.apply(change, now);
                keeper.settle(now);
                world.write(&mut keeper, write, Some(Outcome::Refused), now);
            } else {
                world.write(&mut keeper, write, Some(Outcome::Refused), now);
                assert_eq!(keeper.refused.len(), 1, "{what}");
                keeper.apply(change, now);
            }
            keeper.settle(now);
            assert_eq!(keeper.refused(now + STANDS), None, "{what}, late: {late}");
        }
    }
}
