//! `Secret` and `ConfigMap`: certificates and CA bundles.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use portolan_model::intent::{CaBundle, Spec, TlsSecret};
use portolan_model::redacted::Redacted;

use super::{Convert, Cx};
use crate::field::At;

impl Convert for Secret {
    fn convert(&self, cx: &mut Cx<'_>) -> Option<Spec> {
        if self.type_.as_deref() != Some("kubernetes.io/tls") {
            cx.ignored = Some("it is not of type kubernetes.io/tls");
            return None;
        }
        let chain = entry(cx, self, "tls.crt");
        let key = entry(cx, self, "tls.key");
        let (chain, key) = (chain?, key?);
        let at = At::top(field(self, "tls.crt"));
        let facts = cx.check(&at.field("tls.crt"), (cx.checks.certificate)(&chain, &key))?;
        Some(Spec::Secret(Box::new(TlsSecret { chain, key: Redacted(key), facts })))
    }
}

/// Where a value of a `Secret` stands.
fn field(secret: &Secret, name: &str) -> &'static str {
    let plain = secret.string_data.as_ref().is_some_and(|data| data.contains_key(name));
    if plain { "stringData" } else { "data" }
}

/// A value of a `Secret`; what stands in `stringData` wins, as an API server has it.
fn entry(cx: &mut Cx<'_>, secret: &Secret, name: &str) -> Option<Arc<[u8]>> {
    let text = secret.string_data.as_ref().and_then(|data| data.get(name));
    let bytes = secret.data.as_ref().and_then(|data| data.get(name));
    let value = match text {
        Some(text) => Some(text.as_bytes()),
        None => bytes.map(|bytes| &*bytes.0),
    };
    let at = At::top(field(secret, name));
    match value {
        Some(value) if !value.is_empty() => Some(value.into()),
        Some(_) => {
            cx.error(&at.field(name), format!("{name} is empty"));
            None
        }
        None => {
            cx.error(&at.field(name), format!("a Secret of type kubernetes.io/tls needs {name}"));
            None
        }
    }
}

impl Convert for ConfigMap {
    fn convert(&self, cx: &mut Cx<'_>) -> Option<Spec> {
        let Some(pem) = self.data.as_ref().and_then(|data| data.get("ca.crt")) else {
            cx.ignored = Some("it has no CA bundle under ca.crt");
            return None;
        };
        let at = At::top("data");
        cx.check(&at.field("ca.crt"), (cx.checks.ca_bundle)(pem.as_bytes()))?;
        Some(Spec::ConfigMap(CaBundle { pem: pem.as_bytes().into() }))
    }
}
