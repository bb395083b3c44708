//! Which API server is meant, and with which credentials?
//!
//! A kubeconfig that is named, else what a pod finds in its file system. Nothing is asked of the server here: it may come later.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Opening a connection takes no longer. There is another attempt soon.
const CONNECT: Duration = Duration::from_secs(5);

/// Where an API server is said to be.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// A kubeconfig; without, the pod's own `ServiceAccount`.
    pub kubeconfig: Option<PathBuf>,
    /// A context of it other than its current one.
    pub context: Option<String>,
    /// Outside of a pod, without a kubeconfig: as kubectl does, by `$KUBECONFIG` or `~/.kube/config`.
    pub as_kubectl: bool,
}

/// An API server to talk to.
#[derive(Clone)]
pub struct ApiServer {
    /// Talks to it.
    pub client: Client,
    /// Its URL.
    pub url: String,
}

/// It is not said where the API server is, or not so that it can be understood.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig.
    #[error("cannot use the kubeconfig {file}")]
    Kubeconfig {
        /// Where it is.
        file: PathBuf,
        /// Why.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// That of `$KUBECONFIG` or `~/.kube/config`.
    #[error("cannot use the kubeconfig of $KUBECONFIG or ~/.kube/config; name another one")]
    NoKubeconfig(#[source] kube::config::KubeconfigError),
    /// The pod's environment.
    #[error("this is no pod of a cluster with a ServiceAccount; name a kubeconfig")]
    InCluster(#[source] kube::config::InClusterError),
    /// What either says.
    #[error("cannot use the credentials for {url}")]
    Credentials {
        /// The server.
        url: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

impl ApiServer {
    /// The one that `access` says; rustls' process-wide provider has to be installed.
    pub async fn of(access: &Access) -> Result<Self, ConnectError> {
        let mut config = match &access.kubeconfig {
            Some(file) => kubeconfig(file, access.context.clone()).await?,
            None => match Config::incluster() {
                Err(_) if access.as_kubectl => kubectls(access.context.clone()).await?,
                found => found.map_err(ConnectError::InCluster)?,
            },
        };
        config.connect_timeout = Some(CONNECT);
        let url = config.cluster_url.to_string();
        match Client::try_from(config) {
            Ok(client) => Ok(Self { client, url }),
            Err(source) => Err(ConnectError::Credentials { url, source: Box::new(source) }),
        }
    }
}

async fn kubectls(context: Option<String>) -> Result<Config, ConnectError> {
    let read = Kubeconfig::read().map_err(ConnectError::NoKubeconfig)?;
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(read, &options).await.map_err(ConnectError::NoKubeconfig)
}

async fn kubeconfig(file: &Path, context: Option<String>) -> Result<Config, ConnectError> {
    let wrong = |source| ConnectError::Kubeconfig { file: file.to_owned(), source };
    let kubeconfig = Kubeconfig::read_from(file).map_err(wrong)?;
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrong)
}
