//! How much a cluster may have: what is left out beyond it, and that the rest serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portolan_compile::{Compiler, LeftOut};
use portolan_model::condition::Reason;
use portolan_model::host::HostPattern;
use portolan_model::id::{Kind, ObjectRef, PoolId};
use portolan_model::intent::*;
use portolan_model::plan::{Counts, Pool};

use crate::fleet::*;
use crate::order::allowed_at;

/// What is beyond the limits of all clusters, read off the rule as it is written.
pub struct Naive {
    left_out: BTreeSet<ObjectRef>,
    /// By namespace.
    hosts: BTreeSet<(Arc<str>, HostPattern)>,
    /// Endpoints of pools.
    kept: BTreeMap<ObjectRef, usize>,
}

impl Naive {
    pub fn of(compiler: &Compiler) -> Self {
        let mut naive = Self { left_out: BTreeSet::new(), hosts: BTreeSet::new(), kept: BTreeMap::new() };
        let unlimited = unlimited(compiler);
        for object in compiler.objects(Kind::Cluster) {
            if let Spec::Cluster(cluster) = &object.spec {
                naive.add(compiler, &unlimited, &object.meta.id.name, cluster.limits);
            }
        }
        naive
    }

    fn add(&mut self, compiler: &Compiler, unlimited: &Compiler, cluster: &str, limits: Limits) {
        let most = |limit: Option<u32>| limit.map_or(usize::MAX, |limit| limit as usize);
        let (mut number, mut routes, mut hosts) = (0, 0, BTreeSet::new());
        for lb in by_age(compiler, Kind::HttpLoadBalancer, cluster) {
            let rules = rules(lb);
            if number + 1 > most(limits.load_balancers) || routes + rules.len() > most(limits.routes) {
                self.left_out.insert(lb.meta.id.clone());
                continue;
            }
            number += 1;
            routes += rules.len();
            for claim in rules.iter().flat_map(|rule| rule.hosts.iter()) {
                if !allowed_at(compiler, lb, claim) || hosts.contains(claim) {
                    continue;
                }
                if hosts.len() < most(limits.hosts) {
                    hosts.insert(claim);
                } else {
                    self.hosts.insert((Arc::clone(&lb.meta.id.namespace), claim.clone()));
                }
            }
        }
        let mut left = most(limits.endpoints);
        for pool in by_age(compiler, Kind::UpstreamPool, cluster) {
            let kept = endpoints(unlimited, &pool.meta.id).min(left);
            self.kept.insert(pool.meta.id.clone(), kept);
            left -= kept;
        }
    }

    /// Whether a claim is within the limits of its cluster.
    pub fn admit(&self, lb: &Object, claim: &HostPattern) -> bool {
        let id = &lb.meta.id;
        !self.left_out.contains(id) && !self.hosts.contains(&(Arc::clone(&id.namespace), claim.clone()))
    }

    /// Whether conditions, pools and counts are as they should be.
    pub fn check(&self, compiler: &Compiler) {
        let has_cluster = |object: &&Arc<Object>| {
            object.meta.id.cluster().is_some_and(|it| compiler.object(&id(Kind::Cluster, it)).is_some())
        };
        for lb in compiler.objects(Kind::HttpLoadBalancer).filter(has_cluster) {
            let found = conditions(compiler, &lb.meta.id);
            let limited: Vec<_> = found.iter().filter(|it| it.reason == Reason::LimitReached).collect();
            let left_out = self.left_out.contains(&lb.meta.id);
            assert_eq!(limited.iter().any(|it| it.field.is_empty()), left_out, "{found:?}");
            let claims: BTreeSet<_> = rules(lb).iter().flat_map(|rule| rule.hosts.to_vec()).collect();
            let beyond = claims.iter().filter(|claim| !self.admit(lb, claim)).count();
            assert_eq!(limited.len(), if left_out { 1 } else { beyond }, "{found:?}");
            let generated = compiler.generated_host(&lb.meta.id).map(HostPattern::Exact);
            let served = generated.and_then(|host| compiler.plan().hosts.get(&host));
            assert!(!left_out || served.is_none());
        }
        for pool in compiler.objects(Kind::UpstreamPool).filter(has_cluster) {
            assert_eq!(endpoints(compiler, &pool.meta.id), self.kept[&pool.meta.id], "{}", pool.meta.id);
        }
        for cluster in compiler.objects(Kind::Cluster) {
            self.check_counts(compiler, &cluster.meta.id.name);
        }
    }

    fn check_counts(&self, compiler: &Compiler, cluster: &str) {
        let plan = compiler.plan();
        let serving = by_age(compiler, Kind::HttpLoadBalancer, cluster).into_iter();
        let serving: Vec<_> = serving.filter(|lb| !self.left_out.contains(&lb.meta.id)).collect();
        let hosts = plan.hosts.iter().filter(|(pattern, host)| {
            let mut actions = host.routes.iter().flat_map(|route| route.actions.iter());
            !pattern.name().is_under(&plan.proxy.lb_domain) && actions.any(|it| it.cluster() == cluster)
        });
        let pools = by_age(compiler, Kind::UpstreamPool, cluster).into_iter();
        let counts = compiler.counts(cluster);
        let expected = Counts {
            nodes: counts.nodes,
            load_balancers: serving.len() as u32,
            routes: serving.iter().map(|lb| rules(lb).len() as u32).sum(),
            hosts: hosts.count() as u32,
            endpoints: pools.map(|pool| self.kept[&pool.meta.id] as u32).sum(),
            faults: plan.conditions.iter().filter(|(id, _)| id.cluster() == Some(cluster)).count() as u32,
        };
        assert_eq!(counts, expected, "{cluster}");
        let left_out = self.left_out.iter().filter(|id| id.cluster() == Some(cluster)).count();
        assert_eq!(compiler.left_out(cluster).load_balancers, left_out, "{cluster}");
    }
}

/// The same objects without limits.
fn unlimited(compiler: &Compiler) -> Compiler {
    let all = Kind::ALL.into_iter().flat_map(|kind| compiler.objects(kind)).map(|object| {
        let mut object = Object::clone(object);
        if let Spec::Cluster(cluster) = &mut object.spec {
            cluster.limits = Limits::default();
        }
        object
    });
    compile(all)
}

fn by_age<'a>(compiler: &'a Compiler, kind: Kind, cluster: &str) -> Vec<&'a Arc<Object>> {
    let own = compiler.objects(kind).filter(|object| object.meta.id.cluster() == Some(cluster));
    let mut own: Vec<_> = own.collect();
    own.sort_by_key(|object| {
        let Meta { id, created, origin, .. } = &object.meta;
        let origin = origin.as_deref();
        let created = origin.and_then(|origin| origin.created).or(*created);
        let called = match origin {
            Some(origin) => [&*origin.kind, &*origin.namespace, &*origin.name].map(str::to_owned),
            None => [id.kind.as_str(), &*id.namespace, &*id.name].map(str::to_owned),
        };
        (created.is_none(), created, called, id.clone())
    });
    own
}

fn rules(lb: &Object) -> &[portolan_model::route::Rule] {
    match &lb.spec {
        Spec::HttpLoadBalancer(lb) => &lb.rules,
        _ => &[],
    }
}

fn resolved<'a>(compiler: &'a Compiler, id: &ObjectRef) -> Option<&'a Pool> {
    let key = PoolId::new(Arc::clone(&id.namespace), Arc::clone(&id.name));
    compiler.plan().pools.get(&key).map(|pool| &**pool)
}

fn endpoints(compiler: &Compiler, id: &ObjectRef) -> usize {
    let pool = resolved(compiler, id).unwrap();
    pool.endpoints.len() + pool.names.len()
}

fn limited(change: impl FnOnce(&mut Limits)) -> Object {
    cluster("paris", |cluster| change(&mut cluster.limits))
}

fn fleet(limited: Object, objects: Vec<Object>) -> Vec<Object> {
    [proxy(|_| {}), limited, cluster("tokyo", |_| {})].into_iter().chain(objects).collect()
}

/// The load balancers of paris that serve, by name.
fn serving(compiler: &Compiler) -> Vec<&str> {
    let all = by_age(compiler, Kind::HttpLoadBalancer, "paris").into_iter();
    let served = all.filter(|lb| {
        let host = compiler.generated_host(&lb.meta.id).map(HostPattern::Exact);
        host.is_some_and(|host| compiler.plan().hosts.get(&host).is_some())
    });
    served.map(|lb| &*lb.meta.id.name).collect()
}

fn message(compiler: &Compiler, id: &ObjectRef) -> String {
    conditions(compiler, id).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_oldest_load_balancers_serve() {
    let at = |name: &str, created| lb(&format!("paris/{name}"), created, &["/"]);
    let two = || limited(|limits| limits.load_balancers = Some(2));
    let mut compiler =
        compile(fleet(two(), vec![at("a", 3), at("b", 2), at("c", 1), lb("tokyo/a", 9, &["/"])]));
    assert_eq!(serving(&compiler), ["c", "b"]);
    assert_eq!(
        message(&compiler, &lb_id("paris/a")),
        "LimitReached: left out: spec.limits.loadBalancers of Cluster paris is 2, and older ones count first; remove what \
         is not needed, or have the limit raised"
    );
    assert!(routes(compiler.plan(), "a.tokyo.lb.net").len() == 1, "others are not concerned");

    let mut after = |delta| {
        compiler.apply([delta]);
        serving(&compiler).join(" ")
    };
    assert_eq!(after(apply(at("d", 0))), "d c", "an older one");
    assert_eq!(after(apply(with_origin(at("a", 3), "Ingress/x/a", Some(-1)))), "a d", "as its origin is");
    assert_eq!(after(Delta::Delete(lb_id("paris/d"))), "a c");
    assert_eq!(after(apply(limited(|limits| limits.load_balancers = Some(1)))), "a");
    assert_eq!(after(apply(limited(|limits| limits.load_balancers = Some(0)))), "");
    assert_eq!(after(apply(limited(|_| {}))), "a c b");
    assert_eq!(after(apply(two())), "a c");
    assert_eq!(after(Delta::Delete(lb_id("paris/a"))), "c b", "all that are left");
    assert_eq!(after(apply(with_origin(at("a", 3), "Ingress/x/a", Some(-1)))), "a c");
    assert_eq!(after(Delta::Delete(id(Kind::Cluster, "paris"))), "");
    assert_eq!(after(apply(two())), "a c");
}

#[test]
fn rules_too_many_leave_out_the_whole_and_smaller_ones_fit() {
    let objects = vec![
        lb("paris/a", 1, &["/"]),
        lb("paris/b", 2, &["/x", "/y", "/z"]),
        lb("paris/c", 3, &["/x", "/y"]),
        lb("paris/d", 4, &["/"]),
    ];
    let mut compiler = compile(fleet(limited(|limits| limits.routes = Some(3)), objects));
    assert_eq!(serving(&compiler), ["a", "c"]);
    assert_eq!(
        message(&compiler, &lb_id("paris/b")),
        "LimitReached: left out with its 3 rules: spec.limits.routes of Cluster paris is 3, and rules of older \
         HTTPLoadBalancers count first; remove what is not needed, or have the limit raised"
    );
    compiler.apply([apply(lb("paris/b", 2, &["/x", "/y"]))]);
    assert_eq!(serving(&compiler), ["a", "b"]);
}

#[test]
fn what_is_left_out_keeps_its_name_and_claims_nothing() {
    let secret = secret("paris/s", &["a.com"], KeyAlgorithm::Ecdsa, 1);
    let objects = vec![
        lb("paris/first", 1, &["/"]),
        with_tls(lb("paris/shop", 2, &["/ a.com", "/ > none"]), &[("s", &[])]),
        with_origin(lb("paris/other", 3, &["/"]), "Ingress/a/shop", None),
        lb("tokyo/shop", 9, &["/ a.com"]),
        secret,
    ];
    let mut compiler = compile(fleet(limited(|limits| limits.load_balancers = Some(1)), objects));
    let name = compiler.generated_host(&lb_id("paris/shop")).unwrap();
    assert_eq!(name.as_str(), "shop.paris.lb.net");
    assert_ne!(compiler.generated_host(&lb_id("paris/other")), Some(name));
    assert_eq!(routes(compiler.plan(), "shop.paris.lb.net"), [""; 0]);
    assert_eq!(routes(compiler.plan(), "a.com"), ["/ -> tokyo/shop#0"]);
    assert_eq!(wrong(&compiler, &lb_id("tokyo/shop")), []);
    assert_eq!(wrong(&compiler, &lb_id("paris/shop")), [(Reason::LimitReached, String::new())]);
    assert!(compiler.plan().certificates.is_empty());

    // Of both its hosts it is told.
    for host in ["shop.paris.lb.net", "a.com"] {
        let refused = compiler.refused(host);
        assert!(
            matches!(&*refused, [it] if it.object == lb_id("paris/shop") && it.reason == Reason::LimitReached),
            "{refused:?}"
        );
    }

    compiler.apply([Delta::Delete(lb_id("paris/first"))]);
    assert_eq!(routes(compiler.plan(), "a.com"), ["/ -> paris/shop#0"]);
    assert_eq!(wrong(&compiler, &lb_id("tokyo/shop"))[0].0, Reason::HostTaken);
    assert_eq!(compiler.plan().certificates.len(), 1);
    assert!(compiler.refused("shop.paris.lb.net").is_empty());
}

#[test]
fn hosts_too_many_are_refused_one_by_one() {
    let objects = vec![
        lb("paris/a", 1, &["/ a.com b.com", "/x c.com a.com"]),
        lb("paris/b", 2, &["/ c.com a.com", "/ shop.paris.lb.net d.org"]),
        lb("tokyo/c", 9, &["/ c.com"]),
    ];
    let two = limited(|limits| limits.hosts = Some(2));
    let mut compiler = compile(fleet(two, objects));
    assert_eq!(
        all_routes(compiler.plan()).into_keys().collect::<Vec<_>>(),
        ["a.com", "a.paris.lb.net", "b.com", "b.paris.lb.net", "c.com", "c.tokyo.lb.net"]
    );
    assert_eq!(routes(compiler.plan(), "a.com"), ["/ -> paris/a#0", "/x -> paris/a#1", "/ -> paris/b#0"]);
    assert_eq!(routes(compiler.plan(), "c.com"), ["/ -> tokyo/c#0"]);
    assert_eq!(
        message(&compiler, &lb_id("paris/a")),
        "LimitReached: spec.rules[1].hosts[0]: c.com is left out: spec.limits.hosts of Cluster paris is 2, and older \
         claims count first; remove what is not needed, or have the limit raised"
    );
    assert_eq!(
        wrong(&compiler, &lb_id("paris/b")),
        [
            (Reason::LimitReached, "spec.rules[0].hosts[0]".to_owned()),
            (Reason::DomainNotAllowed, "spec.rules[1].hosts[0]".to_owned()),
            (Reason::LimitReached, "spec.rules[1].hosts[1]".to_owned()),
            (Reason::RouteTaken, "spec.rules[0].matches".to_owned()),
        ]
    );
    let told: Vec<_> = compiler.refused("c.com").into_iter().map(|it| (it.object.name, it.reason)).collect();
    assert_eq!(told, [("a".into(), Reason::LimitReached), ("b".into(), Reason::LimitReached)]);

    compiler.apply([apply(limited(|limits| limits.hosts = Some(1)))]);
    assert_eq!(wrong(&compiler, &lb_id("paris/a")).len(), 2);
    assert!(
        message(&compiler, &lb_id("paris/a"))
            .contains("b.com is left out: spec.limits.hosts of Cluster paris is 1")
    );

    // What the cluster may not claim anyway takes nothing of its limit.
    let org = cluster("paris", |cluster| {
        cluster.allowed_domains = domains(&["org exclusive"]);
        cluster.limits.hosts = Some(1);
    });
    compiler.apply([apply(org)]);
    assert_eq!(routes(compiler.plan(), "d.org"), ["/ -> paris/b#1"]);
    assert_eq!(wrong(&compiler, &lb_id("paris/a")).len(), 3);
    assert!(wrong(&compiler, &lb_id("paris/a")).iter().all(|it| it.0 == Reason::DomainNotAllowed));
}

#[test]
fn pools_keep_their_first_endpoints() {
    let aged = |text: &str, created, source| {
        let mut pool = pool(text, source);
        pool.meta.created = Some(created);
        pool
    };
    let addresses = |compiler: &Compiler, named: &str| {
        let Some(pool) = resolved(compiler, &id(Kind::UpstreamPool, named)) else { return String::new() };
        let names = pool.names.iter().map(|it| it.name.to_string());
        pool.endpoints.iter().map(|it| it.address.ip().to_string()).chain(names).collect::<Vec<_>>().join(" ")
    };
    let slices = portolan_model::pool::EndpointSource::Slices { port_name: None };
    let objects = vec![
        aged("paris/old", 1, inline(&["10.0.0.2", "10.0.0.1"])),
        aged("paris/mid", 2, slices),
        slice("paris/e", "mid", &[("", 80)], &["10.1.0.1 st", "10.1.0.2 r", "10.1.0.3 r"]),
        aged("paris/new", 3, inline(&["x.example", "10.2.0.1"])),
    ];
    let most = |number| limited(|limits| limits.endpoints = Some(number));
    let mut compiler = compile(fleet(most(4), objects));
    let mut after = |delta: Option<Delta>| {
        compiler.apply(delta);
        let found = ["paris/old", "paris/mid", "paris/new"].map(|named| addresses(&compiler, named));
        (found.join(" | "), message(&compiler, &id(Kind::UpstreamPool, "paris/mid")))
    };
    let (found, told) = after(None);
    assert_eq!(found, "10.0.0.1 10.0.0.2 | 10.1.0.2 10.1.0.3 | ", "those that are going away last");
    assert_eq!(
        told,
        "LimitReached: keeps 2 of its 3 endpoints: spec.limits.endpoints of Cluster paris is 4, and older pools' \
         endpoints count first; remove what is not needed, or have the limit raised"
    );
    let whole = "10.1.0.1 10.1.0.2 10.1.0.3";
    assert_eq!(
        after(Some(apply(most(6)))),
        (format!("10.0.0.1 10.0.0.2 | {whole} | 10.2.0.1"), String::new())
    );
    assert_eq!(after(Some(apply(most(7)))).0, format!("10.0.0.1 10.0.0.2 | {whole} | 10.2.0.1 x.example"));
    assert_eq!(after(Some(apply(most(3)))).0, "10.0.0.1 10.0.0.2 | 10.1.0.2 | ");
    let grown = aged("paris/old", 1, inline(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
    assert_eq!(after(Some(apply(grown))).0, "10.0.0.1 10.0.0.2 10.0.0.3 |  | ");
    let gone = Delta::Delete(id(Kind::UpstreamPool, "paris/old"));
    assert_eq!(after(Some(gone)).0, format!(" | {whole} | "));
    let younger = aged("paris/old", 9, inline(&["10.0.0.1"]));
    assert_eq!(after(Some(apply(younger))).0, format!(" | {whole} | "));
    assert_eq!(after(Some(apply(limited(|_| {})))).0, format!("10.0.0.1 | {whole} | 10.2.0.1 x.example"));
}

#[test]
fn counts_are_of_what_is_in_force() {
    let objects = vec![
        lb("paris/a", 1, &["/ a.com taken.com", "/x a.com shop.paris.lb.net"]),
        lb("paris/b", 2, &["/ b.com"]),
        lb("tokyo/c", 0, &["/ taken.com"]),
        pool("paris/p", inline(&["10.0.0.1", "10.0.0.2", "x.example", "127.0.0.1"])),
        nodes("paris/nodes", &["n1 10.0.0.1", "!n2 10.0.0.2", "n3 10.0.0.3"]),
    ];
    let limits =
        limited(|limits| *limits = Limits { load_balancers: Some(1), endpoints: Some(2), ..*limits });
    let compiler = compile(fleet(limits, objects));
    assert_eq!(
        compiler.counts("paris"),
        Counts { nodes: 2, load_balancers: 1, routes: 2, hosts: 1, endpoints: 2, faults: 3 }
    );
    assert_eq!(compiler.counts("oslo"), Counts::default());
    assert_eq!(compiler.left_out("paris"), LeftOut { load_balancers: 1, hosts: 0, pools: 1 });
    assert_eq!(compiler.left_out("tokyo"), LeftOut::default());
}

/// A cluster without limits, and one within them, costs nothing of another's.
#[test]
fn one_change_within_limits_is_one_small_update() {
    let own = |n: usize| lb(&format!("paris/l{n}"), 1, &["/ > p"]);
    let most = limited(|limits| *limits = Limits { load_balancers: Some(50), routes: Some(50), ..*limits });
    let mut compiler = compile(fleet(most, (0..50).map(own).collect()));
    let update = compiler.apply([apply(lb("paris/l7", 1, &["/other > p"]))]);
    assert_eq!((update.hosts.len(), update.conditions.len()), (1, 0));
    // One too many is told, and moves nobody.
    let update = compiler.apply([apply(lb("paris/m", 2, &["/"]))]);
    assert_eq!((update.hosts.len(), update.conditions.len()), (0, 1));
}
