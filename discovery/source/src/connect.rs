//! Which API server is meant, and with which credentials?
//!
//! A kubeconfig that is named, else what a pod finds in its file system. Nothing is asked of the server here: it may come later.
//! A server that is gone without a word, as with a power failure or a cut link, is noticed: its connections end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// Opening a connection takes no longer. There is another attempt soon.
const CONNECT: Duration = Duration::from_secs(5);
/// How often the other end of a connection is asked for a sign of life while nothing is said over it.
const ALIVE: Duration = Duration::from_secs(5);
/// How long it may take to give one, or to acknowledge what it was sent.
const DEAD: Duration = Duration::from_secs(20);
/// How long it may say nothing though it is alive. On a watch it says something about once a minute, if only how far it is.
const SILENT: Duration = Duration::from_secs(100);

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
    /// The one that `access` says.
    pub async fn of(access: &Access) -> Result<Self, ConnectError> {
        let config = match &access.kubeconfig {
            Some(file) => kubeconfig(file, access.context.clone()).await?,
            None => match Config::incluster() {
                Err(_) if access.as_kubectl => kubectls(access.context.clone()).await?,
                found => found.map_err(ConnectError::InCluster)?,
            },
        };
        let url = config.cluster_url.to_string();
        match client(config) {
            Ok(client) => Ok(Self { client, url }),
            Err(source) => Err(ConnectError::Credentials { url, source: Box::new(source) }),
        }
    }
}

/// A client whose connections end with what is at their other end. It tries nothing again: that is for those who know what else there is to do.
pub fn client(config: Config) -> Result<Client, kube::Error> {
    client_of(config, SILENT)
}

fn client_of(config: Config, silent: Duration) -> Result<Client, kube::Error> {
    // The library's own client refuses a proxy, which is not supported, and installs rustls' provider where there is none.
    let mut plain = Config::new(config.cluster_url.clone());
    plain.proxy_url.clone_from(&config.proxy_url);
    // Without, it is to be those of the system, which there need not be.
    plain.root_cert = Some(Vec::new());
    Client::try_from(plain)?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // Of several addresses each gets its part.
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(ALIVE));
    tcp.set_keepalive_interval(Some(ALIVE));
    tcp.set_tcp_user_timeout(Some(DEAD));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_read_timeout(Some(silent));
    connector.set_reset_reader_on_write(true);
    let connections = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(connections);
    Ok(Client::new(service, config.default_namespace))
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

#[cfg(test)]
mod tests {
    use kube::api::{Api, ListParams};
    use portolan_api::kinds::Cluster;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A server that takes a request and says nothing, and what it is asked by a client.
    async fn asked(silent: Duration) -> (u16, TcpStream, impl Future<Output = kube::Result<usize>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Config::new(format!("http://127.0.0.1:{port}").parse().unwrap());
        let clusters = Api::<Cluster>::all(client_of(config, silent).unwrap());
        let answer =
            tokio::spawn(
                async move { clusters.list(&ListParams::default()).await.map(|list| list.items.len()) },
            );
        let (mut server, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        assert!(server.read(&mut head).await.unwrap() > 0);
        (port, server, async { answer.await.unwrap() })
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let (_, _server, answer) = asked(Duration::from_millis(200)).await;
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await;
        assert!(answer.expect("a client that waits for ever").is_err());
    }

    /// The kernel asks for signs of life: its table of connections says which timer runs.
    #[tokio::test]
    async fn a_server_that_is_gone_is_noticed() {
        let (port, _server, _answer) = asked(SILENT).await;
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let remote = format!("0100007F:{port:04X}");
        let ours = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let timers: Vec<_> =
            ours.filter(|it| it[2] == remote && it[3] == "01").map(|it| &it[5][..2]).collect();
        assert_eq!(timers, ["02"], "{table}");
    }
}
