//! What Portolan's processes tell of themselves: by access logs, metrics and admin ports; and what the kernel tells of them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use portolan_fleet::{Kubectl, World, pause};
use portolan_rig::net::Namespace;
use portolan_rig::wait;
use serde_json::Value;

use crate::stage::LONG;

/// Where proxies and controllers are.
pub(crate) const SYSTEM: &str = "portolan-system";
/// Where agents are.
pub(crate) const AGENT: &str = "portolan-agent";
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

/// Which of the agents of a cluster leads.
pub(crate) async fn leader(member: &Kubectl) -> Result<String> {
    let lease = member.get(&["lease", "portolan-agent", "-n", AGENT]).await?;
    Ok(lease["spec"]["holderIdentity"].as_str().context("nobody leads")?.to_owned())
}

/// What something tells Prometheus.
pub(crate) struct Figures(String);

impl From<String> for Figures {
    fn from(text: String) -> Self {
        Self(text)
    }
}

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

    /// The writes that an agent did: all, and those of each kind that had any.
    pub(crate) fn writes(&self) -> Writes {
        const NAME: &str = "portolan_agent_writes_total";
        let kinds = [
            "NodeSet",
            "Secret",
            "UpstreamPool",
            "EndpointSlice",
            "HTTPLoadBalancer",
            "Companion",
            "IngressStatus",
        ];
        Writes(kinds.map(|kind| (kind, self.sum(NAME, &[&format!("kind=\"{kind}\"")]) as u64)))
    }
}

/// Writes of an agent, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Writes([(&'static str, u64); 7]);

impl Writes {
    /// Those since then.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut since = *self;
        for ((_, now), (_, before)) in since.0.iter_mut().zip(before.0) {
            *now = now.saturating_sub(before);
        }
        since
    }

    pub(crate) fn all(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

impl std::fmt::Display for Writes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.all())?;
        let some: Vec<_> = self.0.iter().filter(|(_, count)| *count > 0).collect();
        let some: Vec<_> = some.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        if some.is_empty() { Ok(()) } else { write!(f, " ({})", some.join(", ")) }
    }
}

/// A request as a proxy logged it.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) began: Timestamp,
    pub(crate) upstream: Option<IpAddr>,
    pub(crate) retried: bool,
    /// What the library made of its failure, if it failed.
    pub(crate) detail: String,
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
            detail: request["detail"].as_str().unwrap_or_default().to_owned(),
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

/// The process of a pod of ours.
pub(crate) fn process(pod: &str) -> Result<u32> {
    let named = format!("POD_NAME={pod}");
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|&byte| byte == 0).any(|variable| variable == named.as_bytes()) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process of pod {pod}")
}

/// Ends a process as a crash does.
pub(crate) fn kill(pid: u32) -> Result<()> {
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status()?;
    ensure!(killed.success(), "process {pid} could not be killed");
    Ok(())
}

/// What of a process is resident, now and at most so far, in kB.
pub(crate) fn memory(pid: u32) -> Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    };
    Ok((field("VmRSS:").context("no VmRSS")?, field("VmHWM:").context("no VmHWM")?))
}

/// Where a process of the LB cluster stands in the network.
pub(crate) fn namespace_of(world: &World, pid: u32) -> Result<Namespace> {
    let its = std::fs::metadata(format!("/proc/{pid}/ns/net"))?.ino();
    let pods = world.cluster("lb")?.nodes().into_iter().flat_map(|node| node.pods());
    let is_its = |namespace: &Namespace| {
        std::fs::metadata(format!("/run/netns/{}", namespace.name())).is_ok_and(|found| found.ino() == its)
    };
    pods.into_iter().find(is_its).with_context(|| format!("process {pid} stands in no pod"))
}

/// `GET` from within, which needs no API server: the status and all of the answer.
pub(crate) fn ask(namespace: &Namespace, port: u16, host: &str, path: &str) -> Result<(u16, String)> {
    namespace.run(|| {
        let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(5))?;
        stream.set_read_timeout(Some(LONG))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.context("no status")?, answer))
    })?
}
