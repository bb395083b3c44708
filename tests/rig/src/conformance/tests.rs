use clap::Parser;
use serde_json::json;

use super::*;

#[test]
fn a_class_is_accepted_in_its_generation() {
    let class = |conditions: Value| -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "portolan", "generation": 2},
            "spec": {"controllerName": "portolan.dev/gateway"},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    };
    let accepted = |status: &str, seen: i64| {
        json!([{
            "type": "Accepted", "status": status, "reason": "Why", "message": "at length", "observedGeneration": seen
        }])
    };
    for (conditions, wanted) in [
        (accepted("True", 2), None),
        (accepted("True", 1), Some("True (Why: at length), of an older generation")),
        (accepted("False", 2), Some("False (Why: at length)")),
        // What stands there before anybody has seen it.
        (
            json!([{"type": "Accepted", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller"}]),
            Some("Unknown (Pending: Waiting for controller)"),
        ),
        (json!([{"type": "SupportedVersion", "status": "True"}]), Some("it has no condition Accepted")),
        (json!(null), Some("it has no condition Accepted")),
    ] {
        assert_eq!(refusal(&class(conditions.clone())).as_deref(), wanted, "{conditions}");
    }
}

#[test]
fn a_part_is_not_everything() {
    for (line, everything) in [
        ("", true),
        ("--class=other --channel=experimental --minutes=5", true),
        ("--test=HTTPRouteSimpleSameNamespace", false),
        ("--profiles=GATEWAY-HTTP,GATEWAY-TLS", false),
        ("--features=HTTPRouteRetry", false),
    ] {
        let options = Options::parse_from(["conformance"].into_iter().chain(line.split_whitespace()));
        assert_eq!(options.everything(), everything, "{line}");
    }
}
