use super::*;

#[test]
fn urls_that_are_requests() {
    for (url, scheme, host, port, path, query) in [
        ("http://shop.paris.lb.example.net", Scheme::Http, "shop.paris.lb.example.net", 80, "/", None),
        (
            "https://www.example.com/cart?id=7&x",
            Scheme::Https,
            "www.example.com",
            443,
            "/cart",
            Some("id=7&x"),
        ),
        ("HTTPS://WWW.Example.COM.:8443/A%2Fb", Scheme::Https, "www.example.com", 8443, "/A%2Fb", None),
        ("http://a.example?q", Scheme::Http, "a.example", 80, "/", Some("q")),
        ("http://a.example/?", Scheme::Http, "a.example", 80, "/", Some("")),
        ("http://127.0.0.1:8080/", Scheme::Http, "127.0.0.1", 8080, "/", None),
        ("http://[2001:DB8::1]:8080/", Scheme::Http, "[2001:db8::1]", 8080, "/", None),
        ("http://a.example/http://b.example", Scheme::Http, "a.example", 80, "/http://b.example", None),
    ] {
        let request = ExplainRequest::parse(url, None, []).unwrap();
        let found =
            (request.scheme, &*request.host, request.port.get(), &*request.path, request.query.as_deref());
        assert_eq!(found, (scheme, host, port, path, query), "{url}");
        assert_eq!(request.method, Method::GET);
    }
}

#[test]
fn urls_that_are_not() {
    for (url, expected) in [
        ("", "\"\" is not a URL: expected http://<host>/<path> or https://<host>/<path>"),
        (
            "shop.example/x",
            "\"shop.example/x\" is not a URL: expected http://<host>/<path> or https://<host>/<path>",
        ),
        ("ftp://a/", "\"ftp://a/\" is not a URL: expected http://<host>/<path> or https://<host>/<path>"),
        ("http:///x", "\"http:///x\": the host is not valid: a host name must not be empty"),
        (
            "http://me:pw@a.example/",
            "\"http://me:pw@a.example/\": user and password have no place in the URL",
        ),
        ("http://a.example:0/", "\"http://a.example:0/\": the port must be a number from 1 to 65535"),
        ("http://a.example:65536/", "\"http://a.example:65536/\": the port must be a number from 1 to 65535"),
        ("http://a.example:+80/", "\"http://a.example:+80/\": the port must be a number from 1 to 65535"),
        ("http://a.example:/", "\"http://a.example:/\": the port must be a number from 1 to 65535"),
        (
            "http://[::1/",
            "\"http://[::1/\": expected an IPv6 address between the brackets, as in http://[2001:db8::1]/",
        ),
        (
            "http://[a]/",
            "\"http://[a]/\": expected an IPv6 address between the brackets, as in http://[2001:db8::1]/",
        ),
        (
            "http://a.example/#top",
            "\"http://a.example/#top\": what follows the # is never sent; leave it out, or write %23",
        ),
        (
            "http://a.example/a b",
            "\"http://a.example/a b\": ' ' cannot stand in a URL; write it percent-encoded",
        ),
        ("http://a.example/é", "\"http://a.example/é\": 'é' cannot stand in a URL; write it percent-encoded"),
        (
            "http://a.example/\r\nX",
            "\"http://a.example/\\r\\nX\": '\\r' cannot stand in a URL; write it percent-encoded",
        ),
    ] {
        assert_eq!(ExplainRequest::parse(url, None, []).unwrap_err().to_string(), expected);
    }
    for url in ["http://*.example/", "http://a..example/", "http://-a.example/", "http://münchen.example/"] {
        assert!(matches!(ExplainRequest::parse(url, None, []), Err(ExplainError::Host { .. })), "{url}");
    }
}

#[test]
fn methods_and_headers() {
    let parse = |method, headers: &[&str]| {
        ExplainRequest::parse("http://127.0.0.1:8080/", Some(method), headers.iter().copied())
    };
    let request = parse("PURGE", &["X-Beta: yes ", "Cookie:a=b", "cookie: c=d", "X-Empty:"]).unwrap();
    assert_eq!(request.method.as_str(), "PURGE");
    assert_eq!(request.headers["x-beta"], "yes");
    assert_eq!(request.headers["x-empty"], "");
    assert_eq!(request.headers.get_all("cookie").iter().count(), 2);

    let request = parse("GET", &["Host: Shop.Example:8080"]).unwrap();
    assert_eq!((&*request.host, request.port.get()), ("shop.example", 8080), "a port in Host is ignored");
    assert!(request.headers.is_empty());

    assert_eq!(
        parse("a b", &[]).unwrap_err().to_string(),
        "\"a b\" is not a method: expected a word such as GET"
    );
    assert!(matches!(parse("", &[]), Err(ExplainError::Method(_))));
    for header in ["X-Beta", ": x", "X Beta: x", "X-Beta : x", "X-Beta: a\nb"] {
        let error = parse("GET", &[header]).unwrap_err().to_string();
        assert_eq!(error, format!("{header:?} is not a header: expected \"Name: value\""));
    }
    assert_eq!(parse("GET", &["Host: a.example", "host: b.example"]).unwrap_err(), ExplainError::Hosts);
    assert!(matches!(parse("GET", &["Host: a/b"]), Err(ExplainError::Host { .. })));
}
