//! What is easier said to kubectl than to the API server.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::Cluster;
use crate::binaries::Binaries;

impl Cluster {
    /// The programs that it is made of.
    pub(crate) fn binaries(&self) -> &Binaries {
        &self.site.binaries
    }

    /// Asks kubectl, as the administrator. The answer is what it prints, the error what it complains of.
    pub async fn kubectl<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<String> {
        let mut kubectl = Command::new(&self.binaries().kubectl);
        kubectl.args(args).env("KUBECONFIG", self.kubeconfig()).stdin(Stdio::null()).kill_on_drop(true);
        let output = kubectl.output().await.context("cannot run kubectl")?;
        if !output.status.success() {
            bail!("kubectl says: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies manifests, files or folders of them, on the server's side: some are too large for an annotation.
    pub async fn apply(&self, manifests: &[PathBuf]) -> Result<()> {
        let files = manifests.iter().flat_map(|path| [OsStr::new("-f"), path.as_os_str()]);
        self.kubectl(["apply", "--server-side"].map(OsStr::new).into_iter().chain(files)).await.map(drop)
    }
}
