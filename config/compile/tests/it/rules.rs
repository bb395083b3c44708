//! Customer hosts: who may claim them, who owns them, how rules merge.

use std::sync::Arc;

use portolan_model::condition::Reason;
use portolan_model::host::HostPattern;
use portolan_model::id::Kind;
use portolan_model::intent::{Delta, KeyAlgorithm, Object, Spec};

use crate::fleet::*;

fn fleet(objects: Vec<Object>) -> Vec<Object> {
    [proxy(|_| {}), cluster("paris", |_| {}), cluster("tokyo", |_| {})].into_iter().chain(objects).collect()
}

#[test]
fn hosts_lie_under_allowed_domains() {
    for (allowed, claim, served) in [
        (&["* exclusive"][..], "a.com", true),
        (&[], "a.com", false),
        (&["a.com exclusive"], "a.com", true),
        (&["a.com exclusive"], "x.a.com", true),
        (&["a.com exclusive"], "*.a.com", true),
        (&["a.com exclusive"], "**.a.com", true),
        (&["a.com exclusive"], "xa.com", false),
        (&["x.a.com exclusive"], "*.a.com", false),
        (&["b.com exclusive", "a.com shared"], "a.com", true),
        (&["* exclusive"], "lb.net", false),
        (&["* exclusive"], "x.lb.net", false),
        (&["* exclusive"], "*.paris.lb.net", false),
        (&["* exclusive"], "shop.paris.lb.net", true),
        (&["* exclusive"], "shop.tokyo.lb.net", false),
    ] {
        let compiler = compile([
            proxy(|_| {}),
            cluster("paris", |cluster| cluster.allowed_domains = domains(allowed)),
            lb("paris/shop", 1, &["/ ok.example", &format!("/ {claim}")]),
        ]);
        let found = wrong(&compiler, &lb_id("paris/shop"));
        let refused = found.contains(&(Reason::DomainNotAllowed, "spec.rules[1].hosts[0]".to_owned()));
        assert_eq!(refused, !served, "{allowed:?} {claim} {found:?}");
        assert_eq!(!routes(compiler.plan(), claim).is_empty(), served, "{allowed:?} {claim}");
    }
}

#[test]
fn a_rule_serves_its_other_hosts() {
    let compiler = compile([
        cluster("paris", |cluster| cluster.allowed_domains = domains(&["a.com exclusive"])),
        lb("paris/shop", 1, &["/ a.com b.com x.a.com", "/b b.com"]),
    ]);
    // The same host is refused once, where it stands first.
    assert_eq!(
        wrong(&compiler, &lb_id("paris/shop")),
        [(Reason::DomainNotAllowed, "spec.rules[0].hosts[1]".to_owned())]
    );
    assert_eq!(routes(compiler.plan(), "a.com"), ["/ -> paris/shop#0"]);
    assert_eq!(routes(compiler.plan(), "x.a.com"), ["/ -> paris/shop#0"]);
}

/// Regression: a host of the object was reported as one of its first rule without hosts.
#[test]
fn a_refusal_names_the_field_that_is_there() {
    let mut object = lb("paris/shop", 1, &["/ a.com a.com b.org", "/own c.org a.com", "/ a.com a.com b.org"]);
    if let Spec::HttpLoadBalancer(lb) = &mut object.spec {
        lb.rules[0].inherits_hosts = true;
        lb.rules[2].inherits_hosts = true;
    }
    let compiler = compile([
        cluster("paris", |cluster| cluster.allowed_domains = domains(&["a.com exclusive"])),
        object,
    ]);
    assert_eq!(
        wrong(&compiler, &lb_id("paris/shop")),
        ["spec.hosts[2]", "spec.rules[1].hosts[0]"].map(|it| (Reason::DomainNotAllowed, it.to_owned()))
    );
    assert_eq!(routes(compiler.plan(), "a.com").len(), 3);
}

/// Claims of paris (first) and tokyo (second), with their ages; who serves which host then.
#[test]
fn the_first_claim_owns() {
    for (say, claims, expected) in [
        ("the older", [("a.com", 1), ("a.com", 2)], &[("a.com", "paris")][..]),
        ("the older, the other way", [("a.com", 2), ("a.com", 1)], &[("a.com", "tokyo")]),
        ("of equals the first by name", [("a.com", 1), ("a.com", 1)], &[("a.com", "paris")]),
        (
            "an older wildcard takes all below",
            [("*.a.com", 1), ("x.a.com", 2)],
            &[("*.a.com", "paris"), ("x.a.com", "")],
        ),
        ("any labels too", [("**.a.com", 1), ("y.x.a.com", 2)], &[("**.a.com", "paris"), ("y.x.a.com", "")]),
        (
            "but one label only one",
            [("*.a.com", 1), ("y.x.a.com", 2)],
            &[("*.a.com", "paris"), ("y.x.a.com", "tokyo")],
        ),
        (
            "nor the suffix itself",
            [("*.a.com", 1), ("a.com", 2)],
            &[("*.a.com", "paris"), ("a.com", "tokyo")],
        ),
        (
            "an older host below stays",
            [("*.a.com", 2), ("x.a.com", 1)],
            &[("*.a.com", "paris"), ("x.a.com", "tokyo")],
        ),
        (
            "wildcards below wildcards",
            [("**.com", 1), ("*.a.com", 2)],
            &[("**.com", "paris"), ("*.a.com", "")],
        ),
        (
            "a wider wildcard comes later",
            [("**.com", 2), ("*.a.com", 1)],
            &[("**.com", "paris"), ("*.a.com", "tokyo")],
        ),
        (
            "the two modes of one suffix",
            [("*.a.com", 1), ("**.a.com", 2)],
            &[("*.a.com", "paris"), ("**.a.com", "tokyo")],
        ),
    ] {
        let [(paris, first), (tokyo, second)] = claims;
        let objects = [lb("paris/p", first, &[paris]), lb("tokyo/t", second, &[tokyo])];
        for order in [[0, 1], [1, 0]] {
            let mut compiler = compile(fleet(vec![]));
            for at in order {
                compiler.apply([apply(objects[at].clone())]);
            }
            for (pattern, owner) in expected {
                let served = routes(compiler.plan(), pattern).join(", ");
                let right = if owner.is_empty() {
                    served.is_empty()
                } else {
                    served.starts_with(&format!("-> {owner}/"))
                };
                assert!(right, "{say}: {pattern} is served by {served:?}");
            }
            let refused = conditions(&compiler, &lb_id("paris/p")).len()
                + conditions(&compiler, &lb_id("tokyo/t")).len();
            assert_eq!(
                refused,
                objects.len() - expected.iter().filter(|(_, owner)| !owner.is_empty()).count(),
                "{say}"
            );
        }
    }
}

/// Regression: the origin's date, which a tenant writes as it likes, gave it any host that two tenants may claim.
#[test]
fn between_tenants_an_origin_s_date_says_nothing() {
    let forged = |claim: &str| with_origin(lb("tokyo/t", 2, &[claim]), "Ingress/a/t", Some(-1));
    for (claim, theirs) in [("a.com", "a.com"), ("**.com", "x.a.com"), ("x.a.com", "*.a.com")] {
        let objects = [lb("paris/p", 1, &[theirs]), forged(claim)];
        for order in [[0, 1], [1, 0]] {
            let mut compiler = compile(fleet(vec![]));
            for at in order {
                compiler.apply([apply(objects[at].clone())]);
            }
            assert_eq!(routes(compiler.plan(), theirs), ["-> paris/p#0"], "{claim} {theirs}");
        }
    }
    let mut compiler = compile(fleet(vec![lb("paris/p", 1, &["a.com"]), forged("a.com")]));
    let mut found = || {
        compiler.apply([apply(lb("paris/p", 3, &["a.com"]))]);
        routes(compiler.plan(), "a.com")
    };
    assert_eq!(found(), ["-> tokyo/t#0"], "who comes anew comes last");
}

/// Three objects whose dates, mixed, would make a circle: p1 before t, t before p2, p2 before p1.
#[test]
fn within_a_tenant_the_origin_s_date_decides() {
    let shared = |named: &str| cluster(named, |cluster| cluster.allowed_domains = domains(&["* shared"]));
    let from = |object, created| with_origin(object, "Ingress/a/x", Some(created));
    let objects = [
        from(lb("paris/p1", 1, &["/p1 a.com"]), 5),
        lb("tokyo/t", 5, &["/t a.com"]),
        from(lb("paris/p2", 9, &["/p2 a.com"]), 2),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut compiler = compile([shared("paris"), shared("tokyo")]);
        for at in order {
            compiler.apply([apply(objects[at].clone())]);
        }
        let expected = ["/p2 -> paris/p2#0", "/p1 -> paris/p1#0", "/t -> tokyo/t#0"];
        assert_eq!(routes(compiler.plan(), "a.com"), expected, "{order:?}");
    }
}

/// Regression: certificates times hosts took memory without bound.
#[test]
fn certificates_for_many_hosts_are_bounded() {
    let hosts: Vec<_> = (0..4096).map(|n| format!("h{n}.a.com")).collect();
    let names = ["s0", "s1", "s2", "s3", "s4"];
    let bindings: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &["*.a.com"][..])).collect();
    let object = with_tls(lb("paris/a", 0, &[&format!("/ {}", hosts.join(" "))]), &bindings);
    let secrets = |covers: &'static str| {
        names.map(|name| apply(secret(&format!("paris/{name}"), &[covers], KeyAlgorithm::Ecdsa, 9)))
    };
    let mut compiler = compile(fleet(vec![object]));
    compiler.apply(secrets("*.a.com"));
    let told = conditions(&compiler, &lb_id("paris/a"));
    assert_eq!((told.len(), &*told[0].field), (1, "spec.tls"));
    assert!(
        told[0].message.contains("20480 pairs of host and Secret; 16384 are looked at"),
        "{}",
        told[0].message
    );
    assert_eq!(compiler.plan().server_names.len(), 4096);
    compiler.apply(secrets("*.b.com"));
    assert_eq!(conditions(&compiler, &lb_id("paris/a")).len(), 1024);
}

/// Regression: of two objects with one host and path the younger got no request, and nobody was told.
#[test]
fn a_match_that_an_older_object_has_is_told() {
    let told = |compiler: &portolan_compile::Compiler, named: &str| -> Vec<String> {
        let found = conditions(compiler, &lb_id(named)).into_iter();
        found.filter(|it| it.reason == Reason::RouteTaken).map(|it| it.to_string()).collect()
    };
    let older = || lb("paris/a", 1, &["/ /x a.com b.com"]);
    let mut compiler = compile(fleet(vec![
        older(),
        lb("paris/b", 2, &["/y a.com", "/x / a.com", "/ b.com c.com"]),
        // Another cluster's share, as is its own rule that it says twice.
        lb("tokyo/c", 3, &["/ c.com", "/ c.com"]),
    ]));
    let by = "is served by HTTPLoadBalancer tenant-paris/a, which comes first";
    let expected = [
        format!("RouteTaken: spec.rules[1].matches: /x (and 1 more) on a.com {by}"),
        format!("RouteTaken: spec.rules[2].matches: / on b.com {by}"),
    ];
    assert_eq!(told(&compiler, "paris/b"), expected);
    assert_eq!((told(&compiler, "paris/a").len(), told(&compiler, "tokyo/c").len()), (0, 0));
    compiler.apply([apply(lb("paris/a", 1, &["/x a.com"]))]);
    assert_eq!(told(&compiler, "paris/b"), [format!("RouteTaken: spec.rules[1].matches: /x on a.com {by}")]);
    compiler.apply([Delta::Delete(lb_id("paris/a"))]);
    assert!(told(&compiler, "paris/b").is_empty());
    compiler.apply([apply(older())]);
    assert_eq!(told(&compiler, "paris/b"), expected);
}

#[test]
fn a_refusal_names_the_owner_and_ends_with_it() {
    let mut compiler = compile(fleet(vec![lb("paris/p", 1, &["*.a.com"]), lb("tokyo/t", 2, &["x.a.com"])]));
    let found = conditions(&compiler, &lb_id("tokyo/t"));
    assert_eq!((found[0].reason, &*found[0].field), (Reason::HostTaken, "spec.rules[0].hosts[0]"));
    assert!(found[0].message.contains("cluster paris"), "{}", found[0].message);
    assert!(found[0].message.contains("tenant-paris/p"), "{}", found[0].message);

    compiler.apply([Delta::Delete(lb_id("paris/p"))]);
    assert_eq!(routes(compiler.plan(), "x.a.com"), ["-> tokyo/t#0"]);
    assert_eq!(conditions(&compiler, &lb_id("tokyo/t")), []);
}

/// Regression: the refusal always said that the owner had come first.
#[test]
fn a_refusal_says_why_it_is_the_other_s() {
    let claim = |named: &str, created: Option<i64>, host: &str| {
        let mut claim = lb(named, 0, &[host]);
        claim.meta.created = created;
        claim
    };
    for (paris, tokyo, owner, why) in [
        (Some(1), Some(2), "paris", "is older"),
        (Some(2), Some(1), "tokyo", "is older"),
        (None, Some(9), "tokyo", "has a creationTimestamp, which this object has not"),
        (Some(1), Some(1), "paris", "comes first by name: both have the same creationTimestamp"),
        (None, None, "paris", "comes first by name: neither has a creationTimestamp"),
    ] {
        for (of_paris, of_tokyo) in [("a.com", "a.com"), ("*.com", "*.com")] {
            let objects = vec![claim("paris/p", paris, of_paris), claim("tokyo/t", tokyo, of_tokyo)];
            let compiler = compile(fleet(objects));
            let (name, loser) = if owner == "paris" { ("p", "tokyo/t") } else { ("t", "paris/p") };
            let found = conditions(&compiler, &lb_id(loser));
            let expected = format!(
                "{of_paris} belongs to cluster {owner}, whose HTTPLoadBalancer tenant-{owner}/{name} {why}"
            );
            assert_eq!(found.iter().map(|it| &*it.message).collect::<Vec<_>>(), [expected]);
        }
    }
}

#[test]
fn refused_claims_are_found_by_host() {
    let compiler = compile(
        fleet(vec![
            lb("paris/p", 1, &["a.com", "**.net", "p.paris.lb.net"]),
            lb("tokyo/t", 2, &["a.com", "x.net", "*.com", "p.paris.lb.net"]),
            lb("nowhere/n", 3, &["a.com"]),
            lb("oslo/o", 4, &["a.com"]),
        ])
        .into_iter()
        .chain([cluster("oslo", |cluster| cluster.allowed_domains = vec![])]),
    );
    for (asked, expected) in [
        (
            "a.com",
            &["tokyo/t a.com HostTaken", "nowhere/n a.com ClusterNotFound", "oslo/o a.com DomainNotAllowed"]
                [..],
        ),
        ("x.net", &["tokyo/t x.net HostTaken"]),
        ("y.net", &[]),
        ("b.com", &[]),
        ("p.paris.lb.net", &["tokyo/t p.paris.lb.net DomainNotAllowed"]),
        ("t.tokyo.lb.net", &[]),
        ("10.0.0.1", &[]),
        ("[::1]", &[]),
    ] {
        let found = compiler.refused(asked);
        let shown: Vec<_> = found
            .iter()
            .map(|it| {
                format!("{}/{} {} {:?}", it.object.cluster().unwrap(), it.object.name, it.pattern, it.reason)
            })
            .collect();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        let mut sorted = shown.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected, "{asked}");
        // What is told of an object that counts is what its conditions say.
        for it in found.iter().filter(|it| it.reason != Reason::ClusterNotFound) {
            assert!(
                conditions(&compiler, &it.object).iter().any(|told| told.message == it.message),
                "{it:?}"
            );
        }
    }
}

#[test]
fn a_refused_claim_does_not_stand_in_the_way() {
    // Oslo's wildcard is refused by paris', so it does not take x.a.com from paris' younger object.
    let compiler = compile(
        fleet(vec![
            lb("paris/p", 1, &["**.com"]),
            lb("oslo/o", 2, &["*.a.com"]),
            lb("paris/q", 3, &["x.a.com"]),
        ])
        .into_iter()
        .chain([cluster("oslo", |_| {})]),
    );
    assert_eq!(routes(compiler.plan(), "x.a.com"), ["-> paris/q#0"]);
}

#[test]
fn a_certificate_alone_claims_no_host() {
    // Regression: a host under tls, below a rule's host that is refused, counted as a claim.
    let oslo = cluster("oslo", |cluster| cluster.allowed_domains = domains(&["a.com exclusive"]));
    let claim = with_tls(lb("oslo/o", 1, &["**.com"]), &[("s", &["**.a.com"])]);
    let compiler = compile(fleet(vec![oslo, claim, lb("paris/p", 2, &["x.a.com"])]));
    assert_eq!(routes(compiler.plan(), "x.a.com"), ["-> paris/p#0"]);
}

#[test]
fn shared_hosts_are_one_application() {
    let fleet = |paris: &[&str], tokyo: &[&str]| {
        compile([
            cluster("tokyo", |cluster| cluster.allowed_domains = domains(tokyo)),
            cluster("paris", |cluster| cluster.allowed_domains = domains(paris)),
            lb("tokyo/t", 1, &["/ /a a.com > p", "/t a.com > p", "/ /a a.com > q"]),
            lb("paris/p", 2, &["/p a.com > p", "/a / a.com > p"]),
        ])
    };
    let merged = ["/ /a -> paris/p#1 + tokyo/t#0", "/t -> tokyo/t#1", "/ /a -> tokyo/t#2", "/p -> paris/p#0"];
    let tokyo_alone = ["/ /a -> tokyo/t#0", "/t -> tokyo/t#1", "/ /a -> tokyo/t#2"];
    for (paris, tokyo, expected) in [
        (&["a.com shared"][..], &["a.com shared"][..], &merged[..]),
        (&["* shared"], &["com shared"], &merged),
        (&["* shared", "a.com exclusive"], &["* shared"], &tokyo_alone),
        (&["* shared"], &["* shared", "a.com exclusive"], &tokyo_alone),
        (&["* exclusive", "a.com shared"], &["a.com shared"], &merged),
        (&["* exclusive"], &["* exclusive"], &tokyo_alone),
    ] {
        let compiler = fleet(paris, tokyo);
        assert_eq!(routes(compiler.plan(), "a.com"), expected, "{paris:?} {tokyo:?}");
        let taken =
            wrong(&compiler, &lb_id("paris/p")).iter().any(|(reason, _)| *reason == Reason::HostTaken);
        assert_eq!(taken, expected.len() == 3, "{paris:?} {tokyo:?}");
    }
}

/// Regression: rules became one only where all their matches were the same, else the older one's cluster got every request.
#[test]
fn clusters_share_a_host_match_by_match() {
    for (say, tokyo, paris, expected) in [
        ("one of two", &["/x /y"][..], &["/y"][..], &["/x -> tokyo/t#0", "/y -> paris/p#0 + tokyo/t#0"][..]),
        ("the first of two", &["/y /x"], &["/y"], &["/y -> paris/p#0 + tokyo/t#0", "/x -> tokyo/t#0"]),
        (
            "all, in two rules",
            &["/x /y"],
            &["/y", "/x"],
            &["/x -> paris/p#1 + tokyo/t#0", "/y -> paris/p#0 + tokyo/t#0"],
        ),
        (
            "one between two",
            &["/x /y /z"],
            &["/y"],
            &["/x -> tokyo/t#0", "/y -> paris/p#0 + tokyo/t#0", "/z -> tokyo/t#0"],
        ),
        ("two of three", &["/x /y /z"], &["/z /y"], &["/x -> tokyo/t#0", "/y /z -> paris/p#0 + tokyo/t#0"]),
        ("more than the older", &["/y"], &["/x /y"], &["/y -> paris/p#0 + tokyo/t#0", "/x -> paris/p#0"]),
        ("none at all", &[""], &["/x /"], &["-> paris/p#0 + tokyo/t#0", "/x -> paris/p#0"]),
        (
            "twice",
            &["/x /x"],
            &["/x", "/x"],
            &["/x -> paris/p#0 + tokyo/t#0", "/x -> tokyo/t#0", "/x -> paris/p#1"],
        ),
        ("nothing in common", &["/x /y"], &["/z"], &["/x /y -> tokyo/t#0", "/z -> paris/p#0"]),
    ] {
        let on_it = |rules: &[&str]| rules.iter().map(|rule| format!("{rule} a.com")).collect::<Vec<_>>();
        let (tokyo, paris) = (on_it(tokyo), on_it(paris));
        let compiler = compile([
            cluster("tokyo", |cluster| cluster.allowed_domains = domains(&["* shared"])),
            cluster("paris", |cluster| cluster.allowed_domains = domains(&["* shared"])),
            lb("tokyo/t", 1, &tokyo.iter().map(String::as_str).collect::<Vec<_>>()),
            lb("paris/p", 2, &paris.iter().map(String::as_str).collect::<Vec<_>>()),
        ]);
        assert_eq!(routes(compiler.plan(), "a.com"), expected, "{say}");
    }
}

/// Regression: whoever chooses between clusters took a host of one cluster for its own.
#[test]
fn a_shared_host_says_so() {
    let compiler = compile([
        cluster("tokyo", |cluster| cluster.allowed_domains = domains(&["a.com shared"])),
        cluster("paris", |cluster| cluster.allowed_domains = domains(&["* exclusive", "a.com shared"])),
        proxy(|proxy| proxy.catch_all_cluster = Some("paris".into())),
        lb("tokyo/t", 1, &["/t a.com"]),
        lb("paris/p", 2, &["/p a.com", "/p *.a.com", "/p b.com", "/p"]),
        lb("paris/alone", 2, &["/ x.a.com"]),
    ]);
    let plan = compiler.plan();
    for (pattern, shared) in [
        ("a.com", true),
        ("*.a.com", true),
        ("x.a.com", true),
        ("b.com", false),
        ("p.paris.lb.net", false),
        ("alone.paris.lb.net", false),
    ] {
        assert_eq!(plan.hosts.get(&host(pattern)).unwrap().shared, shared, "{pattern}");
    }
    assert!(!plan.catch_all.as_ref().unwrap().shared);
}

#[test]
fn no_match_means_every_path_when_clusters_merge() {
    let compiler = compile([
        cluster("tokyo", |cluster| cluster.allowed_domains = domains(&["* shared"])),
        cluster("paris", |cluster| cluster.allowed_domains = domains(&["* shared"])),
        lb("tokyo/t", 1, &["a.com"]),
        lb("paris/p", 2, &["/ a.com"]),
    ]);
    assert_eq!(routes(compiler.plan(), "a.com"), ["-> paris/p#0 + tokyo/t#0"]);
}

#[test]
fn within_a_tenant_rules_merge_older_objects_first() {
    let compiler = compile(fleet(vec![
        lb("paris/young", 2, &["/x a.com", "/y b.com"]),
        lb("paris/old", 1, &["/1 a.com", "/2", "/3 a.com"]),
    ]));
    assert_eq!(
        routes(compiler.plan(), "a.com"),
        ["/1 -> paris/old#0", "/3 -> paris/old#2", "/x -> paris/young#0"]
    );
}

/// What serves a host: of the patterns that match it the most specific.
fn serving(compiler: &portolan_compile::Compiler, name: &str) -> Option<Vec<String>> {
    let hosts = compiler.plan().hosts.iter().filter(|(pattern, _)| pattern.matches(name));
    let specific = |pattern: &HostPattern| {
        let length = pattern.name().as_str().len();
        match pattern {
            HostPattern::Exact(_) => (2, length, 0),
            HostPattern::OneLabel(_) => (1, length, 1),
            HostPattern::AnyLabels(_) => (1, length, 0),
        }
    };
    hosts.max_by_key(|(pattern, _)| specific(pattern)).map(|(_, host)| shown(host))
}

/// Regression: `**.example.net` of one cluster served names under lb.example.net that another cluster had lost.
#[test]
fn wildcards_end_at_the_lb_domain() {
    let domain = |domain: &str, catch_all: Option<&str>| {
        apply(proxy(|proxy| {
            proxy.lb_domain = name(domain);
            proxy.catch_all_cluster = catch_all.map(Arc::from);
        }))
    };
    let wild = with_tls(lb("paris/wild", 1, &["/w **.net *.net"]), &[("s", &[][..])]);
    let certificate = secret("paris/s", &["*.net", "*.lb.net", "*.tokyo.lb.net"], KeyAlgorithm::Rsa, 1);
    let mut compiler = compile(fleet(vec![wild, lb("tokyo/shop", 2, &["/t"]), certificate]));
    let ours = Some(vec!["/w -> paris/wild#0".to_owned()]);
    let nobody = Some(vec![]);
    let after = |compiler: &mut portolan_compile::Compiler, delta: Option<Delta>| {
        compiler.apply(delta);
        ["a.b.net", "shop.tokyo.lb.net", "nosuch.tokyo.lb.net", "lb.net", "x.lb.org"]
            .map(|name| serving(compiler, name))
    };
    let theirs = Some(vec!["/t -> tokyo/shop#0".to_owned()]);
    let found = after(&mut compiler, None);
    assert_eq!(found, [ours.clone(), theirs.clone(), nobody.clone(), nobody.clone(), None]);
    let names: Vec<_> = compiler.plan().server_names.iter().map(|(pattern, _)| pattern.to_string()).collect();
    assert_eq!(names, ["*.net"]);

    let found = after(&mut compiler, Some(Delta::Delete(lb_id("tokyo/shop"))));
    assert_eq!(
        found,
        [ours.clone(), nobody.clone(), nobody.clone(), nobody.clone(), None],
        "a name that is gone"
    );

    // Regression: the catch-all took them.
    compiler.apply([apply(lb("tokyo/shop", 2, &["/t"]))]);
    let found = after(&mut compiler, Some(domain("lb.net", Some("tokyo"))));
    assert_eq!(found, [ours.clone(), theirs, nobody.clone(), nobody.clone(), None]);

    // Elsewhere the wildcard is what it was, and without a wildcard there is nothing to keep off.
    let found = after(&mut compiler, Some(domain("lb.org", None)));
    assert_eq!(found, [ours.clone(), ours.clone(), ours.clone(), ours, None]);
    let found = after(&mut compiler, Some(domain("lb.net", None)));
    assert_eq!(found[3], Some(vec![]));
    compiler.apply([Delta::Delete(lb_id("paris/wild"))]);
    let keys =
        |compiler: &portolan_compile::Compiler| all_routes(compiler.plan()).into_keys().collect::<Vec<_>>();
    assert_eq!(keys(&compiler), ["shop.tokyo.lb.net"]);
    compiler.apply([domain("lb.net", Some("tokyo"))]);
    assert_eq!(keys(&compiler), ["**.lb.net", "lb.net", "shop.tokyo.lb.net"], "the catch-all alone");
    compiler.apply([Delta::Delete(lb_id("tokyo/shop"))]);
    assert_eq!(keys(&compiler), Vec::<String>::new(), "no catch-all any more");
}

#[test]
fn the_catch_all_takes_rules_without_hosts() {
    let catch_all =
        |named: Option<&str>| apply(proxy(|proxy| proxy.catch_all_cluster = named.map(Arc::from)));
    let mut compiler = compile(fleet(vec![
        lb("paris/young", 2, &["/x", "/y b.com"]),
        lb("paris/old", 1, &["/1 a.com", "/2"]),
        lb("tokyo/t", 1, &["/t"]),
    ]));
    let mut after = |delta| {
        compiler.apply([delta]);
        compiler.plan().catch_all.as_deref().map(shown).unwrap_or_default()
    };
    assert_eq!(after(catch_all(Some("paris"))), ["/2 -> paris/old#1", "/x -> paris/young#0"]);
    assert_eq!(after(apply(lb("paris/old", 3, &["/3"]))), ["/x -> paris/young#0", "/3 -> paris/old#0"]);
    assert_eq!(after(Delta::Delete(lb_id("paris/young"))), ["/3 -> paris/old#0"]);
    assert_eq!(after(Delta::Delete(id(Kind::Cluster, "paris"))), [""; 0]);
    assert_eq!(after(apply(cluster("paris", |_| {}))), ["/3 -> paris/old#0"]);
    assert_eq!(after(catch_all(Some("tokyo"))), ["/t -> tokyo/t#0"]);
    assert_eq!(after(catch_all(Some("nowhere"))), [""; 0]);
    assert_eq!(
        wrong(&compiler, &id(Kind::Proxy, "default")),
        [(Reason::ClusterNotFound, "spec.catchAllCluster".to_owned())]
    );
    compiler.apply([catch_all(None)]);
    assert_eq!(conditions(&compiler, &id(Kind::Proxy, "default")), []);
}
