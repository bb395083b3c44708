//! Under 200 requests a second, each counted: roll-outs, deaths, absences; and whatever else takes more than some seconds, from files of its own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portolan_fleet::{App, Load, Report, World, pause};
use serde_json::{Value, json};

pub(crate) use crate::agents::{a_cluster_is_away_for_long, a_credential_is_renewed, an_agent_dies};
pub(crate) use crate::arrival::changes_arrive;
pub(crate) use crate::health::an_application_falls_ill;
pub(crate) use crate::join::{
    a_cluster_joins_as_another_and_leaves, of_two_by_one_name_the_first_outlasts_an_outage,
};
pub(crate) use crate::large::a_thousand_services;
pub(crate) use crate::nodes::{
    a_link_is_cut, a_node_is_cordoned_and_one_dies, a_node_is_not_ready, nodes_come_and_go,
};
pub(crate) use crate::proxies::{
    a_proxy_starts_without_the_api_server, proxies_are_rolled, proxies_come_and_go,
};
use crate::stage::{refused, remove};
pub(crate) use crate::tenants::a_quota_stands_behind_the_limit;

pub(crate) const RATE: u32 = 200;

/// An application under load.
pub(crate) struct Subject<'w> {
    world: &'w World,
    app: App,
    pub(crate) host: String,
    pub(crate) load: Load,
}

impl<'w> Subject<'w> {
    pub(crate) async fn start(world: &'w World, name: &str, replicas: u32) -> Result<Self> {
        Self::of(world, name, App::new(name).replicas(replicas)).await
    }

    /// An application of that name.
    pub(crate) async fn of(world: &'w World, name: &str, app: App) -> Result<Self> {
        let kubectl = world.kubectl("paris")?;
        kubectl.apply(&app.manifests()).await?;
        kubectl.run(&["rollout", "status", "--timeout=60s", &format!("deployment/{name}")]).await?;
        let host = format!("{name}.paris.lb.example.net");
        let object = format!("ingress.default.{name}");
        world.condition("httploadbalancer", &object, Some("tenant-paris"), "Programmed", "True").await?;
        world.served(&host, name).await?;
        let load = Load::start(world.address().await?, &host, "/", RATE);
        pause(Duration::from_secs(2)).await;
        Ok(Self { world, app, host, load })
    }

    pub(crate) async fn end(self, what: &str) -> Result<Report> {
        pause(Duration::from_secs(2)).await;
        let report = self.load.stop().await?;
        println!("{what}: {report}");
        remove(&self.world.kubectl("paris")?, &self.app).await?;
        Ok(report)
    }

    /// It ends, and nothing may have failed.
    pub(crate) async fn end_whole(self, what: &str) -> Result<()> {
        let report = self.end(what).await?;
        ensure!(report.failed.is_empty() && report.good > 1000, "{what}: {report}");
        Ok(())
    }
}

pub(crate) async fn pods_are_rolled(world: &World) -> Result<()> {
    let subject = Subject::start(world, "rolled", 3).await?;
    let paris = world.kubectl("paris")?;
    for _ in 0..2 {
        paris.run(&["rollout", "restart", "deployment/rolled"]).await?;
        paris.run(&["rollout", "status", "--timeout=120s", "deployment/rolled"]).await?;
    }
    subject.end_whole("two rolling restarts of the pods").await
}

pub(crate) async fn a_controller_fails_over(world: &World) -> Result<()> {
    let subject = Subject::start(world, "headless-lb", 2).await?;
    let lb = world.kubectl("lb")?;
    let lease = lb.get(&["lease", "portolan-controller", "-n", "portolan-system"]).await?;
    let leader = lease["spec"]["holderIdentity"].as_str().context("a leader")?.to_owned();
    lb.run(&["delete", "pod", &leader, "-n", "portolan-system", "--grace-period=0", "--force"]).await?;
    let late = App::new("after-leader").replicas(1);
    let began = Instant::now();
    world.kubectl("paris")?.apply(&late.manifests()).await?;
    world
        .condition(
            "httploadbalancer",
            "ingress.default.after-leader",
            Some("tenant-paris"),
            "Programmed",
            "True",
        )
        .await?;
    println!("a status by the next leader {:?} after the death of the first", began.elapsed());
    remove(&world.kubectl("paris")?, &late).await?;
    subject.end_whole("the controller killed").await
}

pub(crate) async fn the_api_server_of_the_lb_cluster_is_away(world: &World) -> Result<()> {
    let subject = Subject::start(world, "orphan", 3).await?;
    let lb = world.cluster("lb")?;
    lb.kill_api()?;
    // As they do where they have a Lease to lose. Those that had gone on would take all nodes for dead in the moment of the return.
    lb.controllers().kill()?;
    pause(Duration::from_secs(60)).await;
    // What changes meanwhile arrives when it is back.
    let paris = world.kubectl("paris")?;
    let late = App::new("meanwhile").replicas(1);
    paris.apply(&late.manifests()).await?;
    pause(Duration::from_secs(60)).await;
    let lease = paris.get(&["lease", "portolan-agent", "-n", "portolan-agent"]).await?;
    let agent = lease["spec"]["holderIdentity"].as_str().context("nobody leads")?;
    refused(&paris, "Pod", agent, "LBClusterAway").await?;
    lb.restart_api().await?;
    lb.controllers().restart()?;
    let back = Instant::now();
    world.served("meanwhile.paris.lb.example.net", "meanwhile").await?;
    println!("what was missed was served {:?} after the API server was back", back.elapsed());
    remove(&paris, &late).await?;
    subject.end_whole("the LB cluster's API server away for two minutes").await
}

pub(crate) async fn the_api_server_of_a_member_is_away(world: &World) -> Result<()> {
    let subject = Subject::start(world, "cutoff", 3).await?;
    let paris = world.cluster("paris")?;
    paris.kill_api()?;
    paris.controllers().kill()?;
    pause(Duration::from_secs(45)).await;
    paris.restart_api().await?;
    paris.controllers().restart()?;
    let late = App::new("after-api").replicas(1);
    world.kubectl("paris")?.apply(&late.manifests()).await?;
    world.served("after-api.paris.lb.example.net", "after-api").await?;
    remove(&world.kubectl("paris")?, &late).await?;
    subject.end_whole("a member's API server away").await
}

pub(crate) async fn rules_are_edited(world: &World) -> Result<()> {
    let subject = Subject::start(world, "steady", 2).await?;
    let paris = world.kubectl("paris")?;
    let edited = App::new("edited").replicas(1).host("edited.example.com");
    paris.apply(&edited.manifests()).await?;
    let began = Instant::now();
    let mut edits = 0;
    while began.elapsed() < Duration::from_secs(300) {
        let mut ingress = edited.ingress();
        let rules: Vec<Value> = (0..1 + edits % 5)
            .map(|number| {
                let mut rule = ingress["spec"]["rules"][0].clone();
                rule["host"] = json!(format!("edit-{number}.example.com"));
                rule
            })
            .collect();
        ingress["spec"]["rules"] = json!(rules);
        paris.apply(&ingress.to_string()).await?;
        edits += 1;
        pause((Duration::from_millis(300) * edits).saturating_sub(began.elapsed())).await;
    }
    println!("{edits} edits in {:?}", began.elapsed());
    ensure!(edits >= 900, "{edits} edits are fewer than 200 a minute, or nearly");
    remove(&paris, &edited).await?;
    subject.end_whole("200 edits of rules a minute for five minutes").await
}
