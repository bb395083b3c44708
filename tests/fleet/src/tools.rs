//! The programs that people use: kubectl, helm, portolan.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// kubectl with the credentials of one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// As the user of that file.
    pub fn new(program: &Path, kubeconfig: &Path) -> Self {
        Self { program: program.to_owned(), kubeconfig: kubeconfig.to_owned() }
    }

    /// The file that says which cluster and as whom.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// What it prints; an error with what it complains of.
    pub async fn run(&self, args: &[&str]) -> Result<String> {
        self.with_input(args, "").await
    }

    /// The same with something to read.
    pub async fn with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let kubeconfig = self.kubeconfig.to_string_lossy();
        let args = ["--kubeconfig", &*kubeconfig].into_iter().chain(args.iter().copied());
        run(&self.program, args, input).await
    }

    /// Applies manifests, as a person does.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        self.with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], manifests).await
    }

    /// One object or a list, as JSON.
    pub async fn get(&self, args: &[&str]) -> Result<Value> {
        let args: Vec<_> = ["get", "-o", "json"].into_iter().chain(args.iter().copied()).collect();
        Ok(serde_json::from_str(&self.run(&args).await?)?)
    }
}

/// Runs a program to its end.
pub(crate) async fn run<'a>(
    program: &Path,
    args: impl IntoIterator<Item = &'a str>,
    input: &str,
) -> Result<String> {
    let args: Vec<_> = args.into_iter().collect();
    let mut child = Command::new(program)
        .args(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Where the program ended early, its complaint below says why.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("{} {}: {}", program.display(), args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
