//! What an agent talks to the LB cluster with.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig, NamedCluster};
use kube::core::DeserializeGuard;
use kube::{Client, Config};
use portolan_api::contract::AGENT;
use portolan_api::kinds::Cluster;
use portolan_model::id::tenant_namespace;
use serde_json::{Value, json};

use super::{JoinError, Server, Url};
use crate::refusal::Refusal;
use crate::tenant::WRITER;

/// So long a token is good; the agent renews it every day.
const TOKEN: Duration = Duration::from_secs(7 * 24 * 3600);
/// So long what the controller makes is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// So long the URL that a member cluster is to use is tried from here.
const TRY: Duration = Duration::from_secs(5);
/// What Kubernetes puts into every namespace: what pods verify its API server against.
const ROOT_CA: &str = "kube-root-ca.crt";

/// What an agent talks to the LB cluster with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The name of its `Cluster`.
    pub cluster: String,
    /// Its namespace there.
    pub namespace: String,
    /// The URL of the API server, as the member cluster reaches it.
    pub server: String,
    /// PEM: what the server's certificate is verified against. The agent's own trust store without.
    pub authority: Option<Vec<u8>>,
    /// The token.
    pub token: String,
}

/// A new credential for that cluster, with a URL in place of the server's own if the member cluster needs another. What may not work there is
/// said to `doubt`.
pub async fn credential(
    server: &Server,
    cluster: &str,
    url: Option<&Url>,
    mut doubt: impl FnMut(&str),
) -> Result<Credential, JoinError> {
    let client = &server.client;
    let failed = |what: String| move |error: kube::Error| JoinError::Request(what, error.into());
    let clusters = Api::<DeserializeGuard<Cluster>>::all(client.clone());
    let reading = || failed(format!("cannot read Cluster {cluster} of {}", server.url));
    match clusters.get_opt(cluster).await {
        Ok(Some(_)) => {}
        Ok(None) => {
            let there = server.clusters().await?;
            return Err(JoinError::NoCluster { cluster: cluster.to_owned(), there });
        }
        // The kind itself is not known there: of an object that is not there it would have said which.
        Err(kube::Error::Api(status)) if status.code == 404 => {
            return Err(JoinError::NotInstalled(server.url.clone()));
        }
        Err(error) => return Err(reading()(error)),
    }
    let namespace = tenant_namespace(cluster);
    provisioned(client, &namespace).await?;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: i64::try_from(TOKEN.as_secs()).ok(),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let account = format!("{namespace}/{AGENT}");
    let made = accounts.create_token_request(AGENT, &PostParams::default(), &request).await;
    let made = made.map_err(failed(format!("cannot make a token for the account {account}")))?;
    let token = made.status.and_then(|status| status.token).filter(|token| !token.is_empty());
    let token = token.ok_or(JoinError::NoToken(account))?;
    let known = url.is_none();
    let url = url.map_or_else(|| Url::parse(&server.url), |url| Ok(url.clone()))?;
    if url.is_local() {
        doubt(&format!(
            "{url} is whatever machine it is used on, so a member cluster elsewhere will not find the LB cluster by it; say another with --server"
        ));
    }
    let server_url = url.to_string();
    // Another name of the server may have another certificate: the server's own authority is the best guess.
    let authority = server.authority.clone();
    let mut credential =
        Credential { cluster: cluster.to_owned(), namespace, server: server_url, authority, token };
    // A kubeconfig without one may be that of a server with a public certificate, as behind a proxy of its provider.
    if credential.authority.is_none() && !answers(&credential).await {
        let found = root_ca(client, &credential.namespace).await;
        credential.authority = found.map_err(failed(format!("cannot read {ROOT_CA}")))?;
    }
    if !known {
        tried(&credential, doubt).await?;
    }
    Ok(credential)
}

/// Uses a credential as an agent will. That this fails from here is no error: the member cluster may have a way that is not ours.
async fn tried(credential: &Credential, mut doubt: impl FnMut(&str)) -> Result<(), JoinError> {
    let url = &credential.server;
    let why = match tokio::time::timeout(TRY, version(credential)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.code == 401 => {
            return Err(JoinError::AnotherServer(url.clone()));
        }
        Ok(Err(error)) => Refusal::from(error).to_string(),
        Err(_) => format!("no answer within {TRY:?}"),
    };
    doubt(&format!("{url} could not be used from here, with the CA and the token of the credential: {why}"));
    Ok(())
}

/// Whether it is an API server with a certificate that can be verified.
async fn answers(credential: &Credential) -> bool {
    let answer = tokio::time::timeout(TRY, version(credential)).await;
    matches!(answer, Ok(Ok(()) | Err(kube::Error::Api(_))))
}

async fn version(credential: &Credential) -> kube::Result<()> {
    let Credential { server, authority, token, .. } = credential;
    let authority = authority.clone().map(ByteString);
    let kubeconfig = serde_json::from_value::<Kubeconfig>(json!({
        "clusters": [{ "name": "lb", "cluster": { "server": server, "certificate-authority-data": authority } }],
        "users": [{ "name": AGENT, "user": { "token": token } }],
        "contexts": [{ "name": "lb", "context": { "cluster": "lb", "user": AGENT } }],
        "current-context": "lb",
    }))
    .map_err(kube::Error::SerdeError)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|error| kube::Error::Service(Box::new(error)))?;
    config.connect_timeout = Some(TRY);
    config.default_retry = false;
    Client::try_from(config)?.apiserver_version().await.map(|_| ())
}

/// Waits for what the controller makes last.
async fn provisioned(client: &Client, namespace: &str) -> Result<(), JoinError> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), namespace);
    let look = async {
        loop {
            if bindings.get_opt(WRITER).await?.is_some() && accounts.get_opt(AGENT).await?.is_some() {
                return Ok::<(), kube::Error>(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let what = format!("the ServiceAccount {namespace}/{AGENT}");
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(JoinError::Request(format!("cannot read {what}"), error.into())),
        Err(_) => Err(JoinError::NotProvisioned { what, waited: PATIENCE }),
    }
}

async fn root_ca(client: &Client, namespace: &str) -> kube::Result<Option<Vec<u8>>> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let map = maps.get_opt(ROOT_CA).await?;
    Ok(map.and_then(|map| map.data?.remove("ca.crt")).map(String::into_bytes))
}

/// PEM: what the server of a kubeconfig is verified against, if that says it.
pub(super) fn authority(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<Vec<u8>> {
    let current = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig.contexts.iter().find(|context| context.name == current)?;
    let wanted = &context.context.as_ref()?.cluster;
    let NamedCluster { cluster, .. } = kubeconfig.clusters.iter().find(|cluster| cluster.name == *wanted)?;
    let cluster = cluster.as_ref()?;
    if let Some(data) = &cluster.certificate_authority_data {
        let decoded = serde_json::from_value::<ByteString>(Value::from(data.as_str()));
        return decoded.ok().map(|ByteString(pem)| pem);
    }
    // Whatever is wrong with the file, the client says when it is used.
    std::fs::read(cluster.certificate_authority.as_ref()?).ok()
}
