//! What is refused is told, and harms nothing else.

use super::*;

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
