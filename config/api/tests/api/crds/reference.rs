//! `deploy/docs/reference.md`: every field of the definitions, in tables. `make crds` writes it.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

use super::WRITE;

const HEAD: &str = "# Fields

Every field that is read. Generated from the Rust types, as the definitions in `deploy/crds` are: `make crds` writes both.

Under *default* stands what a field left out comes to, or that it is required; nothing where the field's own words say it. The defaults of a
policy's fields are in [timeouts-and-limits.md](timeouts-and-limits.md). Durations are written as `500ms`, `10s`, `1m30s`, sizes as `1048576` or
`10Mi`. `[]` is each element of a list. Of `metadata` count `name` and `namespace`. A `status` may stand in a manifest and is not read.
";

const OTHERS: &str = "
## Kinds of Kubernetes

Their other fields are left aside.

| kind | field | what it says |
| --- | --- | --- |
| `EndpointSlice` | `metadata.labels[\"portolan.dev/pool\"]` | the pool in its namespace; a slice without it is passed over |
| | `addressType` | `IPv4` or `IPv6`; any other is refused |
| | `ports[].name`, `.port`, `.protocol` | the ports; those that are not `TCP` (the default) are passed over |
| | `endpoints[].addresses[0]` | the address; the first alone counts |
| | `endpoints[].zone` | as in `UpstreamPool` |
| | `endpoints[].conditions.ready`, `.serving`, `.terminating` | `ready` is true where it is not said, `serving` what `ready` is, `terminating` false |
| `Secret` | `type` | `kubernetes.io/tls`; any other is passed over |
| | `data`, `stringData` | `tls.crt`: the chain, the server's certificate first; `tls.key`: its key. `stringData` wins |
| `ConfigMap` | `data[\"ca.crt\"]` | CA certificates; one without it is passed over |
";

#[test]
fn the_reference_page_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/docs/reference.md");
    let page = page();
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &page).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == page, "deploy/docs/reference.md is not what the types say: run `make crds`");
}

fn page() -> String {
    let definitions = portolan_api::definitions();
    let kinds: String = definitions.iter().map(kind).collect();
    format!("{HEAD}{kinds}{OTHERS}")
}

fn kind(definition: &CustomResourceDefinition) -> String {
    let root = definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let spec = &root.properties.as_ref().unwrap()["spec"];
    let mut says = vec![cell(spec.description.as_deref().unwrap())];
    says.extend(rules(root).chain(rules(spec)).map(|rule| format!("{}.", capital(rule))));
    let home = match definition.spec.scope.as_str() {
        "Cluster" => "Cluster-scoped.",
        _ => "Lives in `tenant-<cluster>`.",
    };
    let mut text = format!(
        "\n## {}\n\n{} {home}\n\n| field | type | default | bounds | what it says |\n| --- | --- | --- | --- | --- |\n",
        definition.spec.names.kind,
        says.join(" "),
    );
    fields("spec", spec, &mut text);
    text
}

/// A row for each field of a mapping, and below it those of what is in it.
fn fields(path: &str, mapping: &JSONSchemaProps, text: &mut String) {
    let required = mapping.required.as_deref().unwrap_or_default();
    for (name, schema) in mapping.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        let default = match &schema.default {
            Some(value) => format!("`{}`", value.0.to_string().trim_matches('"')),
            None if required.contains(name) => "required".to_owned(),
            None if schema.type_.as_deref() == Some("boolean") => "`false`".to_owned(),
            None => String::new(),
        };
        let says = cell(schema.description.as_deref().unwrap());
        writeln!(text, "| `{path}` | {} | {default} | {} | {says} |", form(schema), bounds(schema)).unwrap();
        match items(schema) {
            Some(item) => fields(&format!("{path}[]"), item, text),
            None => fields(&path, schema, text),
        }
    }
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(item) => Some(item),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

fn form(schema: &JSONSchemaProps) -> String {
    match (schema.type_.as_deref(), items(schema)) {
        (Some("array"), Some(item)) => format!("list of {}s", form(item)),
        (Some("object"), _) => "mapping".to_owned(),
        (Some("string"), _) if is_duration(schema) => "duration".to_owned(),
        (Some("string"), _) if schema.format.as_deref() == Some("date-time") => "time".to_owned(),
        (Some(other), _) => other.to_owned(),
        (None, _) => "size".to_owned(),
    }
}

fn is_duration(schema: &JSONSchemaProps) -> bool {
    schema.pattern.as_deref().is_some_and(|pattern| pattern.contains("(h|m|s|ms)"))
}

/// What a value must be, beyond its type.
fn bounds(schema: &JSONSchemaProps) -> String {
    let mut bounds = Vec::new();
    let values = schema.enum_.iter().flatten().map(|value| format!("`{}`", value.0.as_str().unwrap()));
    let values: Vec<_> = values.collect();
    if !values.is_empty() {
        bounds.push(values.join(", "));
    }
    // A rule on a number says what its bounds would, and more.
    if let (Some(least), Some(most), None) =
        (schema.minimum, schema.maximum, &schema.x_kubernetes_validations)
    {
        bounds.push(format!("{least} to {most}"));
    }
    bounds.extend(between(schema.min_length, schema.max_length, "characters"));
    bounds.extend(between(schema.min_items, schema.max_items, "items"));
    if schema.type_.as_deref() == Some("string") && !is_duration(schema) {
        bounds.extend(schema.pattern.iter().map(|pattern| format!("`{}`", cell(pattern))));
    }
    bounds.extend(rules(schema).map(cell));
    if let Some(item) = items(schema) {
        bounds.extend(Some(self::bounds(item)).filter(|of| !of.is_empty()).map(|of| format!("each: {of}")));
    }
    bounds.join("; ")
}

fn between(least: Option<i64>, most: Option<i64>, what: &str) -> Option<String> {
    match (least.unwrap_or(0), most?) {
        (0, most) => Some(format!("{most} {what} at most")),
        (least, most) => Some(format!("{least} to {most} {what}")),
    }
}

fn rules(schema: &JSONSchemaProps) -> impl Iterator<Item = &str> {
    schema.x_kubernetes_validations.iter().flatten().filter_map(|rule| rule.message.as_deref())
}

/// As it may stand in a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn capital(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}
