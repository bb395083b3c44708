//! Which nodes does a pod fit on, and which of them is best? Ready, not cordoned, its taints tolerated, and what the pod's `nodeSelector` and required
//! node affinity say. Resources are not counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};

/// The node that a pod has.
pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Whether a pod is to be given a node, by us and now.
pub(crate) fn waits(pod: &Pod) -> bool {
    let spec = pod.spec.clone().unwrap_or_default();
    node_of(pod).is_none()
        && pod.metadata.deletion_timestamp.is_none()
        && spec.scheduling_gates.is_none_or(|gates| gates.is_empty())
        && spec.scheduler_name.is_none_or(|name| name == "default-scheduler")
}

/// The node for a pod, or the sentence that says why there is none. `nodes` are in order.
pub(crate) fn choose(
    pod: &Pod,
    nodes: &[Arc<Node>],
    pods: &[Arc<Pod>],
    bound: &HashMap<String, String>,
) -> Result<String, String> {
    let mut refusals: BTreeMap<&str, usize> = BTreeMap::new();
    let mut best: Option<((usize, usize), &str)> = None;
    for node in nodes {
        if let Err(why) = fits(pod, node) {
            *refusals.entry(why).or_default() += 1;
            continue;
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let here = pods.iter().filter(|other| {
            let bound = other.metadata.uid.as_ref().and_then(|uid| bound.get(uid));
            node_of(other).or_else(|| bound.map(String::as_str)) == Some(name) && !is_over(other)
        });
        let (mut all, mut same) = (0, 0);
        for other in here {
            all += 1;
            same += usize::from(owner(other).is_some() && owner(other) == owner(pod));
        }
        if best.is_none_or(|(least, _)| (same, all) < least) {
            best = Some(((same, all), name));
        }
    }
    best.map(|(_, name)| name.to_owned()).ok_or_else(|| {
        let reasons: Vec<_> = refusals.iter().map(|(why, count)| format!("{count} {why}")).collect();
        format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", "))
    })
}

/// Whether a pod may run on a node; if not, why.
fn fits(pod: &Pod, node: &Node) -> Result<(), &'static str> {
    let spec = pod.spec.clone().unwrap_or_default();
    let node_spec = node.spec.clone().unwrap_or_default();
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if !conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
        return Err("node(s) were not ready");
    }
    let tolerations = spec.tolerations.unwrap_or_default();
    let tolerated = |taint: &Taint| tolerations.iter().any(|toleration| tolerates(toleration, taint));
    if node_spec.unschedulable == Some(true) {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Default::default()
        };
        if !tolerated(&taint) {
            return Err("node(s) were unschedulable");
        }
    }
    let hard = |taint: &&Taint| taint.effect != "PreferNoSchedule";
    if !node_spec.taints.iter().flatten().filter(hard).all(tolerated) {
        return Err("node(s) had untolerated taint(s)");
    }
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.and_then(|affinity| affinity.node_affinity);
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution);
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let near = required
        .is_none_or(|required| required.node_selector_terms.iter().any(|term| matches(term, &labels, name)));
    if selected && near { Ok(()) } else { Err("node(s) didn't match Pod's node affinity/selector") }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let effect = toleration.effect.as_deref().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || (key.is_empty() && exists))
        && (exists
            || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default())
}

/// A term without requirements matches nothing.
fn matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let by_label = term.match_expressions.as_deref().unwrap_or_default();
    let by_field = term.match_fields.as_deref().unwrap_or_default();
    !(by_label.is_empty() && by_field.is_empty())
        && by_label.iter().all(|wanted| holds(wanted, labels.get(&wanted.key).map(String::as_str)))
        && by_field.iter().all(|wanted| wanted.key == "metadata.name" && holds(wanted, Some(name)))
}

fn holds(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let compare = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match wanted.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare().is_some_and(|(value, wanted)| value > wanted),
        "Lt" => compare().is_some_and(|(value, wanted)| value < wanted),
        _ => false,
    }
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn owner(pod: &Pod) -> Option<&str> {
    pod.metadata.owner_references.as_ref()?.first().map(|owner| owner.uid.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(name: &str, change: Value) -> Arc<Node> {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"zone": format!("z-{name}"), "size": "4"}},
            "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        for (key, value) in change.as_object().into_iter().flatten() {
            node[key] = value.clone();
        }
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    fn pod(name: &str, spec: Value) -> Arc<Pod> {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": &name[..1]}]);
        let pod = json!({"metadata": {"name": name, "uid": name, "ownerReferences": owner}, "spec": spec});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn where_pods_may_go() {
        let expression = |operator: &str, key: &str, values: Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]}}}})
        };
        let field = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}}});
        let taint = json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}});
        let soft = json!({"spec": {"taints": [{"key": "gpu", "effect": "PreferNoSchedule"}]}});
        let cordoned = json!({"spec": {"unschedulable": true}});
        let dead = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        let everything = json!({"tolerations": [{"operator": "Exists"}]});
        let rows = [
            (json!({}), json!({}), true),
            (json!({}), dead.clone(), false),
            (everything.clone(), dead, false),
            (json!({}), cordoned.clone(), false),
            (everything.clone(), cordoned, true),
            (json!({}), taint.clone(), false),
            (json!({}), soft, true),
            (everything, taint.clone(), true),
            (json!({"tolerations": [{"key": "gpu", "value": "yes"}]}), taint.clone(), true),
            (json!({"tolerations": [{"key": "gpu", "value": "no"}]}), taint.clone(), false),
            (
                json!({"tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]}),
                taint,
                false,
            ),
            (json!({"nodeSelector": {"zone": "z-n"}}), json!({}), true),
            (json!({"nodeSelector": {"zone": "z-m"}}), json!({}), false),
            (expression("In", "zone", json!(["z-n", "z-m"])), json!({}), true),
            (expression("NotIn", "zone", json!(["z-n"])), json!({}), false),
            (expression("NotIn", "none", json!(["z-n"])), json!({}), true),
            (expression("Exists", "size", json!([])), json!({}), true),
            (expression("DoesNotExist", "size", json!([])), json!({}), false),
            (expression("Gt", "size", json!(["3"])), json!({}), true),
            (expression("Lt", "size", json!(["3"])), json!({}), false),
            (field, json!({}), true),
        ];
        for (spec, change, wanted) in rows {
            let (pod, node) = (pod("a", spec.clone()), node("n", change.clone()));
            assert_eq!(fits(&pod, &node).is_ok(), wanted, "{spec} {change}");
        }
    }

    #[test]
    fn the_emptiest_node_is_best() {
        let nodes = [
            node("n1", json!({})),
            node("n2", json!({})),
            node("n3", json!({"spec": {"unschedulable": true}})),
        ];
        let on = |name: &str, node: &str| pod(name, json!({"nodeName": node}));
        let mut pods = vec![];
        let choose = |pods: &[Arc<Pod>], bound: &HashMap<String, String>| {
            choose(&pod("a9", json!({})), &nodes, pods, bound)
        };
        let nothing = HashMap::new();
        assert_eq!(choose(&pods, &nothing).as_deref(), Ok("n1"));
        pods.push(on("b1", "n1"));
        assert_eq!(choose(&pods, &nothing).as_deref(), Ok("n2"));
        // Pods of the same owner count before all.
        pods.push(on("a1", "n2"));
        assert_eq!(choose(&pods, &nothing).as_deref(), Ok("n1"));
        pods.push(pod("a2", json!({})));
        let bound = [("a2".to_owned(), "n1".to_owned())].into();
        assert_eq!(choose(&pods, &bound).as_deref(), Ok("n2"));
    }

    #[test]
    fn says_why_there_is_none() {
        let nodes = [
            node("n1", json!({"spec": {"unschedulable": true}})),
            node("n2", json!({"spec": {"unschedulable": true}})),
            node("n3", json!({"status": {}})),
        ];
        let said = choose(&pod("a", json!({})), &nodes, &[], &HashMap::new()).expect_err("no node");
        assert_eq!(said, "0/3 nodes are available: 1 node(s) were not ready, 2 node(s) were unschedulable.");
    }
}
