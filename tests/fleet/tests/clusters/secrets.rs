//! Certificates of member clusters: which are copied into the LB cluster, and what clients of TLS get (kubelb.md §5.2, `tls`, `syncsecret`).

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use portolan_e2e::{Authority, Key, Pair};
use portolan_fleet::{App, Kubectl, World};
use portolan_rig::wait;
use serde_json::{Value, json};

use crate::stage::{LONG, list, refused, remove};

/// Connections that all have to come to the same: either of two proxies takes one.
const IN_A_ROW: usize = 10;

/// `tls`, with the certificate that is served compared; a Secret created after its Ingress, replaced, and deleted.
pub(crate) async fn a_certificate_may_come_later(world: &World) -> Result<()> {
    let (paris, lb) = (world.kubectl("paris")?, world.kubectl("lb")?);
    let folder = tempfile::tempdir()?;
    let authority = Authority::new("tests");
    let ca = authority.file(folder.path());
    let app = App::new("secure").replicas(1).host("secure.example.com");
    paris.apply(&list(app.workload())).await?;
    paris.apply(&encrypted(&app, "secure-tls").to_string()).await?;
    world.served("secure.example.com", "secure").await?;
    refused(&paris, "Ingress", "secure", "secure-tls").await?;
    ensure!(presented(world, "secure.example.com").await?.is_none(), "a certificate out of nowhere");

    let mut before = String::new();
    for _ in 0..2 {
        let pair = authority.issue(&["secure.example.com"], Key::Ecdsa);
        paris.apply(&secret("secure-tls", &pair)).await?;
        before = wait::until("the certificate to be served", LONG, || async {
            verified(world, "secure.example.com", &ca).await.ok().filter(|served| *served != before)
        })
        .await?;
    }

    // Without it nobody gets an old certificate, nor one of another host; what needs none goes on.
    paris.run(&["delete", "secret", "secure-tls"]).await?;
    wait::until("the certificate to be taken back", LONG, || async {
        for _ in 0..IN_A_ROW {
            presented(world, "secure.example.com").await.ok()?.is_none().then_some(())?;
        }
        Some(())
    })
    .await?;
    ensure!(!copies(&lb, "paris").await?.contains("secure-tls"), "the copy is there still");
    world.served("secure.example.com", "secure").await?;
    remove(&paris, &app).await
}

/// `multi-tenant`: two clusters have a Secret of one name, and neither gets the other's.
pub(crate) async fn one_name_in_two_clusters_is_two_secrets(world: &World) -> Result<()> {
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let mut hosts = Vec::new();
    for (cluster, folder) in ["paris", "tokyo"].into_iter().zip(&folders) {
        let host = format!("twofold-{cluster}.example.com");
        let authority = Authority::new(cluster);
        let app = App::new("twofold").replicas(1).host(&host);
        let kubectl = world.kubectl(cluster)?;
        kubectl.apply(&secret("twofold-tls", &authority.issue(&[&host], Key::Ecdsa))).await?;
        kubectl.apply(&list(app.workload())).await?;
        kubectl.apply(&encrypted(&app, "twofold-tls").to_string()).await?;
        hosts.push((host, authority.file(folder.path()), app));
    }
    let both_served = async || {
        for (host, ca, _) in &hosts {
            let what = format!("the certificate of {host}");
            wait::until(&what, LONG, || async { verified(world, host, ca).await.ok() }).await?;
        }
        anyhow::Ok(())
    };
    both_served().await?;
    let [(of_paris, its_ca, _), (of_tokyo, ..)] = &hosts[..] else { unreachable!("two clusters") };
    ensure!(verified(world, of_tokyo, its_ca).await.is_err(), "tokyo has the certificate of paris");

    // What becomes of one does not touch the other.
    let (paris, tokyo) = (world.kubectl("paris")?, world.kubectl("tokyo")?);
    paris.run(&["delete", "secret", "twofold-tls"]).await?;
    wait::until("the copy to go", LONG, || async {
        (!copies(&world.kubectl("lb").ok()?, "paris").await.ok()?.contains("twofold")).then_some(())
    })
    .await?;
    ensure!(copies(&world.kubectl("lb")?, "tokyo").await?.contains("twofold-tls"), "it went as well");
    let (_, ca, _) = &hosts[1];
    verified(world, of_tokyo, ca).await?;
    ensure!(verified(world, of_paris, its_ca).await.is_err(), "a certificate that was deleted is served");
    for (kubectl, (_, _, app)) in [&paris, &tokyo].into_iter().zip(&hosts) {
        remove(kubectl, app).await?;
    }
    tokyo.run(&["delete", "secret", "twofold-tls"]).await.map(drop)
}

/// `unlabeled`, `tls-type`: a certificate that no Ingress of ours names stays where it is, and so does what is none, though one names it.
pub(crate) async fn what_no_ingress_names_is_not_copied(world: &World) -> Result<()> {
    let (paris, lb) = (world.kubectl("paris")?, world.kubectl("lb")?);
    let host = "choosy.example.com";
    let pair = Authority::new("tests").issue(&[host], Key::Ecdsa);
    for name in ["unnamed-tls", "foreign-tls", "named-tls"] {
        paris.apply(&secret(name, &pair)).await?;
    }
    let opaque = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": "opaque-tls"},
        "stringData": {"tls.crt": pair.chain, "tls.key": pair.key},
    });
    paris.apply(&opaque.to_string()).await?;
    // Of another class: nobody's here.
    let mut foreign = encrypted(&App::new("foreign").host("foreign.example.com"), "foreign-tls");
    foreign["spec"]["ingressClassName"] = json!("other");
    paris.apply(&foreign.to_string()).await?;
    let app = App::new("choosy").replicas(1).host(host);
    let mut ingress = encrypted(&app, "opaque-tls");
    let tls = ingress["spec"]["tls"].as_array_mut().context("a list")?;
    tls.push(json!({"hosts": [host], "secretName": "named-tls"}));
    paris.apply(&list(app.workload())).await?;
    paris.apply(&ingress.to_string()).await?;

    wait::until("the copy of the one that is named", LONG, || async {
        copies(&lb, "paris").await.ok()?.contains("named-tls").then_some(())
    })
    .await?;
    refused(&paris, "Ingress", "choosy", "Secret opaque-tls does not exist or is not of type").await?;
    world.served(host, "choosy").await?;
    let copies = copies(&lb, "paris").await?;
    for name in ["unnamed-tls", "opaque-tls", "foreign-tls"] {
        ensure!(!copies.contains(name), "{name} was copied: {copies}");
    }
    remove(&paris, &app).await?;
    paris.run(&["delete", "ingress", "foreign"]).await?;
    let all = ["unnamed-tls", "foreign-tls", "named-tls", "opaque-tls"];
    paris.run(&[&["delete", "secrets"], &all[..]].concat()).await.map(drop)
}

/// The Ingress of an application, with a certificate for its hosts.
fn encrypted(app: &App, secret: &str) -> Value {
    let mut ingress = app.ingress();
    let rules = ingress["spec"]["rules"].as_array().cloned().unwrap_or_default();
    let hosts: Vec<_> = rules.iter().map(|rule| rule["host"].clone()).collect();
    ingress["spec"]["tls"] = json!([{"hosts": hosts, "secretName": secret}]);
    ingress
}

/// A Secret with a certificate.
pub(crate) fn secret(name: &str, pair: &Pair) -> String {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name},
        "stringData": {"tls.crt": pair.chain, "tls.key": pair.key},
    })
    .to_string()
}

/// What the LB cluster has of a cluster's Secrets, a name a line.
async fn copies(lb: &Kubectl, cluster: &str) -> Result<String> {
    lb.run(&["get", "secrets", "-n", &format!("tenant-{cluster}"), "-o", "name"]).await
}

/// The certificate that is served, by a client that trusts this authority alone.
async fn verified(world: &World, host: &str, ca: &Path) -> Result<String> {
    let ca = ca.to_string_lossy();
    let args = ["-verify_return_error", "-verify_hostname", host, "-CAfile", &*ca];
    let (done, output, error) = connect(world, host, &args).await?;
    ensure!(done, "{error}");
    pem(&output).context("no certificate")
}

/// The certificate that is served, whoever vouches for it; none where the server presents none.
async fn presented(world: &World, host: &str) -> Result<Option<String>> {
    let (_, output, _) = connect(world, host, &[]).await?;
    ensure!(output.contains("CONNECTED("), "nobody listens: {output}");
    Ok(pem(&output))
}

fn pem(output: &str) -> Option<String> {
    let pem = output.split("-----BEGIN CERTIFICATE-----").nth(1)?;
    Some(pem.split("-----END").next()?.trim().to_owned())
}

/// Shakes hands with a proxy. Whether that came to its end, and what was said.
async fn connect(world: &World, host: &str, args: &[&str]) -> Result<(bool, String, String)> {
    let connect = format!("{}:443", world.address().await?.ip());
    let mut openssl = tokio::process::Command::new("openssl");
    openssl.args(["s_client", "-connect", &connect, "-servername", host]).args(args);
    let output = openssl.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
}
