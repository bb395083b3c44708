//! Which API server, and what a process of ours is called there: arguments that several commands have.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use portolan_compile::Compiler;
use portolan_controller::join::{Server, Url};
use portolan_model::id::{CLUSTER_NAME_AT_MOST, SYSTEM_NAMESPACE};
use portolan_source::{Access, ApiServer, KubernetesOptions, KubernetesSource};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::read;

/// What says something of an API server, for commands that do with a folder as well.
pub(crate) const IDS: [&str; 4] = ["kubernetes", "kubeconfig", "context", "namespace"];

/// How often a command that reads once looks whether it waits in vain.
const LOOK: Duration = Duration::from_millis(500);

/// It does not wait longer; nor so long where something is wrong, which may be over by then.
const ONCE: Duration = Duration::from_secs(30);
const IN_TROUBLE: Duration = Duration::from_secs(5);

/// An API server, and where in it the platform's own objects are.
#[derive(Args, Clone, Default)]
pub(crate) struct ServerArgs {
    /// How to reach the API server. Without it, by the ServiceAccount of the pod that this runs in; `explain` outside of a pod by $KUBECONFIG or
    /// ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig other than its current one.
    #[arg(long, requires = "kubeconfig")]
    context: Option<String>,
    /// The namespace for the platform's own objects, which manifests call portolan-system whatever it is called.
    #[arg(long, value_name = "NAMESPACE", default_value = SYSTEM_NAMESPACE)]
    namespace: Option<String>,
}

impl ServerArgs {
    /// What is asked by. The server itself is not asked yet.
    pub(crate) async fn connect(&self) -> anyhow::Result<ApiServer> {
        ApiServer::of(&self.access()).await.context("cannot talk to an API server")
    }

    fn access(&self) -> Access {
        Access { kubeconfig: self.kubeconfig.clone(), context: self.context.clone(), as_kubectl: false }
    }

    /// The namespace for the platform's own objects.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(SYSTEM_NAMESPACE)
    }

    /// How to read it, with nothing kept on disk.
    pub(crate) fn options(&self) -> KubernetesOptions {
        KubernetesOptions { namespace: self.namespace().to_owned(), ..KubernetesOptions::new(read::CHECKS) }
    }
}

/// The LB cluster, for who takes member clusters in and out.
#[derive(Args)]
pub(crate) struct LbArgs {
    /// How to reach the LB cluster. Without it, as kubectl does: by $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of it other than its current one.
    #[arg(long)]
    context: Option<String>,
    /// The URL by which the member cluster reaches the API server of the LB cluster, where it is another than the kubeconfig's.
    #[arg(long, value_name = "URL", value_parser = Url::parse)]
    pub(crate) server: Option<Url>,
}

impl LbArgs {
    pub(crate) async fn connect(&self) -> anyhow::Result<Server> {
        Ok(Server::of(self.kubeconfig.clone(), self.context.clone()).await?)
    }
}

/// The name of a `Cluster`, of an argument.
pub(crate) fn cluster_name(text: &str) -> Result<String, String> {
    if portolan_api::is_cluster_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "expected at most {CLUSTER_NAME_AT_MOST} lower-case letters, digits and '-', with a letter or digit at both ends"
    ))
}

/// Runs a command that talks to API servers.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    portolan_certs::install_provider().context("cannot use the cryptography library")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}

/// Reads and compiles all objects once.
pub(crate) fn compile(server: &ServerArgs) -> anyhow::Result<Compiler> {
    let batch = block_on(async {
        let (batches, mut queue) = mpsc::channel(1);
        let access = Access { as_kubectl: true, ..server.access() };
        let server_found = ApiServer::of(&access).await.context("cannot talk to an API server")?;
        let source = KubernetesSource::start(&server_found, server.options(), batches);
        let began = Instant::now();
        let mut troubled: Option<Instant> = None;
        let (batch, denied) = loop {
            let batch = timeout(LOOK, queue.recv()).await;
            let denied = source.status().denied();
            troubled = match source.status().troubles().is_empty() {
                true => None,
                false => troubled.or_else(|| Some(Instant::now())),
            };
            let in_vain = troubled.is_some_and(|since| since.elapsed() > IN_TROUBLE);
            if batch.is_ok() || denied.is_some() || in_vain || began.elapsed() > ONCE {
                break (batch, denied);
            }
        };
        match batch {
            Ok(Some(batch)) => Ok(batch),
            Ok(None) | Err(_) => {
                let why = denied.or_else(|| source.status().troubles().into_iter().next());
                let why = why.map_or_else(String::new, |it| format!(": {}: {}", it.subject, it.reason));
                Err(anyhow::anyhow!("{} does not say everything{why}", server_found.url))
            }
        }
    })?;
    let mut compiler = Compiler::new();
    compiler.apply(batch.deltas);
    Ok(compiler)
}

/// The name of this process among others like it: as given, the pod's, or the machine's.
pub(crate) fn replica_name(given: Option<&str>) -> anyhow::Result<String> {
    let of_machine = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let known = |name: &str| std::env::var(name).ok();
    let name = given.map(str::to_owned);
    let name = name.or_else(|| known("POD_NAME")).or_else(|| known("HOSTNAME")).or_else(of_machine);
    let name = name.unwrap_or_default().trim().to_ascii_lowercase();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    anyhow::ensure!(
        !name.is_empty() && name.len() <= 200 && name.chars().all(plain),
        "{name:?} cannot be the name of a replica (lower-case letters, digits, '-' and '.'); say another with --replica-name"
    );
    Ok(name)
}
