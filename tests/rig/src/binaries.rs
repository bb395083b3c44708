//! Where is each program that a cluster is made of?
//!
//! `build.sh` knows: it builds what the Go modules in `modules/` pin, keeps it by the hash of its sources, and takes from
//! `KUBEBUILDER_ASSETS` what is there. Asking for what is built costs a tenth of a second; building everything, once, some minutes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/build.sh");

/// The programs of every cluster, and of the conformance suite.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The API server.
    pub kube_apiserver: PathBuf,
    /// The controllers.
    pub kube_controller_manager: PathBuf,
    /// Services, on each node.
    pub kube_proxy: PathBuf,
    /// The client for people.
    pub kubectl: PathBuf,
    /// Charts.
    pub helm: PathBuf,
    /// The API server's database.
    pub etcd: PathBuf,
    /// The Gateway API's conformance suite: a Go test program with the one test `TestConformance`.
    pub conformance: PathBuf,
    /// The suite's echo server.
    pub echo_basic: PathBuf,
    /// The folder of the Gateway API's custom resource definitions, of the suite's version; `standard` and `experimental` are in it.
    pub gateway_crds: PathBuf,
}

impl Binaries {
    /// Finds them, and builds those that are missing, which takes minutes and tells on stderr how far it is.
    pub fn find() -> Result<Self> {
        Self::ask(&[])
    }

    /// Finds them, and builds nothing: an error names those that are missing.
    pub fn built() -> Result<Self> {
        Self::ask(&["--no-build"])
    }

    /// Whether they are there or could be built: else an error that says what to install.
    pub(crate) fn check() -> Result<()> {
        answer(Command::new(SCRIPT).arg("--check")).map(drop)
    }

    /// CoreDNS, which few tests need: it is built when first asked for.
    pub fn coredns() -> Result<PathBuf> {
        take(&mut answer(Command::new(SCRIPT).arg("coredns"))?, "coredns")
    }

    fn ask(arguments: &[&str]) -> Result<Self> {
        let mut found = answer(Command::new(SCRIPT).args(arguments))?;
        Ok(Self {
            kube_apiserver: take(&mut found, "kube-apiserver")?,
            kube_controller_manager: take(&mut found, "kube-controller-manager")?,
            kube_proxy: take(&mut found, "kube-proxy")?,
            kubectl: take(&mut found, "kubectl")?,
            helm: take(&mut found, "helm")?,
            etcd: take(&mut found, "etcd")?,
            conformance: take(&mut found, "conformance")?,
            echo_basic: take(&mut found, "echo-basic")?,
            gateway_crds: take(&mut found, "gateway-crds")?,
        })
    }
}

/// Runs the script: its stdout is the answer, its stderr is passed on but for the sentence that says what is wrong.
fn answer(script: &mut Command) -> Result<HashMap<String, PathBuf>> {
    let mut script = script
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {SCRIPT}"))?;
    let mut error = None;
    // The answer is far smaller than a pipe, and comes last.
    if let Some(stderr) = script.stderr.take() {
        for line in BufReader::new(stderr).lines() {
            let line = line.with_context(|| format!("reading what {SCRIPT} says"))?;
            match line.strip_prefix("error: ") {
                Some(sentence) => error = Some(sentence.to_owned()),
                None => eprintln!("{line}"),
            }
        }
    }
    let mut answer = String::new();
    if let Some(mut stdout) = script.stdout.take() {
        stdout.read_to_string(&mut answer).with_context(|| format!("reading the answer of {SCRIPT}"))?;
    }
    let status = script.wait().with_context(|| format!("waiting for {SCRIPT}"))?;
    if !status.success() {
        bail!(error.unwrap_or_else(|| format!("{SCRIPT} ended with {status}")));
    }
    Ok(answer
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
        .collect())
}

fn take(found: &mut HashMap<String, PathBuf>, name: &str) -> Result<PathBuf> {
    found.remove(name).with_context(|| format!("{SCRIPT} did not say where {name} is"))
}

#[cfg(test)]
mod tests;
