//! Several clusters on one machine, joined by a wan.
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use portolan_rig::{Fleet, Options};
//! let fleet = Fleet::up(Options::new(["lb", "paris"])).await?;
//! let paris = fleet.cluster("paris")?;
//! let client = paris.client().await?;
//! paris.node(1)?.link().cut()?;
//! # Ok(()) }
//! ```
//!
//! A fleet goes when it is dropped: processes, namespaces, links, files. It takes some five seconds to come and one to go.

pub(crate) mod claim;

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;

use crate::addresses::{Addresses, NODES};
use crate::binaries::Binaries;
use crate::cluster::{Cluster, Step};
use crate::machine;
use crate::net::{Link, Wan};
use crate::process::{self, Record};
use crate::site::{self, Site};
use claim::Claim;

/// What Kubernetes calls the image of CoreDNS.
const COREDNS: &str = "registry.k8s.io/coredns/coredns";

/// What a fleet is to be.
#[derive(Clone, Debug)]
pub struct Options {
    clusters: Vec<String>,
    nodes: usize,
    cloud: bool,
    coredns: bool,
    images: BTreeMap<String, PathBuf>,
}

impl Options {
    /// Clusters of these names, with one node each.
    pub fn new<N: Into<String>>(clusters: impl IntoIterator<Item = N>) -> Self {
        Self {
            clusters: clusters.into_iter().map(Into::into).collect(),
            nodes: 1,
            cloud: false,
            coredns: false,
            images: BTreeMap::new(),
        }
    }

    /// Nodes of each cluster.
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Whether Services of type LoadBalancer without a class get an address.
    pub fn cloud(mut self, cloud: bool) -> Self {
        self.cloud = cloud;
        self
    }

    /// Whether containers of the image `registry.k8s.io/coredns/coredns` run CoreDNS, which is built if it is not there.
    pub fn coredns(mut self, coredns: bool) -> Self {
        self.coredns = coredns;
        self
    }

    /// The binary that containers of an image run: the image's name with a tag or without. The echo server and Portolan are known.
    pub fn image(mut self, name: &str, binary: &Path) -> Self {
        self.images.insert(name.to_owned(), binary.to_owned());
        self
    }

    fn check(&self) -> Result<()> {
        if self.clusters.is_empty() || self.nodes == 0 {
            bail!("a fleet has at least one cluster, and a cluster at least one node");
        }
        if self.clusters.len() * self.nodes > usize::from(NODES) {
            bail!(
                "a fleet has at most {NODES} nodes: {} clusters of {} are too many",
                self.clusters.len(),
                self.nodes
            );
        }
        for (at, name) in self.clusters.iter().enumerate() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            if name.is_empty() || name.len() > 20 || !name.chars().all(plain) || name == "wan" {
                bail!(
                    "{name:?} is no name for a cluster: 1 to 20 lower-case letters and digits, and not \"wan\""
                );
            }
            if self.clusters[..at].contains(name) {
                bail!("two clusters are called {name}");
            }
        }
        Ok(())
    }
}

/// Running clusters. Dropping it ends them and removes all that they had.
#[derive(Debug)]
pub struct Fleet {
    // First, so that it is dropped first: it kills the processes that the clusters then reap.
    claim: Claim,
    clusters: Vec<Cluster>,
    site: Arc<Site>,
    took: Duration,
}

impl Fleet {
    /// Starts clusters beside each other, in a folder below `/run/portolan-rig` or `$RIG_DIR`, and returns when all can run pods. Fails with
    /// one sentence before anything is started where this machine cannot carry them; whatever fails later, nothing stays.
    pub async fn up(options: Options) -> Result<Self> {
        options.check()?;
        machine::check()?;
        let rig = site::built("rig", "RIG_BIN")?;
        let binaries = Binaries::find()?;
        let coredns = options.coredns.then(Binaries::coredns).transpose()?;
        let began = Instant::now();
        let parent = std::env::var_os("RIG_DIR").map_or_else(|| PathBuf::from(claim::HOME), PathBuf::from);
        let claim = Claim::first_free(&parent)?;
        let addresses = Addresses { fleet: claim.number() };
        let dir = claim.dir().to_owned();
        let images = dir.join("images.yaml");
        let coredns = coredns.map(|path| (COREDNS.to_owned(), path));
        let known = known(&binaries).into_iter().chain(coredns).chain(options.images);
        write_images(&images, &known.collect())?;
        let wan = Arc::new(Wan::create(addresses)?);
        let site = Arc::new(Site { addresses, dir, wan, binaries, rig, images, nodes: AtomicU8::new(0) });
        let numbered = (0..).zip(&options.clusters);
        let clusters = try_join_all(numbered.map(|(number, name)| {
            let site = &site;
            async move {
                let cluster = Cluster::up(site, name, number, options.nodes, options.cloud).await;
                cluster.with_context(|| format!("cluster {name}"))
            }
        }));
        Ok(Self { clusters: clusters.await?, claim, site, took: began.elapsed() })
    }

    /// Whether this machine can carry a fleet, once its programs are built: else one sentence that says what is missing.
    pub fn can_start() -> Result<()> {
        machine::check()?;
        Binaries::check()
    }

    /// Ends it, and says what could not be removed, which dropping it can only log.
    pub fn down(mut self) -> Result<()> {
        self.claim.clear()
    }

    /// Lets it outlive us: `rig down` ends it.
    pub fn keep(self) -> Result<()> {
        self.claim.keep()
    }

    /// Its clusters.
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// One of its clusters.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        self.clusters
            .iter()
            .find(|cluster| cluster.name() == name)
            .with_context(|| format!("no cluster {name}"))
    }

    /// What joins all nodes and the host: a place outside of all clusters, to run a client in, for example.
    pub fn wan(&self) -> &Wan {
        &self.site.wan
    }

    /// What joins the nodes that two clusters have now.
    pub fn link(&self, one: &str, other: &str) -> Result<Link> {
        ensure!(one != other, "a link joins two clusters, not {one} with itself");
        let nodes = |name| -> Result<Vec<u8>> {
            Ok(self.cluster(name)?.nodes().iter().map(|node| node.number()).collect())
        };
        Ok(Link::between(&self.site.wan, &nodes(one)?, &nodes(other)?))
    }

    /// Says which binary containers of an image run, while the fleet runs.
    pub fn add_image(&self, name: &str, binary: &Path) -> Result<()> {
        let file = &self.site.images;
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut images: BTreeMap<String, PathBuf> = serde_saphyr::from_str(&text)?;
        images.insert(name.to_owned(), binary.to_owned());
        write_images(file, &images)
    }

    /// Its folder: logs, kubeconfigs, databases.
    pub fn dir(&self) -> &Path {
        &self.site.dir
    }

    /// Memory of all its processes, pods too, in bytes.
    pub fn memory(&self) -> u64 {
        process::memory(&claim::processes(self.claim.number(), Some(self.claim.dir())))
    }

    /// What it took to start it, for people.
    pub fn report(&self) -> impl Display {
        Report {
            number: self.claim.number(),
            clusters: self
                .clusters
                .iter()
                .map(|cluster| (cluster.name().to_owned(), cluster.steps().to_vec(), cluster.kubeconfig()))
                .collect(),
            nodes: self.clusters.iter().map(|cluster| cluster.nodes().len()).sum(),
            took: self.took,
            memory: self.memory(),
        }
    }
}

/// The images that every fleet knows: the echo server, as it is called by the Gateway API's conformance suite and by us, and Portolan where
/// it is built.
fn known(binaries: &Binaries) -> BTreeMap<String, PathBuf> {
    let echo =
        ["echo", "registry.k8s.io/gateway-api/echo-basic"].map(|name| (name, binaries.echo_basic.clone()));
    let portolan = site::built("portolan", "PORTOLAN_BIN").ok().map(|path| ("portolan", path));
    echo.into_iter().chain(portolan).map(|(name, path)| (name.to_owned(), path)).collect()
}

/// In one step: kubelets read it at any time.
fn write_images(file: &Path, images: &BTreeMap<String, PathBuf>) -> Result<()> {
    let aside = file.with_extension("new");
    let written =
        std::fs::write(&aside, serde_saphyr::to_string(images)?).and_then(|()| std::fs::rename(&aside, file));
    written.with_context(|| format!("cannot write {}", file.display()))
}

struct Report {
    number: u8,
    clusters: Vec<(String, Vec<Step>, PathBuf)>,
    nodes: usize,
    took: Duration,
    memory: u64,
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, steps, kubeconfig) in &self.clusters {
            let steps = steps.iter().map(|(what, took)| format!("{what} {:.1} s", took.as_secs_f64()));
            writeln!(f, "{name}: {}", kubeconfig.display())?;
            writeln!(f, "  {}", steps.collect::<Vec<_>>().join(", "))?;
        }
        let (clusters, took) = (self.clusters.len(), self.took.as_secs_f64());
        write!(
            f,
            "fleet {}: {clusters} clusters, {} nodes, in {took:.1} s and {} MB",
            self.number,
            self.nodes,
            self.memory / 1_000_000
        )
    }
}

/// A fleet that outlives its maker, as `rig` sees it.
#[derive(Debug)]
pub struct Kept {
    /// Its number.
    pub number: u8,
    /// Its folder.
    pub dir: PathBuf,
}

impl Kept {
    /// All there are.
    pub fn all() -> Result<Vec<Self>> {
        Ok(claim::kept()?.into_iter().map(|(number, dir)| Self { number, dir }).collect())
    }

    /// The names of its clusters and their kubeconfigs.
    pub fn clusters(&self) -> Vec<(String, PathBuf)> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let folders = entries
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path().join("kubeconfig")));
        let mut clusters: Vec<_> = folders.filter(|(_, config)| config.is_file()).collect();
        clusters.sort();
        clusters
    }

    /// The processes of one of its clusters, by name.
    pub fn processes(&self, cluster: &str) -> Vec<(String, Record)> {
        let mut processes = Record::below(&self.dir.join(cluster));
        processes.sort_by(|a, b| a.0.cmp(&b.0));
        processes
    }

    /// Memory of all its processes, pods too, in bytes.
    pub fn memory(&self) -> u64 {
        process::memory(&claim::processes(self.number, Some(&self.dir)))
    }

    /// Ends one fleet, or all, but those that a running process holds, and removes what crashed ones left. Says which.
    pub fn end(only: Option<u8>) -> Result<Vec<u8>> {
        claim::clear(only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_before_anything_starts() {
        let rows: [(&[&str], usize, Option<&str>); 8] = [
            (&["lb", "paris", "tokyo"], 5, None),
            (&[], 1, Some("at least one cluster")),
            (&["lb"], 0, Some("at least one node")),
            (&["lb", "paris"], 8, Some("at most 15 nodes")),
            (&["lb", "lb"], 1, Some("two clusters are called lb")),
            (&["Paris"], 1, Some("no name for a cluster")),
            (&["paris-1"], 1, Some("no name for a cluster")),
            (&["wan"], 1, Some("no name for a cluster")),
        ];
        for (clusters, nodes, wanted) in rows {
            let said = Options::new(clusters.iter().copied())
                .nodes(nodes)
                .check()
                .err()
                .map(|error| error.to_string());
            match (&said, wanted) {
                (None, None) => {}
                (Some(said), Some(wanted)) if said.contains(wanted) => {}
                _ => panic!("{clusters:?} of {nodes}: {said:?}, not {wanted:?}"),
            }
        }
    }
}
