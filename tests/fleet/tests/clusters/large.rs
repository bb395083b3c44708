//! A large cluster: 1,000 Services and 500 Ingresses, by node ports; then the same by 10,000 endpoints. What edits cost, what an agent that takes over
//! writes, what an agent holds.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use portolan_fleet::{App, Kubectl, World, pause};
use serde_json::{Value, json};

use crate::agents::synced;
use crate::stage::LONG;
use crate::witness::{AGENT, Figures, Writes, in_time, leader, memory, process};

/// Services of tokyo; of every two an Ingress.
const SERVICES: usize = 1000;
/// Of each Service.
const ENDPOINTS: usize = 10;
/// What an agent may hold, in kB, also of a build for tests.
const MEMORY: u64 = 40 << 10;
/// What all of it may take to be synced.
const SYNC: Duration = Duration::from_secs(180);

pub(crate) async fn a_thousand_services(world: &World) -> Result<()> {
    let large = Large { tokyo: world.kubectl("tokyo")?, lb: world.kubectl("lb")? };
    large.by_node_ports().await?;
    large.by_endpoints().await?;
    large.edits().await?;
    large.another_takes_over().await?;
    large.end().await
}

struct Large {
    tokyo: Kubectl,
    lb: Kubectl,
}

impl Large {
    /// As clusters are reached that say nothing.
    async fn by_node_ports(&self) -> Result<()> {
        self.tokyo.run(&["create", "namespace", "many"]).await?;
        let mut items = Vec::new();
        for number in 0..SERVICES {
            let app = app(number);
            items.extend(app.workload().into_iter().filter(|item| item["kind"] == "Service"));
            if number % 2 == 0 {
                items.push(app.ingress());
            }
        }
        let began = Instant::now();
        self.apply(&items).await?;
        println!("applied after {:?}", began.elapsed());
        self.has("httploadbalancers", SERVICES / 2).await?;
        println!("500 Ingresses synced {:?} after the first was applied", began.elapsed());
        let writes = self.quiet().await?;
        println!("all quiet {:?} after; writes so far: {writes}", began.elapsed());
        self.remember("with 1,000 Services").await
    }

    /// As clusters are reached whose pods' network is routed: each Service is used, and its endpoints are copied.
    async fn by_endpoints(&self) -> Result<()> {
        self.reach(json!("PodIP")).await?;
        let began = Instant::now();
        let slices = (0..SERVICES).map(|number| slice(number, 0));
        let items: Vec<_> = slices.chain((0..SERVICES).step_by(2).map(ingress)).collect();
        self.apply(&items).await?;
        println!("10,000 endpoints applied after {:?}", began.elapsed());
        self.has("upstreampools", SERVICES).await?;
        self.has("endpointslices", SERVICES).await?;
        println!(
            "1,000 pools with 10,000 endpoints synced {:?} after the first was applied",
            began.elapsed()
        );
        let copies = self.lb.get(&["endpointslices", "-n", "tenant-tokyo"]).await?;
        let copies = copies["items"].as_array().cloned().unwrap_or_default();
        let endpoints: usize =
            copies.iter().map(|copy| copy["endpoints"].as_array().map_or(0, Vec::len)).sum();
        ensure!(endpoints >= SERVICES * ENDPOINTS, "{endpoints} endpoints");
        self.quiet().await?;
        self.remember("with 10,000 endpoints").await
    }

    async fn edits(&self) -> Result<()> {
        let before = self.quiet().await?;
        let mut edited = ingress(0);
        edited["spec"]["rules"][0]["host"] = json!("edited.example.com");
        self.tokyo.apply(&edited.to_string()).await?;
        let between = self.written(&before).await?;
        self.tokyo.apply(&slice(0, 1).to_string()).await?;
        let after = self.written(&between).await?;
        let (ingress, endpoint) = (between.since(&before), after.since(&between));
        println!("writes for one edit of an Ingress: {ingress}; for one change of an endpoint: {endpoint}");
        ensure!(ingress.all() <= 2 && endpoint.all() == 1, "{ingress} and {endpoint}");
        Ok(())
    }

    /// Who leads ends at once, and leaves the Lease to run out.
    async fn another_takes_over(&self) -> Result<()> {
        let old = leader(&self.tokyo).await?;
        self.tokyo.run(&["delete", "pod", &old, "-n", AGENT, "--grace-period=0", "--force"]).await?;
        let (next, took) = synced(&self.tokyo, &old).await?;
        // What it holds to be otherwise it would write by now.
        pause(Duration::from_secs(15)).await;
        let writes = Figures::of(&self.tokyo, AGENT, &next).await?.writes();
        println!(
            "who leads was killed: another leads and is in sync {took:?} after, and has done {writes} writes"
        );
        ensure!(took < Duration::from_secs(40) && writes.all() == 0, "after {took:?}, {writes} writes");
        self.remember("after it took over").await
    }

    async fn end(&self) -> Result<()> {
        self.tokyo.run(&["delete", "namespace", "many", "--timeout=180s"]).await?;
        for kind in ["httploadbalancers", "upstreampools", "endpointslices"] {
            self.has(kind, 0).await?;
        }
        self.reach(Value::Null).await
    }

    async fn apply(&self, items: &[Value]) -> Result<()> {
        for items in items.chunks(250) {
            self.tokyo
                .apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
                .await?;
        }
        Ok(())
    }

    async fn reach(&self, reach: Value) -> Result<()> {
        let patch = json!({"spec": {"reach": reach}}).to_string();
        let args = ["patch", "clusters.portolan.dev", "tokyo", "--type=merge", "-p", &patch];
        self.lb.run(&args).await.map(drop)
    }

    /// Waits until the LB cluster has so many of them.
    async fn has(&self, kind: &str, count: usize) -> Result<()> {
        in_time(&format!("{count} {kind}"), SYNC, || async {
            let names = self.lb.run(&["get", kind, "-n", "tenant-tokyo", "-o", "name"]).await.ok()?;
            (names.lines().filter(|name| name.contains("many-")).count() == count).then_some(())
        })
        .await
    }

    /// Waits until nothing waits to be written, and says what was written so far.
    async fn quiet(&self) -> Result<Writes> {
        let mut last = None;
        loop {
            let figures = Figures::of(&self.tokyo, AGENT, &leader(&self.tokyo).await?).await?;
            let now = figures.writes();
            if figures.sum("portolan_agent_pending_writes", &[]) == 0.0 && last.replace(now) == Some(now) {
                return Ok(now);
            }
            pause(Duration::from_secs(2)).await;
        }
    }

    /// Waits until something more was written, and nothing more is to be.
    async fn written(&self, before: &Writes) -> Result<Writes> {
        in_time("a write", LONG, || async {
            let figures = Figures::of(&self.tokyo, AGENT, &leader(&self.tokyo).await.ok()?).await.ok()?;
            (figures.writes() != *before).then_some(())
        })
        .await?;
        self.quiet().await
    }

    /// Says what the agent that leads holds, and held at most.
    async fn remember(&self, when: &str) -> Result<()> {
        let (resident, most) = memory(process(&leader(&self.tokyo).await?)?)?;
        println!("the agent {when}: {} kB resident, {most} kB at most", resident);
        ensure!(most <= MEMORY, "it held {most} kB {when}; {MEMORY} are allowed");
        Ok(())
    }
}

fn app(number: usize) -> App {
    App::new(&format!("many-{number}")).namespace("many")
}

/// The Ingress of a Service and of the next one.
fn ingress(number: usize) -> Value {
    let mut ingress = app(number).ingress();
    let paths = &mut ingress["spec"]["rules"][0]["http"]["paths"];
    let mut other = paths[0].clone();
    other["path"] = json!("/next");
    other["backend"]["service"]["name"] = json!(format!("many-{}", number + 1));
    *paths = json!([paths[0], other]);
    ingress
}

/// Endpoints of a Service that somebody else than Kubernetes writes; the last digit of the first one's address is given.
fn slice(number: usize, first: usize) -> Value {
    let address = |at: usize| format!("10.{}.{}.{}", 140 + number / 250, number % 250, at + 10);
    let endpoints: Vec<_> = (0..ENDPOINTS)
        .map(|at| if at == 0 { first } else { at + 10 })
        .map(|at| json!({"addresses": [address(at)], "conditions": {"ready": true}}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("many-{number}-hand"), "namespace": "many",
            "labels": {"kubernetes.io/service-name": format!("many-{number}")},
        },
        "endpoints": endpoints,
        "ports": [{"name": "web", "port": 3000, "protocol": "TCP"}],
    })
}
