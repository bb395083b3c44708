//! What Portolan's processes tell of themselves, by access logs and metrics.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use portolan_fleet::{Kubectl, World, pause};
use portolan_rig::wait;
use serde_json::Value;

/// Where proxies and controllers are.
pub(crate) const SYSTEM: &str = "portolan-system";
/// Between two looks at what takes seconds: they are not to keep the machine busy.
const LOOK: Duration = Duration::from_millis(500);

/// Looks now and then, for what takes a while.
pub(crate) async fn in_time<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> F,
) -> Result<T> {
    let found = wait::until(what, within, || {
        let look = look();
        async {
            let found = look.await;
            if found.is_none() {
                pause(LOOK).await;
            }
            found
        }
    });
    found.await
}

/// The pods of one of our Deployments that are not on their way out.
pub(crate) async fn pods(kubectl: &Kubectl, namespace: &str, name: &str) -> Result<Vec<String>> {
    let label = format!("app.kubernetes.io/name={name}");
    let pods = kubectl.get(&["pods", "-n", namespace, "-l", &label]).await?;
    let alive = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let pods = pods["items"].as_array().into_iter().flatten().filter(alive);
    Ok(pods.filter_map(|pod| pod["metadata"]["name"].as_str()).map(str::to_owned).collect())
}

/// What a pod tells Prometheus.
pub(crate) struct Figures(String);

impl Figures {
    /// By way of the API server of its cluster.
    pub(crate) async fn of(kubectl: &Kubectl, namespace: &str, pod: &str) -> Result<Self> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:9902/proxy/metrics");
        Ok(Self(kubectl.run(&["get", "--raw", &path]).await?))
    }

    /// Of all series of that name that have all these labels, the sum.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.0.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        let wanted = series.filter(|(found, _)| {
            (found.is_empty() || found.starts_with('{')) && labels.iter().all(|label| found.contains(label))
        });
        wanted.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
    }
}

/// A request as a proxy logged it.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) began: Timestamp,
    pub(crate) upstream: Option<IpAddr>,
    pub(crate) retried: bool,
    pub(crate) line: String,
}

/// The requests for a host, as the proxies that run now logged them since then.
pub(crate) async fn access_log(world: &World, host: &str, since: Timestamp) -> Result<Vec<Logged>> {
    let since = format!("--since-time={since}");
    let label = "app.kubernetes.io/name=portolan-proxy";
    let log = ["logs", "-n", SYSTEM, "-l", label, "--tail=-1", &since];
    let log = world.kubectl("lb")?.run(&log).await?;
    let mut found = Vec::new();
    for line in log.lines().filter(|line| line.contains("\"request_id\"")) {
        let request: Value = serde_json::from_str(line).context("a line of the access log")?;
        if request["host"] != host {
            continue;
        }
        let ended: Timestamp = request["time"].as_str().context("a time")?.parse()?;
        let took = request["duration_ms"].as_f64().context("a duration")?;
        let upstream = request["upstream"].as_str().map(str::parse::<SocketAddr>).transpose()?;
        found.push(Logged {
            began: ended - SignedDuration::from_secs_f64(took / 1000.0),
            upstream: upstream.map(|upstream| upstream.ip()),
            retried: !request["retries"].is_null(),
            line: line.to_owned(),
        });
    }
    Ok(found)
}

/// Says how many new requests dead endpoints got, and fails where one came later than `within`: as the request's only endpoint or its last, or
/// as one that was tried before another.
pub(crate) fn none_later(
    log: &[Logged],
    dead: &[IpAddr],
    died: Timestamp,
    within: Duration,
) -> Result<String> {
    let to_dead =
        |request: &&Logged| request.retried || request.upstream.is_some_and(|ip| dead.contains(&ip));
    let after: Vec<_> = log.iter().filter(|request| request.began >= died).collect();
    let late = died + SignedDuration::try_from(within)?;
    let last = after.iter().copied().filter(to_dead).map(|request| request.began).max();
    let told = format!(
        "{} of {} requests since then led to dead endpoints, the last {}",
        after.iter().copied().filter(to_dead).count(),
        after.len(),
        last.map_or_else(
            || "never".to_owned(),
            |last| format!("{:.2} s after", last.duration_since(died).as_secs_f64())
        ),
    );
    let too_late: Vec<_> = after.iter().copied().filter(|it| it.began > late).filter(to_dead).collect();
    ensure!(
        too_late.is_empty(),
        "{told}; {} of them later than {within:?}, such as {}",
        too_late.len(),
        too_late[0].line
    );
    ensure!(after.iter().any(|it| it.began > late), "{told}; nothing was asked for later");
    Ok(told)
}
