//! Which generated host name belongs to which `HTTPLoadBalancer`.
//!
//! Each object has a list of names that it may get, best first, and each name goes to the oldest object that asks for
//! it. The name that its status has comes first for an object, and goes to it before all that have it not. An object asks for
//! its names one after the other up to the one it gets. So, but for names that are kept, the outcome is what it would be if all
//! objects chose in the order of their age, whatever the order in which they came. A newcomer may displace a younger
//! holder, which then asks on; who leaves hands the name to the next in line, which drops what it got instead.

use std::collections::BTreeSet;
use std::sync::Arc;

use portolan_model::condition::Reason;
use portolan_model::host::{HostError, HostName, HostPattern};
use portolan_model::id::ObjectRef;
use portolan_model::intent::Object;
use portolan_model::naming;

use crate::age::{Index, origin};

/// Generated names by who asks for them.
#[derive(Debug)]
pub(crate) struct Names {
    domain: HostName,
    /// By whose status has them: these go first.
    kept: Index<HostName>,
    asked: Index<HostName>,
}

/// What changed hands.
#[derive(Debug, Default)]
pub(crate) struct Renamed {
    /// Names that have another holder.
    pub(crate) names: BTreeSet<HostName>,
    /// Objects that gained or lost one.
    pub(crate) objects: BTreeSet<ObjectRef>,
}

impl Renamed {
    fn record(&mut self, name: &HostName, object: &Object) {
        self.names.insert(name.clone());
        self.objects.insert(object.meta.id.clone());
    }
}

impl Names {
    /// No objects yet.
    pub(crate) fn new(domain: HostName) -> Self {
        Self { domain, kept: Index::default(), asked: Index::default() }
    }

    /// The domain that generated names lie under.
    pub(crate) fn domain(&self) -> &HostName {
        &self.domain
    }

    /// The domain, and all below it.
    pub(crate) fn fences(&self) -> [HostPattern; 2] {
        [HostPattern::Exact(self.domain.clone()), HostPattern::AnyLabels(self.domain.clone())]
    }

    /// All names that are asked for.
    pub(crate) fn all(&self) -> impl Iterator<Item = &HostName> {
        self.kept.keys().chain(self.asked.keys())
    }

    /// Takes an object in.
    pub(crate) fn add(&mut self, object: &Arc<Object>, renamed: &mut Renamed) {
        let mut next = Some((Arc::clone(object), 0));
        while let Some((who, rank)) = next.take() {
            let Some((name, kept)) = wishes(&self.domain, &who).nth(rank) else { break };
            let before = self.holder(name.as_str()).cloned();
            if kept { &mut self.kept } else { &mut self.asked }.insert(name.clone(), &who);
            if self.holder(name.as_str()).is_some_and(|holder| Arc::ptr_eq(holder, &who)) {
                renamed.record(&name, &who);
                if let Some(before) = before {
                    renamed.record(&name, &before);
                    next = self.rank(&before, &name).map(|rank| (before, rank + 1));
                }
            } else {
                next = Some((who, rank + 1));
            }
        }
    }

    /// Lets an object go.
    pub(crate) fn remove(&mut self, object: &Arc<Object>, renamed: &mut Renamed) {
        let mut next = Some((Arc::clone(object), 0));
        while let Some((who, rank)) = next.take() {
            for (name, kept) in wishes(&self.domain, &who).skip(rank) {
                let held = self.holder(name.as_str()).is_some_and(|holder| Arc::ptr_eq(holder, &who));
                if kept { &mut self.kept } else { &mut self.asked }.remove(name.as_str(), &who);
                if held {
                    renamed.record(&name, &who);
                    if let Some(heir) = self.holder(name.as_str()).cloned() {
                        renamed.record(&name, &heir);
                        next = self.rank(&heir, &name).map(|rank| (heir, rank + 1));
                    }
                    break;
                }
            }
        }
    }

    /// What all names of a cluster match.
    pub(crate) fn cluster_wildcard(&self, cluster: &str) -> Result<HostPattern, HostError> {
        HostName::parse(&format!("{cluster}.{}", self.domain)).map(HostPattern::OneLabel)
    }

    /// Whose name it is.
    pub(crate) fn holder(&self, name: &str) -> Option<&Arc<Object>> {
        self.kept.get(name).next().or_else(|| self.asked.get(name).next())
    }

    /// The name of an object, or why it has none.
    pub(crate) fn of(&self, object: &Arc<Object>) -> Result<HostName, NoName> {
        let mut last = None;
        for name in candidates(&self.domain, object) {
            let name = name.map_err(NoName::Invalid)?;
            if self.holder(name.as_str()).is_some_and(|holder| holder.meta.id == object.meta.id) {
                return Ok(name);
            }
            last = Some(name);
        }
        Err(last.map_or(NoName::Elsewhere, NoName::Taken))
    }

    fn rank(&self, object: &Object, name: &HostName) -> Option<usize> {
        wishes(&self.domain, object).position(|(wish, _)| wish == *name)
    }
}

/// Why an object has no generated name.
#[derive(Debug)]
pub(crate) enum NoName {
    /// It would not be a valid name.
    Invalid(HostError),
    /// All that it might get belong to others; this is the last.
    Taken(HostName),
    /// It lies in no cluster's namespace.
    Elsewhere,
}

/// Why a name is not valid: an origin may be called what no host can be.
pub(crate) fn reason(error: &HostError) -> Reason {
    match error {
        HostError::TooLong(_) => Reason::HostTooLong,
        HostError::LabelLength(label) if !label.is_empty() => Reason::HostTooLong,
        _ => Reason::Invalid,
    }
}

fn candidates<'a>(
    domain: &'a HostName,
    object: &'a Object,
) -> impl Iterator<Item = Result<HostName, HostError>> + 'a {
    object.meta.id.cluster().into_iter().flat_map(move |cluster| {
        let (kind, namespace, name) = origin(object);
        naming::labels(kind, namespace, name)
            .map(move |label| HostName::parse(&format!("{label}.{cluster}.{domain}")))
    })
}

/// The names that an object asks for, best first, each with whether its status has it.
fn wishes<'a>(domain: &'a HostName, object: &'a Object) -> impl Iterator<Item = (HostName, bool)> + 'a {
    let all = move || candidates(domain, object).map_while(Result::ok);
    let kept = object.meta.host.as_ref().filter(|kept| all().any(|name| name == **kept));
    let others = all().filter(move |name| Some(name) != kept);
    kept.map(|name| (name.clone(), true)).into_iter().chain(others.map(|name| (name, false)))
}
