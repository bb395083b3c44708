//! Agents: they die, and their credential is renewed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::jiff::Timestamp;
use portolan_fleet::{App, Kubectl, Load, World, pause};
use serde_json::{Value, json};

use crate::slow::{RATE, Subject};
use crate::stage::{LONG, gone, remove};
use crate::witness::{AGENT, Figures, in_time, leader};

pub(crate) const SECRET: &str = "portolan-agent-credential";
/// The shortest that an API server gives.
const SHORT: Duration = Duration::from_secs(600);

pub(crate) async fn an_agent_dies(world: &World) -> Result<()> {
    let subject = Subject::start(world, "agentless", 3).await?;
    let paris = world.kubectl("paris")?;
    let agents = ["-n", AGENT, "delete", "pods", "--all", "--grace-period=0", "--force"];
    paris.run(&agents).await?;
    paris.run(&["scale", "deployment/agentless", "--replicas=5"]).await?;
    paris.run(&["rollout", "status", "-n", AGENT, "--timeout=90s", "deployment/portolan-agent"]).await?;
    let (next, took) = synced(&paris, "").await?;
    pause(Duration::from_secs(5)).await;
    let writes = Figures::of(&paris, AGENT, &next).await?.writes();
    println!("both agents killed: the next is in sync {took:?} after, and has done {writes} writes");
    ensure!(writes.all() == 0, "nothing has changed that is to be written: {writes}");
    let late = App::new("after-agent").replicas(1);
    paris.apply(&late.manifests()).await?;
    world.served("after-agent.paris.lb.example.net", "after-agent").await?;
    remove(&paris, &late).await?;
    subject.end_whole("both agents killed").await
}

/// What days without a link come to, in a minute: both sides change, and nobody remembers what came between.
pub(crate) async fn a_cluster_is_away_for_long(world: &World) -> Result<()> {
    let (lb, paris, tokyo) = (world.kubectl("lb")?, world.kubectl("paris")?, world.kubectl("tokyo")?);
    let address = world.address().await?;
    let [stays, goes, comes] = ["stays", "goes", "comes"].map(|name| App::new(name).replicas(1));
    let stays = stays.host("before.example.com");
    for app in [&stays, &goes] {
        paris.apply(&app.manifests()).await?;
    }
    world.served("before.example.com", "stays").await?;
    world.served("goes.paris.lb.example.net", "goes").await?;
    let near = App::new("near");
    tokyo.apply(&near.manifests()).await?;
    world.served("near.tokyo.lb.example.net", "near").await?;
    let load = Load::start(address, "near.tokyo.lb.example.net", "/", RATE);
    let agents = running(&paris).await?;

    let link = world.fleet().link("lb", "paris")?;
    link.cut()?;
    // Longer than a connection without an answer lives.
    pause(Duration::from_secs(45)).await;
    remove(&paris, &goes).await?;
    paris.apply(&comes.manifests()).await?;
    let moved = App::new("stays").replicas(3).host("after.example.com");
    paris.apply(&moved.manifests()).await?;
    let pool = ["upstreampool", "service.default.stays.80", "-n", "tenant-paris"];
    let patch = json!({"spec": {"balancing": "LeastRequest"}}).to_string();
    lb.run(&[&["patch"], &pool[..], &["--type=merge", "-p", &patch]].concat()).await?;
    for name in ["lb", "paris"] {
        let cluster = world.cluster(name)?;
        cluster.kill_api()?;
        cluster.controllers().kill()?;
        cluster.forget()?;
        cluster.restart_api().await?;
        cluster.controllers().restart()?;
    }
    pause(Duration::from_secs(5)).await;
    let before = lists(&lb).await?;
    link.heal()?;
    let back = Instant::now();
    world.served("after.example.com", "stays").await?;
    world.served("comes.paris.lb.example.net", "comes").await?;
    for host in ["before.example.com", "goes.paris.lb.example.net"] {
        gone(address, host).await?;
    }
    in_time("what somebody changed to be put right", LONG, || async {
        let pool = lb.get(&pool).await.ok()?;
        (pool["spec"]["balancing"] != "LeastRequest").then_some(())
    })
    .await?;
    println!("a cluster away for long: all is in force {:?} after the link is back", back.elapsed());
    let report = load.stop().await?;
    println!("a cluster away for long, another meanwhile: {report}");
    ensure!(report.failed.is_empty() && report.good > 5000, "{report}");
    ensure!(lists(&lb).await? == before + 1.0, "what came between was remembered");
    ensure!(running(&paris).await? == agents, "an agent was started anew");
    world.ready("paris").await?;
    for app in [&moved, &comes] {
        remove(&paris, app).await?;
    }
    remove(&tokyo, &near).await
}

/// The agents of a cluster, and how often each was started anew.
async fn running(member: &Kubectl) -> Result<Vec<(Value, Value)>> {
    let pods = member.get(&["pods", "-n", AGENT]).await?;
    let pods = pods["items"].as_array().into_iter().flatten();
    Ok(pods
        .map(|pod| {
            (pod["metadata"]["name"].clone(), pod["status"]["containerStatuses"][0]["restartCount"].clone())
        })
        .collect())
}

/// How often agents asked the API server of the LB cluster for all of their pools since it started.
async fn lists(lb: &Kubectl) -> Result<f64> {
    let metrics = lb.run(&["get", "--raw", "/metrics"]).await?;
    let wanted = [r#"resource="upstreampools""#, r#"scope="namespace""#, r#"verb="LIST""#];
    Ok(Figures::from(metrics).sum("apiserver_request_total", &wanted))
}

/// A token is renewed after a seventh of its time. The one that is renewed here is bound to an object, and ends with it: what comes later comes with
/// the next.
pub(crate) async fn a_credential_is_renewed(world: &World) -> Result<()> {
    let (lb, paris) = (world.kubectl("lb")?, world.kubectl("paris")?);
    let tenant = ["-n", "tenant-paris"];
    lb.run(&[&["create", "secret", "generic", "bound"], &tenant[..]].concat()).await?;
    let duration = format!("--duration={}s", SHORT.as_secs());
    let bound = ["--bound-object-kind=Secret", "--bound-object-name=bound", &duration];
    let short = lb.run(&[&["create", "token", "portolan-agent"], &tenant[..], &bound].concat()).await?;
    let short = short.trim();
    ensure!(is_taken(&lb, short).await?, "the API server does not take its own token");
    let acting = leader(&paris).await?;
    let renewals = async || {
        anyhow::Ok(Figures::of(&paris, AGENT, &acting).await?.sum("portolan_agent_token_renewals_total", &[]))
    };
    let before = renewals().await?;

    let patch = json!({"stringData": {"token": short}}).to_string();
    let began = Instant::now();
    paris.run(&["patch", "secret", SECRET, "-n", AGENT, "--type=merge", "-p", &patch]).await?;
    let ours = encoded(&paris).await?;
    in_time("another token in the Secret", SHORT / 7 + LONG, || async {
        (encoded(&paris).await.ok()? != ours).then_some(())
    })
    .await?;
    let took = began.elapsed();
    println!("a token for {SHORT:?} was replaced after {took:?}");
    ensure!(took > SHORT / 10, "it was not held for a seventh of its time");
    in_time("the agent to count it", LONG, || async {
        (renewals().await.ok()? == before + 1.0).then_some(())
    })
    .await?;
    let ends = Figures::of(&paris, AGENT, &acting).await?.sum("portolan_agent_token_expires_seconds", &[]);
    let days = (ends - Timestamp::now().as_second() as f64) / 86_400.0;
    ensure!((6.9..7.1).contains(&days), "the next one is good for {days} days");

    lb.run(&[&["delete", "secret", "bound"], &tenant[..]].concat()).await?;
    in_time("the first token to end", LONG, || async { (!is_taken(&lb, short).await.ok()?).then_some(()) })
        .await?;
    let late = App::new("renewed").replicas(1);
    paris.apply(&late.manifests()).await?;
    world.served("renewed.paris.lb.example.net", "renewed").await?;
    world.ready("paris").await?;
    ensure!(leader(&paris).await? == acting, "another agent leads");
    ensure!(renewals().await? == before + 1.0, "it was renewed more than once");
    remove(&paris, &late).await
}

/// The token in the Secret of paris, as it stands there.
async fn encoded(paris: &Kubectl) -> Result<Value> {
    Ok(paris.get(&["secret", SECRET, "-n", AGENT]).await?["data"]["token"].clone())
}

/// Whether an API server takes a token.
async fn is_taken(kubectl: &Kubectl, token: &str) -> Result<bool> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token},
    });
    let answer = kubectl.with_input(&["create", "-o", "json", "-f", "-"], &review.to_string()).await?;
    let answer: Value = serde_json::from_str(&answer)?;
    Ok(answer["status"]["authenticated"] == true)
}

/// Waits until an agent other than `old` leads and has every list; says which, and how long that took.
pub(crate) async fn synced(member: &Kubectl, old: &str) -> Result<(String, Duration)> {
    let began = Instant::now();
    let next = in_time("another agent to lead and be in sync", LONG, || async {
        let next = leader(member).await.ok().filter(|next| next != old)?;
        let figures = Figures::of(member, AGENT, &next).await.ok()?;
        (figures.sum("portolan_agent_leading", &[]) == 1.0
            && figures.sum("portolan_agent_synced", &[]) == 1.0)
            .then_some(next)
    });
    Ok((next.await?, began.elapsed()))
}
