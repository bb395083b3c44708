//! Which rules get no request of a host, since an object of the same cluster that comes before theirs says the same match.
//!
//! Cost: that of a changed host's routes, where several objects serve it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::host::HostPattern;
use portolan_model::id::ObjectRef;
use portolan_model::plan::VirtualHost;
use portolan_model::route::{PathMatch, RouteMatch};

use crate::load_balancer::normalized;

/// By host, and by the object whose rules these are.
#[derive(Debug, Default)]
pub(crate) struct Shadows(BTreeMap<HostPattern, BTreeMap<ObjectRef, Shadow>>);

/// The first match of an object's that gets no request of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shadow {
    rule: u32,
    path: PathMatch,
    /// Who gets them.
    by: ObjectRef,
    /// How many matches there are besides.
    more: usize,
}

impl Shadows {
    /// Takes note of what a host serves now; gives the objects of whose rules something else is true than before.
    pub(crate) fn set(&mut self, pattern: &HostPattern, host: Option<&VirtualHost>) -> Vec<ObjectRef> {
        let new = host.map(found).unwrap_or_default();
        let old = if new.is_empty() {
            self.0.remove(pattern).unwrap_or_default()
        } else {
            self.0.insert(pattern.clone(), new.clone()).unwrap_or_default()
        };
        let differs = |id: &&ObjectRef| old.get(id) != new.get(id);
        old.keys().chain(new.keys()).filter(differs).cloned().collect()
    }

    /// What is to be told at an object of one of its hosts.
    pub(crate) fn condition(&self, pattern: &HostPattern, id: &ObjectRef) -> Option<Condition> {
        let Shadow { rule, path, by, more } = self.0.get(pattern)?.get(id)?;
        let path = match path {
            PathMatch::Exact(path) | PathMatch::Prefix(path) | PathMatch::Regex(path) => path,
        };
        let more = if *more > 0 { format!(" (and {more} more)") } else { String::new() };
        let message = format!("{path}{more} on {pattern} is served by {by}, which comes first");
        Some(Condition::new(
            ConditionType::Accepted,
            Reason::RouteTaken,
            format!("spec.rules[{rule}].matches"),
            message,
        ))
    }
}

fn found(host: &VirtualHost) -> BTreeMap<ObjectRef, Shadow> {
    let mut shadows: BTreeMap<ObjectRef, Shadow> = BTreeMap::new();
    let mut objects = host.routes.iter().flat_map(|route| &route.actions).map(|action| &action.object);
    let first = objects.next();
    if objects.all(|object| Some(object) == first) {
        return shadows;
    }
    let everything = [RouteMatch::default()];
    let mut served: HashMap<(&str, Cow<'_, RouteMatch>), &ObjectRef, RandomState> = HashMap::default();
    for route in &host.routes {
        let matches = if route.matches.is_empty() { &everything[..] } else { &route.matches };
        for action in &route.actions {
            for matching in matches {
                let by = *served.entry((action.cluster(), normalized(matching))).or_insert(&action.object);
                if *by == action.object {
                    continue;
                }
                shadows.entry(action.object.clone()).and_modify(|shadow| shadow.more += 1).or_insert_with(
                    || Shadow { rule: action.rule, path: matching.path.clone(), by: by.clone(), more: 0 },
                );
            }
        }
    }
    shadows
}
