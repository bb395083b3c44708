//! What may a container know of its pod? The downward API: fields of the pod and resources of its containers.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What a node offers, and so what a container has that says nothing of its limits: cores and bytes.
pub(crate) const CORES: u32 = 8;
/// See [`CORES`].
pub(crate) const MEMORY: u64 = 16 << 30;

/// A pod and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) pod: Arc<Pod>,
    pub(crate) pod_ip: Ipv4Addr,
    pub(crate) host_ip: Ipv4Addr,
}

impl Facts {
    /// The value of a `fieldRef`.
    pub(crate) fn field(&self, path: &str) -> Result<String, String> {
        let meta = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        if let Some((map, key)) = subscript(path) {
            let map = match map {
                "metadata.labels" => &meta.labels,
                "metadata.annotations" => &meta.annotations,
                _ => return Err(format!("unknown field {path:?}")),
            };
            return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
        }
        Ok(match path {
            "metadata.name" => meta.name.clone().unwrap_or_default(),
            "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
            "metadata.uid" => meta.uid.clone().unwrap_or_default(),
            "metadata.labels" => lines(meta.labels.as_ref()),
            "metadata.annotations" => lines(meta.annotations.as_ref()),
            "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            "spec.serviceAccountName" => {
                spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
            }
            "status.hostIP" | "status.hostIPs" => self.host_ip.to_string(),
            "status.podIP" | "status.podIPs" => self.pod_ip.to_string(),
            _ => return Err(format!("unknown field {path:?}")),
        })
    }

    /// The value of a `resourceFieldRef` of a container, or of the one that it names.
    pub(crate) fn resource(
        &self,
        wanted: &ResourceFieldSelector,
        own: Option<&Container>,
    ) -> Result<String, String> {
        let named = wanted.container_name.as_ref();
        let spec = self.pod.spec.as_ref();
        let all = spec
            .into_iter()
            .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        let container = match named {
            Some(name) => all.into_iter().find(|container| &container.name == name),
            None => own,
        };
        let container = container.ok_or_else(|| format!("no container {named:?}"))?;
        let (group, name) = wanted
            .resource
            .split_once('.')
            .ok_or_else(|| format!("unknown resource {:?}", wanted.resource))?;
        let resources = container.resources.as_ref();
        let limits = resources.and_then(|resources| resources.limits.as_ref());
        let stated = match group {
            "limits" => limits,
            "requests" => resources.and_then(|resources| resources.requests.as_ref()),
            _ => return Err(format!("unknown resource {:?}", wanted.resource)),
        };
        let value = match (stated.and_then(|stated| stated.get(name)), group, name) {
            (Some(stated), ..) => quantity(stated)?,
            (None, "limits", "cpu") => f64::from(CORES),
            #[allow(clippy::cast_precision_loss, reason = "a constant far below 2^53")]
            (None, "limits", "memory") => MEMORY as f64,
            _ => 0.0,
        };
        let divisor = wanted.divisor.as_ref().map_or(Ok(0.0), quantity)?;
        let divisor = if divisor == 0.0 { 1.0 } else { divisor };
        Ok(format!("{:.0}", (value / divisor).ceil()))
    }
}

/// `metadata.labels['app']` → `metadata.labels`, `app`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// One line for each entry, its value quoted: as the files of the downward API have it.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// `250m`, `1Gi`, `2e3` as a number.
fn quantity(quantity: &Quantity) -> Result<f64, String> {
    let text = quantity.0.as_str();
    let refused = || format!("not a quantity: {text:?}");
    if let Ok(plain) = text.parse::<f64>() {
        return Ok(plain);
    }
    let at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(refused)?;
    let factor = match &text[at..] {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        _ => return Err(refused()),
    };
    Ok(text[..at].parse::<f64>().map_err(|_| refused())? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts() -> Facts {
        let pod = json!({
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u-1",
                "labels": {"app": "web", "tier": "front"}, "annotations": {"note": "a \"b\"\nc"},
            },
            "spec": {
                "nodeName": "n1", "serviceAccountName": "default",
                "containers": [{"name": "main", "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}}}],
            },
        });
        Facts {
            pod: Arc::new(serde_json::from_value(pod).expect("a pod")),
            pod_ip: Ipv4Addr::new(10, 244, 1, 2),
            host_ip: Ipv4Addr::new(172, 30, 1, 2),
        }
    }

    #[test]
    fn fields() {
        let rows = [
            ("metadata.name", "web"),
            ("metadata.namespace", "shop"),
            ("metadata.uid", "u-1"),
            ("metadata.labels['app']", "web"),
            ("metadata.labels['none']", ""),
            ("metadata.labels", "app=\"web\"\ntier=\"front\""),
            ("metadata.annotations", "note=\"a \\\"b\\\"\\nc\""),
            ("spec.nodeName", "n1"),
            ("spec.serviceAccountName", "default"),
            ("status.hostIP", "172.30.1.2"),
            ("status.podIP", "10.244.1.2"),
            ("status.podIPs", "10.244.1.2"),
        ];
        for (path, value) in rows {
            assert_eq!(facts().field(path).as_deref(), Ok(value), "{path}");
        }
        assert!(facts().field("spec.containers").is_err());
    }

    #[test]
    fn resources() {
        let rows = [
            ("limits.cpu", "", "1"),
            ("limits.cpu", "1m", "250"),
            ("limits.memory", "1Mi", "64"),
            ("limits.memory", "", "67108864"),
            ("requests.cpu", "", "0"),
        ];
        for (resource, divisor, value) in rows {
            let wanted = ResourceFieldSelector {
                container_name: Some("main".to_owned()),
                divisor: (!divisor.is_empty()).then(|| Quantity(divisor.to_owned())),
                resource: resource.to_owned(),
            };
            assert_eq!(facts().resource(&wanted, None).as_deref(), Ok(value), "{resource} / {divisor}");
        }
    }
}
