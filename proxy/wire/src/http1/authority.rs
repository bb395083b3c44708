//! Is this a host with an optional port, and are two of them the same?
//!
//! RFC 3986 lets a registered name hold `!$&'()*+,;=` and percent escapes. No DNS name has them, and a `,` in a Host
//! is how lists of hosts are smuggled: only letters, digits, `-`, `.` and `_` pass. IPv6 stands in brackets, without
//! a zone. An empty port (`host:`) and port 0 are refused.

use super::bytes::{NAME, is};
use std::net::Ipv6Addr;

/// The longest name in bytes; DNS ends at 255.
const MAX_NAME: usize = 255;

/// A valid authority, borrowed from where it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Authority<'a> {
    host: &'a [u8],
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host[:port]` (RFC 3986, section 3.2, without user information).
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (host, rest) = match text {
            [b'[', rest @ ..] => {
                let close = rest.iter().position(|&b| b == b']')?;
                str::from_utf8(&rest[..close]).ok()?.parse::<Ipv6Addr>().ok()?;
                text.split_at(close + 2)
            }
            _ => {
                let end = text.iter().position(|&b| !is(b, NAME)).unwrap_or(text.len());
                text.split_at(end)
            }
        };
        if host.is_empty() || host.len() > MAX_NAME {
            return None;
        }
        let port = match rest {
            [] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both name the same host and port, a missing port being `default`.
    pub(super) fn same(&self, other: &Self, default: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

/// Digits alone: `parse` would take a sign as well.
fn port(digits: &[u8]) -> Option<u16> {
    let digits = Some(digits).filter(|d| d.iter().all(u8::is_ascii_digit))?;
    str::from_utf8(digits).ok()?.parse().ok().filter(|&port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        for (text, port) in [
            ("a", None),
            ("shop.paris.lb.example.net", None),
            ("shop.paris.lb.example.net.", None),
            ("xn--bcher-kva.example", None),
            ("under_score.example:8080", Some(8080)),
            ("10.0.0.1:65535", Some(65535)),
            ("10.0.0.1:0080", Some(80)),
            ("[::1]", None),
            ("[2001:db8::7]:443", Some(443)),
            ("[::ffff:192.0.2.1]:1", Some(1)),
        ] {
            assert_eq!(Authority::parse(text.as_bytes()).map(|a| a.port), Some(port), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:99999999999",
            "a:+80",
            "a:-1",
            "a:8 0",
            "a:80:80",
            "a b",
            "a,b",
            "a/b",
            "a@b",
            "user:pw@a",
            "a%41",
            "a?b",
            "a#b",
            "*",
            "[",
            "[]",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:",
            "[fe80::1%eth0]",
            "[v1.a]",
            "[127.0.0.1]",
            "bücher.example",
        ] {
            assert!(Authority::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Authority::parse(&[b'a'; 255]).is_some());
        assert!(Authority::parse(&[b'a'; 256]).is_none());
    }

    #[test]
    fn sameness() {
        for (left, right, default, same) in [
            ("a", "A", 80, true),
            ("a:80", "a", 80, true),
            ("a:80", "a", 443, false),
            ("a:443", "a:0443", 80, true),
            ("a", "b", 80, false),
            ("a", "a.", 80, false),
            ("[::1]:80", "[::1]", 80, true),
        ] {
            let parse = |text: &'static str| Authority::parse(text.as_bytes()).unwrap();
            assert_eq!(parse(left).same(&parse(right), default), same, "{left} {right}");
        }
    }
}
