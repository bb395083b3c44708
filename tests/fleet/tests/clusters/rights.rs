//! What the processes of Portolan may do: what they need, and no more. They run with the roles that are shipped.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use portolan_fleet::{Kubectl, World};
use serde_json::{Value, json};

const SYSTEM: [&str; 2] = ["-n", "portolan-system"];

/// A replica of the proxy faces clients: whoever takes it over can neither have the controllers elect another, nor speak for another replica.
pub(crate) async fn a_proxy_writes_its_own_lease(world: &World) -> Result<()> {
    let lb = world.kubectl("lb")?;
    let folder = tempfile::tempdir()?;
    let election = lb.get(&[&["lease", "portolan-controller"], &SYSTEM[..]].concat()).await?;
    let pods =
        lb.get(&[&["pods", "-l", "app.kubernetes.io/name=portolan-proxy"], &SYSTEM[..]].concat()).await?;
    let pods: Vec<_> = pods["items"].as_array().into_iter().flatten().collect();
    let names: Vec<_> = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    let [one, other] = names[..] else { bail!("there are not two proxies: {names:?}") };

    // The account by itself, and as one of its pods has it.
    let account = account(world, folder.path(), "account", &[]).await?;
    let bound = ["--bound-object-kind=Pod", &format!("--bound-object-name={one}")];
    let pod = self::account(world, folder.path(), "pod", &bound).await?;
    for proxy in [&account, &pod] {
        for name in ["portolan-controller", "another"] {
            denied(proxy.with_input(&["create", "-f", "-"], &lease(name)).await).context("create")?;
            denied(proxy.apply(&lease(name)).await).context("apply")?;
        }
        let delete = [&["delete", "lease", "portolan-controller", "--wait=false"], &SYSTEM[..]].concat();
        denied(proxy.run(&delete).await).context("delete")?;
    }
    let after = lb.get(&[&["lease", "portolan-controller"], &SYSTEM[..]].concat()).await?;
    ensure!(
        after["metadata"]["uid"] == election["metadata"]["uid"]
            && after["spec"]["holderIdentity"] != "a-proxy",
        "another holds it: {after}"
    );
    denied(pod.apply(&lease(&format!("portolan-proxy-{other}"))).await).context("another replica's")?;
    pod.apply(&lease(&format!("portolan-proxy-{one}"))).await.context("its own it may write")?;
    Ok(())
}

/// What they ask for is what they may: nobody was refused so far.
pub(crate) async fn nobody_asks_for_what_it_may_not(world: &World) -> Result<()> {
    for (cluster, namespace, name) in [
        ("lb", "portolan-system", "portolan-controller"),
        ("lb", "portolan-system", "portolan-proxy"),
        ("paris", "portolan-agent", "portolan-agent"),
    ] {
        let label = format!("app.kubernetes.io/name={name}");
        let log = ["logs", "-n", namespace, "-l", &label, "--tail=-1", "--prefix"];
        let log = world.kubectl(cluster)?.run(&log).await?;
        ensure!(!log.is_empty(), "{name} in {cluster} says nothing");
        // What quotas and admission forbid names no user.
        let refused = log.lines().filter(|line| line.to_ascii_lowercase().contains("forbidden: user "));
        let refused: Vec<_> = refused.collect();
        ensure!(refused.is_empty(), "{name} in {cluster}:\n{}", refused.join("\n"));
    }
    Ok(())
}

fn lease(name: &str) -> String {
    let metadata = json!({"name": name, "namespace": SYSTEM[1]});
    // For as long as a day nobody else would lead.
    let spec = json!({"holderIdentity": "a-proxy", "leaseDurationSeconds": 86_400});
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})
        .to_string()
}

/// It was refused by the policy about proxies' `Lease`s, and not for want of a right.
fn denied(outcome: Result<String>) -> Result<()> {
    match outcome {
        Ok(said) => bail!("it was allowed: {said}"),
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(text.contains("a proxy may write"), "it failed for another reason: {text}");
            Ok(())
        }
    }
}

/// kubectl with the account of the proxies.
async fn account(world: &World, folder: &Path, name: &str, bound: &[&str]) -> Result<Kubectl> {
    let lb = world.kubectl("lb")?;
    let token = lb.run(&[&["create", "token", "portolan-proxy"], &SYSTEM[..], bound].concat()).await?;
    let config = lb.run(&["config", "view", "--raw", "--flatten", "-o", "json"]).await?;
    let mut config: Value = serde_json::from_str(&config)?;
    for user in config["users"].as_array_mut().into_iter().flatten() {
        user["user"] = json!({"token": token.trim()});
    }
    let path = folder.join(name);
    std::fs::write(&path, config.to_string())?;
    Ok(world.kubectl_as(&path))
}
