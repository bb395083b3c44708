//! Trust by network and by hops, and what the upstream is told.

use std::net::IpAddr;

use http::HeaderValue;
use ipnet::IpNet;
use portolan_model::proxy::ClientAddress;
use portolan_model::route::Scheme;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::{Arrival, Client, client, forward, request_id};

fn trust(networks: &[&str], trusted_hops: u8) -> ClientAddress {
    ClientAddress { trusted: networks.iter().map(|network| network.parse().unwrap()).collect(), trusted_hops }
}

fn arrival(peer: &str) -> Arrival {
    Arrival::new(peer.parse().unwrap(), Scheme::Http, 8080)
}

#[test]
fn the_client_is_the_first_that_is_not_trusted() {
    let lan = &["10.0.0.0/8", "fd00::/8"][..];
    for (networks, hops, peer, entries, expected, trusted) in [
        // Nobody is trusted.
        (&[][..], 0, "9.9.9.9", &["1.1.1.1"][..], "9.9.9.9", false),
        (lan, 0, "9.9.9.9", &["1.1.1.1"], "9.9.9.9", false),
        // By network, as nginx's real_ip_recursive.
        (lan, 0, "10.0.0.1", &["1.1.1.1"], "1.1.1.1", true),
        (lan, 0, "10.0.0.1", &["2.2.2.2, 1.1.1.1"], "1.1.1.1", true),
        (lan, 0, "10.0.0.1", &["2.2.2.2", "1.1.1.1"], "1.1.1.1", true),
        (lan, 0, "10.0.0.1", &["1.1.1.1, 10.0.0.2 ,10.0.0.3"], "1.1.1.1", true),
        (lan, 0, "10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3", true),
        (lan, 0, "10.0.0.1", &[], "10.0.0.1", true),
        (lan, 0, "10.0.0.1", &["1.1.1.1, unknown"], "10.0.0.1", true),
        (lan, 0, "10.0.0.1", &["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2", true),
        (lan, 0, "10.0.0.1", &[""], "10.0.0.1", true),
        (lan, 0, "fd00::1", &["2001:db8::1"], "2001:db8::1", true),
        (lan, 0, "::ffff:10.0.0.1", &["::ffff:1.1.1.1"], "1.1.1.1", true),
        (lan, 0, "10.0.0.1", &["1.1.1.1:1234"], "1.1.1.1", true),
        (lan, 0, "10.0.0.1", &["[2001:db8::1]:1234"], "2001:db8::1", true),
        (lan, 0, "10.0.0.1", &["[2001:db8::1]"], "2001:db8::1", true),
        // By hops, as Envoy's xff_num_trusted_hops.
        (&[], 1, "9.9.9.9", &["2.2.2.2, 1.1.1.1"], "1.1.1.1", true),
        (&[], 2, "9.9.9.9", &["2.2.2.2, 1.1.1.1"], "2.2.2.2", true),
        (&[], 3, "9.9.9.9", &["2.2.2.2, 1.1.1.1"], "9.9.9.9", false),
        (&[], 1, "9.9.9.9", &[], "9.9.9.9", false),
        (&[], 1, "9.9.9.9", &["unknown"], "9.9.9.9", false),
        // A known network in front, a hop before it.
        (lan, 1, "10.0.0.1", &["3.3.3.3, 1.1.1.1, 2.2.2.2"], "1.1.1.1", true),
        (lan, 1, "10.0.0.1", &["2.2.2.2"], "2.2.2.2", true),
        (lan, 1, "10.0.0.1", &["10.0.0.2"], "10.0.0.2", true),
        (lan, 1, "9.9.9.9", &["1.1.1.1, 10.0.0.2"], "1.1.1.1", true),
    ] {
        let entries: Vec<_> = entries.iter().map(|entry| ("x-forwarded-for", *entry)).collect();
        let client = client(&trust(networks, hops), &arrival(peer), &fields(&entries));
        let expected = (expected.parse().unwrap(), trusted);
        assert_eq!(
            (client.address, client.trusted),
            expected,
            "{entries:?} from {peer} by {networks:?} {hops}"
        );
    }
}

#[test]
fn a_trusted_peer_names_scheme_and_port() {
    for (peer, said, expected) in [
        ("10.0.0.1", &[][..], (Scheme::Http, 8080)),
        ("10.0.0.1", &[("x-forwarded-proto", "https")], (Scheme::Https, 443)),
        ("10.0.0.1", &[("x-forwarded-proto", "HTTPS"), ("x-forwarded-port", "8443")], (Scheme::Https, 8443)),
        ("10.0.0.1", &[("x-forwarded-proto", "http")], (Scheme::Http, 80)),
        ("10.0.0.1", &[("x-forwarded-proto", "gopher"), ("x-forwarded-port", "0")], (Scheme::Http, 8080)),
        ("9.9.9.9", &[("x-forwarded-proto", "https"), ("x-forwarded-port", "8443")], (Scheme::Http, 8080)),
    ] {
        let Client { scheme, port, .. } = client(&trust(&["10.0.0.0/8"], 0), &arrival(peer), &fields(said));
        assert_eq!((scheme, port), expected, "{said:?} from {peer}");
    }
}

#[test]
fn the_upstream_hears_of_the_client() {
    let spoofed = [
        ("forwarded", "for=1.1.1.1"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "1.1.1.1"),
    ];
    for (peer, before, after) in [
        (
            "9.9.9.9",
            &[][..],
            &[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-host", "a:8080"), ("x-forwarded-proto", "http")]
                [..],
        ),
        (
            "9.9.9.9",
            &spoofed,
            &[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-host", "a:8080"), ("x-forwarded-proto", "http")],
        ),
        (
            "10.0.0.1",
            &[],
            &[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-host", "a:8080"), ("x-forwarded-proto", "http")],
        ),
        (
            "10.0.0.1",
            &spoofed,
            &[
                ("forwarded", "for=1.1.1.1"),
                ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.0.0.1"),
                ("x-forwarded-host", "evil.example"),
                ("x-forwarded-port", "443"),
                ("x-forwarded-proto", "https"),
                ("x-real-ip", "1.1.1.1"),
            ],
        ),
        (
            "::ffff:9.9.9.9",
            &[],
            &[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-host", "a:8080"), ("x-forwarded-proto", "http")],
        ),
    ] {
        let (mut map, arrival) = (fields(before), arrival(peer));
        let client = client(&trust(&["10.0.0.0/8"], 0), &arrival, &map);
        forward(&mut map, &client, &arrival, HeaderValue::from_static("a:8080"));
        assert_eq!(sorted(&map), pairs(after), "{before:?} from {peer}");
    }
}

#[test]
fn a_request_id_is_kept_from_whom_is_trusted() {
    let long = "x".repeat(129);
    let made = "01234567-89ab-4def-8123-456789abcdef";
    for (id, trusted, expected) in [
        (Some("abc-1"), true, "abc-1"),
        (Some(&long[..128]), true, &long[..128]),
        (Some(long.as_str()), true, made),
        (Some(""), true, made),
        (Some("a b"), true, made),
        (Some("é"), true, made),
        (Some("abc-1"), false, made),
        (None, true, made),
    ] {
        let headers = fields(&id.map(|id| ("x-request-id", id)).into_iter().collect::<Vec<_>>());
        assert_eq!(request_id(&headers, trusted, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef), expected);
    }
    assert_eq!(request_id(&fields::<&str, &str>(&[]), true, 0), "00000000-0000-4000-8000-000000000000");
    assert_eq!(
        request_id(&fields::<&str, &str>(&[]), true, u128::MAX),
        "ffffffff-ffff-4fff-bfff-ffffffffffff"
    );
}

proptest! {
    /// By networks alone: drop trusted addresses from the right; by hops alone: count.
    #[test]
    fn the_walk_is_what_a_list_makes_of_it(
        entries in prop::collection::vec(select(vec!["10.0.0.1", "10.0.0.2", "1.1.1.1", "2.2.2.2"]), 0..6),
        peer in select(vec!["10.0.0.9", "9.9.9.9"]),
        hops in 0u8..5,
    ) {
        let header = entries.join(", ");
        let headers = if entries.is_empty() { fields::<&str, &str>(&[]) } else { fields(&[("x-forwarded-for", header.as_str())]) };
        let chain: Vec<IpAddr> = entries.iter().chain([&peer]).map(|entry| entry.parse().unwrap()).collect();

        let network: IpNet = "10.0.0.0/8".parse().unwrap();
        let by_network = chain.iter().rev().find(|address| !network.contains(*address)).unwrap_or(&chain[0]);
        let found = client(&trust(&["10.0.0.0/8"], 0), &arrival(peer), &headers);
        prop_assert_eq!((found.address, found.trusted), (*by_network, peer == "10.0.0.9"));

        let by_hops = chain.iter().rev().nth(usize::from(hops)).unwrap_or(&chain[chain.len() - 1]);
        let found = client(&trust(&[], hops), &arrival(peer), &headers);
        prop_assert_eq!((found.address, found.trusted), (*by_hops, hops > 0 && usize::from(hops) < chain.len()));
    }

    #[test]
    fn any_header_is_survived(entries in prop::collection::vec("[ -~é]{0,20}", 0..4), hops in 0u8..3) {
        let named: Vec<_> = entries.iter().map(|entry| ("x-forwarded-for", entry)).collect();
        let (mut map, arrival) = (fields(&named), arrival("10.0.0.1"));
        let client = client(&trust(&["10.0.0.0/8"], hops), &arrival, &map);
        forward(&mut map, &client, &arrival, HeaderValue::from_static("a"));
        prop_assert!(map["x-forwarded-for"].as_bytes().ends_with(b"10.0.0.1"));
        prop_assert_eq!(map.get_all("x-forwarded-for").iter().count(), 1);
    }
}
