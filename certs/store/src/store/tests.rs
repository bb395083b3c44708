use portolan_model::host::HostPattern;
use portolan_model::id::Kind;
use portolan_model::redacted::Redacted;
use proptest::prelude::*;

use super::*;
use crate::facts::read_facts;
use crate::issue::self_signed;

fn id(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Secret, "tenant-paris", name)
}

fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap()
}

fn names(entries: &[(&str, &[&str])]) -> Vec<(HostPattern, Option<Arc<[ObjectRef]>>)> {
    entries
        .iter()
        .map(|(name, ids)| (pattern(name), Some(ids.iter().map(|name| id(name)).collect())))
        .collect()
}

fn store(entries: &[(&str, &[&str])]) -> CertStore {
    let mut store = CertStore::default();
    store.apply(&[], &names(entries));
    store
}

fn secret(names: &[&str]) -> Arc<TlsSecret> {
    let issued = self_signed(names).unwrap();
    let (chain, key) = (issued.chain_pem.as_bytes(), issued.key_pem.as_bytes());
    let facts = read_facts(chain, key).unwrap();
    Arc::new(TlsSecret { chain: chain.into(), key: Redacted(key.into()), facts })
}

#[test]
fn names_resolve_to_the_most_specific_pattern() {
    let store = store(&[
        ("shop.example.com", &["exact"]),
        ("*.example.com", &["one"]),
        ("*.deep.example.com", &["deep"]),
        ("*.b.example.com", &["one-b"]),
    ]);
    for (name, expected) in [
        ("shop.example.com", Some("exact")),
        ("SHOP.example.com.", Some("exact")),
        ("www.example.com", Some("one")),
        ("a.b.example.com", Some("one-b")),
        ("x.a.b.example.com", None),
        ("x.deep.example.com", Some("deep")),
        ("y.x.deep.example.com", None),
        ("deep.example.com", Some("one")),
        ("example.com", None),
        (".example.com", None),
        ("example.org", None),
        ("com", None),
        ("", None),
    ] {
        assert_eq!(store.resolve(name).map(|entry| entry[0].clone()), expected.map(id), "{name:?}");
    }
}

#[test]
fn a_changed_copy_leaves_the_other_alone() {
    let before = store(&[("a.example", &["a"]), ("*.b.example", &["b"])]);
    let mut after = before.clone();
    after.apply(&[], &[(pattern("a.example"), None)]);
    after.apply(&[], &names(&[("*.b.example", &["c"])]));
    assert_eq!(before.resolve("a.example").unwrap()[0], id("a"));
    assert_eq!(before.resolve("x.b.example").unwrap()[0], id("b"));
    assert!(after.resolve("a.example").is_none());
    assert_eq!(after.resolve("x.b.example").unwrap()[0], id("c"));
}

#[test]
fn connections_are_shared_where_a_certificate_is() {
    let store =
        store(&[("*.example.com", &["wild"]), ("a.example.com", &["a", "wild"]), ("b.example.com", &["b"])]);
    for (server_name, host, shared) in [
        (Some("x.example.com"), "y.example.com", true),
        (Some("x.example.com"), "a.example.com", true),
        (Some("a.example.com"), "b.example.com", false),
        (Some("a.example.com"), "a.example.com", true),
        (Some("a.example.com"), "A.example.com:443", true),
        (Some("a.example.com"), "unknown.org", false),
        (None, "a.example.com", false),
        (None, "unknown.org", true),
        (Some("other.org"), "unknown.org", true),
    ] {
        assert_eq!(store.may_share_connection(server_name, host), shared, "{server_name:?} {host}");
    }
}

#[test]
fn keys_are_parsed_once_and_only_when_asked_for() {
    let mut first = CertStore::default();
    first.apply(&[(id("a"), Some(secret(&["a.example"])))], &names(&[("a.example", &["a"])]));
    let second = first.clone();
    assert!(first.certificates.get(&id("a")).unwrap().key.get().is_none());
    let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
    let one = first.choose(&[id("a")], &schemes).unwrap();
    let two = second.choose(&[id("a")], &schemes).unwrap();
    assert!(Arc::ptr_eq(&one, &two), "copies of a store share what is parsed");
    assert!(first.choose(&[id("missing")], &schemes).is_none());
}

#[test]
fn the_listing_has_no_keys_and_starts_with_what_expires_first() {
    let mut store = CertStore::default();
    let (mut late, mut soon) = ((*secret(&["late.example"])).clone(), (*secret(&["soon.example"])).clone());
    late.facts.not_after = 2_000;
    soon.facts.not_after = 1_000;
    store.apply(&[(id("late"), Some(Arc::new(late))), (id("soon"), Some(Arc::new(soon)))], &[]);
    let listing = store.listing();
    assert_eq!(listing.iter().map(|listed| &*listed.secret.name).collect::<Vec<_>>(), ["soon", "late"]);
    assert_eq!(store.earliest_expiry(), Some(1_000));
    assert_eq!(CertStore::default().earliest_expiry(), None);
    assert!(!format!("{listing:?}{store:?}").contains("PRIVATE"));
}

/// Every pattern tried in turn, by the model's own order.
fn oracle(patterns: &[HostPattern], name: &str) -> Option<HostPattern> {
    patterns
        .iter()
        .filter(|pattern| pattern.matches(name))
        .max_by_key(|pattern| (!pattern.is_wildcard(), pattern.name().as_str().len()))
        .cloned()
}

proptest! {
    #[test]
    fn resolving_agrees_with_trying_every_pattern(
        patterns in prop::collection::vec("(\\*\\.)?([ab]\\.){0,3}[ab]", 0..12),
        name in "([ab]\\.){0,4}[ab]",
    ) {
        let patterns: Vec<_> = patterns.iter().map(|text| pattern(text)).collect();
        let mut store = CertStore::default();
        let entries: Vec<_> =
            patterns.iter().map(|p| (p.clone(), Some([id(&p.to_string())].into()))).collect();
        store.apply(&[], &entries);
        let found = store.resolve(&name).map(|entry| entry[0].clone());
        prop_assert_eq!(found, oracle(&patterns, &name).map(|p| id(&p.to_string())));
    }
}
