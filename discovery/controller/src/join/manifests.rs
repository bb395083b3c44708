//! The manifests that a member cluster gets.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use portolan_api::{YamlError, from_yaml};
use serde_json::{Value, json};

use super::Credential;

/// Everything but the credential and the image.
const AGENT: &str = include_str!("../../../../deploy/manifests/agent.yaml");

/// The agent with its credential, in the order in which they are to be applied.
pub fn manifests(credential: &Credential, image: &str) -> Result<Vec<Value>, YamlError> {
    let mut manifests = from_yaml(AGENT)?;
    for manifest in &mut manifests {
        match manifest.get("kind").and_then(Value::as_str) {
            Some("Secret") => manifest["data"] = json!(data(credential)),
            Some("Deployment") => {
                let containers = manifest.pointer_mut("/spec/template/spec/containers");
                for container in containers.and_then(Value::as_array_mut).into_iter().flatten() {
                    container["image"] = json!(image);
                }
            }
            _ => {}
        }
    }
    Ok(manifests)
}

fn data(credential: &Credential) -> BTreeMap<&'static str, ByteString> {
    let Credential { cluster, namespace, server, authority, token } = credential;
    let texts = [("cluster", cluster), ("namespace", namespace), ("server", server), ("token", token)];
    let texts = texts.into_iter().map(|(key, text)| (key, ByteString(text.clone().into_bytes())));
    texts.chain(authority.clone().map(|pem| ("ca.crt", ByteString(pem)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_and_the_image_are_filled_in_and_nothing_else() {
        let credential = Credential {
            cluster: "paris".into(),
            namespace: "tenant-paris".into(),
            server: "https://lb.example.net:6443".into(),
            authority: Some(b"PEM".to_vec()),
            token: "secret".into(),
        };
        let manifests = manifests(&credential, "registry.example.net/portolan-agent:1").unwrap();
        let of_kind = |kind: &str| {
            let mut found = manifests.iter().filter(|manifest| manifest["kind"] == kind);
            let only = found.next().unwrap();
            assert!(found.next().is_none(), "{kind}");
            only
        };
        let expected = json!({
            "ca.crt": "UEVN",
            "cluster": "cGFyaXM=",
            "namespace": "dGVuYW50LXBhcmlz",
            "server": "aHR0cHM6Ly9sYi5leGFtcGxlLm5ldDo2NDQz",
            "token": "c2VjcmV0",
        });
        assert_eq!(of_kind("Secret")["data"], expected);
        let container = of_kind("Deployment").pointer("/spec/template/spec/containers/0").unwrap();
        assert_eq!(container["image"], "registry.example.net/portolan-agent:1");
        assert_eq!(of_kind("IngressClass")["spec"]["controller"], "portolan.dev/ingress");
        let before = from_yaml(AGENT).unwrap();
        let changed = before.iter().zip(&manifests).filter(|(before, after)| before != after).count();
        assert_eq!((before.len(), changed), (manifests.len(), 2));
    }

    #[test]
    fn without_an_authority_the_secret_has_none() {
        let credential = Credential {
            cluster: "paris".into(),
            namespace: "tenant-paris".into(),
            server: "https://lb.example.net".into(),
            authority: None,
            token: "secret".into(),
        };
        assert!(!data(&credential).contains_key("ca.crt"));
    }
}
