//! Under load: proxies are replaced, become more and fewer.

use std::time::Duration;

use anyhow::Result;
use portolan_fleet::{World, pause};
use serde_json::Value;

use crate::slow::Subject;
use crate::stage::LONG;
use crate::witness::{SYSTEM, in_time};

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
