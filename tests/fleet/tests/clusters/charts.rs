//! Charts and plain manifests say the same, an API server takes them as they are, and a wrong value is named.

use anyhow::{Context, Result, ensure};
use portolan_fleet::World;
use portolan_rig::wait;
use serde_json::{Value, json};

use crate::stage::LONG;

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

/// Helm itself has nothing to say of them.
pub(crate) async fn helm_finds_no_fault(world: &World) -> Result<()> {
    let everything = [
        "lbDomain=lb.example.net",
        "serviceMonitor.enabled=true",
        "prometheusRule.enabled=true",
        "dashboards.enabled=true",
    ];
    for (chart, values) in [
        ("portolan-crds", &[][..]),
        ("portolan", &everything[..1]),
        ("portolan", &everything),
        ("portolan-agent", &[]),
    ] {
        let values: Vec<_> = values.iter().map(|&value| value.to_owned()).collect();
        world.lint(chart, namespace_of(chart), &values).await.with_context(|| chart.to_owned())?;
    }
    Ok(())
}

/// As strictly as an API server can, and without a trace.
const DRY: [&str; 7] =
    ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"];

/// What stands there for the Prometheus operator is of its kinds. Its own definitions are in no package that this repository builds from, so those here are
/// ours: of each field of its documentation that the chart uses, and of no other.
pub(crate) async fn an_api_server_takes_what_prometheus_reads(world: &World) -> Result<()> {
    let lb = world.kubectl("lb")?;
    let text = json!({"type": "string"});
    let texts = json!({"type": "object", "additionalProperties": text});
    let object = |fields: Value, required: &[&str]| json!({"type": "object", "properties": fields, "required": required});
    let list = |items: Value| json!({"type": "array", "items": items});
    let duration = json!({"type": "string", "pattern": "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"});
    let endpoint = object(json!({"port": text, "path": text, "interval": duration}), &[]);
    let monitor = object(
        json!({"selector": object(json!({"matchLabels": texts}), &[]), "endpoints": list(endpoint)}),
        &["selector", "endpoints"],
    );
    let expression = json!({"x-kubernetes-int-or-string": true});
    let rule = object(
        json!({"alert": text, "expr": expression, "for": duration, "labels": texts, "annotations": texts}),
        &["expr"],
    );
    let group = object(json!({"name": text, "rules": list(rule)}), &["name"]);
    let rules = object(json!({"groups": list(group)}), &[]);
    for (kind, plural, spec) in
        [("ServiceMonitor", "servicemonitors", monitor), ("PrometheusRule", "prometheusrules", rules)]
    {
        let schema = object(json!({"spec": spec}), &["spec"]);
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
            "spec": {
                "group": "monitoring.coreos.com", "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
            },
        });
        lb.apply(&definition.to_string()).await?;
        let established = ["wait", "--for=condition=Established", "--timeout=60s", "crd"];
        lb.run(&[&established[..], &[&format!("{plural}.monitoring.coreos.com")]].concat()).await?;
    }
    let values = [
        "lbDomain=lb.example.net",
        "serviceMonitor.enabled=true",
        "serviceMonitor.labels.release=prometheus",
        "prometheusRule.enabled=true",
        "prometheusRule.labels.release=prometheus",
    ];
    let chart = world.chart("portolan", &values.map(str::to_owned)).await?;
    let taken = wait::until("the kinds to be known", LONG, || async {
        // The client has to hear of new kinds first; of other errors the last one counts.
        match lb.with_input(&DRY, &chart).await {
            Err(error) if format!("{error:#}").contains("no matches for kind") => None,
            taken => Some(taken),
        }
    });
    let taken = taken.await??;
    for object in
        ["servicemonitor.monitoring.coreos.com/portolan", "prometheusrule.monitoring.coreos.com/portolan"]
    {
        ensure!(taken.contains(object), "no {object}: {taken}");
    }
    // That a field which is misspelt would have been seen.
    let wrong = chart.replacen("          expr:", "          expression:", 1);
    ensure!(wrong != chart && lb.with_input(&DRY, &wrong).await.is_err(), "nothing is looked at");
    let definitions =
        ["servicemonitors", "prometheusrules"].map(|plural| format!("{plural}.monitoring.coreos.com"));
    lb.run(&["delete", "crd", &definitions[0], &definitions[1]]).await.map(drop)
}

/// With everything switched on that needs no definitions of others; and that of the agent, in a member cluster.
pub(crate) async fn an_api_server_takes_every_chart(world: &World) -> Result<()> {
    let all = [
        "lbDomain=lb.example.net",
        "proxy.kind=DaemonSet",
        "proxy.hostNetwork=true",
        "dashboards.enabled=true",
    ];
    let all = all.map(str::to_owned);
    world.kubectl("lb")?.with_input(&DRY, &world.chart("portolan", &all).await?).await?;
    world.kubectl("lb")?.with_input(&DRY, &world.chart("portolan-crds", &[]).await?).await?;
    let agent = world.chart_in("portolan-agent", "portolan-agent", &[]).await?;
    world.kubectl("paris")?.with_input(&DRY, &agent).await?;
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

fn listeners(of: [(&str, u16); 2]) -> String {
    let one = |(at, (name, port)): (usize, (&str, u16))| {
        let it = format!("proxySettings.listeners[{at}]");
        format!("{it}.name={name},{it}.port={port},{it}.protocol=HTTP")
    };
    of.into_iter().enumerate().map(one).collect::<Vec<_>>().join(",")
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
        ("portolan", "proxy.drainDelaySeconds=60", "proxy.drainDelaySeconds must be less"),
        (
            "portolan",
            "proxySettings.spec.lbDomain=lb.example.net",
            "proxySettings.spec.lbDomain: set lbDomain",
        ),
        ("portolan", "proxySettings.spec.listeners[0]=a", "set proxySettings.listeners instead"),
        (
            "portolan",
            &listeners([("a", 80), ("a", 81)]),
            "a, port 81: another listener has that name or that port",
        ),
        (
            "portolan",
            &listeners([("a", 80), ("b", 80)]),
            "b, port 80: another listener has that name or that port",
        ),
        ("portolan", &listeners([("a", 80), ("b", 9901)]), "b, port 9901: the name metrics and the ports"),
        ("portolan", &listeners([("a", 80), ("metrics", 81)]), "metrics, port 81: the name metrics"),
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

fn namespace_of(chart: &str) -> &str {
    if chart == "portolan-agent" { chart } else { "portolan-system" }
}

async fn render(world: &World, chart: &str, value: &str) -> Result<String> {
    let needed = (chart == "portolan").then(|| "lbDomain=lb.example.net".to_owned());
    let values: Vec<_> = needed.into_iter().chain([value.to_owned()]).collect();
    world.chart_in(chart, namespace_of(chart), &values).await
}
