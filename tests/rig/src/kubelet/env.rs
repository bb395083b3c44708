//! What stands in a container's environment, and what become its arguments?
//!
//! In the order of the pod: what `envFrom` brings, then `env`, of which each may name those before it as `$(NAME)`. Command and arguments may name
//! all of them.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, EnvVarSource};

use super::facts::Facts;
use super::objects::{Kind, Ref, Snapshot};

/// Where programs are looked for: `/` holds the image's binary.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/";

/// A container's environment, or the sentence that says what is missing.
pub(crate) fn environment(
    container: &Container,
    facts: &Facts,
    objects: &Snapshot,
    api_server: Ipv4Addr,
) -> Result<Vec<(String, String)>, String> {
    let mut env = Environment::default();
    env.set("PATH", PATH.to_owned());
    env.set("HOME", "/root".to_owned());
    env.set("HOSTNAME", facts.field("metadata.name")?);
    env.set("KUBERNETES_SERVICE_HOST", api_server.to_string());
    env.set("KUBERNETES_SERVICE_PORT", "443".to_owned());
    env.set("KUBERNETES_SERVICE_PORT_HTTPS", "443".to_owned());
    let namespace = facts.pod.metadata.namespace.clone().unwrap_or_default();
    for from in container.env_from.iter().flatten() {
        let source = match (&from.config_map_ref, &from.secret_ref) {
            (Some(map), _) => (Ref::new(Kind::ConfigMap, &namespace, &map.name), map.optional),
            (_, Some(secret)) => (Ref::new(Kind::Secret, &namespace, &secret.name), secret.optional),
            _ => continue,
        };
        let (source, optional) = source;
        let Some(data) = objects.get(&source, optional == Some(true))? else { continue };
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in data.iter() {
            env.set(&format!("{prefix}{key}"), String::from_utf8_lossy(value).into_owned());
        }
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(value), _) => Some(env.expand(value)),
            (None, Some(source)) => valued(source, &namespace, container, facts, objects)?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            env.set(&var.name, value);
        }
    }
    Ok(env.0)
}

/// Replaces `$(NAME)` by values and `$$` by `$`; a name that is not known stays as it is written.
pub(crate) fn expand(text: &str, env: &[(String, String)]) -> String {
    let known: HashMap<&str, &str> =
        env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(literal) = after.strip_prefix('$') {
            out.push('$');
            rest = literal;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[at..rest.len() - tail.len()]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out + rest
}

/// Names and values; a name that is set again keeps its place.
#[derive(Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    fn expand(&self, text: &str) -> String {
        expand(text, &self.0)
    }
}

/// The value that a source has; none where it is optional and missing.
fn valued(
    source: &EnvVarSource,
    namespace: &str,
    container: &Container,
    facts: &Facts,
    objects: &Snapshot,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return facts.field(&field.field_path).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return facts.resource(resource, Some(container)).map(Some);
    }
    let (source, key, optional) = match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(map), _) => (Ref::new(Kind::ConfigMap, namespace, &map.name), &map.key, map.optional),
        (_, Some(secret)) => (Ref::new(Kind::Secret, namespace, &secret.name), &secret.key, secret.optional),
        _ => return Err("an environment variable has a source of an unknown kind".to_owned()),
    };
    let optional = optional == Some(true);
    let Some(data) = objects.get(&source, optional)? else { return Ok(None) };
    match data.get(key) {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if optional => Ok(None),
        None => Err(format!("{source} has no key {key:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn names_in_parentheses_are_replaced() {
        let env = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        let rows = [
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(A)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(NONE)", "$(NONE)"),
            ("$(A", "$(A"),
            ("$A ${A} $", "$A ${A} $"),
            ("$()", "$()"),
        ];
        for (text, wanted) in rows {
            assert_eq!(expand(text, &env), wanted, "{text}");
        }
    }

    #[test]
    fn sources_in_their_order() {
        let pod = json!({"metadata": {"name": "web", "namespace": "shop"}});
        let facts = Facts {
            pod: Arc::new(serde_json::from_value(pod).expect("a pod")),
            pod_ip: Ipv4Addr::new(10, 244, 1, 2),
            host_ip: Ipv4Addr::new(172, 30, 1, 2),
        };
        let mut objects = Snapshot::default();
        let bytes = |text: &str| text.as_bytes().to_vec();
        objects.insert(
            Ref::new(Kind::ConfigMap, "shop", "settings"),
            Some([("COLOUR".to_owned(), bytes("red")), ("SIZE".to_owned(), bytes("1"))].into()),
        );
        objects.insert(Ref::new(Kind::Secret, "shop", "key"), Some([("k".to_owned(), bytes("s3"))].into()));
        objects.insert(Ref::new(Kind::Secret, "shop", "none"), None);
        let container = |env: serde_json::Value| -> Container {
            serde_json::from_value(json!({
                "name": "main",
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "none", "optional": true}}],
                "env": env,
            }))
            .expect("a container")
        };
        let good = container(json!([
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "URL", "value": "http://$(IP)/$(P_COLOUR)"},
            {"name": "P_SIZE", "value": "2"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}},
            {"name": "OPTIONAL", "valueFrom": {"secretKeyRef": {"name": "key", "key": "no", "optional": true}}},
        ]));
        let env = environment(&good, &facts, &objects, Ipv4Addr::LOCALHOST).expect("an environment");
        let get = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(get("URL"), Some("http://10.244.1.2/red"));
        assert_eq!(get("P_SIZE"), Some("2"));
        assert_eq!(get("KEY"), Some("s3"));
        assert_eq!(get("OPTIONAL"), None);
        assert_eq!(get("HOSTNAME"), Some("web"));
        for (bad, why) in [
            (json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "key", "key": "no"}}}]), "no key"),
            (
                json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "none", "key": "no"}}}]),
                "not found",
            ),
            (json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec"}}}]), "unknown field"),
        ] {
            let said = environment(&container(bad), &facts, &objects, Ipv4Addr::LOCALHOST).expect_err(why);
            assert!(said.contains(why), "{said}");
        }
    }
}
