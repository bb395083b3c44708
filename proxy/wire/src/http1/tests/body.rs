//! Bodies, what follows them, and tunnels.

use super::super::RefusalReason::*;
use super::super::*;
use super::{at_once, byte_by_byte, feed};

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Rows: the body, how many of its bytes pass, and the refusal if it is not whole and good.
#[test]
fn chunks() {
    let rows: &[(&str, usize, Option<RefusalReason>)] = &[
        ("0\r\n\r\n", 5, None),
        ("5\r\nhello\r\n0\r\n\r\n", 15, None),
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 26, None),
        ("0000000000000005\r\nhello\r\n0\r\n\r\n", 30, None),
        ("a\r\n0123456789\r\n00\r\n\r\n", 21, None),
        ("A;x=y;z=\"q r\"\t\r\n0123456789\r\n0;last\r\n\r\n", 38, None),
        ("1\r\n\n\r\n0\r\n\r\n", 11, None),
        ("7fffffffffffffff\r\nhello", 23, None),
        ("8000000000000000\r\nhello", 15, Some(ChunkSize)),
        ("00000000000000005\r\nhello", 16, Some(ChunkSize)),
        ("fffffffffffffffff\r\n", 15, Some(ChunkSize)),
        ("\r\n", 0, Some(ChunkSize)),
        (";x\r\n", 0, Some(ChunkSize)),
        ("x\r\n", 0, Some(ChunkSize)),
        ("+5\r\n", 0, Some(ChunkSize)),
        ("-5\r\n", 0, Some(ChunkSize)),
        ("0x5\r\nhello", 1, Some(ChunkSize)),
        (" 5\r\nhello", 0, Some(ChunkSize)),
        ("5 \r\nhello", 1, Some(ChunkSize)),
        ("5 ;x\r\nhello", 1, Some(ChunkSize)),
        ("5\nhello", 1, Some(ChunkSize)),
        ("5\r\rhello", 2, Some(ChunkEnd)),
        ("5\r\nhello0\r\n", 8, Some(ChunkEnd)),
        ("5\r\nhello\n0\r\n", 8, Some(ChunkEnd)),
        ("5\r\nhello\r0\r\n", 9, Some(ChunkEnd)),
        ("5\r\nhell\r\n0\r\n", 8, Some(ChunkEnd)),
        ("5;\n\r\nhello", 2, Some(ChunkExtension)),
        ("5;a\nb\r\nhello", 3, Some(ChunkExtension)),
        ("5;a\0\r\nhello", 3, Some(ChunkExtension)),
        ("5;\x7f\r\nhello", 2, Some(ChunkExtension)),
        ("5;\u{e9}\r\nhello", 2, Some(ChunkExtension)),
        ("5;a\rb\r\nhello", 4, Some(ChunkEnd)),
        ("0\r\nA: b\r\nC:\r\n\r\n", 15, None),
        ("0\r\n\n", 3, Some(BareLf)),
        ("0\r\n\rX", 3, Some(BareCr)),
        ("0\r\nA: b\nC: d\r\n\r\n", 3, Some(BareLf)),
        ("0\r\nA: b\0\r\n\r\n", 3, Some(ControlByte)),
        ("0\r\nA b\r\n\r\n", 3, Some(HeaderName)),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", 3, Some(HeaderName)),
        ("0\r\n A: b\r\n\r\n", 3, Some(ObsoleteFold)),
        ("0\r\nA : b\r\n\r\n", 3, Some(SpaceBeforeColon)),
        ("0\r\nContent-Length: 5\r\n\r\n", 3, Some(TrailerReserved)),
        ("0\r\nA: b\r\ntransfer-encoding: chunked\r\n\r\n", 3, Some(TrailerReserved)),
        ("0\r\nX-Forwarded-For: ::1\r\n\r\n", 3, Some(TrailerReserved)),
    ];
    for &(body, passed, reason) in rows {
        let input = format!("{CHUNKED}{body}");
        let seen = at_once(input.as_bytes());
        assert_eq!((seen.passed - CHUNKED.len(), seen.refused), (passed, reason), "{body:?}");
        assert_eq!(byte_by_byte(input.as_bytes()), seen, "{body:?} byte by byte");
        let whole = reason.is_none() && body.ends_with("\r\n\r\n");
        assert_eq!(seen.ends, if whole { vec![input.len()] } else { vec![] }, "{body:?}");
    }
}

#[test]
fn limits() {
    let limits = GateLimits { chunk_extensions: 8, trailer_block: 20, trailers: 2, ..GateLimits::default() };
    for (body, reason) in [
        ("1;234567\r\nx\r\n0;8\r\n\r\n".to_owned(), None),
        ("1;23456789\r\nx\r\n0\r\n\r\n".to_owned(), None),
        ("1;2345678901\r\nx\r\n0\r\n\r\n".to_owned(), Some(ChunkExtensionsTooLong)),
        (format!("{}0\r\n\r\n", "1;2\r\nx\r\n".repeat(8)), None),
        (format!("{}0\r\n\r\n", "1;2\r\nx\r\n".repeat(9)), Some(ChunkExtensionsTooLong)),
        ("0\r\nA: 1\r\nB: 2\r\n\r\n".to_owned(), None),
        ("0\r\nA:1\r\nB:2\r\nC:3\r\n\r\n".to_owned(), Some(TooManyTrailers)),
        ("0\r\nA: 3456789012345\r\n\r\n".to_owned(), None),
        ("0\r\nA: 34567890123456\r\n\r\n".to_owned(), Some(TrailersTooLarge)),
        (format!("0\r\n{}", "A".repeat(20)), Some(TrailersTooLarge)),
    ] {
        let input = format!("{CHUNKED}{body}");
        assert_eq!(feed(limits, input.as_bytes(), []).refused, reason, "{body:?}");
        assert_eq!(
            feed(limits, input.as_bytes(), vec![1; input.len()]).refused,
            reason,
            "{body:?} byte by byte"
        );
    }
}

/// Counters begin anew with each message.
#[test]
fn limits_are_per_message() {
    let limits = GateLimits { chunk_extensions: 2, trailers: 1, headers: 2, ..GateLimits::default() };
    let message = format!("{CHUNKED}1;2\r\nx\r\n0\r\nA: b\r\n\r\n");
    let seen = feed(limits, message.repeat(3).as_bytes(), []);
    assert_eq!((seen.refused, seen.ends.len()), (None, 3));
}

#[test]
fn pipelined_requests_are_each_judged() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let counted = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nGET / H";
    let chunked = format!("{CHUNKED}7\r\nGET / H\r\n0\r\n\r\n");
    for first in [good, counted, &chunked] {
        let input = format!("{first}{good}");
        let seen = at_once(input.as_bytes());
        assert_eq!((seen.passed, seen.heads.len(), seen.refused), (input.len(), 2, None), "{first:?}");
        let input = format!("{first}GET / HTTP/1.1\r\n\r\n{good}");
        let seen = at_once(input.as_bytes());
        assert_eq!(
            (seen.passed, seen.heads.len(), seen.refused),
            (first.len(), 1, Some(HostMissing)),
            "{first:?}"
        );
        let input = format!("{first}\r\n{good}");
        assert_eq!(at_once(input.as_bytes()).passed, input.len(), "one CRLF too many after {first:?}");
        let input = format!("{first}smuggled");
        assert_eq!(at_once(input.as_bytes()).passed, first.len(), "{first:?}");
    }
}

#[test]
fn a_counted_body_passes_whatever_it_holds() {
    let mut gate = Gate::new(GateLimits::default());
    let head = b"POST / HTTP/1.0\r\nContent-Length: 300\r\n\r\n";
    assert!(matches!(gate.advance(head), Progress::Head { len, .. } if len == head.len()));
    assert_eq!(gate.phase(), Phase::Body);
    assert_eq!(gate.advance(b""), Progress::NeedMore);
    let body: Vec<u8> = (0..=255).collect();
    assert_eq!(gate.advance(&body), Progress::Body { len: 256, end: false });
    assert_eq!(gate.advance(&body), Progress::Body { len: 44, end: true });
    assert_eq!(gate.phase(), Phase::Head);
}

#[test]
fn a_tunnel_passes_everything() {
    let mut gate = Gate::new(GateLimits::default());
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    let Progress::Head { framing, .. } = gate.advance(head) else { panic!() };
    assert!(framing.upgrade);
    gate.tunnel();
    assert_eq!(gate.phase(), Phase::Tunnel);
    assert_eq!(gate.advance(b""), Progress::NeedMore);
    assert_eq!(gate.advance(b"\0\r\n\x16"), Progress::Tunnel { len: 4 });
}

/// What is held back after an upgrade request that was not granted is a head like any other.
#[test]
fn without_a_tunnel_the_next_bytes_are_a_head() {
    let mut gate = Gate::new(GateLimits::default());
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    assert!(matches!(gate.advance(head), Progress::Head { .. }));
    assert_eq!(gate.phase(), Phase::Head);
    assert_eq!(gate.advance(b"\x81"), Progress::NeedMore);
    assert_eq!(gate.advance(b"\x81\x05hello"), Progress::Refuse(ControlByte.into()));
}
