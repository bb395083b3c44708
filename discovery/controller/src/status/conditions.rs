//! From what is wrong with an object to the conditions of its status.
//!
//! One condition per type, always there: true where nothing is wrong, else with the first thing's reason and what all of them say, a part of another
//! reason than the one before after that; unknown where it was not looked.
//! `lastTransitionTime` moves with the status alone.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use portolan_compile::LeftOut;
use portolan_model::condition::{self, ConditionType, Reason};
use portolan_model::id::Kind;

/// The longest message that Kubernetes takes.
const LONGEST: usize = 32 * 1024;
/// What takes the place of what does not fit.
const AND_MORE: &str = "; and more";

/// A condition but for its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) kind: &'static str,
    /// Nothing where it is not known.
    pub(crate) holds: Option<bool>,
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
        Self { kind, holds: Some(holds), reason: reason.into(), message: message.into() }
    }

    pub(crate) fn unknown(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, holds: None, reason: reason.into(), message: message.into() }
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

/// `Accepted` and `ResolvedRefs`, by what is wrong, and `Programmed`. `unread` is an object that cannot be read as it is.
pub(crate) fn of(
    kind: Kind,
    found: &[condition::Condition],
    unread: bool,
    programmed: Programmed,
) -> Vec<Said> {
    let accepted = one(found, ConditionType::Accepted, "Accepted");
    let resolved = one(found, ConditionType::ResolvedRefs, "ResolvedRefs");
    let Some(out) = found.iter().find(|condition| is_out_of_force(kind, unread, condition)) else {
        return vec![accepted, resolved, in_force(programmed)];
    };
    let reason = format!("{:?}", out.reason);
    let resolved = match resolved.holds {
        Some(false) => resolved,
        _ => {
            Said::unknown("ResolvedRefs", &*reason, "what it refers to is not looked at until it is accepted")
        }
    };
    let message = match out.reason {
        Reason::Invalid => "this generation is not in force; the last good one is, if there was one",
        _ => "it is not in force",
    };
    vec![accepted, resolved, Said::new("Programmed", false, reason, message)]
}

/// Whether an object of that kind is not in force at all for that.
fn is_out_of_force(kind: Kind, unread: bool, condition: &condition::Condition) -> bool {
    let whole = match condition.reason {
        Reason::ClusterNotFound | Reason::NotDefault => true,
        // Else it is a host of a certificate, or the name that would be generated.
        Reason::Invalid => unread,
        // With a field it is one of its hosts; a pool keeps some of its endpoints.
        Reason::LimitReached => kind == Kind::HttpLoadBalancer && condition.field.is_empty(),
        _ => false,
    };
    whole && condition.kind == ConditionType::Accepted
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
    let mut of_kind = found.iter().filter(|condition| condition.kind == kind).peekable();
    let Some(first) = of_kind.peek().copied() else { return Said::new(name, true, name, "") };
    // What is said of several fields is said once.
    let mut parts: Vec<(&condition::Condition, usize)> = Vec::new();
    let mut places: HashMap<(Reason, &str), usize> = HashMap::new();
    for condition in of_kind {
        let place = *places.entry((condition.reason, &condition.message)).or_insert(parts.len());
        match parts.get_mut(place) {
            Some((_, more)) => *more += 1,
            None => parts.push((condition, 0)),
        }
    }
    let mut reason = first.reason;
    let told = parts.into_iter().map(|(condition, more)| {
        let told = told(condition, more);
        if std::mem::replace(&mut reason, condition.reason) == condition.reason {
            told
        } else {
            format!("{reason:?}: {told}")
        }
    });
    let message = told.collect::<Vec<_>>().join("; ");
    Said::new(name, false, format!("{:?}", first.reason), cut(message))
}

fn in_force(programmed: Programmed) -> Said {
    const KIND: &str = "Programmed";
    match programmed {
        Programmed::Yes => Said::new(KIND, true, KIND, ""),
        Programmed::Pending => {
            Said::new(KIND, false, "Pending", "most replicas of the proxy do not serve this generation yet")
        }
        Programmed::NoReplicas => Said::new(KIND, false, "NoReplicas", "no replica of the proxy is alive"),
    }
}

fn told(condition: &condition::Condition, more: usize) -> String {
    let condition::Condition { field, message, .. } = condition;
    match (&**field, more) {
        ("", _) => message.clone(),
        (field, 0) => format!("{field}: {message}"),
        (field, more) => format!("{field} (and {more} more): {message}"),
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
            let status = match holds {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
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
        let beyond = wrong(Accepted, Reason::LimitReached, "", "one too many");
        let beyond_host = wrong(Accepted, Reason::LimitReached, "spec.hosts[1]", "one too many");
        let homeless = wrong(Accepted, Reason::ClusterNotFound, "metadata.namespace", "nobody's");
        let unseen = "what it refers to is not looked at until it is accepted";
        for (found, programmed, expected) in [
            (
                vec![beyond],
                Programmed::Yes,
                [
                    (Some(false), "LimitReached", "one too many"),
                    (None, "LimitReached", unseen),
                    (Some(false), "LimitReached", "it is not in force"),
                ],
            ),
            (
                vec![beyond_host],
                Programmed::Yes,
                [
                    (Some(false), "LimitReached", "spec.hosts[1]: one too many"),
                    (Some(true), "ResolvedRefs", ""),
                    (Some(true), "Programmed", ""),
                ],
            ),
            (
                vec![],
                Programmed::Yes,
                [
                    (Some(true), "Accepted", ""),
                    (Some(true), "ResolvedRefs", ""),
                    (Some(true), "Programmed", ""),
                ],
            ),
            (
                vec![taken.clone(), backend, domain],
                Programmed::Yes,
                [
                    (
                        Some(false),
                        "HostTaken",
                        "spec.hosts[0]: belongs to tokyo; DomainNotAllowed: spec.hosts[1]: not allowed",
                    ),
                    (Some(false), "BackendNotFound", "no pool"),
                    (Some(true), "Programmed", ""),
                ],
            ),
            (
                vec![taken],
                Programmed::Pending,
                [
                    (Some(false), "HostTaken", "spec.hosts[0]: belongs to tokyo"),
                    (Some(true), "ResolvedRefs", ""),
                    (Some(false), "Pending", "most replicas of the proxy do not serve this generation yet"),
                ],
            ),
            (
                vec![invalid],
                Programmed::Yes,
                [
                    (Some(false), "Invalid", "spec.rules: empty"),
                    (None, "Invalid", unseen),
                    (
                        Some(false),
                        "Invalid",
                        "this generation is not in force; the last good one is, if there was one",
                    ),
                ],
            ),
            (
                vec![homeless],
                Programmed::NoReplicas,
                [
                    (Some(false), "ClusterNotFound", "metadata.namespace: nobody's"),
                    (None, "ClusterNotFound", unseen),
                    (Some(false), "ClusterNotFound", "it is not in force"),
                ],
            ),
            (
                vec![],
                Programmed::NoReplicas,
                [
                    (Some(true), "Accepted", ""),
                    (Some(true), "ResolvedRefs", ""),
                    (Some(false), "NoReplicas", "no replica of the proxy is alive"),
                ],
            ),
        ] {
            let unread = found.iter().any(|condition| condition.reason == Reason::Invalid);
            let said = of(Kind::HttpLoadBalancer, &found, unread, programmed);
            let got = said.iter().map(|said| (said.holds, &*said.reason, &*said.message)).collect::<Vec<_>>();
            assert_eq!(got, expected, "{found:?} {programmed:?}");
        }
    }

    /// Regression: a certificate's host that no rule names said that nothing of the object is in force.
    #[test]
    fn what_is_wrong_with_a_part_leaves_the_rest_in_force() {
        let host =
            wrong(ConditionType::Accepted, Reason::Invalid, "spec.tls[0].hosts[0]", "no rule names it");
        let said = of(Kind::HttpLoadBalancer, &[host], false, Programmed::Yes);
        assert_eq!(
            said.iter().map(|said| said.holds).collect::<Vec<_>>(),
            [Some(false), Some(true), Some(true)]
        );
    }

    #[test]
    fn a_pool_that_keeps_some_endpoints_is_in_force() {
        let cut = wrong(ConditionType::Accepted, Reason::LimitReached, "", "keeps 1 of its 2 endpoints");
        let said = of(Kind::UpstreamPool, &[cut], false, Programmed::Yes);
        assert_eq!(
            said.iter().map(|said| said.holds).collect::<Vec<_>>(),
            [Some(false), Some(true), Some(true)]
        );
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
            assert_eq!((said.kind, said.holds), ("WithinLimits", Some(expected.is_none())));
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
    fn what_is_said_of_several_fields_is_said_once() {
        let backend = |at: usize, pool: &str| {
            let field = format!("spec.rules[{at}].backends[0].pool");
            wrong(ConditionType::ResolvedRefs, Reason::BackendNotFound, &field, pool)
        };
        let found = [backend(0, "no a"), backend(1, "no b"), backend(2, "no a"), backend(3, "no a")];
        let said = of(Kind::HttpLoadBalancer, &found, false, Programmed::Yes);
        let expected =
            "spec.rules[0].backends[0].pool (and 2 more): no a; spec.rules[1].backends[0].pool: no b";
        assert_eq!(said[1].message, expected);
    }

    #[test]
    fn messages_stay_within_what_kubernetes_takes() {
        let long = wrong(ConditionType::Accepted, Reason::HostTaken, "spec.hosts[0]", &"ä".repeat(20_000));
        let said = of(Kind::HttpLoadBalancer, &[long.clone(), long], false, Programmed::Yes);
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
