//! The plan, or the part of it that somebody asks about, as JSON.
//!
//! The plan is borrowed and written piece by piece; besides a sorted list of pointers nothing is copied. Keys of kinds and objects
//! are spelled as the filter takes them: `Secret/tenant-paris/shop`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use portolan_model::condition::Condition;
use portolan_model::host::{HostPattern, normalize};
use portolan_model::id::{DEFAULT_PROXY, Kind, ObjectRef, PoolId};
use portolan_model::intent::TlsSecret;
use portolan_model::plan::{Action, ClusterPlan, Plan, Pool, VirtualHost};
use portolan_model::proxy::Proxy;
use portolan_model::shard::ShardedMap;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// What of the plan is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// All of it.
    Everything,
    /// Whatever concerns requests for that host.
    Host(String),
    /// A pool, and the hosts that use it.
    Pool(PoolId),
    /// Whatever comes of an object.
    Object(ObjectRef),
}

impl Filter {
    /// Reads a query.
    pub(crate) fn parse(query: &[(String, String)]) -> Result<Self, String> {
        const EXPECTED: &str = "expected nothing, or one of ?host=<host>, ?pool=<namespace>/<name>, \
                                ?object=<Kind>/<namespace>/<name> (<Kind>/<name> for Proxy and Cluster)";
        let (name, value) = match query {
            [] => return Ok(Self::Everything),
            [(name, value)] => (name.as_str(), value.as_str()),
            _ => return Err(format!("more than one filter: {EXPECTED}")),
        };
        let filter = match name {
            "host" => normalize(value).map(|host| Self::Host(host.into_owned())),
            "pool" => value.split_once('/').and_then(|(namespace, name)| {
                filled([namespace, name]).then(|| Self::Pool(PoolId::new(namespace, name)))
            }),
            "object" => parse_object(value).map(Self::Object),
            _ => return Err(format!("unknown filter {name:?}: {EXPECTED}")),
        };
        filter.ok_or_else(|| format!("{name}={value:?} cannot be read: {EXPECTED}"))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("the plan"),
            Self::Host(host) => write!(f, "host {host}"),
            Self::Pool(pool) => write!(f, "pool {pool}"),
            Self::Object(object) => write!(f, "{object}"),
        }
    }
}

fn parse_object(text: &str) -> Option<ObjectRef> {
    let mut parts = text.split('/');
    let kind = parts.next()?;
    let kind = Kind::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(kind))?;
    match (kind.is_cluster_scoped(), parts.next()?, parts.next(), parts.next()) {
        (true, name, None, None) if filled([name, name]) => Some(ObjectRef::cluster_scoped(kind, name)),
        (false, namespace, Some(name), None) if filled([namespace, name]) => {
            Some(ObjectRef::new(kind, namespace, name))
        }
        _ => None,
    }
}

fn filled(parts: [&str; 2]) -> bool {
    parts.iter().all(|part| !part.is_empty() && !part.contains('/'))
}

/// A part of a plan.
#[derive(serde::Serialize)]
pub(crate) struct View<'a> {
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<&'a Proxy>,
    clusters: Entries<'a, Arc<str>, Arc<ClusterPlan>>,
    hosts: Entries<'a, HostPattern, Arc<VirtualHost>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    catch_all: Option<&'a VirtualHost>,
    pools: Entries<'a, PoolId, Arc<Pool>>,
    certificates: Entries<'a, ObjectRef, Arc<TlsSecret>>,
    server_names: Entries<'a, HostPattern, Arc<[ObjectRef]>>,
    conditions: Entries<'a, ObjectRef, Arc<[Condition]>>,
}

impl<'a> View<'a> {
    /// The part of `plan` that `filter` asks about; `None` where there is nothing.
    pub(crate) fn of(plan: &'a Plan, filter: &Filter) -> Option<Self> {
        match filter {
            Filter::Everything => Some(Self::everything(plan)),
            Filter::Host(host) => Self::of_host(plan, host),
            Filter::Pool(pool) => Self::of_pool(plan, pool),
            Filter::Object(object) => Self::of_object(plan, object),
        }
    }

    fn everything(plan: &'a Plan) -> Self {
        Self {
            revision: plan.revision,
            proxy: Some(&plan.proxy),
            clusters: Entries::of(&plan.clusters, |_, _| true),
            hosts: Entries::of(&plan.hosts, |_, _| true),
            catch_all: plan.catch_all.as_deref(),
            pools: Entries::of(&plan.pools, |_, _| true),
            certificates: Entries::of(&plan.certificates, |_, _| true),
            server_names: Entries::of(&plan.server_names, |_, _| true),
            conditions: Entries::of(&plan.conditions, |_, _| true),
        }
    }

    fn nothing(plan: &Plan) -> Self {
        Self {
            revision: plan.revision,
            proxy: None,
            clusters: Entries::default(),
            hosts: Entries::default(),
            catch_all: None,
            pools: Entries::default(),
            certificates: Entries::default(),
            server_names: Entries::default(),
            conditions: Entries::default(),
        }
    }

    fn of_host(plan: &'a Plan, host: &str) -> Option<Self> {
        let asked = |pattern: &HostPattern| pattern.matches(host) || pattern.to_string() == host;
        let hosts = Entries::of(&plan.hosts, |pattern, _| asked(pattern));
        let server_names = Entries::of(&plan.server_names, |pattern, _| asked(pattern));
        if hosts.0.is_empty() && server_names.0.is_empty() {
            return None;
        }
        let actions = || hosts.0.iter().flat_map(|(_, host)| actions(host));
        let pools: BTreeSet<&PoolId> =
            actions().flat_map(|action| action.backends.iter()).map(|backend| &backend.pool).collect();
        let secrets: BTreeSet<&ObjectRef> =
            server_names.0.iter().flat_map(|(_, secrets)| secrets.iter()).collect();
        let clusters: BTreeSet<&str> = actions().map(Action::cluster).collect();
        let objects: BTreeSet<ObjectRef> = actions()
            .map(|action| action.object.clone())
            .chain(pools.iter().map(|pool| pool.object()))
            .chain(secrets.iter().map(|&secret| secret.clone()))
            .collect();
        Some(Self {
            clusters: Entries::of(&plan.clusters, |name, _| clusters.contains(&**name)),
            pools: Entries::of(&plan.pools, |id, _| pools.contains(id)),
            certificates: Entries::of(&plan.certificates, |secret, _| secrets.contains(secret)),
            conditions: Entries::of(&plan.conditions, |object, _| objects.contains(object)),
            hosts,
            server_names,
            ..Self::nothing(plan)
        })
    }

    fn of_pool(plan: &'a Plan, pool: &PoolId) -> Option<Self> {
        let uses = |host: &VirtualHost| {
            actions(host).any(|action| action.backends.iter().any(|backend| backend.pool == *pool))
        };
        let object = pool.object();
        Self {
            hosts: Entries::of(&plan.hosts, |_, host| uses(host)),
            catch_all: plan.catch_all.as_deref().filter(|host| uses(host)),
            pools: Entries::one(&plan.pools, pool),
            conditions: Entries::one(&plan.conditions, &object),
            ..Self::nothing(plan)
        }
        .filled()
    }

    fn of_object(plan: &'a Plan, object: &ObjectRef) -> Option<Self> {
        let conditions = Entries::one(&plan.conditions, object);
        let made_of = |host: &VirtualHost| actions(host).any(|action| action.object == *object);
        match object.kind {
            Kind::Proxy => Self {
                proxy: (&*object.name == DEFAULT_PROXY).then_some(&*plan.proxy),
                conditions,
                ..Self::nothing(plan)
            },
            Kind::Cluster => Self {
                clusters: Entries::one(&plan.clusters, &object.name),
                conditions,
                ..Self::nothing(plan)
            },
            Kind::HttpLoadBalancer => Self {
                hosts: Entries::of(&plan.hosts, |_, host| made_of(host)),
                catch_all: plan.catch_all.as_deref().filter(|host| made_of(host)),
                conditions,
                ..Self::nothing(plan)
            },
            Kind::UpstreamPool => {
                return Self::of_pool(
                    plan,
                    &PoolId::new(Arc::clone(&object.namespace), Arc::clone(&object.name)),
                );
            }
            Kind::Secret => Self {
                certificates: Entries::one(&plan.certificates, object),
                server_names: Entries::of(&plan.server_names, |_, secrets| secrets.contains(object)),
                conditions,
                ..Self::nothing(plan)
            },
            Kind::NodeSet | Kind::TrafficPolicy | Kind::EndpointSlice | Kind::ConfigMap => {
                Self { conditions, ..Self::nothing(plan) }
            }
        }
        .filled()
    }

    fn filled(self) -> Option<Self> {
        let empty = self.proxy.is_none()
            && self.catch_all.is_none()
            && self.clusters.0.is_empty()
            && self.hosts.0.is_empty()
            && self.pools.0.is_empty()
            && self.certificates.0.is_empty()
            && self.server_names.0.is_empty()
            && self.conditions.0.is_empty();
        (!empty).then_some(self)
    }
}

fn actions(host: &VirtualHost) -> impl Iterator<Item = &Action> {
    host.routes.iter().flat_map(|route| route.actions.iter()).map(|action| &**action)
}

/// Some entries of a map, by key.
struct Entries<'a, K, V>(Vec<(&'a K, &'a V)>);

impl<K, V> Default for Entries<'_, K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, K: Ord + Hash, V> Entries<'a, K, V> {
    fn of(map: &'a ShardedMap<K, V>, keep: impl Fn(&K, &V) -> bool) -> Self {
        let mut entries: Vec<_> = map.iter().filter(|(key, value)| keep(key, value)).collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        Self(entries)
    }

    fn one(map: &'a ShardedMap<K, V>, wanted: &K) -> Self {
        Self::of(map, |key, _| key == wanted)
    }
}

impl<K: Key, V: Serialize> Serialize for Entries<'_, K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(&key.text(), value)?;
        }
        map.end()
    }
}

/// What can be a key in JSON.
trait Key {
    fn text(&self) -> Cow<'_, str>;
}

impl Key for Arc<str> {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl Key for HostPattern {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Exact(name) => Cow::Borrowed(name.as_str()),
            wildcard => Cow::Owned(wildcard.to_string()),
        }
    }
}

impl Key for PoolId {
    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }
}

impl Key for ObjectRef {
    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(match &*self.namespace {
            "" => format!("{}/{}", self.kind, self.name),
            namespace => format!("{}/{namespace}/{}", self.kind, self.name),
        })
    }
}

#[cfg(test)]
mod tests;
