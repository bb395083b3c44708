//! With what does the agent go to the LB cluster, and until when?
//!
//! A `Secret` beside the agent has the address, the CA and a token. It is watched: another one is taken without a restart. A token says itself
//! from when to when it is good; after a seventh of that a new one is asked for with it, and written back.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use portolan_api::contract::AGENT;
use serde::Deserialize;
use serde_json::json;

/// What the `Secret` is called.
pub(super) const SECRET: &str = "portolan-agent-credential";

/// A way into the LB cluster.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) cluster: String,
    pub(super) namespace: String,
    pub(super) server: String,
    ca: Vec<u8>,
    token: String,
}

/// Why a credential is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialError {
    #[error("the Secret {SECRET} has no {0}")]
    Missing(&'static str),
    #[error("{0} of the Secret {SECRET} is not text")]
    NotText(&'static str),
    #[error("the credential for {server} cannot be used")]
    Unusable { server: String, source: Box<dyn std::error::Error + Send + Sync> },
}

impl Credential {
    pub(super) fn read(secret: &Secret) -> Result<Self, CredentialError> {
        let bytes = |name: &'static str| {
            let value = secret.data.as_ref().and_then(|data| data.get(name)).map(|value| value.0.clone());
            value.filter(|value| !value.is_empty()).ok_or(CredentialError::Missing(name))
        };
        let text = |name| {
            let text = String::from_utf8(bytes(name)?).map_err(|_| CredentialError::NotText(name))?;
            Ok(text.trim().to_owned())
        };
        Ok(Self {
            cluster: text("cluster")?,
            namespace: text("namespace")?,
            server: text("server")?,
            ca: bytes("ca.crt")?,
            token: text("token")?,
        })
    }

    /// Whether the other leads to the same place.
    pub(super) fn same_place(&self, other: &Self) -> bool {
        (&self.cluster, &self.namespace, &self.server) == (&other.cluster, &other.namespace, &other.server)
    }

    pub(super) fn with_token(&self, token: String) -> Self {
        Self { token, ..self.clone() }
    }

    /// A client that uses it. Nothing is asked yet.
    pub(super) async fn client(&self) -> Result<Client, CredentialError> {
        let unusable = |source: Box<dyn std::error::Error + Send + Sync>| CredentialError::Unusable {
            server: self.server.clone(),
            source,
        };
        let kubeconfig: Kubeconfig = serde_json::from_value(json!({
            "clusters": [{ "name": "lb", "cluster": {
                "server": self.server, "certificate-authority-data": ByteString(self.ca.clone()) } }],
            "users": [{ "name": AGENT, "user": { "token": self.token } }],
            "contexts": [{ "name": "lb", "context": {
                "cluster": "lb", "user": AGENT, "namespace": self.namespace } }],
            "current-context": "lb",
        }))
        .map_err(|error| unusable(error.into()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.map_err(|error| unusable(error.into()))?;
        config.connect_timeout = Some(Duration::from_secs(5));
        // What fails is tried again where it is known what else there is to do.
        config.default_retry = false;
        Client::try_from(config).map_err(|error| unusable(error.into()))
    }

    /// When it had better be renewed, and when it ends; nothing where the token does not say.
    pub(super) fn term(&self) -> Option<(Timestamp, Timestamp)> {
        let claims = self.token.split('.').nth(1)?;
        let claims: Claims = serde_json::from_slice(&base64url(claims)?).ok()?;
        let seventh = claims.exp.checked_sub(claims.iat)? / 7;
        let at = |seconds: i64| Timestamp::from_second(seconds).ok();
        Some((at(claims.iat.checked_add(seventh)?)?, at(claims.exp)?))
    }
}

#[derive(Deserialize)]
struct Claims {
    iat: i64,
    exp: i64,
}

/// RFC 7515 §2. `Secret`s bring a reader of the other alphabet.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut plain = text.replace('-', "+").replace('_', "/");
    while !plain.len().is_multiple_of(4) {
        plain.push('=');
    }
    let bytes: ByteString = serde_json::from_value(plain.into()).ok()?;
    Some(bytes.0)
}

/// Why there is no other token.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenewError {
    #[error("the LB cluster gives no token")]
    Refused(#[source] kube::Error),
    #[error("the LB cluster does not answer")]
    Unreachable,
    #[error("the LB cluster gave an empty token")]
    Empty,
}

/// How long a request about tokens may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Another token, from the LB cluster. It is kept beside the agent; where that fails it is used all the same.
pub(super) async fn renew(
    lb: Client,
    tenant: String,
    lifetime: Duration,
    member: Client,
    namespace: String,
) -> Result<String, RenewError> {
    let accounts: Api<ServiceAccount> = Api::namespaced(lb, &tenant);
    let spec = TokenRequestSpec {
        expiration_seconds: i64::try_from(lifetime.as_secs()).ok(),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let params = PostParams::default();
    let answer = tokio::time::timeout(LIMIT, accounts.create_token_request(AGENT, &params, &request)).await;
    let answer = answer.map_err(|_| RenewError::Unreachable)?.map_err(RenewError::Refused)?;
    let token = answer.status.and_then(|status| status.token).filter(|token| !token.is_empty());
    let token = token.ok_or(RenewError::Empty)?;
    match tokio::time::timeout(LIMIT, keep(&member, &namespace, &token)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the new token cannot be kept beside the agent"),
        Err(_) => tracing::error!(
            "the new token cannot be kept beside the agent: the member cluster does not answer"
        ),
    }
    Ok(token)
}

async fn keep(member: &Client, namespace: &str, token: &str) -> kube::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(member.clone(), namespace);
    let patch = json!({ "data": { "token": ByteString(token.as_bytes().to_vec()) } });
    let params = PatchParams { field_manager: Some(AGENT.to_owned()), ..PatchParams::default() };
    secrets.patch(SECRET, &params, &Patch::Merge(&patch)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(token: &str) -> Credential {
        let secret: Secret = serde_json::from_value(json!({ "data": {
            "cluster": "cGFyaXM=", "namespace": "dGVuYW50LXBhcmlz", "server": "aHR0cHM6Ly9sYgo=", "ca.crt": "Y2E=",
            "token": ByteString(token.as_bytes().to_vec()),
        } }))
        .unwrap();
        Credential::read(&secret).unwrap()
    }

    #[test]
    fn a_credential_says_where_to_and_until_when() {
        // {"iat":1700000000,"exp":1700000700,"x":"??>"}
        let read = credential("e30.eyJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMDcwMCwieCI6Ij8_PiJ9.c2ln");
        assert_eq!(
            (&*read.cluster, &*read.namespace, &*read.server),
            ("paris", "tenant-paris", "https://lb")
        );
        let (renew, end) = read.term().unwrap();
        assert_eq!((renew.as_second(), end.as_second()), (1_700_000_100, 1_700_000_700));
        for odd in ["", "x", "a.b.c", "a.e30.c", "a.eyJpYXQiOjF9.c"] {
            assert_eq!(credential(&format!("t{odd}")).term(), None, "{odd}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let secret: Secret =
            serde_json::from_value(json!({ "data": { "cluster": "cGFyaXM=", "namespace": "" } })).unwrap();
        let error = Credential::read(&secret).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("the Secret portolan-agent-credential has no namespace"));
    }
}
