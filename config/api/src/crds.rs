//! The `CustomResourceDefinition`s, generated from the types of [`crate::kinds`]; the copies under `deploy/crds` are
//! held to them by a test.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::kinds;

/// Every definition as one YAML stream, as `kubectl apply -f -` takes it.
pub fn crds() -> String {
    crd_files().into_iter().map(|(_, yaml)| format!("---\n{yaml}")).collect()
}

/// Every definition as a file: its name and its YAML.
pub fn crd_files() -> Vec<(String, String)> {
    definitions()
        .into_iter()
        .map(|definition| {
            let name = format!("{}.yaml", definition.metadata.name.clone().unwrap_or_default());
            (name, to_yaml(&definition))
        })
        .collect()
}

/// Every definition.
pub fn definitions() -> [CustomResourceDefinition; 6] {
    [
        kinds::Proxy::crd(),
        kinds::Cluster::crd(),
        kinds::HTTPLoadBalancer::crd(),
        kinds::UpstreamPool::crd(),
        kinds::NodeSet::crd(),
        kinds::TrafficPolicy::crd(),
    ]
}

fn to_yaml(definition: &CustomResourceDefinition) -> String {
    let mut value = serde_json::to_value(definition).unwrap_or_default();
    tidy(&mut value);
    serde_saphyr::to_string(&value).unwrap_or_default()
}

/// Takes out Rust's integer formats (API servers warn of formats that they do not know, and bounds stand beside them),
/// and writes whole numbers as such.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
                fields.remove("format");
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => {
            // Bounds are far below 2^53.
            if let Some(whole) = number.as_f64().filter(|number| number.fract() == 0.0) {
                *value = Value::from(whole as i64);
            }
        }
        _ => {}
    }
}
