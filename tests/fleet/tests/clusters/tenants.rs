//! What one cluster can do to another, with its real credential against the real API server: nothing.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use portolan_fleet::{App, Kubectl, World, pause};
use portolan_rig::wait;
use serde_json::{Value, json};

use crate::stage::{LONG, answered, gone, remove};

pub(crate) async fn a_credential_opens_one_namespace(world: &World) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let tenant = credential(world, "paris", folder.path()).await?;
    let own = ["-n", "tenant-paris"];
    let pool = |namespace: &str| object("UpstreamPool", namespace, "probe", json!({"endpoints": []}));
    tenant.apply(&pool("tenant-paris")).await.context("its own pools are its own")?;
    tenant.run(&["get", "upstreampools", "--field-selector=metadata.name=probe", own[0], own[1]]).await?;
    forbidden(tenant.run(&["get", "upstreampool", "probe", own[0], own[1]]).await)?;
    tenant.get(&["clusters.portolan.dev", "paris"]).await.context("it reads its own Cluster")?;
    tenant.run(&["delete", "upstreampool", "probe", own[0], own[1]]).await?;

    forbidden(tenant.apply(&pool("tenant-tokyo")).await)?;
    forbidden(tenant.apply(&pool("portolan-system")).await)?;
    for args in [
        &["get", "upstreampools", "-n", "tenant-tokyo"][..],
        &["get", "secrets", "-n", "tenant-tokyo"],
        &["get", "secrets", "-n", "portolan-system"],
        &["get", "secrets", "-A"],
        &["get", "configmaps", "-n", "tenant-paris"],
        &["get", "namespaces"],
        &["get", "nodes"],
        &["get", "clusters.portolan.dev"],
        &["get", "clusters.portolan.dev", "tokyo"],
        &["get", "proxies.portolan.dev"],
        &["get", "leases", "-n", "portolan-system"],
        &["get", "pods", "-n", "tenant-paris"],
        &["create", "token", "portolan-controller", "-n", "portolan-system"],
        &["create", "token", "default", "-n", "tenant-paris"],
        &["create", "serviceaccount", "another", "-n", "tenant-paris"],
        &["delete", "namespace", "tenant-paris"],
        &["patch", "clusters.portolan.dev", "paris", "--type=merge", "-p", r#"{"spec":{"weight":9}}"#],
        &[
            "patch",
            "rolebinding",
            "portolan-agent",
            "-n",
            "tenant-paris",
            "--type=merge",
            "-p",
            r#"{"subjects":[]}"#,
        ],
    ] {
        forbidden(tenant.run(args).await).with_context(|| args.join(" "))?;
    }
    forbidden(
        tenant.apply(&object("TrafficPolicy", "tenant-paris", "mine", json!({"targetRefs": []}))).await,
    )?;

    // Statuses are the controller's.
    let app = App::new("status").replicas(1);
    world.kubectl("paris")?.apply(&app.manifests()).await?;
    world.served("status.paris.lb.example.net", "status").await?;
    let forged = r#"{"status":{"host":"bank.paris.lb.example.net"}}"#;
    let status = [
        "patch",
        "httploadbalancer",
        "ingress.default.status",
        "--type=merge",
        "--subresource=status",
        "-p",
        forged,
    ];
    forbidden(tenant.run(&[&status[..], &own].concat()).await)?;
    // That was refused where kubectl reads before it writes.
    let may = ["auth", "can-i", "patch", "httploadbalancers.portolan.dev", own[0], own[1]];
    tenant.run(&may).await?;
    ensure!(tenant.run(&[&may[..], &["--subresource=status"]].concat()).await.is_err());
    remove(&world.kubectl("paris")?, &app).await?;

    // No token of another account by way of a Secret, and no Secret but certificates.
    let minted = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "minted", "namespace": "tenant-paris", "annotations": {"kubernetes.io/service-account.name": "default"}},
    });
    forbidden(tenant.apply(&minted.to_string()).await)?;
    let opaque = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "opaque", "namespace": "tenant-paris"}, "stringData": {"a": "b"},
    });
    forbidden(tenant.apply(&opaque.to_string()).await)?;

    // The credential of one cluster is worth nothing at another's API server.
    let text = std::fs::read_to_string(tenant.kubeconfig())?;
    let other = text.replace(&world.cluster("lb")?.server(), &world.cluster("tokyo")?.server());
    let path = folder.path().join("other");
    std::fs::write(&path, other)?;
    ensure!(world.kubectl_as(&path).run(&["get", "pods"]).await.is_err());
    Ok(())
}

pub(crate) async fn addresses_outside_the_allowed_ranges_are_refused(world: &World) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let tenant = credential(world, "paris", folder.path()).await?;
    let lb = world.kubectl("lb")?;
    let slice = |address: &str, family: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": "forged", "namespace": "tenant-paris", "labels": {"portolan.dev/pool": "forged"}},
            "endpoints": [{"addresses": [address]}], "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        })
        .to_string()
    };
    let inline = |address: &str| {
        object(
            "UpstreamPool",
            "tenant-paris",
            "forged",
            json!({"endpoints": [{"address": address, "port": 80}]}),
        )
    };
    let nodes = |address: &str| {
        object("NodeSet", "tenant-paris", "forged", json!({"nodes": [{"name": "n", "addresses": [address]}]}))
    };
    for address in ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "0.0.0.0", "224.0.0.1"] {
        forbidden(tenant.apply(&inline(address)).await).with_context(|| format!("a pool with {address}"))?;
        forbidden(tenant.apply(&nodes(address)).await).with_context(|| format!("a node at {address}"))?;
    }
    let patch = |ranges: Value| json!({"spec": {"allowedEndpointCIDRs": ranges}}).to_string();
    let set = async |ranges: Value| {
        lb.run(&["patch", "clusters.portolan.dev", "paris", "--type=merge", "-p", &patch(ranges)]).await
    };
    set(json!(["192.0.2.0/24", "172.30.0.0/16", "2001:db8::/32"])).await?;
    // The admission's parameter is read from a cache of the API server's.
    wait::until("the ranges to be held", LONG, || async {
        forbidden(tenant.apply(&inline("198.51.100.7")).await).ok()
    })
    .await?;
    forbidden(tenant.apply(&slice("198.51.100.7", "IPv4")).await)?;
    forbidden(tenant.apply(&nodes("198.51.100.7")).await)?;
    for (good, family) in [("192.0.2.7", "IPv4"), ("2001:db8::7", "IPv6")] {
        tenant.apply(&inline(good)).await?;
        tenant.apply(&nodes(good)).await?;
        tenant.apply(&slice(good, family)).await?;
        tenant.run(&["delete", "endpointslice", "forged", "-n", "tenant-paris"]).await?;
    }
    for kind in ["upstreampool", "nodeset"] {
        tenant.run(&["delete", kind, "forged", "-n", "tenant-paris"]).await?;
    }
    set(Value::Null).await?;
    Ok(())
}

/// Tenant A claims tenant B's host: refused, visible, and the first goes on.
pub(crate) async fn a_host_belongs_to_the_first(world: &World) -> Result<()> {
    let host = "owned.example.com";
    let (first, second) =
        (App::new("owner").replicas(1).host(host), App::new("thief").replicas(1).host(host));
    world.kubectl("paris")?.apply(&first.manifests()).await?;
    world.served(host, "owner").await?;
    pause(Duration::from_millis(1100)).await;
    world.kubectl("tokyo")?.apply(&second.manifests()).await?;
    world.served("thief.tokyo.lb.example.net", "thief").await?;
    let reason = condition(world, "tenant-tokyo", "ingress.default.thief", "Accepted").await?;
    ensure!(reason.0 == "HostTaken" && reason.1.contains(host), "{reason:?}");
    world.served(host, "owner").await?;
    // It falls to the second when the first goes.
    remove(&world.kubectl("paris")?, &first).await?;
    world.served(host, "thief").await?;
    remove(&world.kubectl("tokyo")?, &second).await?;
    gone(world.address().await?, host).await
}

/// An origin is the tenant's own statement: it takes nobody's name, and dates nothing against another tenant.
pub(crate) async fn forged_origins_take_nothing(world: &World) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = "dated.example.com";
    let app = App::new("honest").replicas(1).host(host);
    world.kubectl("tokyo")?.apply(&app.manifests()).await?;
    world.served(host, "honest").await?;
    // Between tenants the time of creation decides, which has seconds.
    pause(Duration::from_millis(1100)).await;
    let tenant = credential(world, "paris", folder.path()).await?;
    let origin = json!({
        "kind": "Ingress", "namespace": "default", "name": "honest.tokyo", "uid": "x", "creationTimestamp": "1999-01-01T00:00:00Z",
    });
    let rules = json!([{"filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "evil.example.com"}}]}]);
    let forged = json!({"origin": origin, "hosts": [host, "honest.tokyo.lb.example.net", "lb.example.net"], "rules": rules});
    tenant.apply(&object("HTTPLoadBalancer", "tenant-paris", "forged", forged)).await?;
    let (reason, message) = condition(world, "tenant-paris", "forged", "Accepted").await?;
    ensure!(message.contains(host), "{reason}: {message}");
    for host in [host, "honest.tokyo.lb.example.net"] {
        world.served(host, "honest").await?;
    }
    tenant.run(&["delete", "httploadbalancer", "forged", "-n", "tenant-paris"]).await?;
    remove(&world.kubectl("tokyo")?, &app).await
}

pub(crate) async fn what_is_beyond_a_limit_is_left_out(world: &World) -> Result<()> {
    let (lb, tokyo) = (world.kubectl("lb")?, world.kubectl("tokyo")?);
    // Of one age, which ends with a second, the first by name comes first.
    let hosts = ["first.limits.example.com", "second.limits.example.com"];
    let beyond = App::new("beyond").replicas(1).host(hosts[0]).host(hosts[1]);
    let apps = [App::new("allowed").replicas(1), beyond];
    let limit = |limits: Value| json!({"spec": {"limits": limits}}).to_string();
    let set = async |limits: Value| {
        lb.run(&["patch", "clusters.portolan.dev", "tokyo", "--type=merge", "-p", &limit(limits)]).await
    };
    set(json!({"loadBalancers": 1})).await?;
    tokyo.apply(&apps[0].manifests()).await?;
    world.served("allowed.tokyo.lb.example.net", "allowed").await?;
    tokyo.apply(&apps[1].manifests()).await?;
    let (reason, message) = condition(world, "tenant-tokyo", "ingress.default.beyond", "Accepted").await?;
    ensure!(reason == "LimitReached" && message.contains('1'), "{reason}: {message}");
    let stands = async |kind: &str, status: &str| {
        world
            .condition("httploadbalancer", "ingress.default.beyond", Some("tenant-tokyo"), kind, status)
            .await
    };
    stands("Programmed", "False").await?;
    world.served("allowed.tokyo.lb.example.net", "allowed").await?;
    crate::stage::refused(&tokyo, "Ingress", "beyond", "LimitReached").await?;
    world.condition("cluster.portolan.dev", "tokyo", None, "WithinLimits", "False").await?;
    let wide = lb.run(&["get", "clusters.portolan.dev", "tokyo", "-o", "wide"]).await?;
    ensure!(wide.contains("LimitReached"), "{wide}");
    set(Value::Null).await?;
    world.served("beyond.tokyo.lb.example.net", "beyond").await?;
    world.condition("cluster.portolan.dev", "tokyo", None, "WithinLimits", "True").await?;
    // Whatever is limited, the oldest is kept, and the Cluster says that something is left out.
    let address = world.address().await?;
    for (limit, most, kind, name, statuses) in [
        ("routes", 1, "httploadbalancer", "ingress.default.beyond", [404, 404]),
        ("hosts", 1, "httploadbalancer", "ingress.default.beyond", [200, 404]),
        ("endpoints", 2, "upstreampool", "service.default.beyond.80", [503, 503]),
    ] {
        for host in hosts {
            world.served(host, "beyond").await?;
        }
        set(json!({limit: most})).await?;
        let what = format!("{name} to be beyond the limit of {limit}");
        let told = wait::until(&what, LONG, || async {
            let object = lb.get(&[kind, name, "-n", "tenant-tokyo"]).await.ok()?;
            let conditions = object["status"]["conditions"].as_array()?.clone();
            conditions.into_iter().find(|found| found["reason"] == "LimitReached")
        });
        let told = told.await?;
        ensure!(told["status"] == "False", "{told}");
        if limit == "endpoints" {
            stands("ResolvedRefs", "False").await?;
        }
        for (host, status) in hosts.into_iter().zip(statuses) {
            answered(address, host, &[status]).await?;
        }
        world.served("allowed.tokyo.lb.example.net", "allowed").await?;
        world.condition("cluster.portolan.dev", "tokyo", None, "WithinLimits", "False").await?;
        set(Value::Null).await?;
        world.condition("cluster.portolan.dev", "tokyo", None, "WithinLimits", "True").await?;
    }
    for app in &apps {
        remove(&tokyo, app).await?;
    }
    Ok(())
}

/// Behind the limit, which is told object by object, stands a quota: a tenant that floods its namespace is refused there, the agent says so on both sides,
/// and goes on by itself once there is room.
pub(crate) async fn a_quota_stands_behind_the_limit(world: &World) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let tenant = credential(world, "tokyo", folder.path()).await?;
    let (lb, tokyo) = (world.kubectl("lb")?, world.kubectl("tokyo")?);
    let namespace = ["-n", "tenant-tokyo"];
    let limits = |limits: Value| json!({"spec": {"limits": limits}}).to_string();
    let set = async |to: Value| {
        lb.run(&["patch", "clusters.portolan.dev", "tokyo", "--type=merge", "-p", &limits(to)]).await
    };
    let quota = async || {
        let quota = lb.get(&[&["resourcequota", "portolan"], &namespace[..]].concat()).await.ok()?;
        let of =
            |part: &str| quota["status"][part]["count/httploadbalancers.portolan.dev"].as_str()?.parse().ok();
        Some::<(usize, usize)>((of("hard")?, of("used")?))
    };
    set(json!({"loadBalancers": 1})).await?;
    let (hard, used) = wait::until("a quota near the limit", LONG, || async {
        quota().await.filter(|(hard, _)| *hard < 1000)
    })
    .await?;
    let rules =
        json!([{"filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "a.example.com"}}]}]);
    let names: Vec<_> = (0..=hard - used).map(|number| format!("flood-{number}")).collect();
    let flood = names.iter().map(|name| {
        let metadata = json!({"name": name, "namespace": "tenant-tokyo"});
        json!({"apiVersion": "portolan.dev/v1alpha1", "kind": "HTTPLoadBalancer", "metadata": metadata, "spec": {"rules": rules}})
    });
    let flooded = tenant.apply(&crate::stage::list(flood.collect())).await;
    ensure!(
        flooded.as_ref().is_err_and(|error| format!("{error:#}").contains("exceeded quota")),
        "{flooded:?}"
    );
    ensure!(quota().await == Some((hard, hard)), "{:?}", quota().await);

    let app = App::new("crowded").replicas(1);
    tokyo.apply(&app.manifests()).await?;
    let told = wait::until("the condition", LONG, || async {
        let cluster = lb.get(&["clusters.portolan.dev", "tokyo"]).await.ok()?;
        let conditions = cluster["status"]["conditions"].as_array()?.clone();
        let refused = conditions.into_iter().find(|found| found["reason"] == "WritesRefused")?;
        refused["message"].as_str().map(str::to_owned)
    })
    .await?;
    ensure!(told.contains("Ingress default/crowded") && told.contains("exceeded quota"), "{told}");
    crate::stage::refused(&tokyo, "Ingress", "crowded", "exceeded quota").await?;

    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let delete = ["delete", "httploadbalancer", "--ignore-not-found", "--wait=false"];
    tenant.run(&[&delete, &namespace[..], &names].concat()).await?;
    world.served("crowded.tokyo.lb.example.net", "crowded").await?;
    set(Value::Null).await?;
    world.condition("cluster.portolan.dev", "tokyo", None, "Synced", "True").await?;
    remove(&tokyo, &app).await
}

/// Somebody deletes a tenant namespace: it is made anew, nothing else is taken along, and what has to be done is said.
pub(crate) async fn a_namespace_that_is_deleted_is_made_anew(world: &World) -> Result<()> {
    let (lb, tokyo) = (world.kubectl("lb")?, world.kubectl("tokyo")?);
    let app = App::new("castaway").replicas(1);
    tokyo.apply(&app.manifests()).await?;
    world.served("castaway.tokyo.lb.example.net", "castaway").await?;
    let uid = async || {
        let namespace = lb.get(&["namespace", "tenant-tokyo"]).await.ok()?;
        let lives = namespace["metadata"]["deletionTimestamp"].is_null();
        namespace["metadata"]["uid"].as_str().filter(|_| lives).map(str::to_owned)
    };
    let before = uid().await.context("a namespace")?;
    lb.run(&["delete", "namespace", "tenant-tokyo", "--timeout=60s"]).await?;
    wait::until("another namespace", LONG, || async { uid().await.filter(|uid| *uid != before) }).await?;
    wait::until("the way to join again to be told", LONG, || async {
        let cluster = lb.get(&["clusters.portolan.dev", "tokyo"]).await.ok()?;
        let conditions = cluster["status"]["conditions"].as_array()?.clone();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready")?;
        let told = ready["message"].as_str()?.contains("portolan join tokyo");
        (ready["status"] == "False" && told).then_some(())
    })
    .await?;
    let lease = tokyo.get(&["lease", "portolan-agent", "-n", "portolan-agent"]).await?;
    let agent = lease["spec"]["holderIdentity"].as_str().context("nobody leads")?;
    crate::stage::refused(&tokyo, "Pod", agent, "CredentialRefused").await?;
    let log =
        ["logs", "-n", "portolan-system", "-l", "app.kubernetes.io/name=portolan-controller", "--tail=-1"];
    let log = lb.run(&log).await?;
    ensure!(log.contains("its namespace was deleted"), "{log}");

    tokyo.apply(&world.join_manifests("tokyo").await?).await?;
    world.ready("tokyo").await?;
    world.served("castaway.tokyo.lb.example.net", "castaway").await?;
    remove(&tokyo, &app).await
}

/// A kubeconfig made of what the agent has.
async fn credential(world: &World, cluster: &str, folder: &std::path::Path) -> Result<Kubectl> {
    let secret = world.kubectl(cluster)?;
    let template = |key: &str| format!("{{{{index .data \"{key}\" | base64decode}}}}");
    let read = async |key: &str| {
        let output = format!("go-template={}", template(key));
        secret
            .run(&["get", "secret", "portolan-agent-credential", "-n", "portolan-agent", "-o", &output])
            .await
    };
    let (server, ca, token) = (read("server").await?, read("ca.crt").await?, read("token").await?);
    let authority = folder.join(format!("{cluster}-ca.crt"));
    std::fs::write(&authority, ca)?;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "tenant",
        "clusters": [{"name": "lb", "cluster": {"server": server.trim(), "certificate-authority": authority}}],
        "users": [{"name": "tenant", "user": {"token": token.trim()}}],
        "contexts": [{"name": "tenant", "context": {"cluster": "lb", "user": "tenant", "namespace": format!("tenant-{cluster}")}}],
    });
    let path = folder.join(format!("{cluster}-tenant"));
    std::fs::write(&path, config.to_string())?;
    Ok(world.kubectl_as(&path))
}

fn object(kind: &str, namespace: &str, name: &str, spec: Value) -> String {
    json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    })
    .to_string()
}

/// It was refused for want of a right, or by an admission policy; nothing else is meant.
fn forbidden(outcome: Result<String>) -> Result<()> {
    match outcome {
        Ok(said) => bail!("it was allowed: {said}"),
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(
                text.contains("orbidden") || text.contains("denied"),
                "it failed for another reason: {text}"
            );
            Ok(())
        }
    }
}

/// Reason and message of a condition that is false.
async fn condition(world: &World, namespace: &str, name: &str, kind: &str) -> Result<(String, String)> {
    let lb = world.kubectl("lb")?;
    let what = format!("{namespace}/{name} not to be {kind}");
    let found = wait::until(&what, LONG, || async {
        let object = lb.get(&["httploadbalancer", name, "-n", namespace]).await.ok()?;
        let conditions = object["status"]["conditions"].as_array()?.clone();
        let found =
            conditions.into_iter().find(|found| found["type"] == kind && found["status"] == "False")?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Some((text("reason"), text("message")))
    });
    found.await
}
