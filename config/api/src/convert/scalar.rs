//! Texts that mean something: durations, sizes, names, addresses.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use portolan_model::host::{HostError, HostName, HostPattern};
use portolan_model::id::CLUSTER_NAME_AT_MOST;

use super::Flaw;
use crate::kinds::{ByteSize, GoDuration};

/// A duration, GEP-2257: up to four of up to five digits and a unit.
pub(crate) fn duration(text: &GoDuration) -> Result<Duration, Flaw> {
    let text = &*text.0;
    parse_duration(text).ok_or_else(|| {
        let bare = text.trim();
        let meant = if !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit()) {
            Some(format!("{bare}s"))
        } else if let Some(days) = bare.strip_suffix('d').and_then(|days| days.parse::<u16>().ok()) {
            Some(format!("{}h", u32::from(days) * 24))
        } else {
            Some(bare.replace(' ', "")).filter(|plain| plain != text && parse_duration(plain).is_some())
        };
        Flaw::new(
            format!("{text:?} is not a duration"),
            "numbers with h, m, s or ms, such as 10s, 1m30s or 500ms",
        )
        .meant(meant.filter(|meant| parse_duration(meant).is_some()))
    })
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 5 {
            return None;
        }
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, length) = if rest.starts_with("ms") {
            (Duration::from_millis(number), 2)
        } else {
            match rest.as_bytes().first()? {
                b'h' => (Duration::from_secs(number * 3600), 1),
                b'm' => (Duration::from_secs(number * 60), 1),
                b's' => (Duration::from_secs(number), 1),
                _ => return None,
            }
        };
        total += unit;
        rest = &rest[length..];
        if rest.is_empty() {
            return Some(total);
        }
    }
    None
}

/// A duration above zero.
pub(crate) fn positive(text: &GoDuration) -> Result<Duration, Flaw> {
    match duration(text)? {
        Duration::ZERO => Err(Flaw::new("must be longer than nothing", "a duration above 0s")),
        duration => Ok(duration),
    }
}

/// A number of bytes.
pub(crate) fn byte_size(text: &ByteSize) -> Result<u64, Flaw> {
    let text = &*text.0;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let unit: Option<u64> = match suffix {
        "" => Some(1),
        "k" => Some(1_000),
        "M" => Some(1_000_000),
        "G" => Some(1_000_000_000),
        "T" => Some(1_000_000_000_000),
        "Ki" => Some(1 << 10),
        "Mi" => Some(1 << 20),
        "Gi" => Some(1 << 30),
        "Ti" => Some(1 << 40),
        _ => None,
    };
    let number: Option<u64> = if digits <= 18 { number.parse().ok() } else { None };
    unit.zip(number).and_then(|(unit, number)| number.checked_mul(unit)).ok_or_else(|| {
        let meant = match suffix.trim().to_ascii_lowercase().as_str() {
            "k" | "kb" | "kib" | "ki" => Some("Ki"),
            "m" | "mb" | "mib" | "mi" => Some("Mi"),
            "g" | "gb" | "gib" | "gi" => Some("Gi"),
            "t" | "tb" | "tib" | "ti" => Some("Ti"),
            _ => None,
        };
        let meant =
            meant.zip(number).filter(|_| unit.is_none()).map(|(unit, number)| format!("{number}{unit}"));
        Flaw::new(
            format!("{text:?} is not a number of bytes"),
            "an integer, or one with k, M, G, T, Ki, Mi, Gi or Ti",
        )
        .meant(meant)
    })
}

/// A name of an object, RFC 1123.
pub(crate) fn object_name(text: &str) -> Result<&str, Flaw> {
    if is_object_name(text) {
        return Ok(text);
    }
    let meant = Some(text.to_ascii_lowercase().replace('_', "-")).filter(|meant| is_object_name(meant));
    Err(Flaw::new(
        format!("{:?} is not a name that an object can have", crate::diagnostic::shorten(text)),
        "at most 253 lower-case letters, digits, '-' and '.', with a letter or digit at the ends of each part",
    )
    .meant(meant))
}

/// A DNS label, RFC 1123.
pub(crate) fn label(text: &str) -> Result<&str, Flaw> {
    if is_label(text) {
        return Ok(text);
    }
    let meant = Some(text.to_ascii_lowercase().replace(['_', '.'], "-")).filter(|meant| is_label(meant));
    Err(Flaw::new(
        format!("{:?} is not a DNS label", crate::diagnostic::shorten(text)),
        "at most 63 lower-case letters, digits and '-', with a letter or digit at both ends",
    )
    .meant(meant))
}

/// Whether an object can have that name: a DNS subdomain, RFC 1123.
pub fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_of_any_length)
}

/// Whether a `Cluster` can have that name: a DNS label, RFC 1123, that leaves room for the name of its namespace.
pub fn is_cluster_name(text: &str) -> bool {
    is_label(text) && text.len() <= CLUSTER_NAME_AT_MOST
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_label_of_any_length(text)
}

fn is_label_of_any_length(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    ends(text.as_bytes().first())
        && ends(text.as_bytes().last())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A host name.
pub(crate) fn host_name(text: &str) -> Result<HostName, Flaw> {
    HostName::parse(text).map_err(|error| host_flaw(text, &error, false))
}

/// A host pattern.
pub(crate) fn host_pattern(text: &str) -> Result<HostPattern, Flaw> {
    HostPattern::parse(text).map_err(|error| host_flaw(text, &error, true))
}

fn host_flaw(text: &str, error: &HostError, patterns: bool) -> Flaw {
    let bare = text.trim();
    let bare = bare.split_once("://").map_or(bare, |(_, rest)| rest);
    let bare = bare.split(['/', ':']).next().unwrap_or_default();
    let bare = if patterns { bare } else { bare.trim_start_matches("*.").trim_start_matches("**.") };
    let expected = if text.is_ascii() {
        if patterns {
            "a host name, *.suffix or **.suffix, without scheme, port and path"
        } else {
            "a host name"
        }
    } else {
        "the A-label form of the name (xn--…)"
    };
    let message = match error {
        HostError::Wildcard(_) if !patterns => format!("{text:?}: no wildcard can stand here"),
        error => error.to_string(),
    };
    let meant =
        Some(bare).filter(|bare| *bare != text && HostPattern::parse(bare).is_ok()).map(str::to_owned);
    Flaw::new(message, expected).meant(meant)
}

/// An IP address; one of IPv4 that is written as one of IPv6 (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2) is one of IPv4: no socket
/// of IPv6 alone takes it.
pub(crate) fn address(text: &str) -> Result<IpAddr, Flaw> {
    text.parse::<IpAddr>().map(|address| address.to_canonical()).map_err(|_| {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        Flaw::new(format!("{text:?} is not an IP address"), "an address such as 192.0.2.1 or 2001:db8::1")
            .meant(bare.parse::<IpAddr>().ok().map(|address| address.to_string()))
    })
}

/// A range of addresses; one of IPv4 that is written as one of IPv6 is one of IPv4.
pub(crate) fn cidr(text: &str) -> Result<IpNet, Flaw> {
    let meant = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(net), _) if net == net.trunc() => return Ok(canonical(net)),
        (Ok(net), _) => {
            return Err(Flaw::new(
                format!("{text:?} has bits beyond its length"),
                "the first address of the range",
            )
            .meant(net.trunc().to_string()));
        }
        (_, Ok(address)) => Some(IpNet::from(address).to_string()),
        _ => None,
    };
    Err(Flaw::new(
        format!("{text:?} is not a range of addresses"),
        "a range such as 10.0.0.0/8 or 2001:db8::/32",
    )
    .meant(meant))
}

/// The range of IPv4 that is written as one of IPv6.
fn canonical(net: IpNet) -> IpNet {
    let IpAddr::V4(first) = net.addr().to_canonical() else { return net };
    let short = net.prefix_len().checked_sub(96).and_then(|length| Ipv4Net::new(first, length).ok());
    if net.addr().is_ipv6() { short.map_or(net, IpNet::V4) } else { net }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_gep_2257() {
        for (text, expected) in [
            ("10s", Ok(10_000)),
            ("1m30s", Ok(90_000)),
            ("500ms", Ok(500)),
            ("0s", Ok(0)),
            ("1h1m1s1ms", Ok(3_661_001)),
            ("99999h", Ok(359_996_400_000)),
            ("", Err(None)),
            ("10", Err(Some("10s"))),
            ("2d", Err(Some("48h"))),
            ("10 s", Err(Some("10s"))),
            ("1.5s", Err(None)),
            ("-1s", Err(None)),
            ("1h1h1h1h1h", Err(None)),
            ("100000s", Err(None)),
            ("s", Err(None)),
        ] {
            let found = duration(&GoDuration(text.into()));
            let found = found.map(|d| d.as_millis()).map_err(|flaw| flaw.suggestion);
            assert_eq!(found, expected.map_err(|meant: Option<&str>| meant.map(str::to_owned)), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_integers_with_kubernetes_suffixes() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("1048576", Ok(1 << 20)),
            ("10Mi", Ok(10 << 20)),
            ("1k", Ok(1000)),
            ("2G", Ok(2_000_000_000)),
            ("1Ti", Ok(1 << 40)),
            ("10MB", Err(Some("10Mi"))),
            ("10 mb", Err(Some("10Mi"))),
            ("1.5Gi", Err(None)),
            ("-1", Err(None)),
            ("", Err(None)),
            ("999999999999999999Ti", Err(None)),
        ] {
            let found = byte_size(&ByteSize(text.into())).map_err(|flaw| flaw.suggestion);
            assert_eq!(found, expected.map_err(|meant: Option<&str>| meant.map(str::to_owned)), "{text:?}");
        }
    }

    #[test]
    fn names_hosts_and_ranges_suggest_what_was_meant() {
        let meant = |result: Result<(), Flaw>| result.map_err(|flaw| flaw.suggestion);
        for (found, expected) in [
            (meant(object_name("a.b-c.1").map(drop)), Ok(())),
            (meant(object_name("My_Pool").map(drop)), Err(Some("my-pool"))),
            (meant(object_name("-a").map(drop)), Err(None)),
            (meant(object_name("a..b").map(drop)), Err(None)),
            (meant(label("a.b").map(drop)), Err(Some("a-b"))),
            (meant(host_pattern("**.Example.com").map(drop)), Ok(())),
            (meant(host_pattern("https://example.com/a").map(drop)), Err(Some("example.com"))),
            (meant(host_pattern("example.com:443").map(drop)), Err(Some("example.com"))),
            (meant(host_name("*.example.com").map(drop)), Err(Some("example.com"))),
            (meant(host_pattern("bücher.example").map(drop)), Err(None)),
            (meant(cidr("10.0.0.0/8").map(drop)), Ok(())),
            (meant(cidr("10.0.0.1/8").map(drop)), Err(Some("10.0.0.0/8"))),
            (meant(cidr("10.0.0.1").map(drop)), Err(Some("10.0.0.1/32"))),
            (meant(address("[::1]").map(drop)), Err(Some("::1"))),
        ] {
            assert_eq!(found, expected.map_err(|meant: Option<&str>| meant.map(str::to_owned)));
        }
    }

    /// Regression: a listener on `::ffff:127.0.0.1` passed and could not be bound.
    #[test]
    fn ipv4_written_as_ipv6_is_ipv4() {
        for (text, expected) in [
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:7f00:1", "127.0.0.1"),
            ("::192.0.2.1", "::c000:201"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1/128", "192.0.2.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("::/90", "::/90"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ] {
            let found = if text.contains('/') {
                cidr(text).map(|net| net.to_string())
            } else {
                address(text).map(|address| address.to_string())
            };
            assert_eq!(found.ok().as_deref(), Some(expected), "{text}");
        }
    }
}
