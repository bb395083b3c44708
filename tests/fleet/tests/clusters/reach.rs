//! The ways from the LB cluster to applications, beside node ports: addresses of pods, and the cluster's own gateway.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portolan_fleet::{App, Kubectl, Load, World, get, pause};
use portolan_rig::wait;
use serde_json::{Value, json};

use crate::stage::{LONG, answered, refused, remove};

/// P07: "separately from the seed cluster or integrated into it". Its own pods, whose range is reserved, the LB cluster reaches while its `Cluster` is
/// integrated, and not otherwise.
pub(crate) async fn the_lb_cluster_is_its_own_member(world: &World) -> Result<()> {
    let (lb, address) = (world.kubectl("lb")?, world.address().await?);
    world.join("lb", json!({"integrated": true, "allowedDomains": [{"suffix": "home.test"}]})).await?;
    world.ready("lb").await?;
    let app = App::new("home").replicas(1);
    lb.apply(&app.manifests()).await?;
    let host = "home.lb.lb.example.net";
    world.served(host, "home").await?;
    let pool = async || lb.get(&["upstreampool", "service.default.home.80", "-n", "tenant-lb"]).await;
    ensure!(pool().await?["spec"]["nodePort"]["port"].is_u64(), "{}", pool().await?);

    set(&lb, "lb", json!({"reach": "PodIP"})).await?;
    wait::until("its pods to be its endpoints", LONG, || async {
        let pool = pool().await.ok()?;
        let slices = lb.get(&["endpointslices", "-n", "tenant-lb"]).await.ok()?;
        let address = slices["items"][0]["endpoints"][0]["addresses"][0].as_str()?.to_owned();
        (pool["spec"]["endpointSlices"].is_object() && address.starts_with("10.244.")).then_some(())
    })
    .await?;
    world.served(host, "home").await?;
    set(&lb, "lb", json!({"integrated": false})).await?;
    answered(address, host, &[503]).await?;
    refused(&lb, "Ingress", "home", "EndpointNotAllowed").await?;
    set(&lb, "lb", json!({"integrated": true})).await?;
    world.served(host, "home").await?;

    // A gateway that gives the Ingress no address: what it has goes on, and is followed.
    let load = Load::start(address, host, "/", 50);
    set(&lb, "lb", json!({"reach": "Gateway"})).await?;
    refused(&lb, "Ingress", "home", "NoGatewayAddress").await?;
    lb.run(&["rollout", "restart", "deployment/home"]).await?;
    lb.run(&["rollout", "status", "--timeout=60s", "deployment/home"]).await?;
    lb.apply(&app.clone().host("www.home.test").ingress().to_string()).await?;
    world.served("www.home.test", "home").await?;
    // The pod before it is gone by then.
    pause(Duration::from_secs(7)).await;
    let report = load.stop().await?;
    println!("{report}");
    ensure!(report.failed.is_empty() && report.good > 300, "{report}");

    lb.with_input(&["delete", "-f", "-"], &app.manifests()).await?;
    let both = lb.kubeconfig().to_string_lossy();
    world.portolan(&["leave", "lb", "--kubeconfig", &both, "--member-kubeconfig", &both]).await?;
    // What is the LB cluster's own is there still.
    world.ready("paris").await
}

/// The cluster's own gateway stands before its applications: its address stands in the status of the Ingress, and it knows the hosts of that.
pub(crate) async fn a_gateway_of_the_cluster_is_used(world: &World) -> Result<()> {
    let (paris, lb, address) = (world.kubectl("paris")?, world.kubectl("lb")?, world.address().await?);
    // In place of a gateway: whatever answers on port 80 of an address of the cluster's.
    let gateway = App::new("gateway").replicas(1).service(json!({"type": "LoadBalancer"}));
    for object in gateway.workload() {
        paris.apply(&object.to_string()).await?;
    }
    let ip = wait::until("an address of the gateway", LONG, || async {
        let service = paris.get(&["service", "gateway"]).await.ok()?;
        service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().map(str::to_owned)
    })
    .await?;
    set(&lb, "paris", json!({"reach": "Gateway"})).await?;
    // Its Service is nobody's here but the gateway's.
    let ingress = App::new("behind").host("behind.example.com").ingress();
    paris.apply(&ingress.to_string()).await?;
    answered(address, "behind.example.com", &[404]).await?;
    refused(&paris, "Ingress", "behind", "NoGatewayAddress").await?;
    // What the LB cluster says is told after five seconds.
    pause(Duration::from_secs(7)).await;

    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}).to_string();
    paris.run(&["patch", "ingress", "behind", "--subresource=status", "--type=merge", "-p", &status]).await?;
    for host in ["behind.example.com", "behind.paris.lb.example.net"] {
        world.served(host, "gateway").await?;
        let reply = get(address, host, "/").await?;
        ensure!(reply.echo("host") == "behind.example.com", "{host}: {}", reply.text());
    }
    let entries = wait::until("our name beside it", LONG, || async {
        let ingress = paris.get(&["ingress", "behind"]).await.ok()?;
        let entries = ingress["status"]["loadBalancer"]["ingress"].as_array()?.clone();
        (entries.len() == 2).then_some(entries)
    })
    .await?;
    let ours = json!({"hostname": "behind.paris.lb.example.net"});
    ensure!(entries.contains(&json!({"ip": ip})) && entries.contains(&ours), "{entries:?}");

    // The cause was told; that no pool was made of it is nobody's there.
    let selector = "involvedObject.name=behind,reason=BackendNotFound";
    let doubled = paris.get(&["events", "-A", "--field-selector", selector]).await?;
    ensure!(doubled["items"].as_array().is_some_and(Vec::is_empty), "{doubled}");

    paris.run(&["delete", "ingress", "behind"]).await?;
    paris.run(&["delete", "deployment,service", "gateway"]).await?;
    set(&lb, "paris", json!({"reach": Value::Null})).await
}

/// Another reach leads to addresses that the LB cluster does not take: what it has goes on.
pub(crate) async fn a_reach_that_is_refused_changes_nothing(world: &World) -> Result<()> {
    let (paris, lb, address) = (world.kubectl("paris")?, world.kubectl("lb")?, world.address().await?);
    let app = App::new("steady").replicas(1);
    paris.apply(&app.manifests()).await?;
    let host = "steady.paris.lb.example.net";
    world.served(host, "steady").await?;
    let nodes = lb.get(&["nodeset", "nodes", "-n", "tenant-paris"]).await?;
    let nodes = nodes["spec"]["nodes"].as_array().context("nodes")?.clone();
    let nodes: Vec<_> = nodes.iter().filter_map(|node| node["addresses"][0].as_str()).collect();
    let nodes: Vec<_> = nodes.into_iter().map(|address| format!("{address}/32")).collect();

    let load = Load::start(address, host, "/", 50);
    set(&lb, "paris", json!({"allowedEndpointCIDRs": nodes})).await?;
    // The admission's parameter is read from a cache of the API server's.
    pause(Duration::from_secs(3)).await;
    set(&lb, "paris", json!({"reach": "PodIP"})).await?;
    refused(&paris, "Ingress", "steady", "the LB cluster refuses the endpoints of port 80").await?;
    world.condition("cluster.portolan.dev", "paris", None, "Synced", "False").await?;
    let pool = lb.get(&["upstreampool", "service.default.steady.80", "-n", "tenant-paris"]).await?;
    ensure!(pool["spec"]["nodePort"]["port"].is_u64(), "{pool}");
    set(&lb, "paris", json!({"allowedEndpointCIDRs": Value::Null, "reach": Value::Null})).await?;
    world.condition("cluster.portolan.dev", "paris", None, "Synced", "True").await?;
    // Nor does one to a gateway that has given its Ingress no address.
    set(&lb, "paris", json!({"reach": "Gateway"})).await?;
    refused(&paris, "Ingress", "steady", "NoGatewayAddress").await?;
    pause(Duration::from_secs(3)).await;
    set(&lb, "paris", json!({"reach": Value::Null})).await?;
    pause(Duration::from_secs(2)).await;
    let report = load.stop().await?;
    println!("{report}");
    ensure!(report.failed.is_empty(), "{report}");
    remove(&paris, &app).await
}

/// Changes fields of a `Cluster`.
async fn set(lb: &Kubectl, cluster: &str, spec: Value) -> Result<()> {
    let patch = json!({"spec": spec}).to_string();
    lb.run(&["patch", "clusters.portolan.dev", cluster, "--type=merge", "-p", &patch]).await.map(drop)
}
