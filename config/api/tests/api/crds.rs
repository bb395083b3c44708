//! The definitions under `deploy/crds` are those of the types, and so is the page about their fields. `make crds` writes both.

mod reference;

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

/// Set, the definitions are written and not only compared.
const WRITE: &str = "PORTOLAN_WRITE";

#[test]
fn the_copies_under_deploy_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    let generated: BTreeMap<_, _> = portolan_api::crd_files().into_iter().collect();
    if env::var_os(WRITE).is_some() {
        fs::create_dir_all(&folder).unwrap();
        for (name, yaml) in &generated {
            fs::write(folder.join(name), yaml).unwrap();
        }
    }
    let kept: BTreeMap<_, _> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect();
    assert!(kept.keys().eq(generated.keys()), "other files than expected in deploy/crds");
    for (name, yaml) in generated {
        assert!(kept[&name] == yaml, "deploy/crds/{name} is not what the types say: run `make crds`");
    }
}

#[test]
fn make_writes_them() {
    let makefile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Makefile");
    let recipe = format!("\t{WRITE}=1 cargo test --locked -p portolan-api crds\n");
    assert!(fs::read_to_string(makefile).unwrap().contains(&recipe), "{recipe:?}");
}

#[test]
fn schemas_are_structural_and_bounded() {
    for definition in portolan_api::definitions() {
        let kind = definition.spec.names.kind.clone();
        let version = &definition.spec.versions[0];
        assert!(version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()), "{kind}");
        assert!(
            version.additional_printer_columns.as_ref().is_some_and(|columns| !columns.is_empty()),
            "{kind}"
        );
        let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let schema = serde_json::to_value(schema).unwrap();
        bounded(&kind, &schema["properties"]["spec"]);
    }
}

/// An API server wants a type everywhere, and bounds wherever CEL rules have a cost.
fn bounded(path: &str, schema: &serde_json::Value) {
    let choice = schema.get("x-kubernetes-int-or-string").is_some();
    assert!(choice || schema["type"].is_string(), "{path} has no type");
    assert!(schema.get("additionalProperties").is_none(), "{path} is open");
    match schema["type"].as_str() {
        Some("string") => {
            let closed =
                ["enum", "maxLength", "pattern", "format"].iter().any(|key| schema.get(key).is_some());
            assert!(closed, "{path} has no bound");
        }
        Some("array") => {
            assert!(schema["maxItems"].is_number(), "{path} has no bound");
            bounded(&format!("{path}[]"), &schema["items"]);
        }
        Some("integer") => {
            assert!(schema["maximum"].is_number() && schema["minimum"].is_number(), "{path} has no bounds");
        }
        _ => {}
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        assert!(field["description"].is_string(), "{path}.{name} says nothing of itself");
        bounded(&format!("{path}.{name}"), field);
    }
}

#[test]
fn the_stream_holds_every_definition() {
    let stream = portolan_api::crds();
    assert_eq!(stream.matches("\n---\n").count() + 1, 6);
    assert_eq!(stream.matches("kind: CustomResourceDefinition").count(), 6);
}
