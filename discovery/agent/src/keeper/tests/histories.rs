//! Whatever happened, it ends as if what is there now had been there from the start.

use super::*;

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
        // Without an address of the gateway what was there before stays.
        let input = if world.settings.reach == Reach::Gateway { Act::Reach(0) } else { Act::Cluster(true) };
        let input = world.act(&input);
        keeper.apply(input, now);
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
