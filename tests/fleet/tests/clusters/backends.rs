//! What an Ingress may lead to: Services of all kinds, and backends that speak TLS (kubelb.md §5.2 and §5.3).

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use portolan_e2e::{Authority, Key};
use portolan_fleet::{App, Load, World, get, pause};
use portolan_rig::binaries::Binaries;
use serde_json::{Value, json};

use crate::secrets::secret;
use crate::stage::{answered, gone, list, refused, remove};

/// `https-backend`: the port says that TLS is spoken, an annotation who vouches for the certificate.
pub(crate) async fn a_backend_speaks_tls(world: &World) -> Result<()> {
    let (paris, lb, address) = (world.kubectl("paris")?, world.kubectl("lb")?, world.address().await?);
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let app = App::new("sealed").replicas(1);
    paris.apply(&secret("sealed-pair", &authority.issue(&["sealed.default.svc"], Key::Ecdsa))).await?;
    paris.apply(&list(sealed(&app, "sealed-pair")?)).await?;
    paris.apply(&app.ingress().to_string()).await?;
    let host = "sealed.paris.lb.example.net";
    let annotate = async |annotation: &str| {
        let args = ["annotate", "--overwrite", "service", "sealed", annotation];
        paris.run(&args).await.map(drop)
    };
    // Nothing said, any certificate is taken; so it is where that is said.
    for verify in ["", "portolan.dev/tls-verify=none"] {
        if !verify.is_empty() {
            annotate(verify).await?;
        }
        world.served(host, "sealed").await?;
        let answer: Value = serde_json::from_slice(&get(address, host, "/").await?.body)?;
        ensure!(answer["tls"]["serverName"] == "sealed.default.svc", "not over TLS: {answer}");
    }

    // Without what it is to be verified against, no connection is made.
    annotate("portolan.dev/tls-verify=ca/backend-ca").await?;
    answered(address, host, &[500]).await?;
    refused(&paris, "Ingress", "sealed", "backend-ca").await?;
    let trust = async |authority: &Authority| {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "backend-ca", "namespace": "tenant-paris"},
            "data": {"ca.crt": authority.pem()},
        });
        lb.apply(&map.to_string()).await.map(drop)
    };
    trust(&authority).await?;
    world.served(host, "sealed").await?;
    trust(&other).await?;
    answered(address, host, &[502, 503]).await?;
    trust(&authority).await?;
    world.served(host, "sealed").await?;
    // A name that is not the certificate's.
    annotate("portolan.dev/tls-server-name=other.default.svc").await?;
    answered(address, host, &[502, 503]).await?;
    annotate("portolan.dev/tls-server-name=sealed.default.svc").await?;
    world.served(host, "sealed").await?;

    remove(&paris, &app).await?;
    paris.run(&["delete", "secret", "sealed-pair"]).await?;
    lb.run(&["delete", "configmap", "backend-ca", "-n", "tenant-paris"]).await.map(drop)
}

/// The Deployment and the Service of an application that speaks TLS too, with what stands in a Secret, and offers nothing else.
fn sealed(app: &App, pair: &str) -> Result<Vec<Value>> {
    let mut objects = app.workload();
    let [deployment, service] = &mut objects[..] else { bail!("a Deployment and a Service") };
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "pair", "secret": {"secretName": pair}}]);
    let container = &mut pod["containers"][0];
    container["volumeMounts"] = json!([{"name": "pair", "mountPath": "/pair"}]);
    let env = container["env"].as_array_mut().context("an environment")?;
    for (name, file) in [("TLS_SERVER_CERT", "tls.crt"), ("TLS_SERVER_PRIVKEY", "tls.key")] {
        env.push(json!({"name": name, "value": format!("/pair/{file}")}));
    }
    service["spec"]["ports"] =
        json!([{"name": "web", "port": 443, "targetPort": 8443, "appProtocol": "https"}]);
    Ok(objects)
}

/// NodePort, headless and selectorless Services: each is served, or refused in so many words; never port 0. Of `ExternalName`: [`a_service_is_a_name`].
pub(crate) async fn services_of_all_kinds(world: &World) -> Result<()> {
    let (paris, lb) = (world.kubectl("paris")?, world.kubectl("lb")?);
    for (name, fields) in [
        ("open-port", json!({"type": "NodePort"})),
        ("headless", json!({"clusterIP": "None"})),
        ("local-only", json!({"type": "NodePort", "externalTrafficPolicy": "Local"})),
    ] {
        let app = App::new(name).replicas(1).service(fields);
        paris.apply(&app.manifests()).await?;
        world.served(&format!("{name}.paris.lb.example.net"), name).await.context(name)?;
        remove(&paris, &app).await?;
    }
    // Without a node port of its own it is reached by a companion's.
    let portless = json!({
        "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "loadBalancerClass": "example.com/other",
    });
    let app = App::new("portless").replicas(1).service(portless);
    paris.apply(&app.manifests()).await?;
    world.served("portless.paris.lb.example.net", "portless").await?;
    let port = async |name: &str| {
        anyhow::Ok(paris.get(&["service", name]).await?["spec"]["ports"][0]["nodePort"].clone())
    };
    ensure!(port("portless").await?.is_null(), "it has a node port of its own");
    let companions = port("portless-portolan").await?;
    let pool = lb.get(&["upstreampool", "service.default.portless.80", "-n", "tenant-paris"]).await?;
    ensure!(companions.is_u64() && pool["spec"]["nodePort"]["port"] == companions, "{companions}: {pool}");
    remove(&paris, &app).await?;

    let app = App::new("nobody");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "nobody"},
        "spec": {"ports": [{"name": "web", "port": 80}]},
    });
    paris.apply(&service.to_string()).await?;
    paris.apply(&app.ingress().to_string()).await?;
    refused(&paris, "Ingress", "nobody", "selector").await?;
    paris.run(&["delete", "ingress,service", "nobody"]).await?;

    let app = App::new("bucket");
    let mut ingress = app.ingress();
    let resource = json!({"resource": {"apiGroup": "k8s.example", "kind": "StorageBucket", "name": "icons"}});
    ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"] = resource;
    paris.apply(&ingress.to_string()).await?;
    refused(&paris, "Ingress", "bucket", "StorageBucket").await?;
    answered(world.address().await?, "bucket.paris.lb.example.net", &[500]).await?;
    paris.run(&["delete", "ingress", "bucket"]).await?;

    // A Service that is not there, or has not that port.
    let app = App::new("missing").replicas(1);
    paris.apply(&app.ingress().to_string()).await?;
    refused(&paris, "Ingress", "missing", "missing").await?;
    paris.apply(&list(app.workload())).await?;
    world.served("missing.paris.lb.example.net", "missing").await?;
    remove(&paris, &app).await?;
    let pools = lb.get(&["upstreampools", "-n", "tenant-paris"]).await?;
    for pool in pools["items"].as_array().into_iter().flatten() {
        ensure!(pool["spec"]["nodePort"]["port"] != 0, "{pool}");
    }
    Ok(())
}

/// Two Ingresses share a backend, one goes: no request fails.
pub(crate) async fn a_shared_backend_outlives_one_of_its_users(world: &World) -> Result<()> {
    let paris = world.kubectl("paris")?;
    let app = App::new("common");
    paris.apply(&app.manifests()).await?;
    let mut second = app.ingress();
    second["metadata"]["name"] = json!("common-too");
    paris.apply(&second.to_string()).await?;
    for host in ["common", "common-too"] {
        world.served(&format!("{host}.paris.lb.example.net"), "common").await?;
    }
    let load = Load::start(world.address().await?, "common.paris.lb.example.net", "/", 100);
    pause(Duration::from_secs(1)).await;
    paris.run(&["delete", "ingress", "common-too"]).await?;
    gone(world.address().await?, "common-too.paris.lb.example.net").await?;
    pause(Duration::from_secs(2)).await;
    let report = load.stop().await?;
    ensure!(report.failed.is_empty(), "{report}");
    remove(&paris, &app).await
}

/// `ExternalName`: the name is resolved in the LB cluster, and the address that it leads to is judged as any other.
pub(crate) async fn a_service_is_a_name(world: &World) -> Result<()> {
    let (paris, lb, address) = (world.kubectl("paris")?, world.kubectl("lb")?, world.address().await?);
    // It is reached at a node of another cluster, as something outside of paris.
    let app = App::new("outside").replicas(1).service(json!({"type": "NodePort"}));
    let tokyo = world.kubectl("tokyo")?;
    tokyo.apply(&list(app.workload())).await?;
    let service = tokyo.get(&["service", "outside"]).await?;
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().context("a node port")?;
    let node = world.cluster("tokyo")?.node(1)?.address();
    let records = format!("{node} outside.example.org\n10.96.0.1 inside.example.org\n");
    lb.apply(&name_server(world, &records)?).await?;
    lb.run(&["rollout", "status", "deployment/dns", "-n", "kube-system", "--timeout=60s"]).await?;

    let named = |name: &str, target: &str, number: u64| {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "ExternalName", "externalName": target},
        });
        let mut ingress = App::new(name).ingress();
        let path = &mut ingress["spec"]["rules"][0]["http"]["paths"][0];
        path["backend"]["service"]["port"] = json!({"number": number});
        list(vec![service, ingress])
    };
    paris.apply(&named("alias", "outside.example.org", port)).await?;
    paris.apply(&named("reserved", "inside.example.org", 443)).await?;
    paris.apply(&named("local", "outside.default.svc.cluster.local", port)).await?;
    world.served("alias.paris.lb.example.net", "outside").await?;
    // The LB cluster's own, by a name; and a name that means nothing outside of the cluster.
    answered(address, "reserved.paris.lb.example.net", &[503]).await?;
    answered(address, "local.paris.lb.example.net", &[500]).await?;
    refused(&paris, "Ingress", "local", "ClusterLocalName").await?;

    paris.run(&["delete", "ingress,service", "alias", "reserved", "local"]).await?;
    lb.with_input(&["delete", "-f", "-"], &name_server(world, &records)?).await?;
    tokyo.with_input(&["delete", "-f", "-"], &list(app.workload())).await?;
    gone(address, "alias.paris.lb.example.net").await
}

/// A name server where every pod of a cluster looks for one.
fn name_server(world: &World, records: &str) -> Result<String> {
    world.fleet().add_image("coredns", &Binaries::coredns()?)?;
    let metadata = json!({"name": "dns", "namespace": "kube-system"});
    let labels = json!({"app": "dns"});
    let corefile = format!(".:53 {{\n  hosts {{\n    {}\n  }}\n}}\n", records.trim().replace('\n', "\n    "));
    let container = json!({
        "name": "dns", "image": "coredns", "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [{"containerPort": 53, "protocol": "UDP"}],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
    });
    let ports: Vec<_> = ["UDP", "TCP"]
        .map(|protocol| json!({"name": protocol.to_lowercase(), "port": 53, "protocol": protocol}))
        .into();
    Ok(list(vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"Corefile": corefile}}),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "volumes": [{"name": "config", "configMap": {"name": "dns"}}]},
            }},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"clusterIP": "10.96.0.10", "selector": labels, "ports": ports},
        }),
    ]))
}
