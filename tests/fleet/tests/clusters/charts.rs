//! Charts and plain manifests say the same, and an API server takes them as they are.

use anyhow::{Context, Result, ensure};
use portolan_fleet::World;

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/manifests");

pub(crate) async fn manifests_are_what_charts_come_to(world: &World) -> Result<()> {
    let written = std::fs::read_to_string(format!("{MANIFESTS}/portolan.yaml"))?;
    let rendered = world.chart("portolan", &["lbDomain=lb.example.net".to_owned()]).await?;
    let body = written.split_once("---\n").context("a first document")?.1;
    let expected = rendered.split_once("---\n").context("a first document")?.1;
    ensure!(
        body == expected,
        "deploy/manifests/portolan.yaml is not what the chart comes to: make manifests"
    );
    Ok(())
}

/// With everything switched on that needs no definitions of others; and that of the agent, in a member cluster.
pub(crate) async fn an_api_server_takes_every_chart(world: &World) -> Result<()> {
    let dry =
        ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"];
    let all = [
        "lbDomain=lb.example.net",
        "proxy.kind=DaemonSet",
        "proxy.hostNetwork=true",
        "dashboards.enabled=true",
    ];
    let all = all.map(str::to_owned);
    world.kubectl("lb")?.with_input(&dry, &world.chart("portolan", &all).await?).await?;
    world.kubectl("lb")?.with_input(&dry, &world.chart("portolan-crds", &[]).await?).await?;
    let agent = world.chart_in("portolan-agent", "portolan-agent", &[]).await?;
    world.kubectl("paris")?.with_input(&dry, &agent).await?;
    Ok(())
}
