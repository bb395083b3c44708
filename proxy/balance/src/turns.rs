//! In which order do endpoints take turns, so that each gets its weight's share, evenly spread?
//!
//! A round is computed once: endpoint `i` of weight `w` gets `w` turns, the `k`-th wished for at `(k + phase(i)) / w` of
//! the round; all turns are then sorted by their wish. Phases are multiples of the golden ratio, so that endpoints of small
//! weights do not all wish for the same moment. Equal weights need no list at all. Invariant: every endpoint of a weight
//! above 0 has a turn. Cost: building O(t log t) in turns, a look-up O(1); at most [`LONGEST`] turns or one per endpoint,
//! heavier weights are scaled down.

/// Rounds longer than this are scaled down, which rounds weights to about a thousandth of their sum.
const LONGEST: u64 = 4096;

/// Its fractional part, of 2^32.
const GOLDEN_RATIO: u32 = 0x9e37_79b9;

/// One round of turns.
#[derive(Debug)]
pub(crate) enum Turns {
    /// That many endpoints, in order.
    Equal(u32),
    /// Indices of endpoints.
    Listed(Box<[u32]>),
}

impl Turns {
    /// The round of endpoints of these weights.
    pub(crate) fn build(weights: &[u32]) -> Self {
        if weights.iter().all(|&weight| weight > 0 && weight == weights[0]) {
            return Self::Equal(weights.len() as u32);
        }
        let mut turns: Vec<(u64, u32)> = Vec::new();
        for (index, count) in (0u32..).zip(scaled(weights)) {
            let phase = u64::from(index.wrapping_mul(GOLDEN_RATIO));
            turns.extend((0..count).map(|turn| (((turn << 32) + phase) / count, index)));
        }
        turns.sort_unstable();
        Self::Listed(turns.into_iter().map(|(_, index)| index).collect())
    }

    /// How many turns a round has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Equal(count) => *count as usize,
            Self::Listed(turns) => turns.len(),
        }
    }

    /// Whose turn the `ticket`-th is, counted over all rounds. There must be one.
    pub(crate) fn at(&self, ticket: usize) -> usize {
        match self {
            Self::Equal(count) => ticket % *count as usize,
            Self::Listed(turns) => turns[ticket % turns.len()] as usize,
        }
    }
}

/// The same proportions in smaller numbers: divided by their greatest common divisor, then to fit a round.
fn scaled(weights: &[u32]) -> Vec<u64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let sum: u64 = weights.iter().map(|&weight| u64::from(weight / divisor)).sum();
    let scale = |weight: u32| {
        let weight = u64::from(weight / divisor);
        match weight {
            0 => 0,
            _ if sum <= LONGEST => weight,
            _ => ((weight * LONGEST + sum / 2) / sum).max(1),
        }
    };
    weights.iter().map(|&weight| scale(weight)).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(weights: &[u32]) -> Vec<usize> {
        let turns = Turns::build(weights);
        (0..turns.len()).map(|ticket| turns.at(ticket)).collect()
    }

    #[test]
    fn turns_are_spread_over_the_round() {
        for (weights, expected) in [
            (&[][..], &[][..]),
            (&[0, 0], &[]),
            (&[7], &[0]),
            (&[3, 3, 3], &[0, 1, 2]),
            (&[2, 1], &[0, 0, 1]),
            (&[200, 100], &[0, 0, 1]),
            (&[0, 1], &[1]),
            (&[5, 1, 1], &[0, 0, 2, 0, 0, 1, 0]),
            (&[4, 2, 2], &[0, 2, 0, 1]),
        ] {
            assert_eq!(round(weights), expected, "{weights:?}");
        }
    }

    #[test]
    fn great_weights_are_scaled_and_small_ones_keep_a_turn() {
        let round = round(&[u32::MAX, u32::MAX / 2, 1]);
        let turns = |index| round.iter().filter(|&&turn| turn == index).count();
        assert!(round.len() <= 4100, "{}", round.len());
        assert_eq!(turns(2), 1);
        assert!((turns(0) as f64 / turns(1) as f64 - 2.0).abs() < 0.01);
    }
}
