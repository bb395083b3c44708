//! What do the clusters of one fleet share?

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, bail};

use crate::addresses::{Addresses, NODES};
use crate::binaries::Binaries;
use crate::net::Wan;

/// A fleet's numbers, folder, network and programs.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) addresses: Addresses,
    pub(crate) dir: PathBuf,
    pub(crate) wan: Arc<Wan>,
    pub(crate) binaries: Binaries,
    /// The binary of this crate, which is the kubelet too.
    pub(crate) rig: PathBuf,
    /// The file that says which image is which binary.
    pub(crate) images: PathBuf,
    pub(crate) nodes: AtomicU8,
}

impl Site {
    /// A number for one more node.
    pub(crate) fn next_node(&self) -> Result<u8> {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed) + 1;
        if number > NODES {
            bail!("a fleet has at most {NODES} nodes in its lifetime");
        }
        Ok(number)
    }
}

/// A binary of this workspace: what the variable says, ourselves, or what cargo built beside us.
pub fn built(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let ours = std::env::current_exe().context("no path of our own")?;
    // Tests are in `deps`, a folder below.
    let mut folders = ours.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    folders
        .find(|path| path.is_file())
        .with_context(|| format!("no binary `{name}` near {}: build it, or set {variable}", ours.display()))
}
