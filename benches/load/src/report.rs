//! What people read: one table a scenario, then how Portolan stands against its limits.
//!
//! Ratios are taken within a round, where neighbours disturb all contenders alike, and the median over the rounds is shown.

use crate::contender::Contender;
use crate::load::Counted;
use crate::proc::Cpu;
use crate::scenario::{BARE_LIMIT, Measure, Scenario};

/// What one contender did in one round of one scenario.
pub(crate) struct Sample {
    pub(crate) contender: Contender,
    /// Microseconds of CPU time a request, or bytes a connection.
    pub(crate) cost: f64,
    pub(crate) user_share: f64,
    pub(crate) counted: Counted,
}

impl Sample {
    pub(crate) fn of_cpu(contender: Contender, cpu: Cpu, counted: Counted) -> Sample {
        let cost = cpu.nanos as f64 / 1000.0 / counted.requests.max(1) as f64;
        Sample { contender, cost, user_share: cpu.user_share(), counted }
    }

    pub(crate) fn of_memory(contender: Contender, bytes: f64) -> Sample {
        Sample { contender, cost: bytes, user_share: 0.0, counted: Counted::default() }
    }
}

/// The rounds of one scenario; in each at most one sample a contender.
pub(crate) struct Result {
    pub(crate) scenario: Scenario,
    pub(crate) rounds: Vec<Vec<Sample>>,
}

impl Result {
    fn samples(&self, of: Contender) -> impl Iterator<Item = &Sample> {
        self.rounds.iter().flatten().filter(move |s| s.contender == of)
    }

    fn over(&self, of: Contender, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(self.samples(of).map(value).collect())
    }

    fn ratio(&self, of: Contender, to: Contender) -> Option<f64> {
        let in_round = |round: &Vec<Sample>| {
            let cost = |c| round.iter().find(|s| s.contender == c).map(|s| s.cost);
            Some(cost(of)? / cost(to)?)
        };
        median(self.rounds.iter().filter_map(in_round).collect())
    }

    pub(crate) fn wrong(&self) -> u64 {
        self.rounds.iter().flatten().map(|s| s.counted.wrong).sum()
    }

    /// The table of this scenario.
    pub(crate) fn print(&self, contenders: &[Contender]) {
        let memory = matches!(self.scenario.measure, Measure::IdleMemory { .. });
        println!("\n{}: {}", self.scenario.name, self.scenario.about);
        if memory {
            println!("  {:10} {:>12} {:>8} {:>8}", "", "bytes/conn", "÷envoy", "÷bare");
        } else {
            println!(
                "  {:10} {:>9} {:>9} {:>6} {:>9} {:>10} {:>8} {:>8} {:>8} {:>8}",
                "", "CPU µs", "spread", "user", "req/s", "per CPU s", "p50 µs", "p99 µs", "÷envoy", "÷bare"
            );
        }
        for of in contenders.iter().copied() {
            let Some(cost) = self.over(of, |s| s.cost) else { continue };
            let ratio = |to| self.ratio(of, to).map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"));
            let (envoy, bare) = (ratio(Contender::Envoy), ratio(Contender::Bare));
            if memory {
                println!("  {:10} {cost:>12.0} {envoy:>8} {bare:>8}", of.name());
                continue;
            }
            let median = |value: fn(&Sample) -> f64| self.over(of, value).unwrap_or(f64::NAN);
            let costs = || self.samples(of).map(|s| s.cost);
            let spread = costs().fold(0.0, f64::max) - costs().fold(f64::MAX, f64::min);
            println!(
                "  {:10} {cost:>9.2} {spread:>9.2} {:>5.0}% {:>9.0} {:>10.0} {:>8.0} {:>8.0} {envoy:>8} {bare:>8}",
                of.name(),
                median(|s| s.user_share * 100.0),
                median(|s| s.counted.requests as f64 / s.counted.wall.as_secs_f64()),
                1e6 / cost,
                median(|s| f64::from(s.counted.percentile(0.50))),
                median(|s| f64::from(s.counted.percentile(0.99))),
            );
            if let Some(first) = self.samples(of).find_map(|s| s.counted.first_wrong.as_deref()) {
                let wrong: u64 = self.samples(of).map(|s| s.counted.wrong).sum();
                println!("  {:10} {wrong} WRONG answers; the first: {first}", "");
            }
        }
    }
}

/// Portolan against its limits, one line each.
pub(crate) fn print_limits(results: &[Result]) {
    let mut lines = Vec::new();
    for result in results {
        let mut line = |what: &str, value: Option<f64>, limit: Option<f64>| {
            if let (Some(value), Some(limit)) = (value, limit) {
                let verdict = if value <= limit { "ok" } else { "MISSED" };
                lines.push(format!(
                    "  {:13} {what:12} {value:>9.2} ≤ {limit:>8.2}  {verdict}",
                    result.scenario.name
                ));
            }
        };
        let cost = matches!(result.scenario.measure, Measure::Cost(_)).then_some(BARE_LIMIT);
        line("÷bare", result.ratio(Contender::Portolan, Contender::Bare), cost);
        line("÷envoy", result.ratio(Contender::Portolan, Contender::Envoy), result.scenario.envoy_limit);
        line("bytes/conn", result.over(Contender::Portolan, |s| s.cost), result.scenario.memory_limit);
    }
    if !lines.is_empty() {
        println!("\nPortolan against its limits:\n{}", lines.join("\n"));
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in [
            (vec![], None),
            (vec![3.0], Some(3.0)),
            (vec![9.0, 1.0, 2.0], Some(2.0)),
            (vec![4.0, 2.0], Some(3.0)),
        ] {
            assert_eq!(median(values), expected);
        }
    }
}
