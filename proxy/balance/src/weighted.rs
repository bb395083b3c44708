//! One choice among few, by weight: which backend of a rule, which cluster of those that share a host?
//!
//! Cost: O(choices), no allocation. The caller leaves out what is not available by giving it the weight 0.

use portolan_model::locality::Distance;

/// A choice: its weight, and how far away it is.
pub type Choice = (u32, Distance);

/// The index of a choice among the nearest whose weight is not 0, see [`weighted`].
pub fn nearest(choices: &[Choice], random: u64) -> Option<usize> {
    weighted(weights_of_nearest(choices), random)
}

/// The weights, 0 for what is farther away than another whose weight is not.
pub fn weights_of_nearest(choices: &[Choice]) -> impl Iterator<Item = u32> + Clone {
    let nearest = choices.iter().filter(|(weight, _)| *weight > 0).map(|(_, distance)| *distance).min();
    choices.iter().map(move |(weight, distance)| if Some(*distance) == nearest { *weight } else { 0 })
}

/// The index of a choice, taken with a chance of its weight among all; `None` where all weights are 0. `random` must be
/// spread over all 64 bits.
pub fn weighted(weights: impl Iterator<Item = u32> + Clone, random: u64) -> Option<usize> {
    let sum: u64 = weights.clone().map(u64::from).sum();
    let mut point = ((u128::from(random) * u128::from(sum)) >> 64) as u64;
    weights.map(u64::from).position(|weight| {
        let here = point < weight;
        point = point.saturating_sub(weight);
        here
    })
}

#[cfg(test)]
mod tests {
    use super::Distance::{Elsewhere, SameRegion, SameZone};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn choices_follow_their_weights() {
        for (weights, random, expected) in [
            (&[][..], 0, None),
            (&[0, 0], u64::MAX, None),
            (&[1], 0, Some(0)),
            (&[1, 1], u64::MAX / 2 - 1, Some(0)),
            (&[1, 1], u64::MAX / 2 + 1, Some(1)),
            (&[0, 5, 0], 0, Some(1)),
            (&[0, 5, 0], u64::MAX, Some(1)),
            (&[u32::MAX, u32::MAX], u64::MAX, Some(1)),
        ] {
            assert_eq!(weighted(weights.iter().copied(), random), expected, "{weights:?} {random}");
        }
    }

    #[test]
    fn what_is_near_goes_before_what_is_far() {
        for (choices, expected) in [
            (&[][..], &[][..]),
            (&[(1, Elsewhere), (2, Elsewhere)], &[1, 2]),
            (&[(1, SameRegion), (2, SameZone), (3, SameZone), (4, Elsewhere)], &[0, 2, 3, 0]),
            (&[(1, SameRegion), (0, SameZone), (4, Elsewhere)], &[1, 0, 0]),
            (&[(0, SameRegion), (0, SameZone), (4, Elsewhere)], &[0, 0, 4]),
            (&[(0, SameZone)], &[0]),
        ] {
            assert_eq!(weights_of_nearest(choices).collect::<Vec<_>>(), expected, "{choices:?}");
        }
        assert_eq!(nearest(&[(100, Elsewhere), (1, SameRegion)], u64::MAX / 2), Some(1));
        assert_eq!(nearest(&[(0, Elsewhere)], 0), None);
    }

    proptest! {
        #[test]
        fn shares_match_weights(weights in prop::collection::vec(0u32..10, 1..6)) {
            let sum: u32 = weights.iter().sum();
            let mut counts = vec![0u32; weights.len()];
            let draws = sum * 10;
            for draw in 0..draws {
                let random = (u64::MAX / u64::from(draws)) * u64::from(draw) + 1000;
                counts[weighted(weights.iter().copied(), random).unwrap()] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!(count.abs_diff(weight * 10) <= 1, "{counts:?} {weights:?}");
            }
        }
    }
}
