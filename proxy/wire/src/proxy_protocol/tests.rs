//! Tables for both versions, and agreement with the `ppp` crate where it keeps to the specification.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn proxied(source: &str, destination: &str) -> Origin {
    Origin::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// Parses `bytes` with something behind them, and every shorter part of them: each is either not whole yet or
/// already has the same answer.
fn check(bytes: &[u8], expected: Result<Origin, ProxyError>) {
    let whole = expected.map(|origin| Some(Header { len: bytes.len(), origin }));
    assert_eq!(parse(bytes), whole, "{bytes:?}");
    assert_eq!(parse(&[bytes, b"GET / HTTP/1.1"].concat()), whole, "{bytes:?} and more");
    for end in 0..bytes.len() {
        let part = parse(&bytes[..end]);
        assert!(part == Ok(None) || (part.is_err() && part == whole), "{bytes:?} cut at {end}: {part:?}");
    }
}

#[test]
fn v1() {
    let longest = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535";
    let rows: &[(&str, Result<Origin, ProxyError>)] = &[
        (
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
            Ok(proxied("192.0.2.1:56324", "198.51.100.7:443")),
        ),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Ok(proxied("255.255.255.255:65535", "255.255.255.255:65535")),
        ),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Ok(proxied("0.0.0.0:0", "0.0.0.0:0"))),
        ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", Ok(proxied("[2001:db8::1]:1", "[::1]:2"))),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", Ok(proxied("[::ffff:192.0.2.1]:1", "[::1]:2"))),
        ("PROXY UNKNOWN\r\n", Ok(Origin::Unknown)),
        ("PROXY UNKNOWN \r\n", Ok(Origin::Unknown)),
        ("PROXY UNKNOWN any thing at all may stand here, in any number\r\n", Ok(Origin::Unknown)),
        (&format!("{longest:x<105}\r\n"), Ok(Origin::Unknown)),
        (&format!("{longest:x<106}\r\n"), Err(ProxyError::LineTooLong)),
        ("PROXY TCP4\r\n", Err(ProxyError::Line)),
        ("PROXY \r\n", Err(ProxyError::Line)),
        ("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Line)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", Err(ProxyError::Line)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", Err(ProxyError::Line)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", Err(ProxyError::Line)),
        ("PROXY TCP4  192.0.2.1 192.0.2.2 1\r\n", Err(ProxyError::Address)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", Err(ProxyError::Line)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rx", Err(ProxyError::Line)),
        ("PROXY TCP4\t192.0.2.1", Err(ProxyError::Line)),
        ("PROXY TCP4 192.0.2.1\0", Err(ProxyError::Line)),
        ("PROXY TCP4 192.0.2.\u{e9}", Err(ProxyError::Line)),
        ("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Line)),
        ("PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n", Err(ProxyError::Line)),
        ("PROXY UNKNOWNX\r\n", Err(ProxyError::Line)),
        ("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP4 192.0.02.1 192.0.2.2 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP6 192.0.2.1 ::1 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP4 host 192.0.2.2 1 2\r\n", Err(ProxyError::Address)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 99999999999\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 +80 2\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 080 2\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 00\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n", Err(ProxyError::Port)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", Err(ProxyError::Port)),
        ("GET / HTTP/1.1\r\n", Err(ProxyError::Signature)),
        ("proxy TCP4", Err(ProxyError::Signature)),
        ("PROXYX", Err(ProxyError::Signature)),
    ];
    for (line, expected) in rows {
        check(line.as_bytes(), *expected);
    }
    assert_eq!(parse(&[b'P'; 2]), Err(ProxyError::Signature));
}

/// A header with the given fixed bytes and a length that fits the rest.
fn v2_bytes(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[version_command, family], &length, rest].concat()
}

const TCP4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];

#[test]
fn v2_headers() {
    let tcp4 = proxied("192.0.2.1:56324", "198.51.100.7:443");
    let with = |extensions: &[u8]| [TCP4, extensions].concat();
    let tcp6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 15], &[1], &[0, 1, 0, 2]].concat();
    let rows = [
        (0x21, 0x11, with(&[]), Ok(tcp4)),
        (0x21, 0x11, with(&[4, 0, 0]), Ok(tcp4)),
        (0x21, 0x11, with(&[1, 0, 2, b'h', b'2', 0xea, 0, 3, 1, 2, 3]), Ok(tcp4)),
        (0x21, 0x21, tcp6.clone(), Ok(proxied("[2001:db8::1]:1", "[::1]:2"))),
        (0x21, 0x00, vec![], Ok(Origin::Unknown)),
        (0x21, 0x00, vec![0xff; 99], Ok(Origin::Unknown)),
        (0x21, 0x12, with(&[]), Ok(Origin::Unknown)),
        (0x21, 0x22, tcp6.clone(), Ok(Origin::Unknown)),
        (0x21, 0x31, vec![0; 216], Ok(Origin::Unknown)),
        (0x20, 0x00, vec![], Ok(Origin::Local)),
        (0x20, 0x11, with(&[]), Ok(Origin::Local)),
        (0x20, 0x11, vec![1], Ok(Origin::Local)),
        (0x20, 0xff, vec![1], Ok(Origin::Local)),
        (0x21, 0x11, with(&[4, 0, 0].repeat(1356)), Ok(tcp4)),
        (0x21, 0x00, vec![0; MAX_V2 - 16], Ok(Origin::Unknown)),
        (0x11, 0x11, with(&[]), Err(ProxyError::Version(1))),
        (0x31, 0x11, with(&[]), Err(ProxyError::Version(3))),
        (0x22, 0x11, with(&[]), Err(ProxyError::Command(2))),
        (0x21, 0x10, with(&[]), Err(ProxyError::Family(0x10))),
        (0x21, 0x01, with(&[]), Err(ProxyError::Family(0x01))),
        (0x21, 0x13, with(&[]), Err(ProxyError::Family(0x13))),
        (0x21, 0x41, with(&[]), Err(ProxyError::Family(0x41))),
        (0x21, 0x11, TCP4[..11].to_vec(), Err(ProxyError::TooShort)),
        (0x21, 0x11, vec![], Err(ProxyError::TooShort)),
        (0x21, 0x21, tcp6[..35].to_vec(), Err(ProxyError::TooShort)),
        (0x21, 0x31, vec![0; 215], Err(ProxyError::TooShort)),
        (0x21, 0x00, vec![0; MAX_V2 - 15], Err(ProxyError::TooLong)),
        (0x21, 0x11, with(&[4]), Err(ProxyError::Extension)),
        (0x21, 0x11, with(&[4, 0]), Err(ProxyError::Extension)),
        (0x21, 0x11, with(&[4, 0, 1]), Err(ProxyError::Extension)),
        (0x21, 0x11, with(&[4, 0xff, 0xff, 0]), Err(ProxyError::Extension)),
        (0x21, 0x11, with(&[3, 0, 4, 1, 2, 3, 4]), Err(ProxyError::Checksum)),
        (0x21, 0x11, with(&[3, 0, 3, 1, 2, 3]), Err(ProxyError::Checksum)),
    ];
    for (version_command, family, rest, expected) in rows {
        check(&v2_bytes(version_command, family, &rest), expected);
    }
}

#[test]
fn v2_checksum() {
    // RFC 3720, appendix B.4
    assert_eq!(v2::crc32c([0; 32].iter()), 0x8a91_36aa);
    assert_eq!(v2::crc32c((0..32).collect::<Vec<u8>>().iter()), 0x46dd_794e);
    let extensions = [4, 0, 1, 0, 3, 0, 4, 0, 0, 0, 0, 4, 0, 1, 9];
    let mut bytes = v2_bytes(0x21, 0x11, &[TCP4, &extensions].concat());
    let at = 16 + TCP4.len() + 7;
    let sum = v2::crc32c(bytes.iter());
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    check(&bytes, Ok(proxied("192.0.2.1:56324", "198.51.100.7:443")));
    let kind = at - 3;
    for at in (16..bytes.len()).filter(|&at| at != kind) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 0x10;
        assert!(parse(&wrong).is_err(), "bit flipped at {at}");
    }
}

#[test]
fn likeness() {
    for (bytes, expected) in [
        (&b""[..], Likeness::Maybe),
        (b"P", Likeness::Maybe),
        (b"PROXY", Likeness::Maybe),
        (b"PROXY ", Likeness::Yes),
        (b"PROXY TCP4", Likeness::Yes),
        (b"POST / HTTP/1.1", Likeness::No),
        (b"PROXYING", Likeness::No),
        (b"\r", Likeness::Maybe),
        (b"\r\n", Likeness::Maybe),
        (b"\r\n\r\n\0\r\nQUIT", Likeness::Maybe),
        (b"\r\n\r\n\0\r\nQUIT\n", Likeness::Yes),
        (b"\r\nGET / HTTP/1.1", Likeness::No),
        (b"\x16\x03\x01", Likeness::No),
    ] {
        assert_eq!(looks_like(bytes), expected, "{bytes:?}");
    }
}

proptest! {
    /// Whatever `ppp` builds, we read the same.
    #[test]
    fn reads_what_ppp_writes(source: SocketAddr, destination: SocketAddr, noise in vec(any::<u8>(), 0..40)) {
        let mut destination = destination;
        if source.is_ipv4() != destination.is_ipv4() {
            destination.set_ip(source.ip());
        }
        // Flow and scope are not in the protocol.
        let plain = |address: SocketAddr| SocketAddr::new(address.ip(), address.port());
        let origin = Origin::Proxied { source: plain(source), destination: plain(destination) };
        let text = ppp::v1::Addresses::from((source, destination)).to_string();
        let header = parse(text.as_bytes());
        prop_assert_eq!(header, Ok(Some(Header { len: text.len(), origin })));
        let built = ppp::v2::Builder::with_addresses(
            ppp::v2::Version::Two | ppp::v2::Command::Proxy,
            ppp::v2::Protocol::Stream,
            (source, destination),
        );
        let bytes = built.write_tlv(ppp::v2::Type::NoOp, &noise).unwrap().build().unwrap();
        prop_assert_eq!(parse(&bytes), Ok(Some(Header { len: bytes.len(), origin })));
    }

    /// Where we take a version 2 header, so does `ppp`, and it is as long. (LOCAL may say any family: `ppp` does not
    /// know that.)
    #[test]
    fn ppp_takes_what_we_take(version_command: u8, family: u8, rest in vec(any::<u8>(), 0..60)) {
        let bytes = v2_bytes(version_command, family, &rest);
        if let Ok(Some(header)) = parse(&bytes) && header.origin != Origin::Local {
            let theirs = ppp::v2::Header::try_from(&bytes[..]);
            prop_assert_eq!(theirs.map(|h| h.len()), Ok(header.len));
        }
    }

    /// Any bytes: no panic, and the answer for a part never contradicts the answer for the whole.
    #[test]
    fn noise(start in prop::sample::select(vec![&b""[..], v1::SIGNATURE, v2::SIGNATURE]), rest in vec(any::<u8>(), 0..130)) {
        let bytes = [start, &rest].concat();
        let whole = parse(&bytes);
        for end in 0..bytes.len() {
            let part = parse(&bytes[..end]);
            prop_assert!(part == Ok(None) || part == whole);
        }
    }
}
