//! Clusters come, are seen, and go.

use anyhow::{Context, Result, ensure};
use portolan_fleet::{App, World, get};
use portolan_rig::wait;
use serde_json::json;

use crate::stage::LONG;

pub(crate) async fn an_operator_sees_the_fleet(world: &World) -> Result<()> {
    let table = world.kubectl("lb")?.run(&["get", "clusters.portolan.dev"]).await?;
    println!("{table}");
    let head = table.lines().next().context("a head")?;
    for column in ["READY", "SEEN", "AGENT", "NODES", "APPS", "HOSTS", "ENDPOINTS", "WEIGHT", "DRAIN"] {
        ensure!(head.contains(column), "no column {column}: {head}");
    }
    for name in ["paris", "tokyo"] {
        let row = table.lines().find(|line| line.starts_with(name)).context("a row")?;
        ensure!(row.contains("True") && row.contains(env!("CARGO_PKG_VERSION")), "{row}");
    }
    Ok(())
}

pub(crate) async fn a_cluster_leaves_and_comes_back(world: &World) -> Result<()> {
    let (lb, tokyo) = (world.kubectl("lb")?, world.kubectl("tokyo")?);
    let app = App::new("leaver").replicas(1);
    tokyo.apply(&app.manifests()).await?;
    world.served("leaver.tokyo.lb.example.net", "leaver").await?;
    let spec = lb.get(&["clusters.portolan.dev", "tokyo"]).await?["spec"].clone();

    lb.run(&["delete", "clusters.portolan.dev", "tokyo", "--timeout=60s"]).await?;
    let address = world.address().await?;
    wait::until("its hosts to be gone", LONG, || async {
        get(address, "leaver.tokyo.lb.example.net", "/").await.ok().filter(|reply| reply.status == 404)
    })
    .await?;
    wait::until("its namespace to be gone", LONG, || async {
        lb.run(&["get", "namespace", "tenant-tokyo"]).await.is_err().then_some(())
    })
    .await?;
    for kind in ["clusterrole", "clusterrolebinding", "validatingadmissionpolicybinding"] {
        let left = lb.run(&["get", kind, "-o", "name"]).await?;
        ensure!(!left.contains("tokyo"), "{kind}: {left}");
    }

    world.join("tokyo", spec).await?;
    world.ready("tokyo").await?;
    world.served("leaver.tokyo.lb.example.net", "leaver").await?;
    tokyo.with_input(&["delete", "-f", "-"], &app.manifests()).await?;
    Ok(())
}

/// P07: "separately from the seed cluster or integrated into it".
pub(crate) async fn the_lb_cluster_is_its_own_member(world: &World) -> Result<()> {
    let lb = world.kubectl("lb")?;
    world.join("lb", json!({"integrated": true})).await?;
    world.ready("lb").await?;
    let app = App::new("home").replicas(1);
    lb.apply(&app.manifests()).await?;
    world.served("home.lb.lb.example.net", "home").await?;
    lb.with_input(&["delete", "-f", "-"], &app.manifests()).await?;
    lb.run(&["delete", "clusters.portolan.dev", "lb", "--timeout=60s"]).await?;
    lb.run(&["delete", "namespace", "portolan-agent", "--timeout=60s"]).await?;
    Ok(())
}
