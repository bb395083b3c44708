//! What has to be known of an object before it is read: who it is, and whether it is another than before.
//!
//! Cost: one pass over its text that keeps nothing else.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::value::RawValue;

/// An object as the server sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Empty where it lives in none.
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) version: Version,
    /// One line of JSON.
    pub(crate) text: String,
}

/// A version of an object: equal where nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// Of its uid and its resource version: servers that were made anew begin to count anew.
    pub(crate) hash: u64,
    /// Its resource version.
    pub(crate) number: u64,
}

/// The metadata of an object or of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    #[serde(rename = "continue")]
    pub(crate) more: Option<String>,
}

/// An object's metadata alone.
#[derive(Debug, Deserialize)]
pub(crate) struct Head {
    pub(crate) metadata: Metadata,
}

impl Item {
    /// Reads who it is, and its resource version as it stands there; an error where it is nobody.
    pub(crate) fn of(text: &RawValue) -> Result<(Self, Option<String>), serde_json::Error> {
        let Head { metadata } = serde_json::from_str(text.get())?;
        if metadata.name.is_empty() {
            return Err(serde::de::Error::missing_field("metadata.name"));
        }
        let text = text.get();
        let mut hasher = DefaultHasher::new();
        (&metadata.uid, &metadata.resource_version).hash(&mut hasher);
        let number = metadata.resource_version.as_ref().and_then(|version| version.parse().ok());
        let item = Self {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name,
            version: Version { hash: hasher.finish(), number: number.unwrap_or_default() },
            // Between the values of a text there may be line breaks, within them not.
            text: if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text.to_owned() },
        };
        Ok((item, metadata.resource_version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> Result<Item, serde_json::Error> {
        Item::of(serde_json::from_str::<&RawValue>(text).unwrap()).map(|(item, _)| item)
    }

    #[test]
    fn an_object_is_told_by_its_metadata() {
        let shop = |uid: &str, version: &str| {
            item(&format!(
                r#"{{"kind":"x","metadata":{{"name":"shop","namespace":"tenant-paris","uid":"{uid}","resourceVersion":"{version}"}},"spec":7}}"#
            ))
            .unwrap()
        };
        let first = shop("a", "5");
        assert_eq!((&*first.namespace, &*first.name, first.version.number), ("tenant-paris", "shop", 5));
        assert_eq!(first, shop("a", "5"));
        assert_ne!(first.version, shop("a", "6").version);
        assert_ne!(first.version, shop("b", "5").version, "another object of the same name");

        assert_eq!(
            item("{\"metadata\":{\n\"name\":\"x\"}\r\n}").unwrap().text,
            "{\"metadata\":{ \"name\":\"x\"}  }"
        );
        for nobody in ["{}", r#"{"metadata":{}}"#, r#"{"metadata":{"name":7}}"#, "7"] {
            assert!(item(nobody).is_err(), "{nobody}");
        }
    }
}
