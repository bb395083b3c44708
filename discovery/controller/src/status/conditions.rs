//! From what is wrong with an object to the conditions of its status.
//!
//! One condition per type, always there: true where nothing is wrong, else with the first thing's reason and what all of them say.
//! `lastTransitionTime` moves with the status alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use portolan_compile::LeftOut;
use portolan_model::condition::{self, ConditionType, Reason};

/// The longest message that Kubernetes takes.
const LONGEST: usize = 32 * 1024;
/// What takes the place of what does not fit.
const AND_MORE: &str = "; and more";

/// A condition but for its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) kind: &'static str,
    pub(crate) holds: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Said {
    pub(crate) fn new(
        kind: &'static str,
        holds: bool,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, holds, reason: reason.into(), message: message.into() }
    }
}

/// How far an object is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Programmed {
    /// Most live replicas serve it.
    Yes,
    /// Not yet.
    Pending,
    /// Nobody is there to serve it.
    NoReplicas,
}

/// `Accepted` and `ResolvedRefs`, by what is wrong, and `Programmed`.
pub(crate) fn of(found: &[condition::Condition], programmed: Programmed) -> Vec<Said> {
    vec![
        one(found, ConditionType::Accepted, "Accepted"),
        one(found, ConditionType::ResolvedRefs, "ResolvedRefs"),
        in_force(found, programmed),
    ]
}

/// `WithinLimits`, of a `Cluster`, by what is left out.
pub(crate) fn within_limits(left_out: LeftOut) -> Said {
    const KIND: &str = "WithinLimits";
    let LeftOut { load_balancers, hosts, pools } = left_out;
    if left_out == LeftOut::default() {
        return Said::new(KIND, true, KIND, "");
    }
    let counted = |count: usize, one: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        many => Some(format!("{many} {one}s")),
    };
    let parts = [counted(load_balancers, "HTTPLoadBalancer"), counted(hosts, "host"), counted(pools, "pool")];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let message = format!(
        "left out, wholly or partly, for spec.limits: {}; their conditions say which",
        parts.join(", ")
    );
    Said::new(KIND, false, format!("{:?}", Reason::LimitReached), message)
}

fn one(found: &[condition::Condition], kind: ConditionType, name: &'static str) -> Said {
    let mut of_kind = found.iter().filter(|condition| condition.kind == kind);
    let Some(first) = of_kind.next() else { return Said::new(name, true, name, "") };
    let mut message = told(first);
    for condition in of_kind {
        message.push_str("; ");
        message.push_str(&told(condition));
    }
    Said::new(name, false, format!("{:?}", first.reason), cut(message))
}

fn in_force(found: &[condition::Condition], programmed: Programmed) -> Said {
    let not_at_all = |condition: &&condition::Condition| {
        matches!(condition.reason, Reason::Invalid | Reason::ClusterNotFound | Reason::NotDefault)
            && condition.kind == ConditionType::Accepted
    };
    match (found.iter().find(not_at_all), programmed) {
        (Some(condition), _) => {
            let message = match condition.reason {
                Reason::Invalid => "this generation is not in force; the last good one is, if there was one",
                _ => "it is not in force",
            };
            Said::new("Programmed", false, format!("{:?}", condition.reason), message)
        }
        (None, Programmed::Yes) => Said::new("Programmed", true, "Programmed", ""),
        (None, Programmed::Pending) => Said::new(
            "Programmed",
            false,
            "Pending",
            "most replicas of the proxy do not serve this generation yet",
        ),
        (None, Programmed::NoReplicas) => {
            Said::new("Programmed", false, "NoReplicas", "no replica of the proxy is alive")
        }
    }
}

fn told(condition: &condition::Condition) -> String {
    if condition.field.is_empty() {
        condition.message.clone()
    } else {
        format!("{}: {}", condition.field, condition.message)
    }
}

fn cut(mut message: String) -> String {
    if message.len() > LONGEST {
        let end = message.floor_char_boundary(LONGEST - AND_MORE.len());
        message.truncate(end);
        message.push_str(AND_MORE);
    }
    message
}

/// These conditions for that generation, with the times of those that stand there.
pub(crate) fn dated(said: Vec<Said>, generation: i64, standing: &[Condition], now: &Time) -> Vec<Condition> {
    said.into_iter()
        .map(|Said { kind, holds, reason, message }| {
            let status = if holds { "True" } else { "False" };
            let before = standing.iter().find(|condition| condition.type_ == kind);
            let since =
                before.filter(|before| before.status == status).map(|before| &before.last_transition_time);
            Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason,
                message,
                observed_generation: Some(generation),
                last_transition_time: since.unwrap_or(now).clone(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn wrong(kind: ConditionType, reason: Reason, field: &str, message: &str) -> condition::Condition {
        condition::Condition::new(kind, reason, field, message)
    }

    fn at(seconds: i64) -> Time {
        Time(Timestamp::from_second(seconds).unwrap())
    }

    #[test]
    fn what_is_wrong_becomes_one_condition_per_type() {
        use ConditionType::{Accepted, ResolvedRefs};
        let taken = wrong(Accepted, Reason::HostTaken, "spec.hosts[0]", "belongs to tokyo");
        let domain = wrong(Accepted, Reason::DomainNotAllowed, "spec.hosts[1]", "not allowed");
        let backend = wrong(ResolvedRefs, Reason::BackendNotFound, "", "no pool");
        let invalid = wrong(Accepted, Reason::Invalid, "spec.rules", "empty");
        let homeless = wrong(Accepted, Reason::ClusterNotFound, "metadata.namespace", "nobody's");
        for (found, programmed, expected) in [
            (
                vec![],
                Programmed::Yes,
                [(true, "Accepted", ""), (true, "ResolvedRefs", ""), (true, "Programmed", "")],
            ),
            (
                vec![taken.clone(), backend, domain],
                Programmed::Yes,
                [
                    (false, "HostTaken", "spec.hosts[0]: belongs to tokyo; spec.hosts[1]: not allowed"),
                    (false, "BackendNotFound", "no pool"),
                    (true, "Programmed", ""),
                ],
            ),
            (
                vec![taken],
                Programmed::Pending,
                [
                    (false, "HostTaken", "spec.hosts[0]: belongs to tokyo"),
                    (true, "ResolvedRefs", ""),
                    (false, "Pending", "most replicas of the proxy do not serve this generation yet"),
                ],
            ),
            (
                vec![invalid],
                Programmed::Yes,
                [
                    (false, "Invalid", "spec.rules: empty"),
                    (true, "ResolvedRefs", ""),
                    (
                        false,
                        "Invalid",
                        "this generation is not in force; the last good one is, if there was one",
                    ),
                ],
            ),
            (
                vec![homeless],
                Programmed::NoReplicas,
                [
                    (false, "ClusterNotFound", "metadata.namespace: nobody's"),
                    (true, "ResolvedRefs", ""),
                    (false, "ClusterNotFound", "it is not in force"),
                ],
            ),
            (
                vec![],
                Programmed::NoReplicas,
                [
                    (true, "Accepted", ""),
                    (true, "ResolvedRefs", ""),
                    (false, "NoReplicas", "no replica of the proxy is alive"),
                ],
            ),
        ] {
            let said = of(&found, programmed);
            let got = said.iter().map(|said| (said.holds, &*said.reason, &*said.message)).collect::<Vec<_>>();
            assert_eq!(got, expected, "{found:?} {programmed:?}");
        }
    }

    #[test]
    fn what_is_left_out_for_a_limit_is_counted() {
        for (load_balancers, hosts, pools, expected) in [
            (0, 0, 0, None),
            (1, 0, 0, Some("1 HTTPLoadBalancer")),
            (3, 0, 1, Some("3 HTTPLoadBalancers, 1 pool")),
            (0, 2, 2, Some("2 hosts, 2 pools")),
        ] {
            let said = within_limits(LeftOut { load_balancers, hosts, pools });
            assert_eq!((said.kind, said.holds), ("WithinLimits", expected.is_none()));
            match expected {
                None => assert_eq!((&*said.reason, &*said.message), ("WithinLimits", "")),
                Some(expected) => {
                    let message = format!(
                        "left out, wholly or partly, for spec.limits: {expected}; their conditions say which"
                    );
                    assert_eq!((said.reason, said.message), ("LimitReached".to_owned(), message));
                }
            }
        }
    }

    #[test]
    fn messages_stay_within_what_kubernetes_takes() {
        let long = wrong(ConditionType::Accepted, Reason::HostTaken, "spec.hosts[0]", &"ä".repeat(20_000));
        let said = of(&[long.clone(), long], Programmed::Yes);
        let message = &said[0].message;
        assert!(message.len() <= LONGEST && message.ends_with(AND_MORE), "{}", message.len());
    }

    #[test]
    fn times_move_with_the_status_alone() {
        let said = |holds, reason: &str| vec![Said::new("Accepted", holds, reason, "")];
        let first = dated(said(true, "Accepted"), 1, &[], &at(10));
        let same = dated(said(true, "Accepted"), 2, &first, &at(20));
        assert_eq!((&same[0].last_transition_time, same[0].observed_generation), (&at(10), Some(2)));
        let other = dated(said(false, "HostTaken"), 2, &same, &at(30));
        assert_eq!((&other[0].last_transition_time, &*other[0].status), (&at(30), "False"));
        let reason = dated(said(false, "Invalid"), 3, &other, &at(40));
        assert_eq!(reason[0].last_transition_time, at(30));
    }
}
