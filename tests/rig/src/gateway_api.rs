//! The Gateway API in a cluster: its custom resource definitions, in the version that the conformance suite is pinned to.
//!
//! One channel for each cluster, for the definitions of both have the same names. Takes a second.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::cluster::Cluster;

/// Which definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Channel {
    /// What is stable.
    Standard,
    /// That, and what is being tried out.
    Experimental,
}

impl Channel {
    /// What the project calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Experimental => "experimental",
        }
    }
}

/// Installs the definitions of a channel, and returns when the API server serves them. Says how many files there were.
pub async fn install(cluster: &Cluster, channel: Channel) -> Result<usize> {
    let folder = cluster.binaries().gateway_crds.join(channel.name());
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    // Beside them lies what is meant for another tool.
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("gateway.networking.") && name.ends_with(".yaml")
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(ours).collect();
    files.sort();
    if files.is_empty() {
        bail!("no definitions in {}", folder.display());
    }
    cluster.apply(&files).await?;
    let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
    cluster.kubectl(established).await?;
    Ok(files.len())
}
