//! Another reach takes nothing away that is served.

use super::*;

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
    const NO_GATEWAY: u8 = 3;
    type Refuses = fn(&Id) -> bool;
    let rows: [(&str, [u8; 2], Refuses, bool); 9] = [
        ("an address of the gateway that is not there", [NODES, NO_GATEWAY], |_| false, false),
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
            Act::Service(1, Some(NODE_PORT | LOCAL)),
            Act::Ingress(0, Some((1, 1, false, true))),
            Act::Slice(1, 0, Some(3)),
            Act::Slice(1, 1, Some(3)),
            Act::Node(0, Some(true)),
            Act::Reach(from),
        ] {
            world.act(&act);
        }
        let given = [from, to].contains(&GATEWAY);
        let address = StatusEntry { ip: Some("192.0.2.9".into()), ..StatusEntry::default() };
        world.ingresses.get_mut(&key("i0".to_owned())).unwrap().status =
            given.then_some(address).into_iter().collect();
        for input in world.lists() {
            keeper.apply(input, now);
        }
        let mut before = None;
        for reach in [from, to] {
            let input = world.act(&Act::Reach(reach.min(GATEWAY)));
            keeper.apply(input, now);
            // The nodes are refused from the start, the others with the other reach.
            let refused = |id: &Id| refuses(id) && (reach == to || nodes(id));
            play(&mut world, &mut keeper, &mut now, refused, |world| {
                assert!(before.is_none() || serves(world), "{what}: {:?}", world.there.keys());
            });
            assert!(serves(&world), "{what}: {:?}", world.there.keys());
            let leads = named(&world);
            match &before {
                Some(before) => assert_eq!(*before != leads, moves, "{what}: {before:?} {leads:?}"),
                None => before = Some(leads),
            }
        }
        let refused = !["nothing", "an address of the gateway that is not there"].contains(&what);
        assert_eq!(keeper.refused(now).is_some(), refused, "{what}");

        // What happens in the member cluster is followed all the same, as far as it is not refused itself.
        let edit = world.act(&Act::Ingress(0, Some((1, 1, true, true))));
        for input in [world.act(&Act::Slice(1, 0, Some(2))), world.act(&Act::Slice(1, 2, Some(1))), edit] {
            keeper.apply(input, now);
            play(&mut world, &mut keeper, &mut now, refuses, |world| {
                assert!(serves(world), "{what}: {:?}", world.there.keys());
            });
        }
        let Some(Body::LoadBalancer(lb)) = there(&world, Kind::LoadBalancer, "ingress.shop.i0") else {
            panic!("{what}: it is gone");
        };
        assert_eq!(lb.tls.len(), 1, "{what}");
        let pool = &*lb.rules[0].backends[0].pool;
        let Some(Body::Pool(spec)) = there(&world, Kind::Pool, pool) else {
            panic!("{what}: no pool {pool}")
        };
        match Endpoints::of(spec) {
            Endpoints::Pool => assert_eq!(pool, "ingress.shop.i0", "{what}"),
            Endpoints::Nodes => {
                assert_eq!(pool, "service.shop.s1.81", "{what}");
                let nodes = spec.node_port.as_ref().unwrap().nodes.clone();
                assert_eq!(nodes, Some(vec!["n0".to_owned(), "n1".to_owned()]), "{what}");
            }
            Endpoints::Slices => {
                assert_eq!(pool, "service.shop.s1.81", "{what}");
                for (key, slice) in &world.slices {
                    let name = names::slice(pool, &key.namespace, &key.name);
                    let wanted = crate::objects::SliceBody::of(pool, slice, "http").unwrap();
                    let found = there(&world, Kind::Slice, &name).map(Body::digest);
                    let refused = refuses(&Id::new(Kind::Slice, &*name));
                    assert_eq!(found, (!refused).then(|| digest(&wanted)), "{what}: {name}");
                }
            }
        }
    }
}

/// Lets time pass, and looks after each write.
fn play(
    world: &mut World,
    keeper: &mut Keeper,
    now: &mut Instant,
    refused: impl Fn(&Id) -> bool,
    look: impl Fn(&World),
) {
    let until = *now + Duration::from_secs(600);
    while *now < until {
        keeper.settle(*now);
        match keeper.next_write(*now) {
            Ok(write) => {
                let refused = matches!(&write, Write::LoadBalancer(id, _) if refused(id));
                for input in world.write(keeper, write, refused.then_some(Outcome::Refused), *now) {
                    keeper.apply(input, *now);
                }
            }
            Err(at) => *now = at.unwrap_or(until).max(*now),
        }
        look(world);
    }
}

fn there<'w>(world: &'w World, kind: Kind, name: &str) -> Option<&'w Body> {
    world.there.get(&Id::new(kind, name)).map(|(body, _)| body)
}

/// Where the endpoints stand of the pools that are named.
fn named(world: &World) -> Vec<Option<Endpoints>> {
    match there(world, Kind::LoadBalancer, "ingress.shop.i0") {
        Some(Body::LoadBalancer(lb)) => {
            let backends = lb.rules.iter().flat_map(|rule| &rule.backends);
            backends.map(|backend| there(world, Kind::Pool, &backend.pool).and_then(leads_to)).collect()
        }
        _ => Vec::new(),
    }
}

fn leads_to(body: &Body) -> Option<Endpoints> {
    if let Body::Pool(spec) = body { Some(Endpoints::of(spec)) } else { None }
}

/// Whether the pools that are named are there, with something that holds their endpoints.
fn serves(world: &World) -> bool {
    let Some(Body::LoadBalancer(lb)) = there(world, Kind::LoadBalancer, "ingress.shop.i0") else {
        return false;
    };
    lb.rules.iter().flat_map(|rule| &rule.backends).any(|backend| {
        let endpoints = there(world, Kind::Pool, &backend.pool).and_then(leads_to);
        endpoints.is_some_and(|endpoints| match endpoints {
            Endpoints::Slices => world
                .there
                .keys()
                .any(|id| id.kind == Kind::Slice && names::pool_of_slice(&id.name) == backend.pool),
            Endpoints::Nodes => there(world, Kind::NodeSet, names::NODE_SET).is_some(),
            Endpoints::Pool => true,
        })
    })
}
