//! What do a pod's volumes hold, and where do they lie?
//!
//! Each volume is a folder below the pod's, bound into its containers' view of the file system (see `root`). Those whose files follow from objects
//! are computed whole ([`content`]) and written whole, by a swap ([`swap`]), so that a container never sees half a change.

mod swap;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::facts::Facts;
use super::objects::{Data, Kind, Ref, Snapshot};

pub(crate) use swap::swap;

/// The mode of a file of which nothing is said.
const MODE: i32 = 0o644;

/// Files by their paths below the volume, with their modes.
pub(crate) type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Files that follow from objects.
    Files(Files),
    /// A folder that is empty at first.
    Empty,
    /// A path of the machine.
    Host(PathBuf),
}

/// Which token: its audience and how long it is to be valid, in seconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenKey {
    pub(crate) audience: Option<String>,
    pub(crate) seconds: i64,
}

impl From<&ServiceAccountTokenProjection> for TokenKey {
    fn from(wanted: &ServiceAccountTokenProjection) -> Self {
        Self { audience: wanted.audience.clone(), seconds: wanted.expiration_seconds.unwrap_or(3600) }
    }
}

/// The tokens of a pod.
pub(crate) type Tokens = BTreeMap<TokenKey, String>;

/// Which tokens a pod's volumes need.
pub(crate) fn tokens(pod: &Pod) -> Vec<TokenKey> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let projected = volumes.flat_map(|volume| volume.projected.iter());
    let sources = projected.flat_map(|projected| projected.sources.iter().flatten());
    let mut keys: Vec<_> =
        sources.filter_map(|source| source.service_account_token.as_ref().map(TokenKey::from)).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Makes a folder that everybody may write to.
pub(crate) fn open(dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777))?;
    }
    Ok(())
}

/// What a volume is made of now, or the sentence that says what is missing.
pub(crate) fn content(
    volume: &Volume,
    facts: &Facts,
    objects: &Snapshot,
    tokens: &Tokens,
) -> Result<Content, String> {
    let namespace = facts.pod.metadata.namespace.as_deref().unwrap_or_default();
    if volume.empty_dir.is_some() {
        return Ok(Content::Empty);
    }
    if let Some(host) = &volume.host_path {
        return Ok(Content::Host(PathBuf::from(&host.path)));
    }
    let mut files = Files::new();
    if let Some(map) = &volume.config_map {
        let data =
            objects.get(&Ref::new(Kind::ConfigMap, namespace, &map.name), map.optional == Some(true))?;
        put(&mut files, data, map.items.as_deref(), map.default_mode)?;
    } else if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let data = objects.get(&Ref::new(Kind::Secret, namespace, name), secret.optional == Some(true))?;
        put(&mut files, data, secret.items.as_deref(), secret.default_mode)?;
    } else if let Some(downward) = &volume.downward_api {
        put_downward(&mut files, facts, downward.items.as_deref(), downward.default_mode)?;
    } else if let Some(projected) = &volume.projected {
        for source in projected.sources.iter().flatten() {
            put_projected(&mut files, source, projected.default_mode, facts, objects, tokens)?;
        }
    } else {
        return Err(format!("volume {:?} is of a kind that this node does not have", volume.name));
    }
    Ok(Content::Files(files))
}

fn put_projected(
    files: &mut Files,
    source: &VolumeProjection,
    mode: Option<i32>,
    facts: &Facts,
    objects: &Snapshot,
    tokens: &Tokens,
) -> Result<(), String> {
    let namespace = facts.pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(map) = &source.config_map {
        let data =
            objects.get(&Ref::new(Kind::ConfigMap, namespace, &map.name), map.optional == Some(true))?;
        put(files, data, map.items.as_deref(), mode)
    } else if let Some(secret) = &source.secret {
        let data =
            objects.get(&Ref::new(Kind::Secret, namespace, &secret.name), secret.optional == Some(true))?;
        put(files, data, secret.items.as_deref(), mode)
    } else if let Some(downward) = &source.downward_api {
        put_downward(files, facts, downward.items.as_deref(), mode)
    } else if let Some(wanted) = &source.service_account_token {
        let token = tokens.get(&TokenKey::from(wanted)).ok_or("the token is not there yet")?;
        insert(files, &wanted.path, token.clone().into_bytes(), mode)
    } else {
        Err("a projected volume has a source of a kind that this node does not have".to_owned())
    }
}

fn put(
    files: &mut Files,
    data: Option<&Data>,
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
) -> Result<(), String> {
    // An object that is missing and optional gives no files.
    let Some(data) = data else { return Ok(()) };
    let Some(items) = items else {
        return data.iter().try_for_each(|(key, value)| insert(files, key, value.clone(), mode));
    };
    items.iter().try_for_each(|item| {
        let value =
            data.get(&item.key).ok_or_else(|| format!("references non-existent key {:?}", item.key))?;
        insert(files, &item.path, value.clone(), item.mode.or(mode))
    })
}

fn put_downward(
    files: &mut Files,
    facts: &Facts,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: Option<i32>,
) -> Result<(), String> {
    items.unwrap_or_default().iter().try_for_each(|item| {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => facts.field(&field.field_path)?,
            (None, Some(resource)) => facts.resource(resource, None)?,
            (None, None) => return Err(format!("downward API file {:?} has no source", item.path)),
        };
        insert(files, &item.path, value.into_bytes(), item.mode.or(mode))
    })
}

fn insert(files: &mut Files, path: &str, value: Vec<u8>, mode: Option<i32>) -> Result<(), String> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || path.is_empty() || path.starts_with("..") {
        return Err(format!("{path:?} is no path for a file of a volume"));
    }
    let mode = u32::try_from(mode.unwrap_or(MODE)).unwrap_or_default() & 0o777;
    files.insert(path.to_owned(), (value, mode));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    fn read(volume: Value) -> Result<Content, String> {
        let pod = json!({"metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}}, "spec": {"containers": []}});
        let facts = Facts {
            pod: Arc::new(serde_json::from_value(pod).expect("a pod")),
            pod_ip: Ipv4Addr::new(10, 244, 1, 2),
            host_ip: Ipv4Addr::new(172, 30, 1, 2),
        };
        let mut objects = Snapshot::default();
        let data: Data = [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())].into();
        objects.insert(Ref::new(Kind::ConfigMap, "shop", "map"), Some(data.clone()));
        objects.insert(Ref::new(Kind::Secret, "shop", "key"), Some(data));
        objects.insert(Ref::new(Kind::Secret, "shop", "none"), None);
        let tokens = [(TokenKey { audience: None, seconds: 3607 }, "t".to_owned())].into();
        let mut volume = volume;
        volume["name"] = json!("v");
        content(&serde_json::from_value(volume).expect("a volume"), &facts, &objects, &tokens)
    }

    fn files(list: &[(&str, &str, u32)]) -> Result<Content, String> {
        let files =
            list.iter().map(|(path, text, mode)| ((*path).to_owned(), (text.as_bytes().to_vec(), *mode)));
        Ok(Content::Files(files.collect()))
    }

    #[test]
    fn what_volumes_hold() {
        let rows = [
            (json!({"emptyDir": {}}), Ok(Content::Empty)),
            (json!({"hostPath": {"path": "/srv"}}), Ok(Content::Host("/srv".into()))),
            (json!({"configMap": {"name": "map"}}), files(&[("a", "1", 0o644), ("b", "2", 0o644)])),
            (
                json!({"secret": {"secretName": "key", "defaultMode": 256, "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 511}]}}),
                files(&[("x/y", "1", 0o400), ("z", "2", 0o777)]),
            ),
            (json!({"secret": {"secretName": "none", "optional": true}}), files(&[])),
            (
                json!({"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
                files(&[("labels", "app=\"web\"", 0o644)]),
            ),
            (
                json!({"projected": {"sources": [
                   {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                   {"configMap": {"name": "map", "items": [{"key": "a", "path": "ca.crt"}]}},
                   {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
                ]}}),
                files(&[("ca.crt", "1", 0o644), ("namespace", "shop", 0o644), ("token", "t", 0o644)]),
            ),
        ];
        for (volume, wanted) in rows {
            assert_eq!(read(volume.clone()), wanted, "{volume}");
        }
        for (volume, why) in [
            (json!({"secret": {"secretName": "none"}}), "secret shop/none not found"),
            (
                json!({"configMap": {"name": "map", "items": [{"key": "c", "path": "c"}]}}),
                "non-existent key \"c\"",
            ),
            (json!({"configMap": {"name": "map", "items": [{"key": "a", "path": "../c"}]}}), "is no path"),
            (json!({"nfs": {"server": "s", "path": "/"}}), "does not have"),
            (
                json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}),
                "not there yet",
            ),
        ] {
            let said = read(volume).expect_err(why);
            assert!(said.contains(why), "{said}");
        }
    }
}
