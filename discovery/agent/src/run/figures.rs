//! How the agent is doing, in numbers.
//!
//! Ten or so series without a registry: a library for them would be larger than they are. The text is what Prometheus reads,
//! <https://prometheus.io/docs/instrumenting/exposition_formats>. All labels are of our own making and few.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::keeper::Figures;
use crate::ledger::Outcome;
use crate::objects::Kind;

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    leading: bool,
    credential: bool,
    figures: Figures,
    /// By what was written, whether it was deleted, and how it ended.
    writes: [[[u64; OUTCOMES.len()]; 2]; TARGETS.len()],
    events: u64,
    written: Option<Instant>,
    expires: Option<i64>,
    renewals: u64,
}

const TARGETS: [&str; 7] =
    ["NodeSet", "Secret", "UpstreamPool", "EndpointSlice", "HTTPLoadBalancer", "Companion", "IngressStatus"];
const OUTCOMES: [&str; 4] = ["done", "conflict", "refused", "failed"];

/// What a write was about.
#[derive(Clone, Copy, Debug)]
pub(super) enum About {
    There(Kind),
    Companion,
    Status,
}

impl Metrics {
    fn with<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(super) fn set_leading(&self, leading: bool) {
        self.with(|state| {
            state.leading = leading;
            if !leading {
                (state.figures, state.credential, state.written) = (Figures::default(), false, None);
            }
        });
    }

    pub(super) fn set_credential(&self, expires: Option<i64>) {
        self.with(|state| (state.credential, state.expires) = (true, expires));
    }

    pub(super) fn renewed(&self) {
        self.with(|state| state.renewals += 1);
    }

    pub(super) fn set_figures(&self, figures: Figures) {
        self.with(|state| state.figures = figures);
    }

    pub(super) fn wrote(&self, about: About, deletes: bool, outcome: &Outcome, now: Instant) {
        let target = match about {
            About::There(kind) => kind as usize,
            About::Companion => 5,
            About::Status => 6,
        };
        let ended = match outcome {
            Outcome::Done(_) | Outcome::Void => 0,
            Outcome::Conflict | Outcome::Late => 1,
            Outcome::Refused => 2,
            Outcome::Failed | Outcome::Unread | Outcome::Unreachable => 3,
        };
        self.with(|state| {
            state.writes[target][usize::from(deletes)][ended] += 1;
            if ended == 0 {
                state.written = Some(now);
            }
        });
    }

    pub(super) fn told(&self) {
        self.with(|state| state.events += 1);
    }

    /// Whether all is well; else what is not.
    pub(super) fn readiness(&self) -> Result<&'static str, &'static str> {
        self.with(|state| match state {
            State { leading: false, .. } => Ok("standing by"),
            State { credential: false, .. } => Err("no credential for the LB cluster yet"),
            State { figures: Figures { synced: false, .. }, .. } => Err("not all lists are in yet"),
            State { figures: Figures { reachable: false, .. }, .. } => {
                Err("the LB cluster cannot be reached")
            }
            State { .. } => Ok("in sync"),
        })
    }

    /// As Prometheus reads it.
    pub(super) fn text(&self, now: Instant) -> String {
        let mut out = String::with_capacity(4096);
        self.with(|state| {
            let flag = |flag: bool| i64::from(flag);
            let int = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            let figures = &state.figures;
            gauge(&mut out, "portolan_agent_leading", "Whether this replica writes.", flag(state.leading));
            gauge(&mut out, "portolan_agent_synced", "Whether every list of both clusters was in.", flag(figures.synced));
            gauge(
                &mut out,
                "portolan_agent_connected",
                "Whether the last write into the LB cluster got through.",
                flag(figures.synced && figures.reachable),
            );
            gauge(&mut out, "portolan_agent_ingresses", "Ingresses that are synced.", int(figures.ingresses));
            gauge(&mut out, "portolan_agent_refusals", "What is refused of them at the moment.", int(figures.refusals));
            head(&mut out, "portolan_agent_pending_writes", "gauge", "Writes that wait.");
            for (cluster, pending) in ["lb", "member"].iter().zip(figures.pending) {
                let _ = writeln!(out, "portolan_agent_pending_writes{{cluster=\"{cluster}\"}} {pending}");
            }
            head(&mut out, "portolan_agent_objects", "gauge", "Objects of this cluster in the LB cluster.");
            for (kind, count) in Kind::ALL.iter().zip(figures.objects) {
                let _ = writeln!(out, "portolan_agent_objects{{kind=\"{}\"}} {count}", kind.as_str());
            }
            head(&mut out, "portolan_agent_writes_total", "counter", "Writes by how they ended.");
            for (kind, ops) in TARGETS.iter().zip(&state.writes) {
                for (op, ends) in ["apply", "delete"].iter().zip(ops) {
                    for (result, count) in OUTCOMES.iter().zip(ends) {
                        let _ = writeln!(
                            out,
                            "portolan_agent_writes_total{{kind=\"{kind}\",operation=\"{op}\",result=\"{result}\"}} {count}"
                        );
                    }
                }
            }
            head(&mut out, "portolan_agent_events_total", "counter", "Events written.");
            let _ = writeln!(out, "portolan_agent_events_total {}", state.events);
            head(&mut out, "portolan_agent_token_renewals_total", "counter", "Tokens got.");
            let _ = writeln!(out, "portolan_agent_token_renewals_total {}", state.renewals);
            if let Some(expires) = state.expires {
                gauge(
                    &mut out,
                    "portolan_agent_token_expires_seconds",
                    "When the token for the LB cluster ends, in seconds since 1970.",
                    expires,
                );
            }
            if let Some(written) = state.written {
                let ago = now.saturating_duration_since(written);
                let ago = ago.checked_sub(Duration::ZERO).map_or(0, |ago| i64::try_from(ago.as_secs()).unwrap_or(i64::MAX));
                gauge(&mut out, "portolan_agent_last_write_age_seconds", "How long ago a write was done.", ago);
            }
        });
        out
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn gauge(out: &mut String, name: &str, help: &str, value: i64) {
    head(out, name, "gauge", help);
    let _ = writeln!(out, "{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_a_head_and_a_number() {
        let metrics = Metrics::default();
        metrics.set_leading(true);
        metrics.set_credential(Some(1_700_000_000));
        metrics.wrote(About::There(Kind::Pool), false, &Outcome::Done(None), Instant::now());
        let text = metrics.text(Instant::now());
        assert!(
            text.contains(
                "portolan_agent_writes_total{kind=\"UpstreamPool\",operation=\"apply\",result=\"done\"} 1\n"
            ),
            "{text}"
        );
        let mut known = std::collections::HashSet::new();
        for line in text.lines() {
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                known.insert(typed.split(' ').next().unwrap());
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert!(known.contains(series.split('{').next().unwrap()), "{line}");
                value.parse::<i64>().unwrap();
            }
        }
    }

    #[test]
    fn readiness_says_what_is_missing() {
        let metrics = Metrics::default();
        assert_eq!(metrics.readiness(), Ok("standing by"));
        metrics.set_leading(true);
        assert_eq!(metrics.readiness(), Err("no credential for the LB cluster yet"));
        metrics.set_credential(None);
        assert_eq!(metrics.readiness(), Err("not all lists are in yet"));
        metrics.set_figures(Figures { synced: true, reachable: true, ..Figures::default() });
        assert_eq!(metrics.readiness(), Ok("in sync"));
        metrics.set_figures(Figures { synced: true, ..Figures::default() });
        assert_eq!(metrics.readiness(), Err("the LB cluster cannot be reached"));
    }
}
