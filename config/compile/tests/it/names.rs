//! Generated host names.

use portolan_model::condition::Reason;
use portolan_model::id::Kind;
use portolan_model::intent::{Delta, Object};
use portolan_model::naming::labels;

use crate::fleet::*;

fn host_of(objects: &[Object], lb: &str) -> Option<String> {
    compile(objects.iter().cloned()).generated_host(&lb_id(lb)).map(|name| name.to_string())
}

fn fleet(objects: Vec<Object>) -> Vec<Object> {
    [proxy(|_| {}), cluster("paris", |_| {}), cluster("tokyo", |_| {})].into_iter().chain(objects).collect()
}

/// Regression: an object lost the name that it had to a new one that came before it by name.
#[test]
fn a_name_that_stands_in_a_status_is_kept() {
    let kept = |mut object: Object, host: &str| {
        object.meta.host = Some(name(host));
        object
    };
    let at = |text: &str, created| lb(text, created, &[]);
    let second = |name: &str| {
        let label = labels("HTTPLoadBalancer", "tenant-paris", name).nth(1).unwrap();
        format!("{label}.paris.lb.net")
    };
    let plain = "z-shop.paris.lb.net";
    for (say, old, new, expected) in [
        ("without", at("paris/z.shop", 1), at("paris/z-shop", 1), [&second("z.shop"), plain]),
        ("its own", kept(at("paris/z.shop", 1), plain), at("paris/z-shop", 1), [plain, &second("z-shop")]),
        (
            "older ones too",
            kept(at("paris/z.shop", 2), plain),
            at("paris/z-shop", 1),
            [plain, &second("z-shop")],
        ),
        (
            "its second",
            kept(at("paris/z.shop", 1), &second("z.shop")),
            at("paris/z-shop", 2),
            [&second("z.shop"), plain],
        ),
        (
            "of two the older",
            kept(at("paris/z.shop", 2), plain),
            kept(at("paris/z-shop", 1), plain),
            [&second("z.shop"), plain],
        ),
        (
            "none that it could not have",
            kept(at("paris/z.shop", 1), "other.paris.lb.net"),
            at("paris/z-shop", 1),
            [&second("z.shop"), plain],
        ),
        (
            "none of another domain",
            kept(at("paris/z.shop", 1), "z-shop.paris.lb.org"),
            at("paris/z-shop", 1),
            [&second("z.shop"), plain],
        ),
    ] {
        let names = |compiler: &portolan_compile::Compiler| {
            ["paris/z.shop", "paris/z-shop"].map(|it| {
                compiler.generated_host(&lb_id(it)).map(|name| name.to_string()).unwrap_or_default()
            })
        };
        for order in [[&old, &new], [&new, &old]] {
            let mut compiler = compile(fleet(vec![]));
            for object in order {
                compiler.apply([apply(object.clone())]);
            }
            assert_eq!(names(&compiler), expected, "{say}");
        }
        // Who is alone gets what it would get, and nobody else is disturbed.
        let mut compiler = compile(fleet(vec![old.clone(), new]));
        compiler.apply([Delta::Delete(lb_id("paris/z-shop"))]);
        let alone = compile(fleet(vec![old]));
        assert_eq!(names(&compiler), names(&alone), "{say}");
    }
}

#[test]
fn a_name_is_label_cluster_domain() {
    for (object, expected) in [
        (lb("paris/shop", 1, &[]), "shop.paris.lb.net"),
        (lb("paris/shop.v2", 1, &[]), "shop-v2.paris.lb.net"),
        (lb("tokyo/shop", 1, &[]), "shop.tokyo.lb.net"),
        (with_origin(lb("paris/ingress.a.shop", 1, &[]), "Ingress/a/Shop", None), "shop.paris.lb.net"),
    ] {
        let id = object.meta.id.clone();
        let compiler = compile(fleet(vec![object]));
        assert_eq!(compiler.generated_host(&id).unwrap().as_str(), expected);
        assert!(compiler.plan().hosts.get(&host(expected)).is_some());
    }
}

#[test]
fn the_older_keeps_the_label() {
    let marked = |kind: &str, namespace: &str| {
        let second = labels(kind, namespace, "shop").nth(1).unwrap();
        format!("{second}.paris.lb.net")
    };
    let plain = "shop.paris.lb.net".to_owned();
    let from = |text: &str, origin: &str, created| with_origin(lb(text, 9, &[]), origin, created);
    for (say, first, second, expected) in [
        (
            "the origin's creation decides",
            from("paris/x", "Ingress/b/shop", Some(1)),
            from("paris/y", "Ingress/a/shop", Some(2)),
            [plain.clone(), marked("Ingress", "a")],
        ),
        (
            "without it the object's own",
            from("paris/x", "Ingress/b/shop", Some(8)),
            from("paris/y", "Ingress/a/shop", None),
            [plain.clone(), marked("Ingress", "a")],
        ),
        (
            "then kind, namespace and name",
            from("paris/x", "HTTPRoute/b/shop", Some(1)),
            from("paris/y", "Ingress/a/shop", Some(1)),
            [plain.clone(), marked("Ingress", "a")],
        ),
        (
            "unknown ages come last",
            lb("paris/shop", 9, &[]),
            {
                let mut unknown = from("paris/y", "HTTPRoute/a/shop", None);
                unknown.meta.created = None;
                unknown
            },
            [plain.clone(), marked("HTTPRoute", "a")],
        ),
    ] {
        let ids = [first.meta.id.clone(), second.meta.id.clone()];
        for order in [[first.clone(), second.clone()], [second, first]] {
            let mut compiler = compile(fleet(vec![]));
            for object in order {
                compiler.apply([apply(object)]);
            }
            let names = ids.clone().map(|id| compiler.generated_host(&id).unwrap().to_string());
            assert_eq!(names, expected, "{say}");
        }
    }
}

#[test]
fn a_mark_that_somebody_is_called_by_grows() {
    let own: Vec<_> = labels("Ingress", "b", "shop").take(3).collect();
    let older = with_origin(lb("paris/x", 1, &[]), "Ingress/a/shop", None);
    let squatter = with_origin(lb("paris/y", 1, &[]), &format!("Ingress/a/{}", own[1]), None);
    let younger = with_origin(lb("paris/z", 2, &[]), "Ingress/b/shop", None);
    let all = fleet(vec![older.clone(), squatter.clone(), younger.clone()]);
    assert_eq!(host_of(&all, "paris/z").unwrap(), format!("{}.paris.lb.net", own[2]));
    assert_eq!(host_of(&all, "paris/y").unwrap(), format!("{}.paris.lb.net", own[1]));

    // As those in the way go, the name gets better, and gets worse again as they come back.
    let mut compiler = compile(all);
    let mut host_after = |delta| {
        compiler.apply([delta]);
        compiler.generated_host(&younger.meta.id).unwrap().to_string()
    };
    assert_eq!(host_after(Delta::Delete(squatter.meta.id.clone())), format!("{}.paris.lb.net", own[1]));
    assert_eq!(host_after(Delta::Delete(older.meta.id.clone())), format!("{}.paris.lb.net", own[0]));
    assert_eq!(host_after(apply(squatter)), format!("{}.paris.lb.net", own[0]));
    assert_eq!(host_after(apply(older)), format!("{}.paris.lb.net", own[2]));
}

#[test]
fn a_name_serves_all_rules_whatever_their_hosts() {
    let compiler = compile(fleet(vec![lb("paris/shop", 1, &["/a a.com", "/b", "/c no.com other.com"])]));
    assert_eq!(
        routes(compiler.plan(), "shop.paris.lb.net"),
        ["/a -> paris/shop#0", "/b -> paris/shop#1", "/c -> paris/shop#2"]
    );
    assert_eq!(routes(compiler.plan(), "a.com"), ["/a -> paris/shop#0"]);
    assert!(compiler.plan().catch_all.is_none());
}

/// Regression: they were told to be too long.
#[test]
fn names_of_origins_that_no_host_can_have_are_invalid() {
    for origin in ["-bad-", "*", "a_b*c", "é"] {
        let object = with_origin(lb("paris/x", 1, &[]), &format!("Ingress/a/{origin}"), None);
        let id = object.meta.id.clone();
        assert_eq!(wrong(&compile(fleet(vec![object])), &id), [(Reason::Invalid, String::new())], "{origin}");
    }
}

#[test]
fn names_too_long_are_refused_and_the_rest_serves() {
    let long = [&["x"; 50].concat(); 4].map(|label| label.as_str()).join(".");
    let object = lb("paris/a-rather-long-name-of-a-shop-that-goes-on-and-on-and", 1, &["a.com"]);
    let id = object.meta.id.clone();
    let compiler = compile([proxy(|proxy| proxy.lb_domain = name(&long)), cluster("paris", |_| {}), object]);
    assert_eq!(wrong(&compiler, &id), [(Reason::HostTooLong, String::new())]);
    assert_eq!(compiler.generated_host(&id), None);
    assert_eq!(routes(compiler.plan(), "a.com").len(), 1);
}

#[test]
fn another_lb_domain_renames_everything() {
    let mut compiler = compile(fleet(vec![lb("paris/shop", 1, &["a.com", "shop.lb.org"])]));
    assert_eq!(
        all_routes(compiler.plan()).into_keys().collect::<Vec<_>>(),
        ["a.com", "shop.lb.org", "shop.paris.lb.net"]
    );
    compiler.apply([apply(proxy(|proxy| proxy.lb_domain = name("lb.org")))]);
    assert_eq!(all_routes(compiler.plan()).into_keys().collect::<Vec<_>>(), ["a.com", "shop.paris.lb.org"]);
    assert_eq!(
        wrong(&compiler, &lb_id("paris/shop")),
        [(Reason::DomainNotAllowed, "spec.rules[1].hosts[0]".to_owned())]
    );
    compiler.apply([Delta::Delete(id(Kind::Proxy, "default"))]);
    assert!(compiler.plan().hosts.get(&host("shop.paris.lb.localhost")).is_some());
}
