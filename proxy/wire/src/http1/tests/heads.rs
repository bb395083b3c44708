//! One row per way a head can be good or bad.

use super::super::RefusalReason::*;
use super::super::*;
use super::{at_once, byte_by_byte, feed};

/// Rows are whole heads; a row that is accepted must pass to its last byte.
fn check(rows: &[(&str, Option<RefusalReason>)]) {
    for (head, reason) in rows {
        let seen = at_once(head.as_bytes());
        assert_eq!(seen.refused, *reason, "{head:?}");
        assert_eq!(seen.passed, if reason.is_none() { head.len() } else { 0 }, "{head:?}");
        assert_eq!(byte_by_byte(head.as_bytes()), seen, "{head:?} byte by byte");
    }
}

/// Rows are what follows a good request line and Host, before the empty line.
fn check_fields(rows: &[(&str, Option<RefusalReason>)]) {
    for (fields, reason) in rows {
        check(&[(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), *reason)]);
    }
}

/// Rows are targets of a GET whose Host is `a.example`.
fn check_targets(rows: &[(&str, Option<RefusalReason>)]) {
    for (target, reason) in rows {
        check(&[(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"), *reason)]);
    }
}

#[test]
fn lines() {
    check(&[
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET / HTTP/1.0\r\n\r\n", None),
        ("\r\nGET / HTTP/1.0\r\n\r\n", None),
        ("\r\n\r\nGET / HTTP/1.0\r\n\r\n", Some(EmptyLine)),
        ("\nGET / HTTP/1.0\r\n\r\n", Some(BareLf)),
        ("\rGET / HTTP/1.0\r\n\r\n", Some(BareCr)),
        ("GET / HTTP/1.0\n\n", Some(BareLf)),
        ("GET / HTTP/1.0\r\n\n", Some(BareLf)),
        ("GET / HTTP/1.0\r\nA: b\n\r\n", Some(BareLf)),
        ("GET / HTTP/1.0\r\nA: b\nC: d\r\n\r\n", Some(BareLf)),
        ("GET / HTTP/1.0\r\nA: b\rC: d\r\n\r\n", Some(BareCr)),
        ("GET / HTTP/1.0\r\nA: b\r\r\n\r\n", Some(BareCr)),
        ("GET / HTTP/1.0\r\r\n\r\n", Some(BareCr)),
        ("GET / HTTP/1.0\r\nA: b\0c\r\n\r\n", Some(ControlByte)),
        ("GET / HTTP/1.0\r\nA: b\x0bc\r\n\r\n", Some(ControlByte)),
        ("GET / HTTP/1.0\r\nA: b\x7fc\r\n\r\n", Some(ControlByte)),
        ("GET /\x01 HTTP/1.0\r\n\r\n", Some(ControlByte)),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03", Some(TlsHandshake)),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Http2Preface)),
    ]);
}

#[test]
fn request_lines() {
    check(&[
        ("get / HTTP/1.0\r\n\r\n", None),
        ("M-SEARCH / HTTP/1.0\r\n\r\n", None),
        ("!#$%&'*+-.^_`|~ / HTTP/1.0\r\n\r\n", None),
        ("A-METHOD-LONGER-THAN-A-WORD0 / HTTP/1.0\r\n\r\n", None),
        (" GET / HTTP/1.0\r\n\r\n", Some(Method)),
        ("/ HTTP/1.0\r\n\r\n", Some(Method)),
        ("GET\r\n\r\n", Some(Method)),
        ("G@T / HTTP/1.0\r\n\r\n", Some(Method)),
        ("GÉT / HTTP/1.0\r\n\r\n", Some(Method)),
        ("GET: / HTTP/1.0\r\n\r\n", Some(Method)),
        ("GET\t/ HTTP/1.0\r\n\r\n", Some(Method)),
        ("GET  / HTTP/1.0\r\n\r\n", Some(RequestLine)),
        ("GET /  HTTP/1.0\r\n\r\n", Some(RequestLine)),
        ("GET /\tHTTP/1.0\r\n\r\n", Some(RequestLine)),
        ("GET / HTTP/1.0 \r\n\r\n", Some(RequestLine)),
        ("GET / x HTTP/1.0\r\n\r\n", Some(RequestLine)),
        ("GET / HTTP/1.0 HTTP/1.0\r\n\r\n", Some(RequestLine)),
        ("GET HTTP/1.0\r\n\r\n", Some(RequestLine)),
        ("GET  HTTP/1.0\r\n\r\n", Some(RequestLine)),
        ("GET /\r\n\r\n", Some(RequestLine)),
        ("GET / HTTP/1\r\n\r\n", Some(RequestLine)),
        ("GET / HTTP/11\r\n\r\n", Some(RequestLine)),
        ("GET / HTTP/1.10\r\n\r\n", Some(RequestLine)),
        ("GET / http/1.0\r\n\r\n", Some(RequestLine)),
        ("GET / HTTP/1.x\r\n\r\n", Some(RequestLine)),
        ("GET / ICAP/1.0\r\n\r\n", Some(RequestLine)),
        ("GET / HTTP/1.2\r\n\r\n", Some(Version)),
        ("GET / HTTP/0.9\r\n\r\n", Some(Version)),
        ("GET / HTTP/2.0\r\n\r\n", Some(Version)),
        ("GET / HTTP/3.0\r\n\r\n", Some(Version)),
    ]);
}

#[test]
fn targets() {
    check_targets(&[
        ("/", None),
        ("/a/b;c=d,e/@:!$&'()*+~-._?x=/?:@", None),
        ("//double/slash", None),
        ("/a[1]{b}|c^d", None),
        ("/?q={'a':[1|2]}^`\\", None),
        ("/?q=\"a\"", Some(TargetByte)),
        ("/%41%c3%A9?%zz%", None),
        ("/?trackers=%00", None),
        ("/a%2fb%5Cc", None),
        ("/a\"b", Some(TargetByte)),
        ("/a\\b", Some(TargetByte)),
        ("/a`b", Some(TargetByte)),
        ("/a<b", Some(TargetByte)),
        ("/?a>b", Some(TargetByte)),
        ("/é", Some(TargetByte)),
        ("/?é", Some(TargetByte)),
        ("/a\tb", Some(TargetByte)),
        ("/a#b", Some(TargetFragment)),
        ("/?a#b", Some(TargetFragment)),
        ("/a%", Some(TargetEscape)),
        ("/a%4", Some(TargetEscape)),
        ("/a%zz", Some(TargetEscape)),
        ("/a%4?%41", Some(TargetEscape)),
        ("/a%00b", Some(TargetNul)),
        ("*", Some(TargetForm)),
        ("a.example", Some(TargetForm)),
        ("a.example:80", Some(TargetForm)),
        ("?q", Some(TargetForm)),
        ("ftp://a.example/", Some(TargetScheme)),
        ("file:///etc/passwd", Some(TargetScheme)),
        ("http://a.example/", None),
        ("HTTP://a.example/x", None),
        ("http://A.Example/x", Some(HostMismatch)),
        ("http://a.example", None),
        ("http://a.example?q=`", None),
        ("http://a.example:80/", Some(HostMismatch)),
        ("https://a.example:443/", Some(HostMismatch)),
        ("http://a.example/`", Some(TargetByte)),
        ("http://a.example/%00", Some(TargetNul)),
        ("http://", Some(TargetAuthority)),
        ("http:///x", Some(TargetAuthority)),
        ("http://user@a.example/", Some(TargetAuthority)),
        ("http://a.example:x/", Some(TargetAuthority)),
        ("http://a.example:443/", Some(HostMismatch)),
        ("http://b.example/", Some(HostMismatch)),
        ("http://a.example./", Some(HostMismatch)),
    ]);
    check(&[
        ("OPTIONS * HTTP/1.0\r\n\r\n", None),
        ("OPTIONS / HTTP/1.0\r\n\r\n", None),
        ("options * HTTP/1.0\r\n\r\n", Some(TargetForm)),
        ("OPTIONS ** HTTP/1.0\r\n\r\n", Some(TargetForm)),
        ("GET http://a/ HTTP/1.0\r\n\r\n", None),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", None),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("CONNECT [::1]:443 HTTP/1.0\r\n\r\n", None),
        ("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", Some(TargetAuthority)),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Some(TargetAuthority)),
        ("CONNECT http://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n", Some(TargetAuthority)),
        ("CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", Some(HostMismatch)),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:444\r\n\r\n", Some(HostMismatch)),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Some(ConnectBody)),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Some(ConnectBody)),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", None),
    ]);
}

#[test]
fn encoded_slashes_can_be_refused() {
    let limits = GateLimits { encoded_slash: EncodedSlash::Refuse, ..GateLimits::default() };
    for (target, reason) in [
        ("/a%2fb", Some(TargetEncodedSlash)),
        ("/a%2Fb", Some(TargetEncodedSlash)),
        ("/%5c", Some(TargetEncodedSlash)),
        ("/%5C?x", Some(TargetEncodedSlash)),
        ("http://a/x%2f", Some(TargetEncodedSlash)),
        ("/%252f", None),
        ("/?next=%2Fhome%5c", None),
        ("/%2e%5d", None),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(feed(limits, head.as_bytes(), []).refused, reason, "{target}");
    }
}

#[test]
fn field_lines() {
    check_fields(&[
        ("A: b\r\n", None),
        ("A:b\r\n", None),
        ("A:\r\n", None),
        ("A: \t b \t c \t \r\n", None),
        ("A: caf\u{e9}\r\n", None),
        ("A: :b:c\r\n", None),
        ("!#$%&'*+-.^_`|~09azAZ: b\r\n", None),
        (" A: b\r\n", Some(ObsoleteFold)),
        ("A: b\r\n c\r\n", Some(ObsoleteFold)),
        ("A: b\r\n\tc\r\n", Some(ObsoleteFold)),
        ("A: b\r\n \r\n", Some(ObsoleteFold)),
        ("A : b\r\n", Some(SpaceBeforeColon)),
        ("A\t: b\r\n", Some(SpaceBeforeColon)),
        ("Content-Length \t: 5\r\n", Some(SpaceBeforeColon)),
        ("A b: c\r\n", Some(HeaderName)),
        (": b\r\n", Some(HeaderName)),
        ("A(b): c\r\n", Some(HeaderName)),
        ("\u{e9}: c\r\n", Some(HeaderName)),
        ("\"A\": c\r\n", Some(HeaderName)),
        ("A,B: c\r\n", Some(HeaderName)),
        ("A\r\n", Some(HeaderWithoutColon)),
        ("a-long-line-without-a-colon\r\n", Some(HeaderWithoutColon)),
    ]);
}

#[test]
fn hosts() {
    let row = |fields: &str, reason| {
        check(&[(&format!("GET / HTTP/1.1\r\n{fields}\r\n"), reason)]);
    };
    row("Host: a.example\r\n", None);
    row("hOsT:\ta.example:8080 \r\n", None);
    row("Host: [2001:db8::1]:443\r\n", None);
    row("", Some(HostMissing));
    row("X-Host: a\r\n", Some(HostMissing));
    row("Host: a\r\nHost: a\r\n", Some(HostTwice));
    row("Host: a\r\nhost: b\r\n", Some(HostTwice));
    row("Host:\r\n", Some(HostInvalid));
    row("Host:  \r\n", Some(HostInvalid));
    row("Host: a b\r\n", Some(HostInvalid));
    row("Host: a, b\r\n", Some(HostInvalid));
    row("Host: a/b\r\n", Some(HostInvalid));
    row("Host: a@b\r\n", Some(HostInvalid));
    row("Host: http://a\r\n", Some(HostInvalid));
    row("Host: a:\r\n", Some(HostInvalid));
    row("Host: a:0\r\n", Some(HostInvalid));
    row("Host: a:65536\r\n", Some(HostInvalid));
    row("Host: [::1\r\n", Some(HostInvalid));
    row("Host: \u{e9}.example\r\n", Some(HostInvalid));
    check(&[
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Some(HostTwice)),
        ("GET / HTTP/1.0\r\nHost: \r\n\r\n", Some(HostInvalid)),
    ]);
}

#[test]
fn framing() {
    check_fields(&[
        ("Content-Length: 0\r\n", None),
        ("Content-Length: 00\r\n", None),
        ("Content-Length: 9223372036854775807\r\n", None),
        ("Content-Length: 9223372036854775808\r\n", Some(ContentLength)),
        ("Content-Length: 18446744073709551616\r\n", Some(ContentLength)),
        ("Content-Length:\r\n", Some(ContentLength)),
        ("Content-Length: +5\r\n", Some(ContentLength)),
        ("Content-Length: -5\r\n", Some(ContentLength)),
        ("Content-Length: 0x5\r\n", Some(ContentLength)),
        ("Content-Length: 5 5\r\n", Some(ContentLength)),
        ("Content-Length: 5, 5\r\n", Some(ContentLength)),
        ("Content-Length: 5;\r\n", Some(ContentLength)),
        ("Content-Length: \u{ff15}\r\n", Some(ContentLength)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Some(ContentLengthTwice)),
        ("Content-Length: 5\r\ncontent-length: 6\r\n", Some(ContentLengthTwice)),
        ("Transfer-Encoding: chunked\r\n", None),
        ("Transfer-Encoding:\tCHUNKED \r\n", None),
        ("Transfer-Encoding:\r\n", Some(TransferEncoding)),
        ("Transfer-Encoding: chunked, chunked\r\n", Some(TransferEncodingTwice)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Some(TransferEncodingTwice)),
        ("Transfer-Encoding: chunked,\r\n", Some(TransferEncodingUnknown)),
        ("Transfer-Encoding: gzip, chunked\r\n", Some(TransferEncodingUnknown)),
        ("Transfer-Encoding: identity\r\n", Some(TransferEncodingUnknown)),
        ("Transfer-Encoding: xchunked\r\n", Some(TransferEncodingUnknown)),
        ("Transfer-Encoding: \"chunked\"\r\n", Some(TransferEncodingUnknown)),
        ("Transfer-Encoding: chunked;q=1\r\n", Some(TransferEncodingUnknown)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Some(TransferEncodingUnknown)),
        ("Transfer-Encoding: \x0bchunked\r\n", Some(ControlByte)),
        ("Transfer-Encoding : chunked\r\n", Some(SpaceBeforeColon)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Some(FramingConflict)),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Some(FramingConflict)),
    ]);
    check(&[
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Some(TransferEncodingHttp10)),
        ("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n", None),
    ]);
}

#[test]
fn connection_options_and_expectations() {
    check_fields(&[
        ("Connection: close\r\n", None),
        ("Connection: keep-alive, Upgrade\r\n", None),
        ("Connection: TE,, x-hop ,\r\nTE: trailers\r\n", None),
        ("Connection:\r\n", None),
        ("Connection: close; x\r\n", Some(ConnectionOption)),
        ("Connection: a b\r\n", Some(ConnectionOption)),
        ("Connection: \"close\"\r\n", Some(ConnectionOption)),
        ("Connection: close, Host\r\n", Some(ConnectionReserved)),
        ("Connection: content-length\r\n", Some(ConnectionReserved)),
        ("Connection: Transfer-Encoding\r\n", Some(ConnectionReserved)),
        ("Connection: X-Forwarded-For\r\n", Some(ConnectionReserved)),
        ("Connection: x-forwarded-anything\r\n", Some(ConnectionReserved)),
        ("Connection: forwarded\r\n", Some(ConnectionReserved)),
        ("Connection: keep-alive,\tauthorization\r\n", Some(ConnectionReserved)),
        ("Connection: close\r\nConnection: cookie\r\n", Some(ConnectionReserved)),
        ("Connection: x-forwarded\r\n", None),
        ("Expect: 100-Continue\r\n", None),
        ("Expect: 100-continue, x\r\n", Some(Expectation)),
        ("Expect: 200-ok\r\n", Some(Expectation)),
        ("Expect:\r\n", Some(Expectation)),
    ]);
}

#[test]
fn what_a_head_says() {
    let plain = Framing {
        version: super::super::Version::Http11,
        body: Body::Empty,
        upgrade: false,
        connect: false,
        expect_continue: false,
    };
    let old = Framing { version: super::super::Version::Http10, ..plain };
    for (head, framing) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n", plain),
        ("GET / HTTP/1.0\r\n", old),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", plain),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n", Framing { body: Body::Length(7), ..plain }),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
            Framing { body: Body::Chunked, ..plain },
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n",
            Framing { body: Body::Length(1), expect_continue: true, ..plain },
        ),
        ("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n", plain),
        (
            "PUT / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n",
            Framing { body: Body::Length(1), ..old },
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
            Framing { upgrade: true, ..plain },
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade:\r\n", Framing { upgrade: true, ..plain }),
        ("GET / HTTP/1.0\r\nUpgrade: websocket\r\n", old),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 3\r\n",
            Framing { upgrade: true, body: Body::Length(3), ..plain },
        ),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n", Framing { connect: true, ..plain }),
    ] {
        let head = format!("{head}\r\n");
        assert_eq!(at_once(head.as_bytes()).heads, [(head.len(), framing)], "{head:?}");
    }
}

/// A limit is what may just pass.
#[test]
fn limits() {
    let limits = GateLimits { request_line: 30, header_block: 80, headers: 3, ..GateLimits::default() };
    let line = |length: usize| format!("GET /{:a<1$} HTTP/1.0\r\n", "", length - 14);
    let block = |length: usize| format!("{}A: {:b<2$}\r\n\r\n", line(20), "", length - 22 - 7);
    for (head, reason) in [
        (format!("{}\r\n", line(30)), None),
        (format!("{}\r\n", line(31)), Some(RequestLineTooLong)),
        (format!("\r\n{}\r\n", line(30)), None),
        (format!("\r\n{}\r\n", line(31)), Some(RequestLineTooLong)),
        ("G".repeat(32), Some(RequestLineTooLong)),
        (block(80), None),
        (block(81), Some(HeadersTooLarge)),
        (format!("{}A: {:b<99}", line(20), ""), Some(HeadersTooLarge)),
        (format!("{}{}\r\n", line(20), "A:b\r\n".repeat(3)), None),
        (format!("{}{}\r\n", line(20), "A:b\r\n".repeat(4)), Some(TooManyHeaders)),
    ] {
        let seen = feed(limits, head.as_bytes(), []);
        assert_eq!(seen.refused, reason, "{head:?}");
        assert_eq!(feed(limits, head.as_bytes(), vec![1; head.len()]), seen, "{head:?} byte by byte");
    }
}

/// The bytes that begin a head decide as soon as they can, and no later byte changes it.
#[test]
fn refuses_as_soon_as_a_line_is_wrong() {
    for (start, reason) in [
        ("\x16", TlsHandshake),
        ("GET / HTTP/1.1\n", BareLf),
        ("PRI * HTTP/2.0\r\n", Http2Preface),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", HostTwice),
    ] {
        assert_eq!(byte_by_byte(start.as_bytes()).refused, Some(reason), "{start:?}");
        assert_eq!(byte_by_byte(&start.as_bytes()[..start.len() - 1]).refused, None, "{start:?} less a byte");
    }
}
