//! Under load: proxies are replaced, become more and fewer; one starts while nobody can tell it anything.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portolan_fleet::{App, World, get, pause};
use portolan_rig::wait;
use serde_json::Value;

use crate::slow::Subject;
use crate::stage::{LONG, remove};
use crate::witness::{self, SYSTEM, ask, in_time, namespace_of, process};

const NAME: &str = "portolan-proxy";

pub(crate) async fn proxies_are_rolled(world: &World) -> Result<()> {
    let subject = Subject::start(world, "edge", 3).await?;
    let lb = world.kubectl("lb")?;
    lb.run(&["rollout", "restart", "deployment/portolan-proxy", "-n", SYSTEM]).await?;
    lb.run(&["rollout", "status", "deployment/portolan-proxy", "-n", SYSTEM, "--timeout=180s"]).await?;
    subject.end_whole("all proxies replaced").await
}

/// One, three, one; then the two that others expect.
pub(crate) async fn proxies_come_and_go(world: &World) -> Result<()> {
    scale(world, 1).await?;
    let subject = Subject::start(world, "tide", 3).await?;
    scale(world, 3).await?;
    pause(Duration::from_secs(5)).await;
    scale(world, 1).await?;
    let outcome = subject.end_whole("proxies from one to three and back to one").await;
    scale(world, 2).await?;
    outcome
}

/// Scales the proxies, and waits until as many are ready and no other is there.
async fn scale(world: &World, replicas: usize) -> Result<()> {
    let lb = world.kubectl("lb")?;
    let wanted = format!("--replicas={replicas}");
    lb.run(&["scale", "deployment/portolan-proxy", "-n", SYSTEM, &wanted]).await?;
    let what = format!("{replicas} proxies, all ready");
    let label = format!("app.kubernetes.io/name={NAME}");
    in_time(&what, LONG * 2, || async {
        let pods = lb.get(&["pods", "-n", SYSTEM, "-l", &label]).await.ok()?;
        let pods = pods["items"].as_array()?;
        let is_ready = |pod: &Value| pod["status"]["containerStatuses"][0]["ready"] == true;
        (pods.len() == replicas && pods.iter().all(is_ready)).then_some(())
    })
    .await
}

/// Its process ends while the API server is away: it serves what it knew, says that it does, and catches up.
pub(crate) async fn a_proxy_starts_without_the_api_server(world: &World) -> Result<()> {
    let (paris, cluster) = (world.kubectl("paris")?, world.cluster("lb")?);
    let address = world.address().await?;
    let (app, host) = (App::new("known"), "known.paris.lb.example.net");
    paris.apply(&app.manifests()).await?;
    world.served(host, "known").await?;
    let pods = witness::pods(&world.kubectl("lb")?, SYSTEM, NAME).await?;
    let pod = pods.first().context("no proxy")?;
    let first = process(pod)?;

    cluster.kill_api()?;
    cluster.controllers().kill()?;
    let died = Instant::now();
    witness::kill(first)?;
    let next = in_time("the kubelet to start it again", LONG, || async {
        process(pod).ok().filter(|pid| *pid != first)
    })
    .await?;
    println!("started again {:?} after the end of its process", died.elapsed());
    let namespace = namespace_of(world, next)?;
    in_time("it to serve what it knew", LONG, || async {
        ask(&namespace, 80, host, "/")
            .ok()
            .filter(|(status, answer)| *status == 200 && answer.contains("known"))
    })
    .await?;
    println!("it served what it knew {:?} after", died.elapsed());
    ensure!(process(pod)? == next, "it was started more than once");
    let (status, answer) = ask(&namespace, 80, "unknown.paris.lb.example.net", "/")?;
    ensure!(status == 404, "{answer}");
    let (status, answer) = ask(&namespace, 9902, "localhost", "/readyz")?;
    ensure!(status == 200, "it serves and is not ready: {answer}");
    let (_, conditions) = ask(&namespace, 9901, "localhost", "/conditions")?;
    ensure!(conditions.contains("from the disk"), "{conditions}");
    wait::until("the metric that says so", LONG, || async { (stale(&namespace)? > 0.0).then_some(()) })
        .await?;
    wait::until("both proxies to serve", LONG, || async {
        for _ in 0..20 {
            get(address, host, "/").await.ok().filter(|reply| reply.status == 200)?;
        }
        Some(())
    })
    .await?;

    let late = App::new("news").replicas(1);
    paris.apply(&late.manifests()).await?;
    cluster.restart_api().await?;
    cluster.controllers().restart()?;
    let back = Instant::now();
    world.served("news.paris.lb.example.net", "news").await?;
    println!("what was new was served {:?} after the API server was back", back.elapsed());
    in_time("it to be up to date", LONG, || async { (stale(&namespace)? == 0.0).then_some(()) }).await?;
    let (_, conditions) = ask(&namespace, 9901, "localhost", "/conditions")?;
    ensure!(!conditions.contains("from the disk"), "{conditions}");
    ensure!(process(pod)? == next, "it was started more than once");
    remove(&paris, &late).await?;
    remove(&paris, &app).await
}

/// How old what a proxy serves may be, as it says itself.
fn stale(namespace: &portolan_rig::net::Namespace) -> Option<f64> {
    let (_, metrics) = ask(namespace, 9902, "localhost", "/metrics").ok()?;
    metrics.lines().find_map(|line| line.strip_prefix("portolan_source_stale_seconds "))?.trim().parse().ok()
}
