use proptest::prelude::*;

use super::*;

fn idle(_: usize) -> u32 {
    0
}

fn all(_: usize) -> bool {
    true
}

/// How often each endpoint is picked in `picks` picks.
fn shares(
    balancer: &Balancer,
    picks: usize,
    load: impl Fn(usize) -> u32,
    candidate: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let mut counts = vec![0; balancer.weights.len()];
    for pick in 0..picks {
        if let Some(index) = balancer.pick(scramble(pick as u64), &load, &candidate) {
            counts[index] += 1;
        }
    }
    counts
}

#[test]
fn round_robin_takes_turns() {
    let balancer = Balancer::new(Balancing::RoundRobin, &[1, 1, 1], 1);
    let picks: Vec<_> = (0..6).filter_map(|_| balancer.pick(0, idle, all)).collect();
    assert_eq!(picks, [1, 2, 0, 1, 2, 0]);
}

#[test]
fn what_is_left_out_leaves_its_share_to_all_others() {
    let balancer = Balancer::new(Balancing::RoundRobin, &[1, 1, 1], 0);
    assert_eq!(shares(&balancer, 600, idle, |index| index != 1), [300, 0, 300]);
}

#[test]
fn one_candidate_among_many_is_found() {
    for balancing in [Balancing::RoundRobin, Balancing::LeastRequest] {
        let mut weights = vec![100; 1000];
        weights[777] = 1;
        let balancer = Balancer::new(balancing, &weights, 3);
        assert_eq!(shares(&balancer, 10, idle, |index| index == 777)[777], 10, "{balancing:?}");
        assert_eq!(balancer.pick(0, idle, |_| false), None);
    }
}

#[test]
fn a_pool_without_endpoints_or_weights_has_none_to_pick() {
    for balancing in [Balancing::RoundRobin, Balancing::LeastRequest] {
        for weights in [&[][..], &[0, 0]] {
            assert_eq!(Balancer::new(balancing, weights, 9).pick(5, idle, all), None);
        }
    }
}

#[test]
fn least_request_avoids_the_busy_one() {
    let balancer = Balancer::new(Balancing::LeastRequest, &[1, 1], 0);
    assert_eq!(shares(&balancer, 100, |index| [9, 2][index], all), [0, 100]);
    let balancer = Balancer::new(Balancing::LeastRequest, &[10, 1], 0);
    assert_eq!(shares(&balancer, 100, |index| [9, 2][index], all), [100, 0], "relative to weight");
}

#[test]
fn least_request_shares_an_idle_pool_by_weight() {
    let balancer = Balancer::new(Balancing::LeastRequest, &[3, 1], 0);
    let shares = shares(&balancer, 40_000, idle, all);
    assert!((29_000..31_000).contains(&shares[0]), "{shares:?}");
}

#[test]
fn least_request_levels_the_load() {
    let weights = [4, 2, 1, 1];
    let balancer = Balancer::new(Balancing::LeastRequest, &weights, 0);
    let mut loads = [0u32; 4];
    for pick in 0..8000u64 {
        let index = balancer.pick(scramble(pick), |index| loads[index], all).unwrap();
        loads[index] += 1;
    }
    for (load, weight) in loads.iter().zip(weights) {
        assert!(load.abs_diff(weight * 1000) < 50, "{loads:?}");
    }
}

#[test]
fn concurrent_round_robin_gives_exact_shares() {
    let balancer = Balancer::new(Balancing::RoundRobin, &[2, 1, 1], 0);
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| shares(&balancer, 10_000, idle, all))).collect();
        threads.into_iter().fold(vec![0; 3], |sum, thread| {
            sum.iter().zip(thread.join().unwrap()).map(|(a, b)| a + b).collect()
        })
    });
    assert_eq!(counts, [20_000, 10_000, 10_000]);
}

proptest! {
    #[test]
    fn round_robin_shares_match_the_weights_of_candidates(
        endpoints in prop::collection::vec((0u32..20, any::<bool>()), 1..8),
        seed in any::<u64>(),
    ) {
        let weights: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.0).collect();
        let candidate = |index: usize| endpoints[index].1;
        let balancer = Balancer::new(Balancing::RoundRobin, &weights, seed);
        let fit = |index: &usize| candidate(*index) && weights[*index] > 0;
        let sum: u32 = (0..weights.len()).filter(fit).map(|index| weights[index]).sum();
        let counts = shares(&balancer, sum as usize * 10, idle, candidate);
        // The longest run of misses can exceed the draws only where a round is longer than they are.
        prop_assume!(balancer.turns.len() <= DRAWS);
        for (index, &count) in counts.iter().enumerate() {
            let expected = if fit(&index) { weights[index] as usize * 10 } else { 0 };
            prop_assert!(count.abs_diff(expected) <= 1, "{counts:?} {endpoints:?}");
        }
    }

    #[test]
    fn picks_are_candidates_and_exist_where_one_does(
        least in any::<bool>(),
        endpoints in prop::collection::vec((0u32..2000, any::<bool>(), 0u32..9), 0..40),
        random in any::<u64>(),
    ) {
        let weights: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.0).collect();
        let balancing = if least { Balancing::LeastRequest } else { Balancing::RoundRobin };
        let balancer = Balancer::new(balancing, &weights, random);
        let fit = |index: usize| endpoints[index].1 && weights[index] > 0;
        let pick = balancer.pick(random, |index| endpoints[index].2, |index| endpoints[index].1);
        prop_assert_eq!(pick.is_some(), (0..weights.len()).any(fit));
        prop_assert!(pick.is_none_or(fit));
    }

    #[test]
    fn of_two_candidates_least_request_never_takes_the_busier(
        loads in prop::collection::vec(0u32..100, 2),
        random in any::<u64>(),
    ) {
        let balancer = Balancer::new(Balancing::LeastRequest, &[1, 1], 0);
        let pick = balancer.pick(random, |index| loads[index], all).unwrap();
        prop_assert!(loads[pick] <= loads[1 - pick]);
    }
}
