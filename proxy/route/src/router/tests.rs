use super::*;
use crate::tests::{fields, host, rule};

fn found(router: &Router, host: &str) -> String {
    let headers = HeaderMap::new();
    match router.route(&RequestView { host, path: "/", query: None, method: "GET", headers: &headers }) {
        Outcome::Matched(matched) => matched.host.pattern(host).to_string(),
        Outcome::NoRoute { host: by } => format!("no route: {}", by.pattern(host)),
        Outcome::NoHost => "no host".to_owned(),
    }
}

fn with(patterns: &[&str]) -> Router {
    let everything = host(&[vec![]]);
    let mut router = Router::default();
    let change = |text: &&str| (HostPattern::parse(text).unwrap(), Some(Arc::clone(&everything)));
    router.apply(&patterns.iter().map(change).collect::<Vec<_>>());
    router
}

#[test]
fn the_most_specific_host_pattern_wins() {
    let both = ["shop.example.com", "*.example.com", "**.example.com", "**.com", "*.com"];
    for (patterns, host, expected) in [
        (&both[..], "shop.example.com", "shop.example.com"),
        (&both, "blog.example.com", "*.example.com"),
        (&both, "a.blog.example.com", "**.example.com"),
        (&both, "example.com", "*.com"),
        (&both, "a.example.org", "no host"),
        (&both, "com", "no host"),
        (&both, "a.b.com", "**.com"),
        (&["*.example.com"], "a.example.com", "*.example.com"),
        (&["*.example.com"], "a.b.example.com", "no host"),
        (&["*.example.com"], "example.com", "no host"),
        (&["*.example.com"], ".example.com", "no host"),
        (&["*.example.com"], "aexample.com", "no host"),
        (&["**.example.com"], "a.b.c.example.com", "**.example.com"),
        (&["**.example.com"], "example.com", "no host"),
        (&["**.example.com"], "aexample.com", "no host"),
        (&["*.b.c", "**.a.b.c"], "x.a.b.c", "**.a.b.c"),
        (&["a.b"], "10.0.0.1", "no host"),
        (&["a.b"], "[::1]", "no host"),
        (&[], "a.b", "no host"),
    ] {
        assert_eq!(found(&with(patterns), host), expected, "{host} in {patterns:?}");
    }
}

#[test]
fn a_host_without_a_matching_route_does_not_fall_through() {
    let mut router = with(&["*.b", "**.b"]);
    router.set_catch_all(Some(host(&[vec![]])));
    let only_x = |rule_words: &str| Some(host(&[vec![rule(rule_words)]]));
    router.apply(&[(HostPattern::parse("a.b").unwrap(), only_x("/x"))]);
    assert_eq!(found(&router, "a.b"), "no route: a.b");
    assert_eq!(found(&router, "c.b"), "*.b");
    assert_eq!(found(&router, "c.d"), "*");
    router.apply(&[(HostPattern::parse("a.b").unwrap(), Some(host(&[])))]);
    assert_eq!(found(&router, "a.b"), "no route: a.b");
    router.set_catch_all(only_x("/x"));
    assert_eq!(found(&router, "c.d"), "no route: *");
    router.set_catch_all(None);
    assert_eq!(found(&router, "c.d"), "no host");
}

#[test]
fn a_clone_keeps_what_it_had() {
    let mut router = with(&["a.b", "*.b"]);
    let before = router.clone();
    router.apply(&[(HostPattern::parse("a.b").unwrap(), None), (HostPattern::parse("*.b").unwrap(), None)]);
    assert_eq!((found(&router, "a.b"), router.len(), router.is_empty()), ("no host".to_owned(), 0, true));
    assert_eq!(
        (found(&before, "a.b"), found(&before, "c.b"), before.len()),
        ("a.b".to_owned(), "*.b".to_owned(), 2)
    );
}

#[test]
fn a_host_past_every_limit_costs_nothing() {
    let router = with(&["**.b"]);
    assert_eq!(found(&router, &("a.".repeat(126) + "b")), "**.b");
    assert_eq!(found(&router, &("a.".repeat(30_000) + "b")), "no host");
}

#[test]
fn a_consumer_may_keep_its_own_by_host() {
    struct Mine {
        host: VirtualHost,
        name: &'static str,
    }
    impl Borrow<VirtualHost> for Mine {
        fn borrow(&self) -> &VirtualHost {
            &self.host
        }
    }
    let mut router = Router::default();
    let routes = VirtualHost::clone(&host(&[vec![rule("=/x")], vec![rule("/")]]));
    router
        .apply(&[(HostPattern::parse("a.b").unwrap(), Some(Arc::new(Mine { host: routes, name: "mine" })))]);
    let headers = fields(&[]);
    let request = RequestView { host: "a.b", path: "/y", query: None, method: "GET", headers: &headers };
    let Outcome::Matched(matched) = router.route(&request) else { panic!("nothing matched") };
    assert_eq!((matched.virtual_host.name, matched.route, matched.route().actions[0].rule), ("mine", 1, 1));
    assert_eq!(router.get(&HostPattern::parse("a.b").unwrap()).map(|mine| mine.name), Some("mine"));
    assert!(router.explain(&request).winner().is_some());
}

#[test]
fn an_entry_of_the_common_host_is_small() {
    assert!(size_of::<(HostName, Entry<VirtualHost>)>() <= 32);
    assert!(Entry::build(&host(&[vec![rule("/")]]), &mut Patterns::default()).index.is_none());
    assert!(Entry::build(&host(&[vec![]]), &mut Patterns::default()).index.is_none());
    assert!(Entry::build(&host(&[vec![rule("/ GET")]]), &mut Patterns::default()).index.is_some());
}

#[test]
fn an_expression_that_stays_is_not_compiled_again() {
    let mut router = with(&[]);
    let pattern = HostPattern::parse("a.b").unwrap();
    let compiled = |router: &Router| {
        let index = router.exact.get("a.b").unwrap().index.clone().unwrap();
        index.patterns().map(Arc::as_ptr).collect::<Vec<_>>()
    };
    router.apply(&[(pattern.clone(), Some(host(&[vec![rule("~/a x~b ?c~d")]])))]);
    let before = compiled(&router);
    router.apply(&[(pattern, Some(host(&[vec![rule("/")], vec![rule("~/a x~b ?c~d")]])))]);
    assert_eq!((before.len(), compiled(&router)), (3, before));
}
