//! Charts and plain manifests say the same, an API server takes them as they are, and a wrong value is named.

use anyhow::{Context, Result, ensure};
use portolan_fleet::World;
use serde_json::json;

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/manifests");

pub(crate) async fn manifests_are_what_charts_come_to(world: &World) -> Result<()> {
    let portolan = world.chart("portolan", &["lbDomain=lb.example.net".to_owned()]).await?;
    let agent = world.chart_in("portolan-agent", "portolan-agent", &[]).await?;
    for (file, rendered) in [("portolan.yaml", portolan), ("agent.yaml", agent)] {
        let written = std::fs::read_to_string(format!("{MANIFESTS}/{file}"))?;
        // Comments stand before it, and what of the agent is beside the chart.
        ensure!(
            written.ends_with(&rendered),
            "deploy/manifests/{file} does not end with what the chart comes to: make manifests"
        );
    }
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

/// An image is called by registry, repository and tag.
pub(crate) async fn images_come_from_where_values_say(world: &World) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let digest = format!("v2@sha256:{}", "0f".repeat(32));
    for (chart, value, expected) in [
        ("portolan", "image.pullPolicy=Always", format!("portolan:{version}")),
        (
            "portolan",
            "image.registry=registry.example.net:5000",
            format!("registry.example.net:5000/portolan:{version}"),
        ),
        ("portolan", "image.repository=lb/portolan", format!("lb/portolan:{version}")),
        (
            "portolan",
            "image.registry=harbor.example.net:5000/mirror/lb",
            format!("harbor.example.net:5000/mirror/lb/portolan:{version}"),
        ),
        ("portolan", &format!("image.tag={digest}"), format!("portolan:{digest}")),
        ("portolan-agent", &format!("image.tag={digest}"), format!("portolan-agent:{digest}")),
        (
            "portolan-agent",
            "image.registry=harbor.example.net/mirror",
            format!("harbor.example.net/mirror/portolan-agent:{version}"),
        ),
        ("portolan-agent", "image.tag=v2", "portolan-agent:v2".to_owned()),
        (
            "portolan-agent",
            "image.registry=registry.example.net",
            format!("registry.example.net/portolan-agent:{version}"),
        ),
    ] {
        let rendered = render(world, chart, value).await.with_context(|| value.to_owned())?;
        let rendered = portolan_api::from_yaml(&rendered)?;
        let pods =
            rendered.iter().filter_map(|document| document.pointer("/spec/template/spec/containers/0/image"));
        let images: Vec<_> = pods.collect();
        ensure!(
            !images.is_empty() && images.iter().all(|image| **image == json!(expected)),
            "{value}: {images:?}"
        );
    }
    Ok(())
}

/// A value that is misspelt, or of another kind than it should be, is an error that names it.
pub(crate) async fn a_wrong_value_is_named(world: &World) -> Result<()> {
    for (chart, value, named) in [
        ("portolan", "proxy.replica=3", "'/proxy': additional properties 'replica'"),
        ("portolan", "lbdomain=lb.example.net", "additional properties 'lbdomain'"),
        ("portolan", "lbDomain=https://lb.example.net", "'/lbDomain'"),
        ("portolan", "image.repositroy=portolan", "'/image': additional properties 'repositroy'"),
        ("portolan", "image.repository=registry.example.net:5000/portolan:1", "'/image/repository'"),
        ("portolan", "image.registry=https://registry.example.net", "'/image/registry'"),
        ("portolan", "image.tag=v2@sha256:0f", "'/image/tag'"),
        ("portolan-agent", "image.tag=@sha256:0f", "'/image/tag'"),
        ("portolan", "proxy.kind=StatefulSet", "'/proxy/kind'"),
        ("portolan", "proxy.replicas=two", "'/proxy/replicas'"),
        ("portolan", "proxy.state.hostPath=state", "'/proxy/state/hostPath'"),
        ("portolan", "proxySettings.listeners[0].port=0", "'/proxySettings/listeners/0/port'"),
        ("portolan", "service.type=ClusterIP", "'/service/type'"),
        ("portolan", "prometheusRule.silentAfterSeconds=60", "'/prometheusRule/silentAfterSeconds'"),
        ("portolan", "proxy.podLabels.team=7", "'/proxy/podLabels/team'"),
        ("portolan-agent", "replicas=two", "'/replicas'"),
        ("portolan-agent", "ingressClass.defualt=true", "'/ingressClass': additional properties 'defualt'"),
        ("portolan-agent", "cluster=paris", "additional properties 'cluster'"),
        ("portolan-crds", "proxies=false", "additional properties 'proxies'"),
    ] {
        let error = render(world, chart, value).await.err().with_context(|| format!("{value} was taken"))?;
        ensure!(format!("{error:#}").contains(named), "{value}: {error:#}");
    }
    // What Helm itself gives a chart that is part of another.
    for chart in ["portolan", "portolan-agent", "portolan-crds"] {
        render(world, chart, "global.imageRegistry=x,enabled=true").await?;
    }
    Ok(())
}

async fn render(world: &World, chart: &str, value: &str) -> Result<String> {
    let namespace = if chart == "portolan-agent" { chart } else { "portolan-system" };
    let needed = (chart == "portolan").then(|| "lbDomain=lb.example.net".to_owned());
    let values: Vec<_> = needed.into_iter().chain([value.to_owned()]).collect();
    world.chart_in(chart, namespace, &values).await
}
