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

/// The ports of the proxies' Service follow the listeners; what is in force goes on.
pub(crate) async fn ports_follow_listeners(world: &World) -> Result<()> {
    let lb = world.kubectl("lb")?;
    let app = App::new("harbour").replicas(1);
    world.kubectl("paris")?.apply(&app.manifests()).await?;
    let host = "harbour.paris.lb.example.net";
    world.served(host, "harbour").await?;
    let listeners = lb.get(&["proxy.portolan.dev", "default"]).await?["spec"]["listeners"].clone();
    let mut more = listeners.clone();
    more.as_array_mut().context("a list")?.push(json!({"name": "alt", "port": 8888, "protocol": "HTTP"}));
    let set = async |listeners: &serde_json::Value| {
        let patch = json!({"spec": {"listeners": listeners}}).to_string();
        lb.run(&["patch", "proxy.portolan.dev", "default", "--type=merge", "-p", &patch]).await
    };
    let ports = async || {
        let service = lb.get(&["service", "portolan-proxy", "-n", "portolan-system"]).await.ok()?;
        let ports = service["spec"]["ports"].as_array()?.clone();
        Some(ports.iter().filter_map(|port| port["port"].as_u64()).collect::<Vec<_>>())
    };
    set(&more).await?;
    wait::until("a port for the new listener", LONG, || async {
        ports().await?.contains(&8888).then_some(())
    })
    .await?;
    let address = (world.address().await?.ip(), 8888).into();
    wait::until("an answer there", LONG, || async {
        get(address, host, "/").await.ok().filter(|reply| reply.status == 200)
    })
    .await?;
    set(&listeners).await?;
    wait::until("the port to be gone", LONG, || async { (ports().await? == [80, 443]).then_some(()) })
        .await?;
    world.served(host, "harbour").await?;
    world.kubectl("paris")?.with_input(&["delete", "-f", "-"], &app.manifests()).await?;
    Ok(())
}
