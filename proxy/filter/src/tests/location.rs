//! Redirects and rewrites.

use std::num::NonZeroU16;

use http::Uri;
use portolan_model::host::HostName;
use portolan_model::route::{Filter, PathRewrite, Redirect, Rewrite, Scheme};
use proptest::prelude::*;
use proptest::sample::select;

use crate::{
    CompiledFilter, CompiledPath, CompiledRedirect, CompiledRewrite, FilterError, RedirectError,
    RequestTarget, https_location,
};

const REQUEST: RequestTarget<'static> = RequestTarget {
    scheme: Scheme::Http,
    host: "a.example",
    port: 80,
    path: "/foo/bar",
    taken: 4,
    query: None,
};

fn redirect(scheme: Option<Scheme>, host: Option<&str>, port: u16, path: Option<PathRewrite>) -> Redirect {
    let host = host.map(|host| HostName::parse(host).unwrap());
    Redirect { scheme, host, port: NonZeroU16::new(port), path, status: 302 }
}

fn location(redirect: &Redirect, request: &RequestTarget<'_>) -> Option<String> {
    let value = CompiledRedirect::build(redirect).unwrap().location(request)?;
    Some(value.to_str().unwrap().to_owned())
}

/// The table of the Gateway API's `HTTPPathModifier`, with what the route's prefix match takes in place of its text: a
/// prefix is matched without the slash at its end.
#[test]
fn prefixes_are_replaced_as_the_gateway_api_says() {
    for (path, prefix, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        // And for the prefix that is everything.
        ("/foo", "/", "/xyz", "/xyz/foo"),
        ("/", "/", "/xyz", "/xyz/"),
        ("/foo", "/", "/", "/foo"),
        ("/foo//bar", "/foo", "/", "//bar"),
    ] {
        let taken = prefix.trim_end_matches('/').len();
        let change = CompiledPath::build(&PathRewrite::Prefix(replacement.into()));
        assert_eq!(change.path(path, taken), expected, "{path}: {prefix} by {replacement}");
        assert_eq!(change.path_and_query(path, taken, Some("q=/foo")), format!("{expected}?q=/foo"));
    }
}

#[test]
fn a_full_path_replaces_everything_but_the_query() {
    for (replacement, expected) in
        [("/xyz", "/xyz"), ("/", "/"), ("", "/"), ("xyz", "/xyz"), ("/a b?c#dé", "/a%20b%3Fc%23d%C3%A9")]
    {
        let change = CompiledPath::build(&PathRewrite::Full(replacement.into()));
        assert_eq!(change.path("/foo/bar", 4), expected);
        assert_eq!(change.path_and_query("/foo/bar", 4, None), expected);
    }
}

#[test]
fn a_redirect_keeps_what_it_does_not_change() {
    use Scheme::{Http, Https};
    let https = RequestTarget { scheme: Https, port: 443, ..REQUEST };
    let odd = RequestTarget { port: 8080, ..REQUEST };
    let odd_https = RequestTarget { scheme: Https, port: 8443, ..REQUEST };
    for (redirect, request, expected) in [
        (redirect(None, None, 0, None), REQUEST, "http://a.example/foo/bar"),
        (redirect(None, Some("b.example"), 0, None), REQUEST, "http://b.example/foo/bar"),
        // Scheme and port: the port given; else the scheme's own, where the filter names one; else the listener's.
        (redirect(Some(Https), None, 0, None), REQUEST, "https://a.example/foo/bar"),
        (redirect(Some(Https), None, 0, None), odd, "https://a.example/foo/bar"),
        (redirect(Some(Https), None, 8443, None), odd, "https://a.example:8443/foo/bar"),
        (redirect(Some(Https), None, 443, None), odd, "https://a.example/foo/bar"),
        (redirect(Some(Https), None, 80, None), odd, "https://a.example:80/foo/bar"),
        (redirect(Some(Http), None, 0, None), odd_https, "http://a.example/foo/bar"),
        (redirect(Some(Http), None, 443, None), odd_https, "http://a.example:443/foo/bar"),
        (redirect(None, Some("b.example"), 0, None), odd, "http://b.example:8080/foo/bar"),
        (redirect(None, Some("b.example"), 0, None), odd_https, "https://b.example:8443/foo/bar"),
        (redirect(None, Some("b.example"), 0, None), https, "https://b.example/foo/bar"),
        (redirect(None, None, 80, None), odd, "http://a.example/foo/bar"),
        (redirect(None, None, 8443, None), https, "https://a.example:8443/foo/bar"),
        // Paths and queries.
        (
            redirect(None, None, 0, Some(PathRewrite::Full("/x".into()))),
            RequestTarget { query: Some("q=1"), ..REQUEST },
            "http://a.example/x?q=1",
        ),
        (redirect(None, None, 0, Some(PathRewrite::Prefix("/x".into()))), REQUEST, "http://a.example/x/bar"),
        (
            redirect(None, None, 0, None),
            RequestTarget { query: Some(""), ..REQUEST },
            "http://a.example/foo/bar?",
        ),
        (
            redirect(None, None, 0, None),
            RequestTarget { path: "/a%20{é}", query: Some("é?\"[x]"), ..REQUEST },
            "http://a.example/a%20%7B%C3%A9%7D?%C3%A9?%22[x]",
        ),
        (
            redirect(None, None, 0, None),
            RequestTarget { path: "//evil.example/", ..REQUEST },
            "http://a.example//evil.example/",
        ),
        (redirect(None, None, 0, None), RequestTarget { host: "[::1]", ..odd }, "http://[::1]:8080/foo/bar"),
        (
            redirect(None, Some("b.example"), 0, None),
            RequestTarget { host: "a@b", ..REQUEST },
            "http://b.example/foo/bar",
        ),
    ] {
        assert_eq!(location(&redirect, &request).as_deref(), Some(expected));
    }
    for host in ["", "a@b", "a b", "a/b", "[x]", "[::1", "a\r\nb", "é"] {
        assert_eq!(
            location(&redirect(None, None, 0, None), &RequestTarget { host, ..REQUEST }),
            None,
            "{host}"
        );
    }
}

#[test]
fn https_is_the_same_url() {
    let request = RequestTarget { port: 8080, query: Some("q=1"), ..REQUEST };
    for (port, expected) in [
        (0, "https://a.example/foo/bar?q=1"),
        (443, "https://a.example/foo/bar?q=1"),
        (8443, "https://a.example:8443/foo/bar?q=1"),
    ] {
        assert_eq!(https_location(NonZeroU16::new(port), &request).unwrap(), expected);
    }
}

#[test]
fn filters_are_parsed_once() {
    for (status, accepted) in
        [(301, true), (302, true), (303, true), (307, true), (308, true), (200, false), (304, false)]
    {
        let filter = Filter::Redirect(Redirect { status, ..redirect(None, None, 0, None) });
        let built = CompiledFilter::build(&filter).map(drop);
        assert_eq!(
            built,
            if accepted { Ok(()) } else { Err(FilterError::Redirect(RedirectError::Status(status))) }
        );
    }
    let rewrite = Rewrite { host: Some(HostName::parse("b.example").unwrap()), path: None };
    let rewrite = CompiledRewrite::build(&rewrite).unwrap();
    assert_eq!(rewrite.host.unwrap(), "b.example");
    assert!(rewrite.path.is_none());
}

proptest! {
    #[test]
    fn a_location_is_a_uri(
        scheme in select(vec![None, Some(Scheme::Http), Some(Scheme::Https)]),
        port in select(vec![0u16, 80, 443, 8080]),
        (full, replacement) in (any::<bool>(), "\\PC{0,12}"),
        host in "[a-z0-9._-]{1,8}|\\PC{0,4}|\\[::1\\]",
        path in "/\\PC{0,12}|\\PC{0,4}",
        taken in 0usize..8,
        query in prop::option::of("\\PC{0,8}"),
    ) {
        let change = if full { PathRewrite::Full(replacement.into()) } else { PathRewrite::Prefix(replacement.into()) };
        let request = RequestTarget { host: &host, path: &path, taken, query: query.as_deref(), ..REQUEST };
        for redirect in [redirect(scheme, None, port, Some(change)), redirect(scheme, None, port, None)] {
            if let Some(location) = location(&redirect, &request) {
                let uri: Uri = location.parse().map_err(|error| TestCaseError::fail(format!("{location}: {error}")))?;
                prop_assert_eq!(uri.host(), Some(&*host));
                prop_assert_eq!(uri.query().is_some(), query.is_some());
            }
        }
    }
}
