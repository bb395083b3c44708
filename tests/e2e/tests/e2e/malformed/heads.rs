//! HTTP/1: one row per way a message can be wrong. `$PATH` is the row's own path, `$HIDDEN` one that must never be asked
//! for upstream, `$HOST` a host that is served.

use portolan_e2e::{Setup, eventually, within};

use super::{HOST, Stage, each, statuses};
use crate::streams::{PATIENCE, Wire};

/// Bytes, the status that answers them, the reason in the access log.
type Row = (&'static str, u16, &'static str);

const GET: &str = "GET $PATH HTTP/1.1\r\nHost: $HOST\r\n";

/// Refused by its head: nothing of it goes upstream, and the connection is closed.
const HEADS: &[Row] = &[
    // Framing.
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET $HIDDEN HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        400,
        "both Content-Length and Transfer-Encoding",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 44\r\n\r\n0\r\n\r\nGET $HIDDEN HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        400,
        "both Content-Length and Transfer-Encoding",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        400,
        "more than one Content-Length",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\nGET $HIDDEN HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        400,
        "more than one Content-Length",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 2, 2\r\n\r\nok",
        400,
        "Content-Length is not one decimal",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: +2\r\n\r\nok",
        400,
        "Content-Length is not one decimal",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: -2\r\n\r\nok",
        400,
        "Content-Length is not one decimal",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 0x2\r\n\r\nok",
        400,
        "Content-Length is not one decimal",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 1 2\r\n\r\nok",
        400,
        "Content-Length is not one decimal",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length:\r\n\r\n",
        400,
        "Content-Length is not one decimal",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 9223372036854775808\r\n\r\n",
        400,
        "Content-Length is not one decimal",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 18446744073709551618\r\n\r\nok",
        400,
        "Content-Length is not one decimal",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
        "a transfer coding other than chunked",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: identity\r\n\r\n",
        501,
        "a transfer coding other than chunked",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        501,
        "a transfer coding other than chunked",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        501,
        "a transfer coding other than chunked",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        501,
        "a transfer coding other than chunked",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        400,
        "chunked is applied more than once",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "chunked is applied more than once",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        501,
        "a transfer coding other than chunked",
    ),
    ("POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding:\r\n\r\n", 400, "Transfer-Encoding is empty"),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        400,
        "holds a control character",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 4\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        400,
        "between a header name and its colon",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length\t: 4\r\n\r\nGET ",
        400,
        "between a header name and its colon",
    ),
    (
        "POST $PATH HTTP/1.0\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "an HTTP/1.0 request has a Transfer-Encoding",
    ),
    // Lines.
    ("GET $PATH HTTP/1.1\nHost: $HOST\n\n", 400, "a line ends with LF alone"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\nX: y\r\n\r\n", 400, "a line ends with LF alone"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\n\n", 400, "a line ends with LF alone"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nX: a\rb\r\n\r\n", 400, "a CR is not followed by LF"),
    ("GET $PATH HTTP/1.1\r\r\nHost: $HOST\r\n\r\n", 400, "a CR is not followed by LF"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nX: a\r\n b\r\n\r\n", 400, "continued on a second line"),
    (
        "GET $PATH HTTP/1.1\r\nHost: $HOST\r\nX: a\r\n\tTransfer-Encoding: chunked\r\n\r\n",
        400,
        "continued on a second line",
    ),
    ("GET $PATH HTTP/1.1\r\n Host: $HOST\r\n\r\n", 400, "continued on a second line"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nX : y\r\n\r\n", 400, "between a header name and its colon"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nno colon here\r\n\r\n", 400, "a header name is not a token"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nnocolon\r\n\r\n", 400, "a header line has no colon"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\n: empty\r\n\r\n", 400, "a header name is not a token"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nX(1): y\r\n\r\n", 400, "a header name is not a token"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nX: a\0b\r\n\r\n", 400, "holds a control character"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nX: a\x7fb\r\n\r\n", 400, "holds a control character"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nX: a\x1bb\r\n\r\n", 400, "holds a control character"),
    ("GET $PATH\x01 HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "holds a control character"),
    ("\r\n\r\nGET $PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "more than one empty line"),
    // The request line.
    ("GET $PATH\r\n", 400, "request line is not method"),
    ("GET  $PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "request line is not method"),
    ("GET $PATH HTTP/1.1 \r\nHost: $HOST\r\n\r\n", 400, "request line is not method"),
    ("GET $PATH $HIDDEN HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "request line is not method"),
    ("GET $PATH http/1.1\r\nHost: $HOST\r\n\r\n", 400, "request line is not method"),
    ("GET $PATH HTTP/1.10\r\nHost: $HOST\r\n\r\n", 400, "request line is not method"),
    (" GET $PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "the method is not a token"),
    ("G@T $PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "the method is not a token"),
    ("GET\t$PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "the method is not a token"),
    ("GET $PATH HTTP/0.9\r\nHost: $HOST\r\n\r\n", 505, "neither 1.0 nor 1.1"),
    ("GET $PATH HTTP/1.2\r\nHost: $HOST\r\n\r\n", 505, "neither 1.0 nor 1.1"),
    ("GET $PATH HTTP/2.0\r\nHost: $HOST\r\n\r\n", 505, "neither 1.0 nor 1.1"),
    ("GET $PATH HTTP/3.0\r\nHost: $HOST\r\n\r\n", 505, "neither 1.0 nor 1.1"),
    ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 505, "the HTTP/2 connection preface"),
    ("PRI $PATH HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "neither 1.0 nor 1.1"),
    ("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03", 400, "a TLS handshake"),
    ("CONNECT $HOST:443 HTTP/1.1\r\nHost: $HOST:443\r\n\r\n", 405, "CONNECT is not served"),
    (
        "CONNECT $HOST:443 HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 5\r\n\r\nhello",
        400,
        "a CONNECT request has a body",
    ),
    // The target.
    ("GET $PATH/%00 HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "an encoded NUL"),
    ("GET $PATH/%zz HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "a percent sign without"),
    ("GET $PATH% HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "a percent sign without"),
    ("GET $PATH#top HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "a fragment"),
    ("GET $PATH\\..\\x HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "must be percent-encoded"),
    ("GET $PATH/é HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "must be percent-encoded"),
    ("GET $PATH?q=\"x\" HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "must be percent-encoded"),
    ("GET http://$HOST:80$PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "the Host differs from the authority"),
    (
        "GET http://SHOP.paris.lb.test$PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        400,
        "the Host differs from the authority",
    ),
    ("GET * HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "a form that its method does not allow"),
    ("GET $HOST:80 HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "a form that its method does not allow"),
    ("GET ftp://$HOST$PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "neither http nor https"),
    (
        "GET http://other.test$PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        400,
        "the Host differs from the authority",
    ),
    ("GET http://$HOST:81$PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "the Host differs from the authority"),
    ("GET http://me@$HOST$PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n", 400, "not a host with an optional port"),
    // The host.
    ("GET $PATH HTTP/1.1\r\n\r\n", 400, "has no Host"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nHost: $HOST\r\n\r\n", 400, "more than one Host"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nhost: other.test\r\n\r\n", 400, "more than one Host"),
    ("GET $PATH HTTP/1.1\r\nHost:\r\n\r\n", 400, "the Host is not a host"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST/x\r\n\r\n", 400, "the Host is not a host"),
    ("GET $PATH HTTP/1.1\r\nHost: me@$HOST\r\n\r\n", 400, "the Host is not a host"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST, $HOST\r\n\r\n", 400, "the Host is not a host"),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST:http\r\n\r\n", 400, "the Host is not a host"),
    // What a client must not take away (CVE-2026-105299), nor ask for.
    (
        "GET $PATH HTTP/1.1\r\nHost: $HOST\r\nConnection: x-forwarded-for\r\n\r\n",
        400,
        "must not be dropped on the way",
    ),
    (
        "GET $PATH HTTP/1.1\r\nHost: $HOST\r\nConnection: close, Host\r\n\r\n",
        400,
        "must not be dropped on the way",
    ),
    (
        "GET $PATH HTTP/1.1\r\nHost: $HOST\r\nConnection: authorization\r\nAuthorization: x\r\n\r\n",
        400,
        "must not be dropped on the way",
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nok",
        400,
        "must not be dropped on the way",
    ),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nConnection: a b\r\n\r\n", 400, "not a list of tokens"),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nExpect: a-miracle\r\nContent-Length: 2\r\n\r\nok",
        417,
        "not 100-continue",
    ),
];

/// Refused in the middle of a body: the head may have gone upstream, what follows must not.
const BODIES: &[Row] = &[
    ("zz\r\nhello\r\n0\r\n\r\n", 400, "a chunk size is not"),
    ("0x5\r\nhello\r\n0\r\n\r\n", 400, "a chunk size is not"),
    ("-5\r\nhello\r\n0\r\n\r\n", 400, "a chunk size is not"),
    ("+5\r\nhello\r\n0\r\n\r\n", 400, "a chunk size is not"),
    ("\r\nhello\r\n0\r\n\r\n", 400, "a chunk size is not"),
    ("00000000000000005\r\nhello\r\n0\r\n\r\n", 400, "a chunk size is not"),
    ("8000000000000000\r\nhello\r\n0\r\n\r\n", 400, "a chunk size is not"),
    ("fffffffffffffffff\r\nhello\r\n0\r\n\r\n", 400, "a chunk size is not"),
    ("5\nhello\r\n0\r\n\r\n", 400, "a chunk size is not"),
    ("5\r\nhello0\r\n\r\n", 400, "with CRLF"),
    ("5\r\nhello\n0\r\n\r\n", 400, "with CRLF"),
    ("5\r\nhello\r\r0\r\n\r\n", 400, "with CRLF"),
    ("5;a=\x01\r\nhello\r\n0\r\n\r\n", 400, "a chunk extension holds"),
    ("5;a\nGET $HIDDEN HTTP/1.1\r\nhello\r\n0\r\n\r\n", 400, ""),
    ("5;$LONG\r\nhello\r\n0\r\n\r\n", 400, "chunk extensions of a message are longer"),
    (
        "2\r\nok\r\n0\r\nContent-Length: 40\r\n\r\nGET $HIDDEN HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        400,
        "a trailer carries a field",
    ),
    ("2\r\nok\r\n0\r\nHost: other\r\n\r\n", 400, "a trailer carries a field"),
    ("2\r\nok\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", 400, "a trailer carries a field"),
    ("2\r\nok\r\n0\r\nX: a\r\n b\r\n\r\n", 400, "continued on a second line"),
    ("2\r\nok\r\n0\r\nX: a\nY: b\r\n\r\n", 400, "LF alone"),
    ("2\r\nok\r\n0\r\nX: $LONG\r\n\r\n", 431, "the trailer section is larger"),
    ("2\r\nok\r\n0\r\n$MANY\r\n", 431, "more trailers than the limit"),
];

/// Odd, but it is clear what is meant: answered, and the connection goes on. The targets that must be asked for upstream.
const GOOD: &[(&str, &[u16], &[&str])] = &[
    ("\r\nGET $PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n", &[200], &["$PATH"]),
    ("GET $PATH HTTP/1.1\r\nhOsT:\t$HOST \r\n\r\n", &[200], &["$PATH"]),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST.:8080\r\n\r\n", &[200], &["$PATH"]),
    ("GET http://$HOST$PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n", &[200], &["$PATH"]),
    ("GET HTTP://$HOST$PATH HTTP/1.1\r\nHost: $HOST\r\n\r\n", &[200], &["$PATH"]),
    ("GET $PATH/a%2Fb%5cc HTTP/1.1\r\nHost: $HOST\r\n\r\n", &[200], &["$PATH/a%2Fb%5Cc"]),
    ("GET $PATH?x=%00&y=% HTTP/1.1\r\nHost: $HOST\r\n\r\n", &[200], &["$PATH?x=%00&y=%"]),
    ("GET $PATH HTTP/1.1\r\nHost: $HOST\r\nX: caf\u{e9}\r\n\r\n", &[200], &["$PATH"]),
    ("GET $PATH/../../../etc/passwd HTTP/1.1\r\nHost: $HOST\r\n\r\n", &[400], &[]),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: Chunked\r\n\r\n005;a=b\r\nhello\r\n0;c\r\nX-T: y\r\n\r\n",
        &[200],
        &["$PATH"],
    ),
    ("POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 0005\r\n\r\nhello", &[200], &["$PATH"]),
    // A body that looks like a request is a body.
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 38\r\n\r\nGET $HIDDEN HTTP/1.1\r\nHost: a.example\r\n\r\n",
        &[200],
        &["$PATH"],
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n26\r\nGET $HIDDEN HTTP/1.1\r\nHost: a.example\r\n\r\n\r\n0\r\n\r\n",
        &[200],
        &["$PATH"],
    ),
    // Two that come together are two, in order.
    (
        "GET $PATH HTTP/1.1\r\nHost: $HOST\r\n\r\nGET $PATH-2 HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        &[200, 200],
        &["$PATH", "$PATH-2"],
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 5\r\n\r\nhelloGET $PATH-2 HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        &[200, 200],
        &["$PATH", "$PATH-2"],
    ),
    (
        "POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET $PATH-2 HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        &[200, 200],
        &["$PATH", "$PATH-2"],
    ),
];

fn fill(text: &str, row: &str) -> Vec<u8> {
    let many: String = (0..40).map(|n| format!("X-{n}: y\r\n")).collect();
    let text = text.replace("$PATH", &format!("/{row}")).replace("$HIDDEN", "/hid").replace("$HOST", HOST);
    let text = text.replace("$LONG", &"x".repeat(9000)).replace("$MANY", &many);
    // Text is UTF-8; heads are bytes, and é is one in Latin-1.
    text.chars()
        .flat_map(|c| {
            u8::try_from(u32::from(c)).map_or_else(|_| c.to_string().into_bytes(), |byte| vec![byte])
        })
        .collect()
}

/// Sends bytes that must be refused: one answer, in the end, with that status, and a line in the access log that says why.
fn refused(
    stage: &Stage,
    mut wire: Wire,
    bytes: &[u8],
    before: usize,
    status: u16,
    reason: &str,
) -> Result<(), String> {
    let local = wire.local();
    wire.send(bytes);
    let answer = wire.rest();
    let (statuses, left) = statuses(&answer);
    let expected: Vec<u16> = std::iter::repeat_n(200, before).chain([status]).collect();
    if statuses != expected || left > 0 {
        return Err(format!("expected {expected:?}, got {:?}", String::from_utf8_lossy(&answer)));
    }
    let listener = if matches!(wire, Wire::Plain(_)) { "http" } else { "https" };
    let flag = if matches!(status, 414 | 431) { "HL" } else { "BR" };
    let of_ours = |line: &&serde_json::Value| line["peer"] == *local && line["listener"] == listener;
    let right = |line: &serde_json::Value| {
        of_ours(&line)
            && line["status"] == status
            && line["flag"] == flag
            && line["reason"].as_str().is_some_and(|said| said.contains(reason))
    };
    let logged = within(PATIENCE, || stage.portolan.access_log().into_iter().find(right));
    match logged {
        Some(_) => Ok(()),
        None => Err(format!(
            "expected {reason:?}, got {:?}",
            stage.portolan.access_log().iter().filter(of_ours).collect::<Vec<_>>()
        )),
    }
}

fn name(prefix: &str, row: usize, tls: bool) -> String {
    format!("{prefix}{row:03}{}", if tls { "s" } else { "p" })
}

fn assert_nothing_hidden(stage: &Stage, allowed: impl Fn(&str) -> bool) {
    let bad: Vec<String> = stage.recorder.targets().into_iter().filter(|target| !allowed(target)).collect();
    assert!(bad.is_empty(), "asked for upstream: {bad:?}");
}

#[test]
fn heads_are_refused_before_an_upstream_hears_of_them() {
    let stage = Stage::new(Setup::new());
    each(HEADS, |row, (text, status, reason), tls| {
        refused(&stage, stage.wire(tls), &fill(text, &name("r", row, tls)), 0, *status, reason)
    });
    assert_nothing_hidden(&stage, |_| false);
}

#[test]
fn what_is_refused_as_the_second_request_does_not_hurt_the_first() {
    let stage = Stage::new(Setup::new());
    let rows: Vec<&Row> = HEADS.iter().step_by(7).collect();
    each(&rows, |row, (text, status, reason), tls| {
        let first = fill(&format!("{GET}\r\n"), &name("first", row, tls));
        let bytes = [first, fill(text, &name("r", row, tls))].concat();
        refused(&stage, stage.wire(tls), &bytes, 1, *status, reason)
    });
    assert_nothing_hidden(&stage, |target| target.starts_with("/first"));
}

#[test]
fn bodies_are_refused_where_their_framing_breaks() {
    let stage = Stage::new(Setup::new());
    each(BODIES, |row, (text, status, reason), tls| {
        let row = name("b", row, tls);
        let head = fill("POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n", &row);
        refused(&stage, stage.wire(tls), &[head, fill(text, &row)].concat(), 0, *status, reason)
    });
    assert_nothing_hidden(&stage, |target| target.starts_with("/b"));
}

#[test]
fn bodies_are_refused_also_when_they_come_byte_by_byte() {
    let stage = Stage::new(Setup::new());
    let rows: Vec<&Row> = BODIES.iter().filter(|(text, ..)| !text.contains('$')).collect();
    each(&rows, |row, (text, status, reason), tls| {
        let row = name("b", row, tls);
        let mut wire = stage.wire(tls);
        wire.send(fill("POST $PATH HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n", &row));
        let bytes = fill(text, &row);
        let (last, before) = bytes.split_last().expect("not empty");
        for byte in before {
            wire.send([*byte]);
        }
        refused(&stage, wire, &[*last], 0, *status, reason)
    });
    assert_nothing_hidden(&stage, |target| target.starts_with("/b"));
}

#[test]
fn what_is_odd_but_clear_is_served_and_nothing_else() {
    let stage = Stage::new(Setup::new());
    each(GOOD, |row, (text, expected, targets), tls| {
        let row = name("g", row, tls);
        let mut wire = stage.wire(tls);
        wire.send(fill(text, &row));
        let mut answer = Vec::new();
        while statuses(&answer).0.len() < expected.len() {
            let some = wire.some();
            if some.is_empty() {
                return Err(format!("closed after {:?}", String::from_utf8_lossy(&answer)));
            }
            answer.extend(some);
        }
        if statuses(&answer).0 != *expected {
            return Err(format!("expected {expected:?}, got {:?}", String::from_utf8_lossy(&answer)));
        }
        let wanted: Vec<String> =
            targets.iter().map(|target| target.replace("$PATH", &format!("/{row}"))).collect();
        let got: Vec<String> =
            stage.recorder.targets().into_iter().filter(|target| target.contains(&row)).collect();
        if got != wanted {
            return Err(format!("expected {wanted:?} upstream, got {got:?}"));
        }
        // The connection is as good as before.
        wire.send(format!("GET /alive HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"));
        let (after, _) = statuses(&wire.rest());
        if after == [200] { Ok(()) } else { Err(format!("then {after:?}")) }
    });
    assert_nothing_hidden(&stage, |target| target.starts_with("/g") || target == "/alive");
}

#[test]
fn sizes_have_limits() {
    let stage = Stage::new(Setup::new());
    let long = "x".repeat(17 << 10);
    let fields = |count: usize| (0..count).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    let large: String = (0..16).map(|n| format!("X-{n}: {}\r\n", "y".repeat(4000))).collect();
    let rows = [
        (format!("GET /{long} HTTP/1.1\r\nHost: $HOST\r\n\r\n"), 414, "request line is longer"),
        (format!("GET /?q={long} HTTP/1.1\r\nHost: $HOST\r\n\r\n"), 414, "request line is longer"),
        // An endless line is not waited for.
        (format!("GET /{long}{long}"), 414, "request line is longer"),
        (
            format!("{}{} HTTP/1.1\r\nHost: $HOST\r\n\r\n", "A".repeat(17 << 10), " /"),
            414,
            "request line is longer",
        ),
        (format!("{GET}{large}\r\n"), 431, "header block is larger"),
        (format!("{GET}X: {}", "y".repeat(64 << 10)), 431, "header block is larger"),
        (format!("{GET}{}\r\n", fields(100)), 431, "more headers than the limit"),
    ];
    each(&rows, |row, (text, status, reason), tls| {
        refused(&stage, stage.wire(tls), &fill(text, &name("r", row, tls)), 0, *status, reason)
    });
    assert_nothing_hidden(&stage, |_| false);

    for good in [
        format!("{GET}{}\r\n", fields(98)),
        format!("GET /{} HTTP/1.1\r\nHost: $HOST\r\n\r\n", "x".repeat(16_000)),
    ] {
        let mut wire = stage.wire(false);
        wire.send(fill(&good.replace("HTTP/1.1\r\n", "HTTP/1.1\r\nConnection: close\r\n"), "g"));
        assert_eq!(statuses(&wire.rest()).0, [200]);
    }
}

#[test]
fn limits_are_the_proxys() {
    let stage = Stage::new(
        Setup::new().spec("limits: {maxHeaderBytes: 2048, maxHeaders: 10, refuseEncodedSlash: true}"),
    );
    let fields: String = (0..10).map(|n| format!("X-{n}: y\r\n")).collect();
    let rows = [
        (format!("{GET}X: {}\r\n\r\n", "y".repeat(2048)), 431, "header block is larger"),
        (format!("{GET}{fields}\r\n"), 431, "more headers than the limit"),
        (format!("GET /{} HTTP/1.1\r\nHost: $HOST\r\n\r\n", "x".repeat(2100)), 414, "request line is longer"),
        ("GET $PATH/a%2fb HTTP/1.1\r\nHost: $HOST\r\n\r\n".to_owned(), 400, "an encoded slash"),
        ("GET $PATH/%5C HTTP/1.1\r\nHost: $HOST\r\n\r\n".to_owned(), 400, "an encoded slash"),
        ("GET http://$HOST$PATH/%2F HTTP/1.1\r\nHost: $HOST\r\n\r\n".to_owned(), 400, "an encoded slash"),
    ];
    each(&rows, |row, (text, status, reason), tls| {
        refused(&stage, stage.wire(tls), &fill(text, &name("r", row, tls)), 0, *status, reason)
    });
    assert_nothing_hidden(&stage, |_| false);
}

#[test]
fn the_http2_preface_is_refused_where_http2_is_not_spoken() {
    let stage = Stage::new(Setup::new().http("http2: false").https("http2: false"));
    each(&["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], |_, text, tls| {
        refused(&stage, stage.wire(tls), text.as_bytes(), 0, 505, "the HTTP/2 connection preface")
    });
}

#[test]
fn a_client_that_leaves_in_a_head_leaves_no_trace() {
    let stage = Stage::new(Setup::new());
    for piece in ["G", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let mut wire = stage.wire(false);
        wire.send(piece);
        let _ = wire.tcp().shutdown(std::net::Shutdown::Write);
        assert_eq!(wire.rest(), b"", "{piece:?}");
    }
    assert_nothing_hidden(&stage, |_| false);
    eventually("no connection is left", || {
        (stage.portolan.metric("portolan_listener_connections{listener=\"http\"}") == Some(0.0)).then_some(())
    });
}

/// Every printable byte, in the path and in the query: either served, or refused by us, with a line that says why. The library
/// behind must never be the one that refuses.
#[test]
fn no_byte_is_refused_without_a_line() {
    let stage = Stage::new(Setup::new());
    let mut refused = Vec::new();
    for byte in 0x21..=0xff_u8 {
        for place in ["/a$b", "/?q=$", "/a?$"] {
            let mut wire = stage.wire(false);
            let local = wire.local();
            let (before, after) = place.split_once('$').expect("a place");
            let line =
                [b"GET ", before.as_bytes(), &[byte], after.as_bytes(), b" HTTP/1.1\r\nHost: "].concat();
            wire.send([&line[..], HOST.as_bytes(), b"\r\nConnection: close\r\n\r\n"].concat());
            let answer = wire.rest();
            let text = String::from_utf8_lossy(&answer).into_owned();
            assert!(!text.contains("Pingora"), "{byte:#x} in {place}: {text}");
            if statuses(&answer).0 == [400] {
                refused.push(local);
            } else {
                assert_eq!(statuses(&answer).0, [200], "{byte:#x} in {place}: {text}");
            }
        }
    }
    assert!(refused.len() > 3 * 129, "{}", refused.len());
    eventually("each refusal has a line that says why", || {
        let log = stage.portolan.access_log();
        let said = log.iter().filter(|line| line["status"] == 400 && line["reason"].is_string());
        let said: std::collections::HashSet<&str> = said.filter_map(|line| line["peer"].as_str()).collect();
        refused.iter().all(|local| said.contains(local.as_str())).then_some(())
    });
}
