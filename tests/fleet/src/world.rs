//! A fleet of clusters with Portolan in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use portolan_rig::binaries::Binaries;
use portolan_rig::{Cluster, Fleet, Options, built, wait};
use serde_json::{Value, json};

use crate::tools::{self, Kubectl};

/// The domain of generated names.
pub const DOMAIN: &str = "lb.example.net";
/// The workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// What anything may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(90);
/// Answers that make sure of both replicas of two, for a connection goes to either: two runs in a million miss one.
const IN_A_ROW: usize = 20;

/// What a world is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The member clusters, beside `lb`.
    pub members: Vec<String>,
    /// Nodes of each cluster.
    pub nodes: usize,
    /// Proxies.
    pub proxies: u32,
    /// `--set` of the chart.
    pub values: Vec<String>,
}

impl Settings {
    /// Members with one node each, and two proxies.
    pub fn of(members: &[&str]) -> Self {
        let members = members.iter().map(|&name| name.to_owned()).collect();
        Self { members, nodes: 1, proxies: 2, values: Vec::new() }
    }
}

/// Clusters, and Portolan among them.
#[derive(Debug)]
pub struct World {
    fleet: Fleet,
    binaries: Binaries,
    portolan: PathBuf,
    agent: PathBuf,
    settings: Settings,
}

impl World {
    /// Clusters with Portolan in `lb`, from its charts. No member has joined yet.
    pub async fn up(settings: Settings) -> Result<Self> {
        let (portolan, agent) =
            (built("portolan", "PORTOLAN_BIN")?, built("portolan-agent", "PORTOLAN_AGENT_BIN")?);
        let clusters = std::iter::once("lb".to_owned()).chain(settings.members.iter().cloned());
        let options = Options::new(clusters)
            .nodes(settings.nodes)
            .cloud(true)
            .image("portolan", &portolan)
            .image("portolan-agent", &agent);
        let fleet = Fleet::up(options).await?;
        let world = Self { fleet, binaries: Binaries::built()?, portolan, agent, settings };
        world.install().await?;
        Ok(world)
    }

    /// The same, and every member has joined with a `Cluster` that may claim hosts under `*.example.com`, `shared.example.com` together.
    pub async fn joined(settings: Settings) -> Result<Self> {
        let world = Self::up(settings).await?;
        for name in &world.settings.members {
            let domains = json!([
                {"suffix": "shared.example.com", "sharing": "Shared"},
                {"suffix": "example.com", "sharing": "Exclusive"},
            ]);
            world.join(name, json!({"allowedDomains": domains})).await?;
        }
        for name in &world.settings.members {
            world.ready(name).await?;
        }
        Ok(world)
    }

    /// The clusters.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// One of them.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        self.fleet.cluster(name)
    }

    /// kubectl for one of them, as its administrator.
    pub fn kubectl(&self, cluster: &str) -> Result<Kubectl> {
        Ok(Kubectl::new(&self.binaries.kubectl, &self.cluster(cluster)?.kubeconfig()))
    }

    /// Where the program kubectl is.
    pub fn kubectl_program(&self) -> &Path {
        &self.binaries.kubectl
    }

    /// kubectl with any kubeconfig.
    pub fn kubectl_as(&self, kubeconfig: &Path) -> Kubectl {
        Kubectl::new(&self.binaries.kubectl, kubeconfig)
    }

    /// Runs `portolan`.
    pub async fn portolan(&self, args: &[&str]) -> Result<String> {
        tools::run(&self.portolan, args.iter().copied(), "").await
    }

    /// The agent's program.
    pub fn agent(&self) -> &Path {
        &self.agent
    }

    /// Renders a chart of the LB cluster, as `helm install` would apply it.
    pub async fn chart(&self, name: &str, values: &[String]) -> Result<String> {
        self.chart_in(name, "portolan-system", values).await
    }

    /// Renders a chart for a namespace.
    pub async fn chart_in(&self, name: &str, namespace: &str, values: &[String]) -> Result<String> {
        let chart = format!("{ROOT}/deploy/charts/{name}");
        // Built from source, helm knows of no version of Kubernetes but an old one.
        let mut args = vec!["template", name, &chart, "--namespace", namespace, "--kube-version", "1.36.0"];
        args.extend(values.iter().flat_map(|value| ["--set", value.as_str()]));
        tools::run(&self.binaries.helm, args, "").await
    }

    /// Has helm look at a chart as strictly as it can, as it would be installed into a namespace.
    pub async fn lint(&self, name: &str, namespace: &str, values: &[String]) -> Result<String> {
        let chart = format!("{ROOT}/deploy/charts/{name}");
        let mut args = vec!["lint", "--strict", &chart, "--namespace", namespace, "--kube-version", "1.36.0"];
        args.extend(values.iter().flat_map(|value| ["--set", value.as_str()]));
        tools::run(&self.binaries.helm, args, "").await
    }

    async fn install(&self) -> Result<()> {
        let lb = self.kubectl("lb")?;
        lb.run(&["create", "namespace", "portolan-system"]).await?;
        lb.apply(&self.chart("portolan-crds", &[]).await?).await?;
        lb.run(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).await?;
        let mut values = vec![
            format!("lbDomain={DOMAIN}"),
            format!("proxy.replicas={}", self.settings.proxies),
            "proxySettings.spec.drainTimeout=20s".to_owned(),
            // Pods and Services of the LB cluster; the nodes of all clusters share a range here.
            "proxySettings.spec.reservedCIDRs={10.244.0.0/16,10.96.0.0/16}".to_owned(),
        ];
        values.extend(self.settings.values.iter().cloned());
        lb.apply(&self.chart("portolan", &values).await?).await?;
        for name in ["deployment/portolan-controller", "deployment/portolan-proxy"] {
            let rolled = lb.run(&["-n", "portolan-system", "rollout", "status", "--timeout=90s", name]).await;
            if let Err(error) = rolled {
                let pods = lb.run(&["-n", "portolan-system", "get", "pods,events"]).await.unwrap_or_default();
                bail!("{error:#}\n{pods}");
            }
        }
        Ok(())
    }

    /// Applies a `Cluster` and joins the member, as an operator does.
    pub async fn join(&self, name: &str, spec: Value) -> Result<()> {
        let cluster = json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": name}, "spec": spec,
        });
        self.kubectl("lb")?.apply(&cluster.to_string()).await?;
        let manifests = self.join_manifests(name).await?;
        self.kubectl(name)?.apply(&manifests).await?;
        Ok(())
    }

    /// What `portolan join` prints for a member.
    pub async fn join_manifests(&self, name: &str) -> Result<String> {
        let kubeconfig = self.cluster("lb")?.kubeconfig();
        let kubeconfig = kubeconfig.to_string_lossy();
        self.portolan(&["join", name, "--kubeconfig", &kubeconfig]).await
    }

    /// Waits until a member's `Cluster` is ready.
    pub async fn ready(&self, name: &str) -> Result<()> {
        self.condition("cluster.portolan.dev", name, None, "Ready", "True").await
    }

    /// Waits for a condition of an object of the LB cluster.
    pub async fn condition(
        &self,
        kind: &str,
        name: &str,
        namespace: Option<&str>,
        condition: &str,
        status: &str,
    ) -> Result<()> {
        let lb = self.kubectl("lb")?;
        let mut args = vec![kind, name];
        args.extend(namespace.iter().flat_map(|namespace| ["-n", namespace]));
        let what = format!("{kind} {name} to be {condition}={status}");
        let found = wait::until(&what, LONG, || async {
            let object = lb.get(&args).await.ok()?;
            let conditions = object["status"]["conditions"].as_array()?.clone();
            let held = |found: &Value| found["type"] == condition && found["status"] == status;
            conditions.iter().any(held).then_some(())
        });
        match found.await {
            Ok(()) => Ok(()),
            Err(error) => bail!("{error:#}: {}", lb.get(&args).await.unwrap_or_default()["status"]),
        }
    }

    /// The address of the proxies' Service.
    pub async fn address(&self) -> Result<SocketAddr> {
        let lb = self.kubectl("lb")?;
        let address = wait::until("an address of portolan-proxy", LONG, || async {
            let service = lb.get(&["service", "portolan-proxy", "-n", "portolan-system"]).await.ok()?;
            service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().map(str::to_owned)
        });
        Ok(SocketAddr::new(address.await?.parse()?, 80))
    }

    /// Waits until a host is answered with 200 by an application called so, whichever proxy takes the connection.
    pub async fn served(&self, host: &str, app: &str) -> Result<()> {
        let address = self.address().await?;
        let last = Mutex::new(String::new());
        let what = format!("{host} to be served by {app}");
        let served = wait::until(&what, LONG, || async {
            for _ in 0..IN_A_ROW {
                let answer = crate::http::get(address, host, "/").await;
                *last.lock().unwrap_or_else(PoisonError::into_inner) = match &answer {
                    Ok(reply) => format!("{} {}", reply.status, reply.text()),
                    Err(error) => format!("{error:#}"),
                };
                answer.ok().filter(|reply| reply.status == 200 && reply.echo("service") == app)?;
            }
            Some(())
        });
        let served = served.await;
        served.with_context(|| format!("the last answer was {}", last.into_inner().unwrap_or_default()))
    }

    /// Ends it, and says what could not be removed.
    pub fn down(self) -> Result<()> {
        self.fleet.down()
    }
}

/// Lets time pass in which something is measured under load: the one thing that is not waited for by a condition.
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
