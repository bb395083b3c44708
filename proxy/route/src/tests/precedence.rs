//! Paths, conditions and their order, row by row.

use super::*;

#[test]
fn prefixes_end_with_segments() {
    for (prefix, path, taken) in [
        ("/a", "/a", Some(2)),
        ("/a", "/a/", Some(2)),
        ("/a", "/a/b", Some(2)),
        ("/a", "/a//b", Some(2)),
        ("/a", "/ab", None),
        ("/a", "/A", None),
        ("/a", "/", None),
        ("/a", "/a%2Fb", None),
        ("/a/b", "/a", None),
        ("/a/b", "/a/b/c", Some(4)),
        ("/", "/", Some(0)),
        ("/", "/x", Some(0)),
        ("/", "*", Some(0)),
        ("/", "", Some(0)),
    ] {
        for others in [0, 20] {
            // Few paths are compared, many are hashed: the answers are the same.
            let others: Vec<String> = (0..others).map(|n| format!("/other/{n}")).collect();
            let lines: Vec<&str> = [prefix].into_iter().chain(others.iter().map(String::as_str)).collect();
            let found = get(&router("h", &lines), "h", path, &fields(&[]));
            assert_eq!(found, taken.map(|taken| (0, taken)), "{prefix} on {path}");
        }
    }
}

#[test]
fn the_most_specific_match_wins() {
    let headers = fields(&[("x", "1"), ("y", "2")]);
    for (target, better, worse) in [
        // Exact, then regular expressions, then prefixes.
        ("/a", "=/a", "~/a"),
        ("/a", "=/a", "/a GET x:1 ?q=1"),
        ("/a/b", "~/a/.*", "/a/b"),
        ("/a/b", "~/a/.*", "/a/b GET x:1"),
        // The longer of either.
        ("/a/b", "~/[a-z]/.*", "~/a/.*"),
        ("/a/b", "/a/b", "/a"),
        ("/a/b", "/a/b", "/a GET x:1 y:2"),
        ("/a", "/a", "/"),
        // A method, then more headers, then more query parameters.
        ("/a?q=1", "/a GET", "/a x:1 y:2 ?q=1"),
        ("/a?q=1", "/a x:1 y:2", "/a x:1 ?q=1"),
        ("/a?q=1", "/a x:1", "/a ?q=1"),
        ("/a?q=1&p=2", "/a ?q=1 ?p=2", "/a ?q=1"),
        ("/a?q=1", "=/a ?q=1", "=/a"),
        ("/a?q=1", "~/a GET", "~/a x:1"),
        // A second condition on one header does not count.
        ("/a", "/a x:1 y:2", "/a x:1 x:3"),
    ] {
        assert_eq!(get(&router("h", &[worse, better]), "h", target, &headers).map(|found| found.0), Some(1));
        assert_eq!(get(&router("h", &[better, worse]), "h", target, &headers).map(|found| found.0), Some(0));
    }
}

#[test]
fn among_equals_the_first_wins() {
    for line in ["=/a", "~/a", "/a", "/", "/ x:1"] {
        let found = get(&router("h", &[line, line]), "h", "/a", &fields(&[("x", "1")]));
        assert_eq!(found.map(|found| found.0), Some(0), "{line}");
    }
}

#[test]
fn a_worse_match_takes_what_a_better_one_does_not() {
    let router = router("h", &["/", "/a x:1", "=/a POST", "~/a ?q=1", "/a/b y:1"]);
    for (target, headers, expected) in [
        ("/a", &[][..], 0),
        ("/a", &[("x", "1")], 1),
        ("/a?q=1", &[("x", "1")], 3),
        ("/a/b", &[("x", "1")], 1),
        ("/a/b", &[("x", "1"), ("y", "1")], 4),
    ] {
        let found = get(&router, "h", target, &fields(headers));
        assert_eq!(found.map(|found| found.0), Some(expected), "{target} {headers:?}");
    }
}

#[test]
fn headers_and_query_are_compared_whole() {
    let cookie = [("cookie", "a=1"), ("cookie", "b=2")];
    for (line, target, headers, expected) in [
        ("/ x:1", "/", &[("x", "1")][..], true),
        ("/ x:1", "/", &[("X", "1")], true),
        ("/ x:1", "/", &[("x", "12")], false),
        ("/ x:1", "/", &[], false),
        ("/ x:1", "/", &[("x", "1"), ("x", "2")], false),
        ("/ x~1,.2", "/", &[("x", "1"), ("x", "2")], true),
        ("/ x~[0-9]+", "/", &[("x", "12")], true),
        ("/ x~[0-9]", "/", &[("x", "12")], false),
        ("/ cookie~a=1;.b=2", "/", &cookie, true),
        ("/ ?q=1", "/?q=1", &[], true),
        ("/ ?q=1", "/?q=2&q=1", &[], false),
        ("/ ?q=1", "/", &[], false),
        ("/ ?q~.", "/?q=%41", &[], true),
        ("/ ?q~..", "/?q=%41", &[], false),
        ("/ GET", "/", &[], true),
        ("/ get", "/", &[], false),
    ] {
        assert_eq!(get(&router("h", &[line]), "h", target, &fields(headers)).is_some(), expected, "{line}");
    }
    let mut joined = rule("/");
    joined.headers = Box::new([HeaderMatch { name: "x".into(), value: TextMatch::Exact("1, 2".into()) }]);
    let mut router = Router::default();
    router.apply(&[(HostPattern::parse("h").unwrap(), Some(host(&[vec![joined]])))]);
    for (headers, expected) in [
        (&[("x", "1"), ("x", "2")][..], true),
        (&[("x", "1, 2")], true),
        (&[("x", "1")], false),
        (&[("x", "1"), ("x", "2"), ("x", "")], false),
        (&[("x", "1,2")], false),
    ] {
        assert_eq!(get(&router, "h", "/", &fields(headers)).is_some(), expected, "{headers:?}");
    }
}

#[test]
fn what_can_never_hold_never_matches() {
    for line in ["~/(", "/ b@d:1", "/ x~(", "/ ?q~("] {
        assert_eq!(get(&router("h", &[line]), "h", "/", &fields(&[])), None, "{line}");
    }
}

#[test]
fn an_explanation_names_what_did_not_match() {
    let lines = ["/", "=/a POST", "~/a.* x:1", "/b", "/a ?q=1", "=/c"];
    let router = router("**.h", &lines);
    let headers = fields(&[]);
    let request = RequestView { host: "a.b.h", path: "/a", query: None, method: "GET", headers: &headers };
    let explanation = router.explain(&request);
    assert_eq!(explanation.host.as_deref(), Some("**.h"));
    let considered =
        explanation.considered.iter().map(|one| (one.rule, one.condition.as_str(), &one.verdict));
    assert!(considered.eq([
        (1, "path /a, method POST", &Verdict::Method),
        (5, "path /c", &Verdict::Path),
        (2, "path ~ /a.*, header x = 1", &Verdict::Header("x".to_owned())),
        (4, "path below /a, query q = 1", &Verdict::Query("q".to_owned())),
        (3, "path below /b", &Verdict::Path),
        (0, "path below /", &Verdict::Matches),
    ]));
    let json = serde_json::to_value(router.explain(&request)).unwrap();
    assert_eq!(json["considered"][2]["verdict"]["Header"], "x");
    let nobodys = router.explain(&RequestView { host: "h", ..request });
    assert_eq!((&nobodys.host, nobodys.winner()), (&None, None));
}

#[test]
fn a_long_explanation_keeps_what_matters() {
    let mut lines: Vec<String> = (0..500).map(|n| format!("=/{n}")).collect();
    lines.push("/a x:1".to_owned());
    lines.push("/".to_owned());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let headers = fields(&[]);
    let request = RequestView { host: "h", path: "/a", query: None, method: "GET", headers: &headers };
    let explanation = router("h", &lines).explain(&request);
    assert_eq!((explanation.considered.len(), explanation.left_out), (50, 452));
    assert_eq!(explanation.considered[48].verdict, Verdict::Header("x".to_owned()));
    assert_eq!(explanation.winner().map(|winner| winner.rule), Some(501));

    let lines: Vec<String> = (0..80).map(|_| "/ x:1".to_owned()).chain(["/".to_owned()]).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let explanation = router("h", &lines).explain(&request);
    assert_eq!((explanation.considered.len(), explanation.left_out), (50, 31));
    assert_eq!(explanation.winner().map(|winner| winner.rule), Some(80));
}
