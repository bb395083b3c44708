//! Companions live as long as they are used, and go after what leads to them.

use super::*;

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

/// What happened while there was no `Cluster` is made up for: nobody remembers it one by one.
#[test]
fn what_changed_without_a_cluster_is_looked_at_when_it_is_back() {
    let (mut world, mut keeper, mut now) = settled(&[
        Act::Service(0, Some(CLUSTER_IP)),
        Act::Service(1, Some(CLUSTER_IP)),
        Act::Secret(0, Some(1)),
        Act::Ingress(0, Some((0, 1, true, true))),
    ]);
    let companion = companion_of(&key("s0".to_owned()));
    assert!(world.services.contains_key(&companion));
    for act in [
        Act::Cluster(false),
        Act::Secret(0, Some(2)),
        Act::Service(0, None),
        Act::Service(0, Some(CLUSTER_IP)),
        Act::Cluster(true),
    ] {
        let input = world.act(&act);
        keeper.apply(input, now);
        if let Act::Service(_, None) = act {
            // Its owner takes it with it.
            world.services.remove(&companion);
            keeper.apply(Input::Service(Change::Gone(companion.clone())), now);
        }
        keeper.settle(now);
    }
    rest(&mut world, &mut keeper, &mut now, || None);
    assert!(world.services.contains_key(&companion));
    let copies = world.there.values().filter_map(|(body, _)| match body {
        Body::Secret(_, content) => Some(*content),
        _ => None,
    });
    assert_eq!(copies.collect::<Vec<_>>(), [2]);
    let ingress = &world.ingresses[&key("i0".to_owned())];
    assert_eq!(ingress.status.len(), 1);
}
