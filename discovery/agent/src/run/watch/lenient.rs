//! Objects that are read as far as they can be: one that a newer version wrote must not stop a watch.

use std::borrow::Cow;

use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object; without content where that cannot be read.
#[derive(Clone, Debug)]
pub(super) struct Lenient<K> {
    pub(super) metadata: ObjectMeta,
    pub(super) object: Option<K>,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        // Large, and nothing of ours.
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let metadata = value.get("metadata").ok_or_else(|| D::Error::missing_field("metadata"))?;
        let metadata = ObjectMeta::deserialize(metadata).map_err(D::Error::custom)?;
        Ok(Self { metadata, object: serde_json::from_value(value).ok() })
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use portolan_api::kinds::NodeSet;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_a_name_without_content() {
        let read = |spec: Value| -> Lenient<NodeSet> {
            serde_json::from_value(json!({
                "apiVersion": "portolan.dev/v1alpha1", "kind": "NodeSet",
                "metadata": { "name": "nodes", "managedFields": [{ "manager": "m" }] }, "spec": spec,
            }))
            .unwrap()
        };
        assert!(read(json!({ "nodes": [] })).object.is_some());
        let odd = read(json!({ "nodes": "all of them" }));
        assert_eq!((odd.metadata.name.as_deref(), odd.object.is_none()), (Some("nodes"), true));
        assert_eq!(odd.metadata.managed_fields, None);
    }
}
