//! The order in which deltas arrive never shows in the plan, an update leads from each plan to the next, and hosts belong
//! to whom a naive reading of the rules gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portolan_compile::Compiler;
use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::host::HostPattern;
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::*;
use portolan_model::plan::{Plan, Route, Update, VirtualHost};
use portolan_model::policy::PolicySpec;
use portolan_model::pool::{EndpointSource, UpstreamTls, Verification};
use portolan_model::route::RouteMatch;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::fleet::*;
use crate::limits::Naive;

const CLUSTERS: [&str; 3] = ["paris", "tokyo", "oslo"];
const HOSTS: [&str; 10] = [
    "a.com",
    "x.a.com",
    "y.x.a.com",
    "*.a.com",
    "**.a.com",
    "**.com",
    "**.net",
    "*.x.a.com",
    "shop.paris.lb.net",
    "x.b.org",
];
/// `shop` in namespace `b` gets the second name where it is not the older one: the third origin asks for it outright.
const ORIGINS: [&str; 5] =
    ["Ingress/a/shop", "Ingress/b/shop", "Ingress/c/shop-d1f9cbe5", "HTTPRoute/a/shop", "Ingress/a/api"];

fn any_cluster() -> impl Strategy<Value = &'static str> {
    select(&CLUSTERS[..])
}

fn any_rule(cluster: &'static str) -> impl Strategy<Value = portolan_model::route::Rule> {
    let hosts = subsequence(&HOSTS[..], 0..3);
    let paths = subsequence(&["/", "/a", "/b"][..], 0..3).prop_shuffle();
    let pool = select(&["", "p0", "p1"][..]);
    (paths, hosts, pool).prop_map(move |(paths, hosts, pool)| {
        let text = format!("{} {} > {pool}", paths.join(" "), hosts.join(" "));
        rule(&format!("tenant-{cluster}"), &text)
    })
}

fn any_lb() -> impl Strategy<Value = Object> {
    let tls = vec((select(&["s0", "s1"][..]), subsequence(&HOSTS[..], 0..2)), 0..2);
    any_cluster()
        .prop_flat_map(move |cluster| {
            let named = select(&["l0", "l1", "l2", "l3"][..]);
            let origin = prop::option::of((select(&ORIGINS[..]), prop::option::of(0i64..3)));
            (
                Just(cluster),
                named,
                prop::option::of(0i64..3),
                origin,
                vec(any_rule(cluster), 0..3),
                tls.clone(),
                prop::option::of(select(&["l0", "l1", "shop", "shop-d1f9cbe5", "api"][..])),
            )
        })
        .prop_map(|(cluster, named, created, origin, rules, tls, kept)| {
            let spec = HttpLoadBalancer { rules: rules.into(), tls: Box::new([]) };
            let lb = object(lb_id(&format!("{cluster}/{named}")), created, Spec::HttpLoadBalancer(spec));
            let tls: Vec<(&str, &[&str])> = tls.iter().map(|(secret, hosts)| (*secret, &**hosts)).collect();
            let mut lb = with_tls(lb, &tls);
            lb.meta.host = kept.map(|label| name(&format!("{label}.{cluster}.lb.net")));
            match origin {
                Some((origin, created)) => with_origin(lb, origin, created),
                None => lb,
            }
        })
}

fn any_proxy() -> impl Strategy<Value = Object> {
    let catch_all = prop::option::of(any_cluster());
    let request = prop::option::of(1u64..3);
    let reserved = subsequence(vec!["10.1.0.0/16", "10.2.0.1/32"], 0..=2);
    let named = select(&["default", "other"][..]);
    (select(&["lb.net", "com", "x.lb.net"][..]), catch_all, request, reserved, named).prop_map(
        |(domain, catch_all, request, reserved, named)| {
            let mut object = proxy(|proxy| {
                proxy.lb_domain = name(domain);
                proxy.reserved = reserved.iter().map(|range| range.parse().unwrap()).collect();
                proxy.catch_all_cluster = catch_all.map(Arc::from);
                proxy.default_policy.request = request.map(std::time::Duration::from_secs);
                if let Some(tls) = Arc::make_mut(&mut proxy.listeners[1]).tls.as_mut() {
                    tls.default_certificate = Some(id(Kind::Secret, "paris/s0"));
                }
            });
            object.meta.id = id(Kind::Proxy, named);
            object
        },
    )
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let limit = |most: u32| prop_oneof![2 => Just(None), 1 => (0..most).prop_map(Some)];
    (limit(4), limit(6), limit(5), limit(7)).prop_map(|(load_balancers, routes, hosts, endpoints)| Limits {
        load_balancers,
        routes,
        hosts,
        endpoints,
    })
}

fn any_cluster_object() -> impl Strategy<Value = Object> {
    let entries =
        ["* exclusive", "com shared", "a.com shared", "a.com exclusive", "x.a.com exclusive", "b.org shared"];
    let endpoints = prop::option::of(Just("10.0.0.0/8"));
    let certificate = prop::option::of(select(&["paris/s0", ":portolan-system/s1", "oslo/s1"][..]));
    let allowed = subsequence(entries.to_vec(), 0..4);
    (any_cluster(), allowed, endpoints, certificate, 1u32..3, any_limits(), any::<bool>()).prop_map(
        |(named, allowed, endpoints, certificate, weight, limits, integrated)| {
            cluster(named, |cluster| {
                cluster.weight = weight;
                cluster.limits = limits;
                cluster.integrated = integrated;
                cluster.allowed_domains = domains(&allowed);
                cluster.allowed_endpoints = endpoints.map(|range| Arc::new([range.parse().unwrap()]) as _);
                cluster.certificate = certificate.map(|secret| id(Kind::Secret, secret));
            })
        },
    )
}

fn any_pool() -> impl Strategy<Value = Object> {
    let source = prop_oneof![
        subsequence(vec!["10.0.0.1", "127.0.0.1", "11.0.0.1", "pool.example=2", "10.0.0.2=0"], 0..4)
            .prop_map(|hosts| inline(&hosts)),
        prop::option::of(Just(Arc::from("http"))).prop_map(|port_name| EndpointSource::Slices { port_name }),
        prop::option::of(Just(vec![Arc::from("n1")]))
            .prop_map(|nodes| EndpointSource::NodePort { port: port(30080), nodes }),
    ];
    let created = prop::option::of(0i64..2);
    (any_cluster(), select(&["p0", "p1"][..]), source, any::<bool>(), created).prop_map(
        |(cluster, named, source, tls, created)| {
            let mut pool = pool(&format!("{cluster}/{named}"), source);
            pool.meta.created = created;
            if let Spec::UpstreamPool(spec) = &mut pool.spec {
                spec.tls = tls.then(|| UpstreamTls {
                    server_name: name("upstream.example"),
                    verification: Verification::Bundle(id(Kind::ConfigMap, &format!("{cluster}/ca"))),
                });
            }
            pool
        },
    )
}

fn any_policy() -> impl Strategy<Value = Object> {
    let targets = subsequence(vec!["l0", "l1", "cluster", "paris"], 0..3);
    let spec = (prop::option::of(1u64..3), prop::option::of(1u64..3));
    (any_cluster(), select(&["t0", "t1"][..]), 0i64..3, targets, spec).prop_map(
        |(cluster, named, created, targets, (request, idle))| {
            let target = |it: &&str| match *it {
                "cluster" => id(Kind::Cluster, cluster),
                "paris" => id(Kind::Cluster, "paris"),
                lb => lb_id(&format!("{cluster}/{lb}")),
            };
            let targets: Vec<_> = targets.iter().map(target).collect();
            let spec = PolicySpec {
                request: request.map(std::time::Duration::from_secs),
                idle: idle.map(std::time::Duration::from_secs),
                ..PolicySpec::default()
            };
            policy(&format!("{cluster}/{named}"), created, &targets, spec)
        },
    )
}

fn any_inventory() -> impl Strategy<Value = Object> {
    let names = subsequence(vec!["a.com", "*.a.com", "*.x.a.com", "*.paris.lb.net"], 0..4);
    let home = select(&["paris", "tokyo", "oslo", ":portolan-system", ":elsewhere"][..]);
    let key = select(&[KeyAlgorithm::Rsa, KeyAlgorithm::Ecdsa][..]);
    prop_oneof![
        (any_cluster(), select(&["e0", "e1"][..]), select(&["p0", "p1"][..]), any::<bool>()).prop_map(
            |(cluster, named, pool, up)| {
                let flags = if up { "10.1.0.1 r" } else { "10.1.0.1 st" };
                slice(&format!("{cluster}/{named}"), pool, &[("http", 80), ("", 81)], &[flags, "11.1.0.1 r"])
            }
        ),
        (any_cluster(), select(&["n0", "n1"][..]), any::<bool>()).prop_map(|(cluster, named, up)| {
            let first = if up { "n1 10.2.0.1" } else { "!n1 10.2.0.1" };
            nodes(&format!("{cluster}/{named}"), &[first, "n2 10.2.0.2"])
        }),
        (home, select(&["s0", "s1"][..]), names, key, 0i64..2).prop_map(|(home, named, names, key, end)| {
            secret(&format!("{home}/{named}"), &names, key, end)
        }),
        any_cluster().prop_map(|cluster| ca(&format!("{cluster}/ca"))),
    ]
}

fn any_object() -> impl Strategy<Value = Object> {
    prop_oneof![
        12 => any_lb(),
        1 => any_proxy(),
        5 => any_cluster_object(),
        3 => any_pool(),
        3 => any_policy(),
        4 => any_inventory(),
    ]
}

/// Mostly objects; of a few ids, so that they are often replaced, deleted and broken.
fn any_deltas() -> impl Strategy<Value = Vec<Delta>> {
    let broken = || vec![Condition::new(ConditionType::Accepted, Reason::Invalid, "spec", "no")];
    let delta = (any_object(), 0..10).prop_map(move |(object, what)| match what {
        0 | 1 => Delta::Delete(object.meta.id),
        2 => Delta::Invalid(object.meta.id, broken()),
        _ => apply(object),
    });
    (vec(any_cluster_object(), 0..4), vec(delta, 0..40)).prop_map(|(clusters, mut deltas)| {
        let at = deltas.len() / 3;
        deltas.splice(at..at, clusters.into_iter().map(apply));
        deltas
    })
}

fn id_of(delta: &Delta) -> &ObjectRef {
    match delta {
        Delta::Apply(object) => &object.meta.id,
        Delta::Delete(id) | Delta::Invalid(id, _) => id,
    }
}

/// What remains of deltas: of each object the last good version, then what was wrong since.
fn remains(deltas: &[Delta]) -> Vec<Delta> {
    let mut last: BTreeMap<ObjectRef, (Option<Delta>, Option<Delta>)> = BTreeMap::new();
    for delta in deltas {
        let entry = last.entry(id_of(delta).clone()).or_default();
        match delta {
            Delta::Apply(_) => *entry = (Some(delta.clone()), None),
            Delta::Delete(_) => *entry = (None, None),
            Delta::Invalid(..) => entry.1 = Some(delta.clone()),
        }
    }
    last.into_values().flat_map(|(good, bad)| good.into_iter().chain(bad)).collect()
}

fn unnumbered(plan: &Plan) -> Plan {
    Plan { revision: 0, ..plan.clone() }
}

fn keys_are_unique(update: &Update) -> bool {
    fn unique<K: Ord, V>(changes: &[(K, V)]) -> bool {
        let mut keys: Vec<_> = changes.iter().map(|(key, _)| key).collect();
        keys.sort();
        keys.windows(2).all(|pair| pair[0] != pair[1])
    }
    unique(&update.clusters)
        && unique(&update.hosts)
        && unique(&update.pools)
        && unique(&update.certificates)
        && unique(&update.server_names)
        && unique(&update.conditions)
}

/// Who serves a host, read off the rules as they are written: everybody claims, the oldest owns.
fn naive_owners(compiler: &Compiler, limits: &Naive, pattern: &str) -> Vec<String> {
    let pattern = host(pattern);
    let lb_domain = &compiler.plan().proxy.lb_domain;
    let sharing = |lb: &Object| -> Option<Sharing> {
        let cluster = compiler.object(&id(Kind::Cluster, lb.meta.id.cluster()?))?;
        let Spec::Cluster(cluster) = &cluster.spec else { return None };
        let under = |suffix: &Option<_>| suffix.as_ref().is_none_or(|suffix| pattern.name().is_under(suffix));
        let longest = cluster
            .allowed_domains
            .iter()
            .filter(|domain| under(&domain.suffix))
            .map(|domain| domain.suffix.as_ref().map_or(0, |suffix| suffix.as_str().len()))
            .max()?;
        let mut modes = cluster.allowed_domains.iter().filter(|domain| {
            under(&domain.suffix)
                && domain.suffix.as_ref().map_or(0, |suffix| suffix.as_str().len()) == longest
        });
        let shared = modes.all(|domain| domain.sharing == Sharing::Shared);
        Some(if shared { Sharing::Shared } else { Sharing::Exclusive })
    };
    let rules = |lb: &Object| match &lb.spec {
        Spec::HttpLoadBalancer(lb) => lb.rules.clone(),
        _ => Box::new([]),
    };
    // Whatever the origin says: its date is the tenant's to write.
    let age = |lb: &Object| {
        (lb.meta.created.is_none(), lb.meta.created, lb.meta.id.cluster().unwrap_or_default().to_owned())
    };
    if pattern.name().is_under(lb_domain) {
        return Vec::new();
    }
    let mut claims: Vec<&Arc<Object>> = compiler
        .objects(Kind::HttpLoadBalancer)
        .filter(|lb| sharing(lb).is_some())
        .filter(|lb| {
            rules(lb).iter().flat_map(|rule| rule.hosts.iter()).any(|claim| {
                // What is claimed above must itself be allowed, which holds for wildcards only where the suffix does.
                claim.covers(&pattern) && allowed_at(compiler, lb, claim) && limits.admit(lb, claim)
            })
        })
        .collect();
    claims.sort_by_key(|lb| age(lb));
    let Some(owner) = claims.first() else { return Vec::new() };
    let serving = claims.iter().filter(|lb| {
        lb.meta.id.namespace == owner.meta.id.namespace
            || (sharing(owner) == Some(Sharing::Shared) && sharing(lb) == Some(Sharing::Shared))
    });
    let mut serving: Vec<_> = serving
        .filter(|lb| limits.admit(lb, &pattern))
        .flat_map(|lb| {
            let rules = rules(lb);
            let on_it: Vec<_> = (0..rules.len()).filter(|at| rules[*at].hosts.contains(&pattern)).collect();
            on_it.into_iter().map(|at| format!("{}#{at}", lb.meta.id))
        })
        .collect();
    serving.sort();
    serving
}

pub fn allowed_at(compiler: &Compiler, lb: &Object, claim: &portolan_model::host::HostPattern) -> bool {
    let cluster = lb.meta.id.cluster().and_then(|named| compiler.object(&id(Kind::Cluster, named)));
    match cluster.map(|object| &object.spec) {
        Some(Spec::Cluster(cluster)) => {
            !claim.name().is_under(&compiler.plan().proxy.lb_domain)
                && cluster
                    .allowed_domains
                    .iter()
                    .any(|domain| domain.suffix.as_ref().is_none_or(|suffix| claim.name().is_under(suffix)))
        }
        _ => false,
    }
}

fn served(plan: &Plan, pattern: &str) -> Vec<String> {
    let routes = plan.hosts.get(&host(pattern)).into_iter().flat_map(|host| host.routes.iter());
    let mut actions: Vec<_> = routes
        .flat_map(|route| route.actions.iter())
        .map(|action| format!("{}#{}", action.object, action.rule))
        .collect();
    actions.sort();
    // A rule may come to several routes.
    actions.dedup();
    actions
}

/// Whether each match of a host goes to all clusters that say it.
fn goes_to_all(host: &VirtualHost) -> bool {
    let everything = [RouteMatch::default()];
    let matches =
        |route: &Route| if route.matches.is_empty() { everything.to_vec() } else { route.matches.to_vec() };
    let mut said: BTreeMap<RouteMatch, Vec<BTreeSet<String>>> = BTreeMap::new();
    for route in &host.routes {
        let clusters: BTreeSet<_> = route.actions.iter().map(|action| action.cluster().to_owned()).collect();
        for matching in matches(route) {
            said.entry(matching).or_default().push(clusters.clone());
        }
    }
    said.into_values().all(|routes| routes.iter().all(|others| others.is_subset(&routes[0])))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_deltas_never_shows(deltas in any_deltas(), cuts in vec(1usize..6, 40), seed in any::<u64>()) {
        // Step by step, in batches, each update leading from plan to plan.
        let mut compiler = Compiler::new();
        let mut rest = &deltas[..];
        for cut in cuts {
            let (batch, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            let before = compiler.plan().clone();
            let update = compiler.apply(batch.iter().cloned());
            prop_assert!(keys_are_unique(&update));
            prop_assert_eq!(compiler.plan().revision, before.revision + u64::from(!update.is_empty()));
            let mut led = before;
            led.apply(&update);
            prop_assert_eq!(&led, compiler.plan());
        }
        compiler.apply(rest.iter().cloned());

        // At once, and in another order.
        let mut remains = remains(&deltas);
        let mut whole = Compiler::new();
        whole.apply(remains.iter().cloned());
        prop_assert_eq!(unnumbered(compiler.plan()), unnumbered(whole.plan()));
        let mut state = seed;
        remains.sort_by_cached_key(|delta| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (matches!(delta, Delta::Invalid(..)), state >> 32)
        });
        let mut single = Compiler::new();
        for delta in &remains {
            single.apply([delta.clone()]);
        }
        prop_assert_eq!(unnumbered(single.plan()), unnumbered(whole.plan()));

        // The same once more changes nothing.
        let again: Vec<_> = remains.iter().filter(|delta| !matches!(delta, Delta::Invalid(..))).cloned().collect();
        let broken = remains.len() > again.len();
        prop_assert!(broken || single.apply(again).is_empty());

        // Limits are kept.
        let limits = Naive::of(&whole);
        limits.check(&whole);

        // Hosts belong to whom they should.
        for pattern in HOSTS {
            if !host(pattern).name().is_under(&whole.plan().proxy.lb_domain) {
                prop_assert_eq!(served(whole.plan(), pattern), naive_owners(&whole, &limits, pattern), "{}", pattern);
            }
        }

        prop_assert!(whole.plan().hosts.iter().all(|(_, host)| goes_to_all(host)));

        for kind in Kind::ALL {
            prop_assert_eq!(compiler.number(kind), compiler.objects(kind).count());
        }

        // Wildcards from above end at the lb domain.
        let lb_domain = &whole.plan().proxy.lb_domain;
        let above = |pattern: &HostPattern| pattern.matches(&format!("nobody.there.{lb_domain}")) && !pattern.name().is_under(lb_domain);
        let threatened = whole.plan().hosts.iter().any(|(pattern, _)| above(pattern));
        let fence = whole.plan().hosts.get(&HostPattern::AnyLabels(lb_domain.clone()));
        prop_assert_eq!(fence.is_some(), threatened || whole.plan().catch_all.is_some());
    }
}
