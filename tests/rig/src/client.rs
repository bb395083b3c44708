//! How do processes of a cluster talk to its API server, which tests pause, cut off and kill? With a patience that ends: nothing that they ask is
//! left open for ever, and what was refused is asked again.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long the API server may take to answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(3);
/// How long a watch lasts before it is asked for again, so that one that is dead is noticed.
pub(crate) const WATCH_SECONDS: u32 = 20;
/// Between two tries of what the API server refused.
pub(crate) const RETRY: Duration = Duration::from_millis(200);

/// A client that notices when nobody answers.
pub(crate) async fn connect(kubeconfig: &Path) -> Result<Client> {
    let mut config = config(kubeconfig).await?;
    config.connect_timeout = Some(ANSWER);
    config.read_timeout = Some(Duration::from_secs(u64::from(WATCH_SECONDS) + 5));
    Ok(Client::try_from(config)?)
}

/// What a kubeconfig says.
pub(crate) async fn config(kubeconfig: &Path) -> Result<Config> {
    let read =
        Kubeconfig::read_from(kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    Ok(Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?)
}
