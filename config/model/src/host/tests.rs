use super::*;

#[test]
fn authorities_lose_port_case_and_trailing_dot() {
    for (authority, host) in [
        ("shop.example.com", Some("shop.example.com")),
        ("Shop.Example.COM", Some("shop.example.com")),
        ("shop.example.com:8080", Some("shop.example.com")),
        ("shop.example.com.", Some("shop.example.com")),
        ("shop.example.com.:443", Some("shop.example.com")),
        ("[::1]:8080", Some("[::1]")),
        ("[::1]", Some("[::1]")),
        ("[::1", None),
        ("10.0.0.1:80", Some("10.0.0.1")),
        ("", None),
        (".", None),
        (":80", None),
    ] {
        assert_eq!(normalize(authority).as_deref(), host, "{authority:?}");
    }
}

#[test]
fn host_names_are_read_or_refused() {
    for good in [
        "a",
        "shop.example.com",
        "Shop.Example.Com.",
        "a-b.c",
        "_acme.example.com",
        "xn--bcher-kva.example",
        "1.example",
    ] {
        assert!(HostName::parse(good).is_ok(), "{good}");
    }
    for bad in ["", ".", "a..b", "-a.b", "a-.b", "a b", "ü.example", "10.0.0.1", "::1", "*.a", "a:80"] {
        assert!(HostName::parse(bad).is_err(), "{bad}");
    }
    assert!(HostName::parse(&"a".repeat(64)).is_err());
    assert!(HostName::parse(&vec!["abcdefgh"; 29].join(".")).is_err());
}

#[test]
fn patterns_match_by_their_mode() {
    for (pattern, host, matches) in [
        ("a.com", "a.com", true),
        ("a.com", "b.a.com", false),
        ("*.a.com", "b.a.com", true),
        ("*.a.com", "c.b.a.com", false),
        ("*.a.com", "a.com", false),
        ("*.a.com", ".a.com", false),
        ("**.a.com", "b.a.com", true),
        ("**.a.com", "c.b.a.com", true),
        ("**.a.com", "a.com", false),
        ("**.a.com", "xa.com", false),
    ] {
        assert_eq!(HostPattern::parse(pattern).unwrap().matches(host), matches, "{pattern} {host}");
    }
}

#[test]
fn patterns_cover_each_other() {
    for (a, b, covers) in [
        ("a.com", "a.com", true),
        ("*.a.com", "x.a.com", true),
        ("*.a.com", "*.a.com", true),
        ("*.a.com", "**.a.com", false),
        ("**.a.com", "*.a.com", true),
        ("**.a.com", "*.b.a.com", true),
        ("**.a.com", "a.com", false),
        ("*.a.com", "y.x.a.com", false),
    ] {
        let (pattern, other) = (HostPattern::parse(a).unwrap(), HostPattern::parse(b).unwrap());
        assert_eq!(pattern.covers(&other), covers, "{a} {b}");
    }
}
