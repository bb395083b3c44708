use portolan_model::intent::{CertificateFacts, KeyAlgorithm};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

const CHECKS: Checks = Checks {
    regex: |_| Ok(()),
    certificate: |chain, _| match chain {
        b"broken" => Err("it is broken".to_owned()),
        _ => Ok(CertificateFacts {
            names: Vec::new(),
            not_before: 0,
            not_after: 1,
            key: KeyAlgorithm::Ecdsa,
            serial: String::new(),
        }),
    },
    ca_bundle: |_| Ok(()),
    cipher_suite: |_| Ok(()),
};

fn known() -> Known {
    Known::new(CHECKS, "elsewhere".to_owned())
}

fn pools() -> Collection {
    Collection { kind: Kind::UpstreamPool, namespace: None }
}

fn secrets(namespace: &str) -> Collection {
    Collection { kind: Kind::Secret, namespace: Some(namespace.into()) }
}

fn item(object: &Value) -> Item {
    let text = object.to_string();
    Item::of(serde_json::from_str::<&RawValue>(&text).unwrap()).unwrap().0
}

fn metadata(namespace: &str, name: &str, version: u64) -> Value {
    json!({"namespace": namespace, "name": name, "uid": "u", "resourceVersion": version.to_string(), "generation": 1})
}

fn pool(name: &str, version: u64) -> Item {
    pool_with(name, version, json!({"endpointSlices": {}}))
}

fn pool_with(name: &str, version: u64, spec: Value) -> Item {
    item(&json!({
        "apiVersion": "portolan.dev/v1alpha1",
        "kind": "UpstreamPool",
        "metadata": metadata("tenant-paris", name, version),
        "spec": spec,
    }))
}

fn secret(namespace: &str, kind: &str, chain: &str, version: u64) -> Item {
    // {"tls.crt": …, "tls.key": "a"}
    let encoded = match chain {
        "broken" => "YnJva2Vu",
        _ => "YQ==",
    };
    item(&json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": metadata(namespace, "site", version),
        "data": {"tls.crt": encoded, "tls.key": "YQ=="},
    }))
}

/// A delta in a few letters.
fn short(delta: &Option<Delta>) -> String {
    match delta {
        None => "nothing".to_owned(),
        Some(Delta::Apply(object)) => format!("apply {}", object.meta.id),
        Some(Delta::Delete(id)) => format!("delete {id}"),
        Some(Delta::Invalid(id, conditions)) => {
            let conditions: Vec<_> = conditions.iter().map(ToString::to_string).collect();
            format!("invalid {id}: {}", conditions.join(", "))
        }
    }
}

/// Lists: the names of the pools that are told as changed, and those that are told as gone.
fn list(known: &mut Known, items: &[Item]) -> (Vec<String>, Vec<String>) {
    known.begin(&pools());
    let changed = items.iter().map(|item| known.object(&pools(), item).delta);
    let changed = changed.flatten().map(|delta| short(&Some(delta))).collect();
    let mut gone: Vec<_> = known.end(&pools()).iter().map(ToString::to_string).collect();
    gone.sort();
    (changed, gone)
}

#[test]
fn a_list_again_is_its_difference() {
    let mut known = known();
    let told = |names: &[&str], word: &str| -> Vec<String> {
        names.iter().map(|name| format!("{word}UpstreamPool tenant-paris/{name}")).collect()
    };
    let first = list(&mut known, &[pool("a", 1), pool("b", 2), pool("c", 3)]);
    assert_eq!(first, (told(&["a", "b", "c"], "apply "), vec![]));
    let same = list(&mut known, &[pool("a", 1), pool("b", 2), pool("c", 3)]);
    assert_eq!(same, (vec![], vec![]));
    let other = list(&mut known, &[pool("a", 1), pool("c", 5), pool("d", 4)]);
    assert_eq!(other, (told(&["c", "d"], "apply "), told(&["b"], "")));
    assert_eq!(list(&mut known, &[]), (vec![], told(&["a", "c", "d"], "")));
}

/// A list that breaks off says nothing of what it had not come to.
#[test]
fn a_list_that_breaks_off_takes_nothing_away() {
    let mut known = known();
    list(&mut known, &[pool("a", 1), pool("b", 2)]);
    known.begin(&pools());
    assert_eq!(known.object(&pools(), &pool("a", 1)).delta, None);
    let (changed, gone) = list(&mut known, &[pool("b", 2)]);
    assert_eq!((changed.len(), gone.len()), (0, 1), "only the list that is whole does: {gone:?}");
}

#[test]
fn changes_of_one_object() {
    let mut known = known();
    known.begin(&pools());
    known.end(&pools());
    let id = "UpstreamPool tenant-paris/shop";
    for (say, item, expected, keep) in [
        ("it comes", pool("shop", 1), format!("apply {id}"), true),
        ("it is said again", pool("shop", 1), "nothing".to_owned(), true),
        (
            "a value does not fit its type",
            pool_with(
                "shop",
                2,
                json!({"endpointSlices": {}, "endpoints": [{"address": "10.0.0.1", "port": "eighty"}]}),
            ),
            format!(
                "invalid {id}: Invalid: spec.endpoints[0].port: invalid type: string \"eighty\", expected u16"
            ),
            false,
        ),
        (
            "a value is refused",
            pool_with("shop", 3, json!({"endpoints": [{"address": "10.0.0.1", "port": 0}]})),
            format!(
                "invalid {id}: Invalid: spec.endpoints[0].port: 0 is not a port; expected an integer from 1 to 65535"
            ),
            false,
        ),
        ("it is mended", pool("shop", 4), format!("apply {id}"), true),
    ] {
        let change = known.object(&pools(), &item);
        assert_eq!((short(&change.delta), change.keep), (expected, keep), "{say}");
        assert_eq!(change.id.to_string(), id);
    }
    assert_eq!(known.gone(&pools(), &pool("shop", 5)).map(|id| id.to_string()).as_deref(), Some(id));
    assert_eq!(known.gone(&pools(), &pool("shop", 5)), None, "it is gone already");
    assert_eq!(known.versions().of(Kind::UpstreamPool), Some(5));
}

#[test]
fn what_is_none_of_ours_is_passed_over() {
    let mut known = known();
    let site = secrets("tenant-paris");
    let tls = "kubernetes.io/tls";
    for (kind, version, expected) in [
        ("Opaque", 1, "nothing"),
        (tls, 2, "apply Secret tenant-paris/site"),
        ("Opaque", 3, "delete Secret tenant-paris/site"),
        ("Opaque", 4, "nothing"),
    ] {
        let change = known.object(&site, &secret("tenant-paris", kind, "", version));
        assert_eq!(short(&change.delta), expected, "{version}");
    }
    assert_eq!(known.gone(&site, &secret("tenant-paris", "Opaque", "", 5)), None);
    let broken = known.object(&site, &secret("tenant-paris", tls, "broken", 6));
    let expected = "invalid Secret tenant-paris/site: Invalid: data[\"tls.crt\"]: it is broken";
    assert_eq!((&*short(&broken.delta), broken.keep), (expected, false));
    assert_eq!(known.forget(&site).len(), 1, "what was said to be invalid is somebody's to forget");
}

#[test]
fn the_system_namespace_has_one_name() {
    let mut known = known();
    let change = known.object(&secrets("elsewhere"), &secret("elsewhere", "kubernetes.io/tls", "", 1));
    assert_eq!(short(&change.delta), "apply Secret portolan-system/site");
    let gone = known.gone(&secrets("elsewhere"), &secret("elsewhere", "kubernetes.io/tls", "", 2));
    assert_eq!(gone.map(|id| id.to_string()).as_deref(), Some("Secret portolan-system/site"));
}

/// A list comes in the order of names: while it is on its way, its highest version says nothing of the others.
#[test]
fn versions_count_once_a_list_is_whole() {
    let mut known = known();
    let contained = |known: &Known| known.versions().of(Kind::UpstreamPool);
    known.begin(&pools());
    known.object(&pools(), &pool("a", 9));
    assert_eq!(contained(&known), None);
    known.object(&pools(), &pool("b", 4));
    known.end(&pools());
    assert_eq!(contained(&known), Some(9));
    known.object(&pools(), &pool("c", 12));
    assert_eq!(contained(&known), Some(12));
    known.begin(&pools());
    known.object(&pools(), &pool("a", 20));
    assert_eq!(contained(&known), Some(12));
    known.end(&pools());
    assert_eq!(contained(&known), Some(20));
}

/// Regression: what was on disk of a server that was made anew since counted as contained, and with it whatever the new one had up to there.
#[test]
fn versions_on_disk_say_nothing_of_the_server() {
    let mut known = known();
    known.object(&pools(), &pool("a", 90_000));
    list(&mut known, &[pool("a", 7)]);
    assert_eq!(known.versions().of(Kind::UpstreamPool), Some(7));
}

#[test]
fn collections_are_called_as_the_api_calls_them() {
    for (collection, expected) in [
        (Collection { kind: Kind::TrafficPolicy, namespace: None }, "trafficpolicies"),
        (Collection { kind: Kind::HttpLoadBalancer, namespace: None }, "httploadbalancers"),
        (secrets("tenant-paris"), "secrets in tenant-paris"),
    ] {
        assert_eq!(collection.to_string(), expected);
    }
}
