//! Does what serves a GatewayClass pass the conformance suite of the Gateway API?
//!
//! ```text
//!  cluster ─► definitions ─► manifests ─► is the class accepted? ─► suite ─┬─► report.yaml   as the project takes it
//!                                                                          └─► passed.txt ─► ratchet
//! ```
//!
//! Suite, definitions and backends are the project's own, and nobody speaks for whoever serves the class: what brings it are the manifests, and
//! where it is not accepted there is no run, and the error says how far it came. It ends in time whatever the suite does.

mod output;
mod ratchet;
mod suite;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::fleet::{self, Fleet};
use crate::gateway_api::{self, Channel};

pub use output::{Tally, Verdict};
pub use ratchet::Comparison;
pub use suite::{Base, Outcome, run as suite};

/// The name of the cluster.
const CLUSTER: &str = "conformance";
/// How long what the manifests bring may take to accept the class; it may be pods.
const ACCEPTED: Duration = Duration::from_secs(90);
/// Between two looks at the class.
const STEP: Duration = Duration::from_millis(200);
/// How long the answer to one question may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Every profile that is about Gateways.
const PROFILES: &str = "GATEWAY-HTTP,GATEWAY-GRPC,GATEWAY-TLS,GATEWAY-TCP,GATEWAY-UDP";

/// What is to be tested, and how.
#[derive(Clone, Debug, clap::Parser)]
pub struct Options {
    /// The GatewayClass to test.
    #[arg(long, default_value = "portolan")]
    pub class: String,
    /// What serves the class: manifests, a file or a folder of them, applied before the suite runs.
    #[arg(long = "manifest")]
    pub manifests: Vec<PathBuf>,
    /// Which definitions of the API the cluster has.
    #[arg(long, value_enum, default_value_t = Channel::Standard)]
    pub channel: Channel,
    /// The profiles to test; all that are about Gateways by default.
    #[arg(long, value_delimiter = ',')]
    pub profiles: Vec<String>,
    /// The features to test beyond the core; those that the class claims in its status by default.
    #[arg(long, value_delimiter = ',')]
    pub features: Vec<String>,
    /// One test alone, by its short name.
    #[arg(long)]
    pub test: Option<String>,
    /// How many minutes the suite may take.
    #[arg(long, default_value_t = 60)]
    pub minutes: u64,
    /// How long the suite waits for things, in its own words and in seconds.
    #[arg(long, default_value = "GWCMustBeAccepted:30;NamespacesMustBeReady:60;MaxTimeToConsistency:15")]
    pub timeouts: String,
    /// Where report, list and log are written; `target/conformance/<channel>` by default.
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// Leave the cluster running.
    #[arg(long)]
    pub keep: bool,
}

impl Options {
    /// Where report, list and log are written.
    fn folder(&self) -> PathBuf {
        let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/conformance");
        self.output.clone().unwrap_or_else(|| PathBuf::from(target).join(self.channel.name()))
    }

    /// The file of what must pass.
    fn ratchet(&self) -> PathBuf {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance");
        PathBuf::from(folder).join(format!("passed-{}.txt", self.channel.name()))
    }

    /// Whether all is tested that the class claims.
    fn everything(&self) -> bool {
        self.profiles.is_empty() && self.features.is_empty() && self.test.is_none()
    }
}

/// Brings a cluster up, runs the suite in it, and takes it down. An error if the suite did not come to its end, or if a test did not pass that
/// must; one that never passed is no error.
pub async fn run(options: Options) -> Result<()> {
    let began = Instant::now();
    // The cloud, for implementations that ask it for the addresses of their Gateways.
    let fleet = Fleet::up(fleet::Options::new([CLUSTER]).cloud(true).coredns(true)).await?;
    println!("a cluster, in {:.1} s", began.elapsed().as_secs_f64());
    let judged = judge(fleet.cluster(CLUSTER)?, &options).await;
    if options.keep {
        let number = fleet.dir().file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!("the cluster is left: `rig kubectl {CLUSTER} get pods -A`, then `rig down {number}`");
        return fleet.keep().and(judged);
    }
    let down = fleet.down();
    judged.and(down)
}

async fn judge(cluster: &Cluster, options: &Options) -> Result<()> {
    let files = gateway_api::install(cluster, options.channel).await?;
    println!("the {} channel of the Gateway API, {files} files", options.channel.name());
    if !options.manifests.is_empty() {
        cluster.apply(&options.manifests).await?;
        println!("manifests: {}", options.manifests.len());
    }
    accepted(&cluster.client().await?, options).await?;
    println!("GatewayClass {} is accepted", options.class);

    let outcome = suite(cluster, options).await?;
    println!("{outcome}");
    let list = options.folder().join("passed.txt");
    let passed = outcome.tally.all(Verdict::Passed);
    fs::write(&list, passed.iter().map(|name| format!("{name}\n")).collect::<String>())
        .with_context(|| format!("cannot write {}", list.display()))?;
    println!("passed: {}", list.display());
    if let Some(why) = outcome.unfinished() {
        bail!("{why}");
    }

    let ratchet = options.ratchet();
    let comparison = Comparison::of(&must_pass(options)?, &outcome.tally.results, options.everything());
    if !comparison.gained.is_empty() {
        println!("passed for the first time: {}", comparison.gained.join(", "));
        let (ratchet, list) = (ratchet.display(), list.display());
        println!("  to have them pass from now on: LC_ALL=C sort -u -o {ratchet} {ratchet} {list}");
    }
    if comparison.unasked > 0 {
        println!("not asked for, of those that must pass: {}", comparison.unasked);
    }
    if !comparison.lost.is_empty() {
        let lost = comparison.lost.iter().map(|(name, instead)| format!("{name} ({instead})"));
        bail!(
            "passed before, and not now: {}; they stand in {}",
            lost.collect::<Vec<_>>().join(", "),
            ratchet.display()
        );
    }
    Ok(())
}

fn must_pass(options: &Options) -> Result<BTreeSet<String>> {
    let path = options.ratchet();
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(ratchet::parse(&text))
}

/// Waits until the class is accepted, if something was applied that may do that; an error says what is the matter with it.
async fn accepted(client: &Client, options: &Options) -> Result<()> {
    let name = &options.class;
    let nothing = options.manifests.is_empty();
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "GatewayClass");
    let classes: Api<DynamicObject> =
        Api::all_with(client.clone(), &ApiResource::from_gvk_with_plural(&kind, "gatewayclasses"));
    let mut last = format!("nobody knows about GatewayClass {name}: the API server does not answer");
    let within = if nothing { ANSWER } else { ACCEPTED };
    let end = Instant::now() + within;
    while Instant::now() < end {
        match tokio::time::timeout(ANSWER, classes.get_opt(name)).await {
            Ok(Ok(Some(class))) => match refusal(&class) {
                None => return Ok(()),
                Some(why) => last = format!("GatewayClass {name} is not accepted: {why}"),
            },
            Ok(Ok(None)) => last = format!("there is no GatewayClass {name}"),
            Ok(Err(error)) => last = format!("cannot read GatewayClass {name}: {error}"),
            Err(_) => {}
        }
        if nothing {
            break;
        }
        tokio::time::sleep(STEP).await;
    }
    let hint = if nothing {
        "; --manifest names what serves it".to_owned()
    } else {
        format!(", {within:?} after the manifests were applied")
    };
    bail!("{last}{hint}. The suite asks for that first, so it was not run")
}

/// Why a class is not accepted, in its current generation.
fn refusal(class: &DynamicObject) -> Option<String> {
    let conditions = class.data["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(accepted) = conditions.iter().find(|condition| condition["type"] == "Accepted") else {
        return Some("it has no condition Accepted".to_owned());
    };
    let generation = class.metadata.generation;
    if accepted["status"] == "True" && accepted["observedGeneration"].as_i64() == generation {
        return None;
    }
    let text = |field: &str| accepted[field].as_str().unwrap_or_default().to_owned();
    let stale = match &accepted["observedGeneration"] {
        Value::Number(seen) if seen.as_i64() != generation => ", of an older generation",
        _ => "",
    };
    Some(format!("{} ({}: {}){stale}", text("status"), text("reason"), text("message")))
}

#[cfg(test)]
mod tests;
