//! Edits, hop-by-hop fields, HSTS.

use std::sync::Arc;
use std::time::Duration;

use portolan_model::policy::Hsts;
use portolan_model::route::HeaderEdits;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::{CompiledEdits, EditError, hsts_value, strip_hop_by_hop};

fn edits(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderEdits {
    let owned = |fields: &[(&str, &str)]| {
        fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    HeaderEdits {
        set: owned(set),
        add: owned(add),
        remove: remove.iter().map(|name| Arc::from(*name)).collect(),
    }
}

#[test]
fn edits_set_add_and_remove_in_that_order() {
    for (before, edits, after) in [
        (&[("a", "1")][..], edits(&[("a", "2")], &[], &[]), &[("a", "2")][..]),
        (&[("a", "1"), ("a", "2")], edits(&[("a", "3")], &[], &[]), &[("a", "3")]),
        (&[], edits(&[("a", "1")], &[], &[]), &[("a", "1")]),
        (&[("a", "1")], edits(&[], &[("a", "2")], &[]), &[("a", "1"), ("a", "2")]),
        (&[("a", "1"), ("A", "2"), ("b", "3")], edits(&[], &[], &["a"]), &[("b", "3")]),
        (&[], edits(&[("a", "1")], &[("a", "2")], &[]), &[("a", "1"), ("a", "2")]),
        (&[], edits(&[("a", "1")], &[("a", "2")], &["a"]), &[]),
        (&[], edits(&[("a", "")], &[], &["missing"]), &[("a", "")]),
        (&[], edits(&[("a", " é ")], &[], &[]), &[("a", "é")]),
        (&[("host", "a")], edits(&[("host", "b")], &[], &[]), &[("host", "b")]),
    ] {
        let mut map = fields(before);
        CompiledEdits::build(&edits).unwrap().apply(&mut map);
        assert_eq!(sorted(&map), pairs(after), "{edits:?} on {before:?}");
    }
}

#[test]
fn an_edit_that_cannot_be_made_names_its_header() {
    let connection = |name: &'static str| EditError::Connection(HeaderName::from_static(name));
    for (edits, error) in [
        (edits(&[("a b", "1")], &[], &[]), EditError::Name("a b".to_owned())),
        (edits(&[], &[], &[""]), EditError::Name(String::new())),
        (edits(&[], &[("a", "1\r\nb: 2")], &[]), EditError::Value(HeaderName::from_static("a"))),
        (edits(&[("content-length", "1")], &[], &[]), connection("content-length")),
        (edits(&[], &[("transfer-encoding", "chunked")], &[]), connection("transfer-encoding")),
        (edits(&[], &[], &["connection"]), connection("connection")),
        (edits(&[], &[], &["upgrade"]), connection("upgrade")),
        (edits(&[], &[], &["host"]), EditError::Host),
        (edits(&[], &[("host", "a")], &[]), EditError::Host),
    ] {
        assert_eq!(CompiledEdits::build(&edits).map(drop), Err(error));
    }
}

#[test]
fn fields_of_the_connection_end_here() {
    for (before, keep_upgrade, after) in [
        (&[("accept", "*/*")][..], false, &[("accept", "*/*")][..]),
        (&[("connection", "close"), ("a", "1")], false, &[("a", "1")]),
        (
            &[("connection", "keep-alive, A"), ("keep-alive", "timeout=5"), ("a", "1"), ("b", "2")],
            false,
            &[("b", "2")],
        ),
        (&[("connection", "a"), ("connection", "b , c"), ("a", "1"), ("b", "1"), ("c", "1")], false, &[]),
        (&[("connection", ",, ,a b"), ("a", "1")], false, &[("a", "1")]),
        (&[("proxy-connection", "keep-alive"), ("keep-alive", "1")], false, &[]),
        // What frames the message or says who the client is cannot be nominated away.
        (
            &[
                ("connection", "host, content-length, transfer-encoding, x-forwarded-for, x-request-id"),
                ("host", "h"),
                ("content-length", "1"),
                ("x-forwarded-for", "a"),
                ("x-request-id", "i"),
            ],
            false,
            &[("content-length", "1"), ("host", "h"), ("x-forwarded-for", "a"), ("x-request-id", "i")],
        ),
        // An upgrade, proxied or not.
        (&[("connection", "Upgrade"), ("upgrade", "websocket")], false, &[]),
        (
            &[("connection", "keep-alive, Upgrade, a"), ("upgrade", "websocket"), ("a", "1")],
            true,
            &[("connection", "upgrade"), ("upgrade", "websocket")],
        ),
        // Of TE only what gRPC needs.
        (&[("te", "trailers")], false, &[("te", "trailers")]),
        (&[("te", "gzip;q=0.5, Trailers"), ("connection", "te")], false, &[("te", "trailers")]),
        (&[("te", "gzip")], false, &[]),
        // Left to others.
        (
            &[("transfer-encoding", "chunked"), ("trailer", "x"), ("proxy-authenticate", "Basic")],
            false,
            &[("proxy-authenticate", "Basic"), ("trailer", "x"), ("transfer-encoding", "chunked")],
        ),
    ] {
        let mut map = fields(before);
        strip_hop_by_hop(&mut map, keep_upgrade);
        assert_eq!(sorted(&map), pairs(after), "{before:?}");
    }
}

#[test]
fn hsts_says_what_the_policy_says() {
    for (seconds, include_subdomains, preload, expected) in [
        (0, false, false, "max-age=0"),
        (31_536_000, true, false, "max-age=31536000; includeSubDomains"),
        (63_072_000, true, true, "max-age=63072000; includeSubDomains; preload"),
    ] {
        let hsts = Hsts { max_age: Duration::from_secs(seconds), include_subdomains, preload };
        assert_eq!(hsts_value(&hsts), expected);
    }
}

type Fields = Vec<(String, String)>;

fn some_fields(
    names: &'static [&'static str],
    values: &'static [&'static str],
) -> impl Strategy<Value = Fields> {
    let field = (select(names), select(values)).prop_map(|(name, value)| (name.to_owned(), value.to_owned()));
    prop::collection::vec(field, 0..6)
}

const NAMES: &[&str] = &["a", "b", "c", "x-long-name"];

proptest! {
    #[test]
    fn edits_are_what_a_list_of_fields_makes_of_them(
        before in some_fields(NAMES, &["1", "2", ""]),
        set in some_fields(NAMES, &["3", "4"]),
        add in some_fields(NAMES, &["5", "6"]),
        remove in prop::collection::vec(select(NAMES), 0..3),
    ) {
        let mut oracle = before.clone();
        for (name, value) in &set {
            oracle.retain(|(other, _)| other != name);
            oracle.push((name.clone(), value.clone()));
        }
        oracle.extend(add.iter().cloned());
        oracle.retain(|(name, _)| !remove.contains(&name.as_str()));
        oracle.sort_by(|a, b| a.0.cmp(&b.0));

        let shared = |fields: &Fields| fields.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
        let edits = HeaderEdits { set: shared(&set), add: shared(&add), remove: remove.iter().map(|name| Arc::from(*name)).collect() };
        let mut map = fields(&before);
        CompiledEdits::build(&edits).unwrap().apply(&mut map);
        prop_assert_eq!(sorted(&map), oracle);
    }

    #[test]
    fn hop_by_hop_is_what_a_list_of_fields_makes_of_it(
        before in some_fields(
            &["connection", "keep-alive", "proxy-connection", "upgrade", "te", "a", "b", "host", "x-forwarded-for"],
            &["close", "a", "B", "a, b", "trailers", "websocket", "host, te, x-forwarded-for, upgrade", ""],
        ),
        keep_upgrade: bool,
    ) {
        let tokens = |name: &str| -> Vec<String> {
            let fields = before.iter().filter(|(other, _)| other == name);
            fields.flat_map(|(_, value)| value.split(',')).map(|token| token.trim().to_lowercase()).collect()
        };
        let nominated = tokens("connection");
        let mut oracle: Fields = before.iter().filter(|(name, _)| match name.as_str() {
            "connection" | "keep-alive" | "proxy-connection" | "te" => false,
            "upgrade" => keep_upgrade,
            "host" | "x-forwarded-for" => true,
            other => !nominated.contains(&other.to_owned()),
        }).cloned().collect();
        if tokens("te").contains(&"trailers".to_owned()) {
            oracle.push(("te".to_owned(), "trailers".to_owned()));
        }
        if keep_upgrade {
            oracle.push(("connection".to_owned(), "upgrade".to_owned()));
        }
        oracle.sort_by(|a, b| a.0.cmp(&b.0));

        let mut map = fields(&before);
        strip_hop_by_hop(&mut map, keep_upgrade);
        prop_assert_eq!(sorted(&map), oracle);
    }
}
