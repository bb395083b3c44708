//! Which endpoint of a pool gets the next request?
//!
//! *Round robin* hands out tickets of one round of [`turns`](crate::turns); where the endpoint of a ticket is no
//! candidate the next ticket is drawn, so that those that are share what it leaves by their weights. *Least request* draws
//! two candidates by weight and takes the one with fewer requests under way relative to its weight; where they are level
//! the first, so that an idle pool is shared by weight too.
//!
//! Invariant: a pick is a candidate of a weight above 0, and there is one if such an endpoint exists. Cost: O(1) without a
//! lock while most endpoints are candidates; after [`DRAWS`] misses one pass over the endpoints.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use portolan_model::pool::Balancing;

use crate::turns::Turns;

/// So many draws may miss.
const DRAWS: usize = 64;

/// The balancing of one pool's endpoints, which it knows by their indices alone.
#[derive(Debug)]
pub struct Balancer {
    balancing: Balancing,
    weights: Box<[u32]>,
    turns: Turns,
    ticket: AtomicUsize,
}

impl Balancer {
    /// Balances endpoints of these weights, which may be anything; 0 is never picked. `seed` chooses where the first round
    /// starts, so that many proxies do not start with the same endpoint.
    pub fn new(balancing: Balancing, weights: &[u32], seed: u64) -> Self {
        let turns = Turns::build(weights);
        let ticket = AtomicUsize::new(seed as usize % turns.len().max(1));
        Self { balancing, weights: weights.into(), turns, ticket }
    }

    /// The endpoint for the next request among those that are a `candidate`. `load` says how many
    /// requests are under way there; only least request asks, and uses `random`.
    pub fn pick(
        &self,
        random: u64,
        load: impl Fn(usize) -> u32,
        candidate: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if self.turns.len() == 0 {
            return None;
        }
        match self.balancing {
            Balancing::RoundRobin => self.next_in_turn(candidate),
            Balancing::LeastRequest => self.less_loaded(random, load, candidate),
        }
    }

    fn next_in_turn(&self, candidate: impl Fn(usize) -> bool) -> Option<usize> {
        let mut last = 0;
        for _ in 0..DRAWS.min(self.turns.len()) {
            last = self.turns.at(self.ticket.fetch_add(1, Relaxed));
            if candidate(last) {
                return Some(last);
            }
        }
        let count = self.weights.len();
        (last + 1..=last + count)
            .map(|index| index % count)
            .find(|&index| self.weights[index] > 0 && candidate(index))
    }

    fn less_loaded(
        &self,
        random: u64,
        load: impl Fn(usize) -> u32,
        candidate: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let relative = |index: usize| Relative { load: load(index), weight: self.weights[index] };
        let mut first = None;
        for draw in 0..DRAWS {
            let index = self.turns.at(scramble(random.wrapping_add(draw as u64)) as usize);
            if !candidate(index) {
                continue;
            }
            match first {
                None => first = Some(index),
                Some(other) if other == index => {}
                Some(other) => {
                    return Some(if relative(index) < relative(other) { index } else { other });
                }
            }
        }
        let rest = || (0..self.weights.len()).filter(|&index| self.weights[index] > 0 && candidate(index));
        let least = rest().min_by(|&a, &b| relative(a).cmp(&relative(b)));
        match (first, least) {
            (Some(first), Some(least)) if relative(first) <= relative(least) => Some(first),
            (_, least) => least,
        }
    }
}

/// Requests under way relative to a weight, compared without division.
#[derive(Clone, Copy)]
struct Relative {
    load: u32,
    weight: u32,
}

impl Ord for Relative {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let (left, right) = (u64::from(self.load), u64::from(other.load));
        (left * u64::from(other.weight)).cmp(&(right * u64::from(self.weight)))
    }
}

impl PartialOrd for Relative {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Relative {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Relative {}

/// SplitMix64's output function: neighbouring numbers become unrelated ones.
pub fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
