//! Clusters come, are seen, and go.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portolan_fleet::{App, Kubectl, Load, Report, World, get, pause};
use portolan_rig::wait;
use serde_json::{Value, json};

use crate::agents::SECRET;
use crate::stage::{LONG, gone, refused, remove};
use crate::witness::AGENT;

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

/// What the LB cluster refuses to write of a cluster stands at its `Cluster`, and at the agent's own pod.
pub(crate) async fn refused_nodes_are_told_on_both_sides(world: &World) -> Result<()> {
    let (lb, tokyo) = (world.kubectl("lb")?, world.kubectl("tokyo")?);
    let ranges = async |ranges: Value| {
        let patch = json!({"spec": {"allowedEndpointCIDRs": ranges}}).to_string();
        lb.run(&["patch", "clusters.portolan.dev", "tokyo", "--type=merge", "-p", &patch]).await
    };
    ranges(json!(["192.0.2.0/24"])).await?;
    // The admission's parameter is read from a cache of the API server's.
    pause(Duration::from_secs(3)).await;
    tokyo.run(&["cordon", "tokyo-1"]).await?;
    let told = wait::until("the condition", LONG, || async {
        let cluster = lb.get(&["clusters.portolan.dev", "tokyo"]).await.ok()?;
        let conditions = cluster["status"]["conditions"].as_array()?.clone();
        let refused = conditions.into_iter().find(|found| found["reason"] == "WritesRefused")?;
        let text = |field: &str| refused[field].as_str();
        Some(format!("{} {}: {}", text("type")?, text("status")?, text("message")?))
    });
    let told = told.await?;
    println!("{told}");
    ensure!(told.starts_with("Synced False: ") && told.contains("tokyo-"), "{told}");
    ensure!(told.contains("lies outside of the addresses"), "{told}");
    // What was written before is served: its application too, as far as its nodes are allowed still.
    world.ready("tokyo").await?;
    let lease = tokyo.get(&["lease", "portolan-agent", "-n", "portolan-agent"]).await?;
    let pod = lease["spec"]["holderIdentity"].as_str().context("nobody leads")?;
    refused(&tokyo, "Pod", pod, "lies outside of the addresses").await?;
    let described = tokyo.run(&["describe", "pod", pod, "-n", "portolan-agent"]).await?;
    ensure!(described.contains("lies outside of the addresses"), "{described}");
    ranges(Value::Null).await?;
    tokyo.run(&["uncordon", "tokyo-1"]).await?;
    world.condition("cluster.portolan.dev", "tokyo", None, "Synced", "True").await
}

/// `portolan leave`: of a host that is served elsewhere no request is lost, and nothing of ours stays on either side.
pub(crate) async fn a_cluster_leaves_and_comes_back(world: &World) -> Result<()> {
    let (lb, tokyo, address) = (world.kubectl("lb")?, world.kubectl("tokyo")?, world.address().await?);
    let (stayer, leaver) = (App::new("stayer").host(SHARED), App::new("leaver").host(SHARED));
    for (cluster, app, name) in [("paris", &stayer, "stayer"), ("tokyo", &leaver, "leaver")] {
        world.kubectl(cluster)?.apply(&app.manifests()).await?;
        world.served(&format!("{name}.{cluster}.lb.example.net"), name).await?;
    }
    wait::until("its name in the status", LONG, || async { status(&tokyo, "leaver").await.ok().flatten() })
        .await?;
    let theirs = json!({"status": {"loadBalancer": {"ingress": [
        {"hostname": "leaver.tokyo.lb.example.net"}, {"ip": "192.0.2.77"},
    ]}}});
    tokyo
        .run(&[
            "patch",
            "ingress",
            "leaver",
            "--subresource=status",
            "--type=merge",
            "-p",
            &theirs.to_string(),
        ])
        .await?;
    let spec = lb.get(&["clusters.portolan.dev", "tokyo"]).await?["spec"].clone();

    let (of_lb, of_tokyo) = (path(&lb), path(&tokyo));
    let sides = ["--kubeconfig", &of_lb, "--member-kubeconfig", &of_tokyo];
    let mistaken = world.portolan(&[&["leave", "paris"], &sides[..]].concat()).await;
    ensure!(mistaken.is_err_and(|error| error.to_string().contains("joined as Cluster \"tokyo\"")));
    let mistaken = world.portolan(&[&["join", "paris", "--apply"], &sides[..]].concat()).await;
    ensure!(mistaken.is_err_and(|error| error.to_string().contains("joined as Cluster \"tokyo\"")));

    // The same name in another LB cluster, as far as the URL says.
    let elsewhere = ["--server", "https://lb.invalid:6443"];
    for (args, flag) in
        [(&["join", "tokyo", "--apply"][..], "--replace"), (&["leave", "tokyo"], "--server https://")]
    {
        let mistaken = world.portolan(&[args, &sides, &elsewhere].concat()).await;
        let said = mistaken.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(
            said.contains("joined as Cluster \"tokyo\" of https://") && said.contains(flag),
            "{args:?}: {said}"
        );
    }

    for command in ["join", "leave"] {
        let mistaken = world.portolan(&[command, "paris", "--kubeconfig", &of_tokyo]).await;
        let said = mistaken.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(said.contains("Portolan is not installed there"), "{command}: {said}");
    }

    let load = Load::start(address, SHARED, "/", 100);
    pause(Duration::from_secs(2)).await;
    // A person's own, which only bears a name of ours.
    lb.run(&["create", "clusterrole", "portolan-tenant-tokio", "--verb=get", "--resource=pods"]).await?;
    println!("{}", world.portolan(&[&["leave", "tokyo"], &sides[..]].concat()).await?);
    for name in ["tokyo", "tokio"] {
        let again = world.portolan(&[&["leave", name], &sides[..]].concat()).await;
        let said = again.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(
            said.contains("nothing of a Cluster") && said.contains("the LB cluster has paris"),
            "{name}: {said}"
        );
        ensure!(
            said.contains("ClusterRole portolan-tenant-tokio stays") == (name == "tokio"),
            "{name}: {said}"
        );
    }
    lb.run(&["delete", "clusterrole", "portolan-tenant-tokio"]).await?;
    pause(Duration::from_secs(2)).await;
    let report = load.stop().await?;
    println!("a cluster left: {report}");
    ensure!(report.failed.is_empty() && report.by.len() > stayer_pods(&report), "{report}");

    gone(address, "leaver.tokyo.lb.example.net").await?;
    nothing_left(&lb, &tokyo).await?;
    let left = status(&tokyo, "leaver").await?;
    ensure!(left == Some(json!([{"ip": "192.0.2.77"}])), "{left:?}");
    world.served("stayer.paris.lb.example.net", "stayer").await?;

    // It comes back by the agent's chart, with the credential beside it.
    declare(&lb, "tokyo", &spec).await?;
    tokyo.run(&["create", "namespace", "portolan-agent"]).await?;
    tokyo.apply(&world.chart_in("portolan-agent", "portolan-agent", &[]).await?).await?;
    let credential = world.portolan(&["join", "tokyo", "--credential-only", "--kubeconfig", &of_lb]).await?;
    let kinds: Vec<_> = portolan_api::from_yaml(&credential)?.iter().map(|it| it["kind"].clone()).collect();
    ensure!(kinds == ["Secret"], "{kinds:?}");
    tokyo.apply(&credential).await?;
    world.ready("tokyo").await?;
    world.served("leaver.tokyo.lb.example.net", "leaver").await?;
    wait::until("its name in the status", LONG, || async { named(&tokyo, "leaver", "tokyo").await }).await?;
    remove(&tokyo, &leaver).await?;
    remove(&world.kubectl("paris")?, &stayer).await
}

/// A member cluster joins as another `Cluster`, which leaves before its agent has written all names anew.
pub(crate) async fn a_cluster_joins_as_another_and_leaves(world: &World) -> Result<()> {
    let (lb, tokyo) = (world.kubectl("lb")?, world.kubectl("tokyo")?);
    let leaver = App::new("leaver");
    tokyo.apply(&leaver.manifests()).await?;
    wait::until("its name in the status", LONG, || async { named(&tokyo, "leaver", "tokyo").await }).await?;
    let spec = lb.get(&["clusters.portolan.dev", "tokyo"]).await?["spec"].clone();
    let (of_lb, of_tokyo) = (path(&lb), path(&tokyo));
    let sides = ["--kubeconfig", &of_lb, "--member-kubeconfig", &of_tokyo];
    declare(&lb, "kyoto", &spec).await?;
    let mistaken = world.portolan(&[&["join", "kyoto", "--apply"], &sides[..]].concat()).await;
    ensure!(mistaken.is_err_and(|error| error.to_string().contains("--replace")));
    world.portolan(&[&["join", "kyoto", "--apply", "--replace"], &sides[..]].concat()).await?;
    world.portolan(&[&["leave", "kyoto"], &sides[..]].concat()).await?;
    let left = status(&tokyo, "leaver").await?;
    ensure!(left.is_none(), "{left:?}");
    // Of the first there is what the LB cluster has.
    world.portolan(&["leave", "tokyo", "--kubeconfig", &of_lb]).await?;
    nothing_left(&lb, &tokyo).await?;

    declare(&lb, "tokyo", &spec).await?;
    world.portolan(&[&["join", "tokyo", "--apply"], &sides[..]].concat()).await?;
    world.ready("tokyo").await?;
    world.served("leaver.tokyo.lb.example.net", "leaver").await?;
    remove(&tokyo, &leaver).await
}

/// A host of several clusters.
const SHARED: &str = "shared.example.com";

/// Regression: a second cluster that joined by the name of another took the other's objects away, and nobody was told.
pub(crate) async fn of_two_by_one_name_the_first_is_served(world: &World) -> Result<()> {
    let (lb, paris) = (world.kubectl("lb")?, world.kubectl("paris")?);
    let app = App::new("first").replicas(1);
    paris.apply(&app.manifests()).await?;
    world.served("first.paris.lb.example.net", "first").await?;

    let second = path(&lb);
    let join = ["join", "paris", "--kubeconfig", &second, "--apply", "--member-kubeconfig", &second];
    let mistaken = world.portolan(&join).await;
    let said = mistaken.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(
        said.contains("another member cluster is served as Cluster") && said.contains("--replace"),
        "{said}"
    );

    world.portolan(&[&join[..], &["--replace"]].concat()).await?;
    wait::until("the second to say that it stands back", LONG, || async {
        let events = lb.get(&["events", "-n", "portolan-agent"]).await.ok()?;
        let mut events = events["items"].as_array()?.iter();
        events.find(|event| event["reason"] == "ClusterTaken").map(|_| ())
    })
    .await?;
    world.served("first.paris.lb.example.net", "first").await?;
    let leave = ["leave", "paris", "--kubeconfig", &second, "--member-kubeconfig", &second];
    let said = world.portolan(&leave).await.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(
        said.contains("another member cluster is served as Cluster") && said.contains("--member-only"),
        "{said}"
    );
    let leave = ["leave", "paris", "--member-only", "--member-kubeconfig", &second];
    println!("{}", world.portolan(&leave).await?);
    world.served("first.paris.lb.example.net", "first").await?;
    remove(&paris, &app).await
}

/// Whoever is heard of first when the LB cluster is back must not take the place of one that could not be heard.
pub(crate) async fn of_two_by_one_name_the_first_outlasts_an_outage(world: &World) -> Result<()> {
    let (lb, paris, tokyo) = (world.kubectl("lb")?, world.kubectl("paris")?, world.kubectl("tokyo")?);
    let app = App::new("lasting").replicas(1);
    paris.apply(&app.manifests()).await?;
    let host = "lasting.paris.lb.example.net";
    world.served(host, "lasting").await?;
    // The agent of tokyo with the credential of paris: as one that was made of a backup.
    let own = tokyo.get(&["secret", SECRET, "-n", AGENT]).await?;
    let theirs = paris.get(&["secret", SECRET, "-n", AGENT]).await?;
    let give = async |secret: &Value| {
        let patch = json!({"data": secret["data"]}).to_string();
        tokyo.run(&["patch", "secret", SECRET, "-n", AGENT, "--type=merge", "-p", &patch]).await
    };
    give(&theirs).await?;
    wait::until("the second to say that it stands back", LONG, || async {
        let events = tokyo.get(&["events", "-n", AGENT]).await.ok()?;
        let mut events = events["items"].as_array()?.iter();
        events.find(|event| event["reason"] == "ClusterTaken").map(|_| ())
    })
    .await?;

    let cluster = world.cluster("lb")?;
    cluster.kill_api()?;
    cluster.controllers().kill()?;
    pause(Duration::from_secs(75)).await;
    cluster.restart_api().await?;
    cluster.controllers().restart()?;
    let whose = async || {
        let lease = lb.get(&["lease", "portolan-agent", "-n", "tenant-paris"]).await?;
        anyhow::Ok(lease["metadata"]["annotations"]["portolan.dev/member"].clone())
    };
    let paris_is = paris.get(&["namespace", "kube-system"]).await?["metadata"]["uid"].clone();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        ensure!(whose().await? == paris_is, "the second is served in its place");
        pause(Duration::from_millis(500)).await;
    }
    world.served(host, "lasting").await?;

    give(&own).await?;
    world.ready("tokyo").await?;
    remove(&paris, &app).await
}

fn path(kubectl: &Kubectl) -> String {
    kubectl.kubeconfig().to_string_lossy().into_owned()
}

/// How many pods of the cluster that stays answered.
fn stayer_pods(report: &Report) -> usize {
    report.by.keys().filter(|by| by.contains("stayer")).count()
}

/// Applies a `Cluster`.
async fn declare(lb: &Kubectl, name: &str, spec: &Value) -> Result<()> {
    let kind = json!({"apiVersion": "portolan.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": name}, "spec": spec});
    lb.apply(&kind.to_string()).await.map(drop)
}

/// That the generated name of an Ingress, as that cluster's, stands in its status.
async fn named(kubectl: &Kubectl, ingress: &str, cluster: &str) -> Option<()> {
    let entries = status(kubectl, ingress).await.ok()??;
    let name = json!({"hostname": format!("{ingress}.{cluster}.lb.example.net")});
    entries.as_array()?.contains(&name).then_some(())
}

/// The entries of the status of an Ingress, if there are any.
async fn status(kubectl: &Kubectl, ingress: &str) -> Result<Option<Value>> {
    let entries = kubectl.get(&["ingress", ingress]).await?["status"]["loadBalancer"]["ingress"].clone();
    Ok(Some(entries).filter(|entries| entries.as_array().is_some_and(|entries| !entries.is_empty())))
}

/// Nothing of ours stays of the cluster tokyo on either side.
async fn nothing_left(lb: &Kubectl, tokyo: &Kubectl) -> Result<()> {
    for (label, kinds) in [
        ("app.kubernetes.io/managed-by=portolan-agent", "services"),
        (
            "app.kubernetes.io/name=portolan-agent",
            "clusterroles,clusterrolebindings,ingressclasses,pods,deployments",
        ),
        ("app.kubernetes.io/part-of=portolan", "namespaces,serviceaccounts,roles,rolebindings"),
    ] {
        let left = tokyo.run(&["get", kinds, "-A", "-l", label, "-o", "name"]).await?;
        ensure!(left.is_empty(), "in the member cluster: {left}");
    }
    let namespaces = tokyo.run(&["get", "namespaces", "-o", "name"]).await?;
    ensure!(!namespaces.contains("portolan"), "{namespaces}");
    let made =
        "clusters.portolan.dev,namespaces,clusterroles,clusterrolebindings,validatingadmissionpolicybindings";
    let left = lb.run(&["get", made, "-o", "name"]).await?;
    ensure!(!left.contains("tokyo"), "in the LB cluster: {left}");
    let written =
        "httploadbalancers,upstreampools,nodesets,endpointslices,serviceaccounts,rolebindings,leases,secrets";
    let left = lb.run(&["get", written, "-n", "tenant-tokyo", "-o", "name"]).await?;
    ensure!(left.is_empty(), "in the LB cluster: {left}");
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
    // The port is the proxies' own: whatever else is in force, this Proxy is not.
    let mut closed = more.clone();
    closed.as_array_mut().context("a list")?.push(json!({"name": "own", "port": 9902, "protocol": "HTTP"}));
    set(&closed).await?;
    world.condition("proxy.portolan.dev", "default", None, "Programmed", "False").await?;
    pause(Duration::from_secs(3)).await;
    world.condition("proxy.portolan.dev", "default", None, "Programmed", "False").await?;
    world.served(host, "harbour").await?;
    set(&listeners).await?;
    world.condition("proxy.portolan.dev", "default", None, "Programmed", "True").await?;
    wait::until("the port to be gone", LONG, || async { (ports().await? == [80, 443]).then_some(()) })
        .await?;
    world.served(host, "harbour").await?;
    world.kubectl("paris")?.with_input(&["delete", "-f", "-"], &app.manifests()).await?;
    Ok(())
}
