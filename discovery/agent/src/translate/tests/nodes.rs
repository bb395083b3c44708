//! Nodes.

use serde_json::{Value, json};

use super::World;
use crate::translate::nodes::{self, NodeAddress};

#[test]
fn only_eligible_nodes_are_ready() {
    let ready =
        json!([{ "type": "MemoryPressure", "status": "True" }, { "type": "Ready", "status": "True" }]);
    let node = |extra: Value| {
        let mut node = json!({
            "metadata": { "labels": { "topology.kubernetes.io/zone": "a" } }, "spec": {},
            "status": { "conditions": ready, "addresses": [
                { "type": "Hostname", "address": "n" }, { "type": "ExternalIP", "address": "203.0.113.1" },
                { "type": "InternalIP", "address": "10.0.0.1" }, { "type": "InternalIP", "address": "fd00::1" } ] },
        });
        merge(&mut node, extra);
        node
    };
    let rows = [
        ("plain", json!({}), true),
        ("cordoned", json!({ "spec": { "unschedulable": true } }), false),
        ("not ready", json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }), false),
        ("unknown", json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } }), false),
        (
            "excluded",
            json!({ "metadata": { "labels": { "node.kubernetes.io/exclude-from-external-load-balancers": "" } } }),
            false,
        ),
        ("being deleted", json!({ "metadata": { "deletionTimestamp": "2025-01-01T00:00:00Z" } }), false),
        (
            "out of service",
            json!({ "spec": { "taints": [{ "key": "node.kubernetes.io/out-of-service", "effect": "NoExecute" }] } }),
            false,
        ),
        (
            "about to be scaled away",
            json!({ "spec": { "taints": [{ "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" }] } }),
            false,
        ),
        (
            "some other taint",
            json!({ "spec": { "taints": [{ "key": "gpu", "effect": "NoSchedule" }] } }),
            true,
        ),
    ];
    for (what, extra, expected) in rows {
        let other = json!({ "status": { "conditions": ready, "addresses": [{ "type": "InternalIP", "address": "10.0.0.2" }] } });
        let world = World::default().node("n", node(extra)).node("other", other);
        let set = nodes::set(&world.view, NodeAddress::Internal);
        assert_eq!(set.nodes[0].addresses, ["10.0.0.1", "fd00::1"], "{what}");
        assert_eq!((set.nodes[0].ready, set.nodes[0].zone.as_deref()), (expected, Some("a")), "{what}");
        assert_eq!(nodes::set(&world.view, NodeAddress::External).nodes[0].addresses, ["203.0.113.1"]);
    }
    // Without such an address there is no way to it.
    let world = World::default().node("n", json!({ "status": { "conditions": ready } }));
    assert_eq!(nodes::set(&world.view, NodeAddress::Internal).nodes, []);
}

/// Where kubelets or their API server are away, every node of a cluster is "not ready" within seconds.
#[test]
fn where_no_node_is_ready_all_that_are_meant_count() {
    let node = |address: &str, ready: &str, cordoned: bool| {
        json!({
            "spec": { "unschedulable": cordoned },
            "status": {
                "conditions": [{ "type": "Ready", "status": ready }],
                "addresses": [{ "type": "InternalIP", "address": address }],
            },
        })
    };
    let up = ("a", node("10.0.0.1", "True", false));
    let down = ("a", node("10.0.0.1", "Unknown", false));
    let also_down = ("b", node("10.0.0.2", "False", false));
    let cordoned = ("c", node("10.0.0.3", "True", true));
    let homeless = ("d", json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }));
    type Row<'a> = (&'a str, Vec<&'a (&'a str, Value)>, &'a str, bool);
    let rows: Vec<Row<'_>> = vec![
        ("one is ready", vec![&up, &also_down, &cordoned], "a", false),
        ("none is ready", vec![&down, &also_down], "a,b", true),
        ("none is ready, and one was cordoned by somebody", vec![&down, &cordoned], "a", true),
        ("one is ready that cannot be reached", vec![&down, &homeless], "a", true),
        ("all are cordoned", vec![&cordoned], "", false),
        ("there is none", vec![], "", false),
    ];
    for (what, nodes, expected, told) in rows {
        let world =
            nodes.into_iter().fold(World::default(), |world, (name, node)| world.node(name, node.clone()));
        let set = nodes::set(&world.view, NodeAddress::Internal).nodes;
        let ready: Vec<_> = set.iter().filter(|node| node.ready).map(|node| &*node.name).collect();
        assert_eq!(ready.join(","), expected, "{what}");
        let refusal = nodes::none_ready(&world.view, NodeAddress::Internal);
        assert_eq!(refusal.map(|refusal| refusal.reason), told.then_some("NoNodeReady"), "{what}");
    }
}

#[test]
fn a_node_without_the_address_that_is_asked_for_is_told_of() {
    let inner = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }] } });
    let world = World::default()
        .node("inner", inner)
        .node("odd", json!({}))
        .node("away", json!({ "spec": { "unschedulable": true } }));
    let told = |which| {
        let told = nodes::without_address(&world.view, which);
        told.into_iter().map(|(name, refusal)| format!("{name}: {}", refusal.told())).collect::<Vec<_>>()
    };
    let why = |name: &str, kind: &str| {
        format!(
            "{name}: status.addresses: it has no {kind}, so it takes no traffic from the LB cluster; see --node-address of portolan-agent"
        )
    };
    assert_eq!(told(NodeAddress::Internal), [why("odd", "InternalIP")]);
    assert_eq!(told(NodeAddress::External), [why("inner", "ExternalIP"), why("odd", "ExternalIP")]);
    let many = (0..100).fold(World::default(), |world, n| world.node(&format!("n{n}"), json!({})));
    assert_eq!(nodes::without_address(&many.view, NodeAddress::Internal).len(), 16);
}

fn merge(to: &mut Value, from: Value) {
    match (to, from) {
        (Value::Object(to), Value::Object(from)) => {
            for (name, value) in from {
                merge(to.entry(name).or_insert(Value::Null), value);
            }
        }
        (to, from) => *to = from,
    }
}
