//! Which policy is in force for an `HTTPLoadBalancer`.
//!
//! The built-in policy, then the `Proxy`'s default, then what targets the `Cluster`, then what targets the object itself. Of
//! several policies for one target the oldest that sets a field has it; the others get a condition.

use std::collections::HashSet;
use std::sync::Arc;

use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::{Object, Spec};
use portolan_model::policy::{Policy, PolicySpec, SharedPolicy, TrafficPolicy};

use crate::store::Store;

/// The effective policies, each once.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    known: HashSet<SharedPolicy>,
    sweep_at: usize,
}

impl Policies {
    /// What is in force for `object`, over the `Proxy`'s `default`.
    pub(crate) fn effective(&mut self, store: &Store, default: &PolicySpec, object: &Object) -> SharedPolicy {
        let mut policy = Policy::default().overlaid(default);
        let id = &object.meta.id;
        for target in own_cluster(id).iter().chain([id]) {
            let specs = policies(store, &id.namespace, target).map(|(_, policy)| &policy.spec);
            let spec = specs.fold(PolicySpec::default(), |older, younger| merged(&older, younger));
            policy = policy.overlaid(&spec);
        }
        self.intern(policy)
    }

    fn intern(&mut self, policy: Policy) -> SharedPolicy {
        if let Some(known) = self.known.get(&policy) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|policy| Arc::strong_count(policy) > 1);
            self.sweep_at = 2 * self.known.len() + 16;
        }
        let policy = Arc::new(policy);
        self.known.insert(Arc::clone(&policy));
        policy
    }
}

/// The `Cluster` that the namespace of an object belongs to.
pub(crate) fn own_cluster(id: &ObjectRef) -> Option<ObjectRef> {
    id.cluster().map(|name| ObjectRef::cluster_scoped(Kind::Cluster, name))
}

/// What is wrong with the policy `object`.
pub(crate) fn judge(store: &Store, object: &Arc<Object>, policy: &TrafficPolicy) -> Vec<Condition> {
    let id = &object.meta.id;
    let mut conditions = Vec::new();
    for (at, target) in policy.targets.iter().enumerate() {
        if !in_scope(id, target) || store.live(target).is_none() {
            let message = match target.kind {
                Kind::HttpLoadBalancer | Kind::Cluster => format!(
                    "{target} does not exist; expected an HTTPLoadBalancer of namespace {} or its Cluster",
                    id.namespace
                ),
                _ => format!("{target} cannot be targeted; expected an HTTPLoadBalancer or a Cluster"),
            };
            conditions.push(Condition::new(
                ConditionType::ResolvedRefs,
                Reason::TargetNotFound,
                format!("spec.targetRefs[{at}]"),
                message,
            ));
            continue;
        }
        let older = policies(store, &id.namespace, target).take_while(|(other, _)| other.meta.id != *id);
        let older: Vec<_> = older.collect();
        for (field, set) in fields(&policy.spec) {
            let first = older.iter().find(|(_, other)| set && fields(&other.spec).contains(&(field, true)));
            if let Some((other, _)) = first {
                conditions.push(Condition::new(
                    ConditionType::Accepted,
                    Reason::Conflicted,
                    field,
                    format!("{}, which is older, sets it for {target}", other.meta.id),
                ));
            }
        }
    }
    conditions
}

fn in_scope(policy: &ObjectRef, target: &ObjectRef) -> bool {
    match target.kind {
        Kind::HttpLoadBalancer => target.namespace == policy.namespace,
        Kind::Cluster => policy.cluster() == Some(&*target.name),
        _ => false,
    }
}

/// The policies of a namespace that attach to `target`, oldest first.
fn policies<'a>(
    store: &'a Store,
    namespace: &'a str,
    target: &ObjectRef,
) -> impl Iterator<Item = (&'a Arc<Object>, &'a TrafficPolicy)> {
    store.users(target, Kind::TrafficPolicy).filter_map(move |object| match &object.spec {
        Spec::TrafficPolicy(policy) if *object.meta.id.namespace == *namespace => Some((object, &**policy)),
        _ => None,
    })
}

fn merged(older: &PolicySpec, younger: &PolicySpec) -> PolicySpec {
    PolicySpec {
        connect: older.connect.or(younger.connect),
        per_try: older.per_try.or(younger.per_try),
        request: older.request.or(younger.request),
        idle: older.idle.or(younger.idle),
        max_request_body: older.max_request_body.or(younger.max_request_body),
        https_redirect: older.https_redirect.or(younger.https_redirect),
        hsts: older.hsts.or(younger.hsts),
    }
}

/// The fields of a policy, and whether it sets them.
fn fields(spec: &PolicySpec) -> [(&'static str, bool); 7] {
    let PolicySpec { connect, per_try, request, idle, max_request_body, https_redirect, hsts } = spec;
    [
        ("spec.timeouts.connect", connect.is_some()),
        ("spec.timeouts.perTry", per_try.is_some()),
        ("spec.timeouts.request", request.is_some()),
        ("spec.timeouts.idle", idle.is_some()),
        ("spec.maxRequestBody", max_request_body.is_some()),
        ("spec.httpsRedirect", https_redirect.is_some()),
        ("spec.hsts", hsts.is_some()),
    ]
}
