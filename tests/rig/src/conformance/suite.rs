//! The suite as a program: how is it started, what does it bring, and when is it given up?

use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::output::{News, Tally, Verdict};
use super::{Options, PROFILES};
use crate::cluster::Cluster;

/// How much longer than it was given the suite may take to say that its time is over.
const GRACE: Duration = Duration::from_secs(30);
/// Where the suite's base pods are.
const BASE: [&str; 3] =
    ["gateway-conformance-infra", "gateway-conformance-app-backend", "gateway-conformance-web-backend"];
/// An address that leads nowhere: TEST-NET-3 of RFC 5737.
const UNUSABLE: &str = "203.0.113.9";

/// What the suite brought.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What came of the tests.
    pub tally: Tally,
    /// The pods that all tests share, when it was over.
    pub base: Base,
    /// The official report, which is written at the end only.
    pub report: Option<PathBuf>,
    /// All that it printed.
    pub log: PathBuf,
    /// What ended it.
    end: String,
    /// How long it took.
    took: Duration,
}

impl Outcome {
    /// How far it came, if it did not come to its end.
    pub fn unfinished(&self) -> Option<String> {
        if self.report.is_some() {
            return None;
        }
        let place = match (&self.tally.running, &self.tally.step) {
            (Some(test), _) => format!("in {test}"),
            (None, Some(step)) if self.tally.results.is_empty() => {
                format!("before its first test, at {step:?}")
            }
            (None, _) if self.tally.results.is_empty() => "before it began".to_owned(),
            (None, _) => "between two tests".to_owned(),
        };
        let why = self.tally.error.as_ref().unwrap_or(&self.end);
        Some(format!("the suite wrote no report and stopped {place}: {why}; see {}", self.log.display()))
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |verdict| self.tally.all(verdict).len();
        write!(
            f,
            "{} tests: {} passed, {} failed, {} skipped, in {:.0} s; {}",
            self.tally.results.len(),
            count(Verdict::Passed),
            count(Verdict::Failed),
            count(Verdict::Skipped),
            self.took.as_secs_f64(),
            self.base
        )?;
        if let Some(report) = &self.report {
            write!(f, "\nreport: {}", report.display())?;
        }
        Ok(())
    }
}

/// The pods that all tests share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// How many there are.
    pub pods: usize,
    /// How many are Ready.
    pub ready: usize,
    /// From when the first was made to when the last became Ready; the API server counts whole seconds.
    pub took: Option<Duration>,
}

impl Base {
    async fn look(client: &Client) -> Result<Self> {
        let (mut base, mut made, mut became) = (Self::default(), Vec::new(), Vec::new());
        for namespace in BASE {
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            for pod in pods.list(&Default::default()).await? {
                base.pods += 1;
                made.extend(pod.metadata.creation_timestamp.map(|time| time.0));
                let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
                let ready = conditions.into_iter().find(|its| its.type_ == "Ready" && its.status == "True");
                base.ready += usize::from(ready.is_some());
                became.extend(ready.and_then(|its| its.last_transition_time).map(|time| time.0));
            }
        }
        if let (Some(first), Some(last)) = (made.iter().min(), became.iter().max()) {
            base.took = Duration::try_from(last.duration_since(*first)).ok();
        }
        Ok(base)
    }
}

impl Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of its {} base pods Ready", self.ready, self.pods)?;
        match self.took {
            Some(took) => write!(f, ", the last {} s after the first was made", took.as_secs()),
            None => Ok(()),
        }
    }
}

/// Runs the suite against a cluster in which the class is served. Prints each step of its preparation and each test that ends.
pub async fn run(cluster: &Cluster, options: &Options) -> Result<Outcome> {
    let folder = options.folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    let (report, log) = (folder.join("report.yaml"), folder.join("suite.log"));
    // One of an earlier run says nothing of this one.
    let _ = fs::remove_file(&report);
    let mut file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;

    let mut suite = Command::new(&cluster.binaries().conformance)
        .args(arguments(cluster, options, &report))
        .current_dir(&folder)
        .env("KUBECONFIG", cluster.kubeconfig())
        // All that it talks to is on this machine.
        .env("NO_PROXY", "*")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file.try_clone()?)
        .kill_on_drop(true)
        .spawn()
        .context("cannot run the suite")?;
    let (began, mut tally) = (Instant::now(), Tally::default());
    let within = Duration::from_secs(options.minutes * 60) + GRACE;
    let heard = tokio::time::timeout(within, listen(&mut suite, &mut file, &mut tally)).await;
    let status = match heard {
        Ok(heard) => heard.and(Ok(suite.wait().await?))?,
        Err(_) => suite.kill().await.and(suite.wait().await)?,
    };
    let took = began.elapsed();
    let over = took >= Duration::from_secs(options.minutes * 60);
    Ok(Outcome {
        tally,
        base: Base::look(&cluster.client().await?).await?,
        report: report.is_file().then_some(report),
        log,
        end: if over { format!("its {} minutes were over", options.minutes) } else { status.to_string() },
        took,
    })
}

/// Until it prints nothing more.
async fn listen(suite: &mut Child, log: &mut File, tally: &mut Tally) -> Result<()> {
    let mut output = BufReader::new(suite.stdout.take().context("its output is piped")?);
    let (mut line, mut began) = (Vec::new(), Instant::now());
    while output.read_until(b'\n', &mut line).await? > 0 {
        log.write_all(&line)?;
        match tally.hear(String::from_utf8_lossy(&line).trim_end()) {
            Some(News::Step(step)) => println!("  {step}"),
            Some(News::Began(_)) => began = Instant::now(),
            Some(News::Ended(_, Verdict::Skipped)) | None => {}
            Some(News::Ended(name, verdict)) => {
                println!("  {verdict} {name}, {:.1} s", began.elapsed().as_secs_f64());
            }
        }
        line.clear();
    }
    Ok(())
}

fn arguments(cluster: &Cluster, options: &Options, report: &Path) -> Vec<String> {
    let profiles = if options.profiles.is_empty() { PROFILES.to_owned() } else { options.profiles.join(",") };
    // The cloud begins at the other end.
    let usable = cluster.load_balancers().replace(".0/24", ".250");
    let mut arguments = vec![
        "-test.v".to_owned(),
        "-test.run=TestConformance".to_owned(),
        format!("-test.timeout={}m", options.minutes),
        format!("--gateway-class={}", options.class),
        format!("--conformance-profiles={profiles}"),
        format!("--usable-address={usable}"),
        format!("--unusable-address={UNUSABLE}"),
        format!("--timeout-config-overrides={}", options.timeouts),
        // They go with the cluster, and are counted before.
        "--cleanup-base-resources=false".to_owned(),
        "--mode=default".to_owned(),
        "--organization=portolan".to_owned(),
        "--project=portolan".to_owned(),
        "--url=https://portolan.dev".to_owned(),
        format!("--version=v{}", env!("CARGO_PKG_VERSION")),
        "--contact=https://portolan.dev".to_owned(),
        format!("--report-output={}", report.display()),
    ];
    if !options.features.is_empty() {
        arguments.push(format!("--supported-features={}", options.features.join(",")));
    }
    arguments.extend(options.test.as_ref().map(|test| format!("--run-test={test}")));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_far_it_came() {
        let heard = |lines: &[&str]| {
            let mut tally = Tally::default();
            lines.iter().for_each(|line| drop(tally.hear(line)));
            tally
        };
        let step = "    suite.go:382: 2026-11-28T00:06:51Z: Test Setup: Applying base manifests";
        for (lines, wanted) in [
            (&[][..], "stopped before it began: its 60 minutes were over; see suite.log"),
            (&[step], r#"stopped before its first test, at "Applying base manifests": its 60 minutes"#),
            (&[step, "conformance: running A"], "stopped in A: its"),
            (&[step, "conformance: running A", "conformance: passed A"], "stopped between two tests: its"),
        ] {
            let mut outcome = Outcome {
                tally: heard(lines),
                base: Base::default(),
                report: None,
                log: "suite.log".into(),
                end: "its 60 minutes were over".to_owned(),
                took: Duration::from_secs(3600),
            };
            let said = outcome.unfinished().unwrap();
            assert!(said.contains(wanted), "{said}");
            outcome.report = Some("report.yaml".into());
            assert_eq!(outcome.unfinished(), None);
        }
    }
}
