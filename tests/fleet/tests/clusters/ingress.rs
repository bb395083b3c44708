//! What KubeLB's catalogue asks of an Ingress, tightened, and what it leaves out (kubelb.md §5.2 and §5.3; P04, P05).

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portolan_fleet::{App, Names, World, get, pause, request};
use portolan_rig::wait;
use serde_json::{Value, json};

use crate::stage::{LONG, gone, list, remove};

/// `basic`, `single-node`, and P04: the ClusterIP Service behind it is reached by a companion.
pub(crate) async fn a_host_comes_changes_and_goes(world: &World) -> Result<()> {
    let (paris, lb) = (world.kubectl("paris")?, world.kubectl("lb")?);
    let address = world.address().await?;
    let app = App::new("basic").host("basic.example.com");
    paris.apply(&app.manifests()).await?;
    world.served("basic.paris.lb.example.net", "basic").await?;
    world.served("basic.example.com", "basic").await?;
    // As clients may write it.
    world.served("BASIC.Example.COM.:80", "basic").await?;

    let name = wait::until("the name in its status", LONG, || async {
        let ingress = paris.get(&["ingress", "basic"]).await.ok()?;
        ingress["status"]["loadBalancer"]["ingress"][0]["hostname"].as_str().map(str::to_owned)
    });
    ensure!(name.await? == "basic.paris.lb.example.net");
    let companions = paris.get(&["services", "-l", "app.kubernetes.io/managed-by=portolan-agent"]).await?;
    let companions = companions["items"].as_array().context("a list")?.clone();
    ensure!(companions.iter().any(|service| service["spec"]["type"] == "NodePort"), "{companions:?}");
    world
        .condition("httploadbalancer", "ingress.default.basic", Some("tenant-paris"), "Programmed", "True")
        .await?;

    let moved = json!({"spec": {"rules": [{"host": "moved.example.com", "http": app.ingress()["spec"]["rules"][0]["http"]}]}});
    paris.run(&["patch", "ingress", "basic", "--type=merge", "-p", &moved.to_string()]).await?;
    world.served("moved.example.com", "basic").await?;
    gone(address, "basic.example.com").await?;

    remove(&paris, &app).await?;
    gone(address, "moved.example.com").await?;
    gone(address, "basic.paris.lb.example.net").await?;
    wait::until("nothing of it to be left", LONG, || async {
        let left = lb
            .run(&["get", "httploadbalancers,upstreampools", "-n", "tenant-paris", "-o", "name"])
            .await
            .ok()?;
        let companions = paris.run(&[
            "get",
            "services",
            "-l",
            "app.kubernetes.io/managed-by=portolan-agent",
            "-o",
            "name",
        ]);
        let companions = companions.await.ok()?;
        (!left.contains("basic") && !companions.contains("basic")).then_some(())
    })
    .await
}

/// P05: a customer's name is a CNAME of the generated one, resolved by a real name server and resolver.
pub(crate) async fn a_customer_points_a_name_here(world: &World) -> Result<()> {
    let (paris, address) = (world.kubectl("paris")?, world.address().await?);
    let folder = tempfile::tempdir()?;
    let app = App::new("customer").replicas(1).host("www.customer.example");
    let domains = |customer: bool| {
        let mut all = vec![
            json!({"suffix": "shared.example.com", "sharing": "Shared"}),
            json!({"suffix": "example.com"}),
        ];
        all.extend(customer.then(|| json!({"suffix": "customer.example"})));
        json!({"spec": {"allowedDomains": all}}).to_string()
    };
    let lb = world.kubectl("lb")?;
    lb.run(&["patch", "clusters.portolan.dev", "paris", "--type=merge", "-p", &domains(true)]).await?;
    paris.apply(&app.manifests()).await?;
    let names = Names::serve(folder.path(), address.ip(), "customer.paris.lb.example.net").await?;
    let resolved = names.resolve("www.customer.example").await?;
    ensure!(resolved == address.ip(), "{resolved}");
    world.served("www.customer.example", "customer").await?;
    let reply = get((resolved, 80).into(), "www.customer.example", "/").await?;
    ensure!(reply.echo("service") == "customer", "{}", reply.text());
    lb.run(&["patch", "clusters.portolan.dev", "paris", "--type=merge", "-p", &domains(false)]).await?;
    gone(address, "www.customer.example").await?;
    remove(&paris, &app).await
}

/// `default-backend`; and rules without `http`.
pub(crate) async fn a_default_backend_takes_every_path(world: &World) -> Result<()> {
    let paris = world.kubectl("paris")?;
    let app = App::new("fallback");
    let mut ingress = app.ingress();
    ingress["spec"] = json!({
        "ingressClassName": "portolan",
        "defaultBackend": {"service": {"name": "fallback", "port": {"number": 80}}},
        "rules": [{"host": "bare.example.com"}],
    });
    apply(world, "paris", &app, &ingress).await?;
    world.served("fallback.paris.lb.example.net", "fallback").await?;
    // A rule without `http` sends all of its host to the default backend.
    world.served("bare.example.com", "fallback").await?;
    let reply = get(world.address().await?, "bare.example.com", "/any/path?q=1").await?;
    ensure!(reply.echo("service") == "fallback" && reply.echo("path") == "/any/path?q=1", "{}", reply.text());
    remove(&paris, &app).await
}

/// More rules than a page of anybody's manifests: hosts that have nothing in common but their Service.
pub(crate) async fn a_large_ingress_is_served_whole(world: &World) -> Result<()> {
    let (paris, lb, address) = (world.kubectl("paris")?, world.kubectl("lb")?, world.address().await?);
    let app = App::new("large").replicas(1);
    let rule = |n: u32| {
        let service = json!({"name": "large", "port": {"name": "web"}});
        let path = json!({"path": format!("/{n}"), "pathType": "Exact", "backend": {"service": service}});
        json!({"host": format!("h{n}.large.example.com"), "http": {"paths": [path]}})
    };
    let mut ingress = app.ingress();
    ingress["spec"]["rules"] = (0..300).map(rule).collect();
    apply(world, "paris", &app, &ingress).await?;
    let serves = async |host: &str, path: &str| {
        let what = format!("{host}{path} to be served");
        let served = wait::until(&what, LONG, || async {
            get(address, host, path).await.ok().filter(|reply| reply.echo("service") == "large").map(drop)
        });
        served.await
    };
    for n in [0, 150, 299] {
        serves(&format!("h{n}.large.example.com"), &format!("/{n}")).await?;
        serves("large.paris.lb.example.net", &format!("/{n}")).await?;
    }
    ensure!(get(address, "h299.large.example.com", "/0").await?.status == 404);
    let object = lb.get(&["httploadbalancer", "ingress.default.large", "-n", "tenant-paris"]).await?;
    // Another has one of these hosts and paths already.
    let mut younger = app.ingress();
    younger["metadata"]["name"] = "younger".into();
    younger["spec"]["rules"] = [rule(299)].into_iter().collect();
    pause(Duration::from_secs(1)).await;
    paris.apply(&younger.to_string()).await?;
    let taken = "/299 on h299.large.example.com is served by Ingress default/large";
    crate::stage::refused(&paris, "Ingress", "younger", taken).await?;
    // Another mistake of the same reason is another event.
    younger["spec"]["rules"] = [rule(298)].into_iter().collect();
    paris.apply(&younger.to_string()).await?;
    let taken = "/298 on h298.large.example.com is served by Ingress default/large";
    crate::stage::refused(&paris, "Ingress", "younger", taken).await?;
    paris.run(&["delete", "ingress", "younger"]).await?;
    ensure!(object["spec"]["rules"].as_array().is_some_and(|rules| rules.len() == 300), "{object}");
    remove(&paris, &app).await
}

/// `multi-host`, `multi-path`, `routing`: exact before prefix, the longest prefix first, by segments.
pub(crate) async fn paths_and_hosts_lead_to_their_backends(world: &World) -> Result<()> {
    let paris = world.kubectl("paris")?;
    let (one, two) = (App::new("one").replicas(1), App::new("two").replicas(1));
    for app in [&one, &two] {
        paris.apply(&list(app.workload())).await?;
    }
    let path = |path: &str, kind: &str, name: &str| json!({"path": path, "pathType": kind, "backend": {"service": {"name": name, "port": {"name": "web"}}}});
    let mut ingress = one.ingress();
    ingress["spec"]["rules"] = json!([
        {"host": "paths.example.com", "http": {"paths": [
            path("/", "Prefix", "one"), path("/two", "Prefix", "two"), path("/two/one", "Exact", "one"), path("/old", "ImplementationSpecific", "two"),
        ]}},
        {"host": "*.wild.example.com", "http": {"paths": [path("/", "Prefix", "two")]}},
    ]);
    paris.apply(&ingress.to_string()).await?;
    world.served("paths.example.com", "one").await?;
    let address = world.address().await?;
    for (host, path, wanted) in [
        ("paths.example.com", "/", "one"),
        ("paths.example.com", "/two", "two"),
        ("paths.example.com", "/two/x", "two"),
        ("paths.example.com", "/twofold", "one"),
        ("paths.example.com", "/two/one", "one"),
        ("paths.example.com", "/two/one/", "two"),
        ("paths.example.com", "/old/er", "two"),
        ("a.wild.example.com", "/", "two"),
    ] {
        let reply = get(address, host, path).await?;
        ensure!(reply.echo("service") == wanted, "{host}{path}: {} {}", reply.status, reply.text());
    }
    // A wildcard of an Ingress spans one label.
    ensure!(get(address, "a.b.wild.example.com", "/").await?.status == 404);
    ensure!(get(address, "wild.example.com", "/").await?.status == 404);
    remove(&paris, &one).await?;
    remove(&paris, &two).await
}

/// `negative/wrong-class`; a class that comes and goes.
pub(crate) async fn classes_decide(world: &World) -> Result<()> {
    let (paris, lb) = (world.kubectl("paris")?, world.kubectl("lb")?);
    let address = world.address().await?;
    let app = App::new("classy").replicas(1);
    let mut ingress = app.ingress();
    ingress["spec"]["ingressClassName"] = json!("other");
    apply(world, "paris", &app, &ingress).await?;
    // What comes after it is there: it was seen, and passed over.
    let marker = App::new("marker").replicas(1);
    paris.apply(&marker.manifests()).await?;
    world.served("marker.paris.lb.example.net", "marker").await?;
    ensure!(lb.get(&["httploadbalancer", "ingress.default.classy", "-n", "tenant-paris"]).await.is_err());
    ensure!(get(address, "classy.paris.lb.example.net", "/").await?.status == 404);

    paris.apply(&app.ingress().to_string()).await?;
    world.served("classy.paris.lb.example.net", "classy").await?;
    paris.apply(&ingress.to_string()).await?;
    gone(address, "classy.paris.lb.example.net").await?;
    wait::until("its status to be taken back", LONG, || async {
        let ingress = paris.get(&["ingress", "classy"]).await.ok()?;
        let status = ingress["status"]["loadBalancer"]["ingress"].as_array().map_or(0, Vec::len);
        (status == 0).then_some(())
    })
    .await?;
    // Deletion does not hang on anybody.
    paris.run(&["delete", "ingress", "classy", "--timeout=20s"]).await?;

    // Without any class: the default class decides.
    let mut ingress = app.ingress();
    ingress["spec"].as_object_mut().context("a spec")?.remove("ingressClassName");
    let default =
        json!({"metadata": {"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}});
    paris.run(&["patch", "ingressclass", "portolan", "--type=merge", "-p", &default.to_string()]).await?;
    paris.apply(&ingress.to_string()).await?;
    world.served("classy.paris.lb.example.net", "classy").await?;
    let default = json!({"metadata": {"annotations": {"ingressclass.kubernetes.io/is-default-class": null}}});
    paris.run(&["patch", "ingressclass", "portolan", "--type=merge", "-p", &default.to_string()]).await?;
    remove(&paris, &marker).await?;
    remove(&paris, &app).await
}

/// `ingress-class`: a class of another's is served while the `Cluster` adopts it, and what its own controller writes is not touched.
pub(crate) async fn a_class_is_adopted_and_dropped(world: &World) -> Result<()> {
    let (paris, lb, address) = (world.kubectl("paris")?, world.kubectl("lb")?, world.address().await?);
    let adopt = async |classes: Value| {
        let patch = json!({"spec": {"classes": classes}}).to_string();
        lb.run(&["patch", "clusters.portolan.dev", "paris", "--type=merge", "-p", &patch]).await
    };
    let class = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"},
        "spec": {"controller": "k8s.io/ingress-nginx"},
    });
    paris.apply(&class.to_string()).await?;
    let app = App::new("adopted").replicas(1);
    paris.apply(&list(app.workload())).await?;
    let theirs = json!([{"ip": "192.0.2.44"}]);
    for (name, theirs) in [("adopted", None), ("tended", Some(&theirs))] {
        let mut ingress = app.ingress();
        ingress["metadata"]["name"] = json!(name);
        ingress["spec"]["ingressClassName"] = json!("nginx");
        paris.apply(&ingress.to_string()).await?;
        if let Some(theirs) = theirs {
            let status = json!({"status": {"loadBalancer": {"ingress": theirs}}}).to_string();
            paris
                .run(&["patch", "ingress", name, "--subresource=status", "--type=merge", "-p", &status])
                .await?;
        }
    }
    adopt(json!(["nginx"])).await?;
    let hosts = ["adopted", "tended"].map(|name| format!("{name}.paris.lb.example.net"));
    for host in &hosts {
        world.served(host, "adopted").await?;
    }
    let status = async |name: &str| {
        let ingress = paris.get(&["ingress", name]).await.ok()?;
        Some(ingress["status"]["loadBalancer"]["ingress"].clone())
    };
    wait::until("its name in the status", LONG, || async {
        (status("adopted").await? == json!([{"hostname": hosts[0]}])).then_some(())
    })
    .await?;
    ensure!(status("tended").await.as_ref() == Some(&theirs), "{:?}", status("tended").await);

    adopt(Value::Null).await?;
    for host in &hosts {
        gone(address, host).await?;
    }
    wait::until("its name to be taken back", LONG, || async {
        status("adopted").await?.as_array().is_none_or(Vec::is_empty).then_some(())
    })
    .await?;
    ensure!(status("tended").await.as_ref() == Some(&theirs), "{:?}", status("tended").await);
    paris.run(&["delete", "ingress", "tended"]).await?;
    paris.run(&["delete", "ingressclass", "nginx"]).await?;
    remove(&paris, &app).await
}

/// `cross-tenant`.
pub(crate) async fn the_same_name_in_two_clusters(world: &World) -> Result<()> {
    let app = App::new("twin").replicas(1);
    let mut pods = Vec::new();
    for cluster in ["paris", "tokyo"] {
        world.kubectl(cluster)?.apply(&app.manifests()).await?;
        let host = format!("twin.{cluster}.lb.example.net");
        world.served(&host, "twin").await?;
        pods.push(get(world.address().await?, &host, "/").await?.echo("pod"));
    }
    ensure!(pods[0] != pods[1], "{pods:?}");
    ensure!(get(world.address().await?, "twin.example.com", "/").await?.status == 404);
    for cluster in ["paris", "tokyo"] {
        remove(&world.kubectl(cluster)?, &app).await?;
    }
    Ok(())
}

/// `a-b/c` and `a/b-c`; and two that want the same label.
pub(crate) async fn names_that_look_alike_stay_apart(world: &World) -> Result<()> {
    let paris = world.kubectl("paris")?;
    let apps = [("a-b", "c"), ("a", "b-c"), ("a", "c")]
        .map(|(namespace, name)| App::new(name).namespace(namespace).replicas(1));
    for namespace in ["a", "a-b"] {
        paris.run(&["create", "namespace", namespace]).await?;
    }
    paris.apply(&apps[0].manifests()).await?;
    world.served("c.paris.lb.example.net", "c").await?;
    // Ages are counted by seconds; among equals the namespace decides.
    pause(Duration::from_secs(1)).await;
    for app in &apps[1..] {
        paris.apply(&app.manifests()).await?;
    }
    world.served("b-c.paris.lb.example.net", "b-c").await?;
    let marked = wait::until("a name for the younger", LONG, || async {
        let ingress = paris.get(&["ingress", "c", "-n", "a"]).await.ok()?;
        ingress["status"]["loadBalancer"]["ingress"][0]["hostname"].as_str().map(str::to_owned)
    })
    .await?;
    ensure!(marked.starts_with("c-") && marked.ends_with(".paris.lb.example.net"), "{marked}");
    world.served(&marked, "c").await?;
    let address = world.address().await?;
    for (host, namespace) in
        [("c.paris.lb.example.net", "a-b"), ("b-c.paris.lb.example.net", "a"), (&*marked, "a")]
    {
        let reply = get(address, host, "/").await?;
        ensure!(reply.echo("namespace") == namespace, "{host}: {}", reply.text());
    }
    for namespace in ["a", "a-b"] {
        paris.run(&["delete", "namespace", namespace, "--timeout=60s"]).await?;
    }
    Ok(())
}

/// `headers`, `xff-client-ip`.
pub(crate) async fn headers_say_who_asks(world: &World) -> Result<()> {
    let paris = world.kubectl("paris")?;
    let app = App::new("heady").replicas(1);
    paris.apply(&app.manifests()).await?;
    let host = "heady.paris.lb.example.net";
    world.served(host, "heady").await?;
    let forged = "203.0.113.7";
    let fields = [
        ("x-custom", "kept"),
        ("authorization", "Bearer t"),
        ("x-forwarded-for", forged),
        ("x-forwarded-host", "bank.example.com"),
        ("x-forwarded-proto", "https"),
    ];
    let reply = request(world.address().await?, "GET", host, "/", &fields).await?;
    let answer: Value = serde_json::from_slice(&reply.body)?;
    let field = |name: &str| {
        let values = answer["headers"][name].as_array().cloned().unwrap_or_default();
        values.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    ensure!(field("X-Custom") == ["kept"] && field("Authorization") == ["Bearer t"], "{answer}");
    // A client's word is not believed: what it says is replaced by what the proxy sees, its own address first.
    let client = field("X-Forwarded-For");
    ensure!(client.len() == 1 && client[0].parse::<IpAddr>().is_ok() && client[0] != forged, "{answer}");
    ensure!(field("X-Forwarded-Proto") == ["http"] && field("X-Forwarded-Host") == [host], "{answer}");
    ensure!(field("X-Request-Id").len() == 1 && answer["host"] == host, "{answer}");
    remove(&paris, &app).await
}

/// `websocket`.
pub(crate) async fn upgrades_go_through(world: &World) -> Result<()> {
    let paris = world.kubectl("paris")?;
    let app = App::new("sockets").replicas(1);
    paris.apply(&app.manifests()).await?;
    let host = "sockets.paris.lb.example.net";
    world.served(host, "sockets").await?;
    let fields = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("origin", "http://sockets.paris.lb.example.net"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let reply = request(world.address().await?, "GET", host, "/ws", &fields).await?;
    ensure!(reply.status == 101, "{} {}", reply.status, reply.text());
    ensure!(reply.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    remove(&paris, &app).await
}

async fn apply(world: &World, cluster: &str, app: &App, ingress: &Value) -> Result<()> {
    let kubectl = world.kubectl(cluster)?;
    kubectl.apply(&list(app.workload())).await?;
    kubectl.apply(&ingress.to_string()).await?;
    Ok(())
}
