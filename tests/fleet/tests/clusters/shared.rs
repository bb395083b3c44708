//! One host, several clusters (P10).

use std::time::Duration;

use anyhow::{Result, ensure};
use portolan_fleet::{App, Load, Report, World, pause};
use portolan_rig::wait;
use serde_json::{Value, json};

use crate::stage::{LONG, remove};

const HOST: &str = "shared.example.com";

pub(crate) async fn one_host_over_two_clusters(world: &World) -> Result<()> {
    let lb = world.kubectl("lb")?;
    for (cluster, name) in [("paris", "front-p"), ("tokyo", "front-t")] {
        let app = App::new(name).host(HOST);
        world.kubectl(cluster)?.apply(&app.manifests()).await?;
        world.served(&format!("{name}.{cluster}.lb.example.net"), name).await?;
    }
    let address = world.address().await?;
    let shares = |report: &Report| {
        let of =
            |name: &str| report.by.iter().filter(|(by, _)| by.contains(name)).map(|(_, n)| n).sum::<usize>();
        (of("front-p"), of("front-t"))
    };

    let load = Load::start(address, HOST, "/", 200);
    pause(Duration::from_secs(3)).await;
    let both = load.so_far();
    let (paris, tokyo) = shares(&both);
    ensure!(paris * 4 > both.good && tokyo * 4 > both.good, "shares of {paris} and {tokyo}");

    lb.run(&["patch", "clusters.portolan.dev", "paris", "--type=merge", "-p", r#"{"spec":{"drain":true}}"#])
        .await?;
    pause(Duration::from_secs(2)).await;
    let drained = load.so_far();
    pause(Duration::from_secs(2)).await;
    let later = load.so_far();
    ensure!(shares(&later).0 == shares(&drained).0, "a drained cluster still gets requests");
    lb.run(&["patch", "clusters.portolan.dev", "paris", "--type=merge", "-p", r#"{"spec":{"drain":false}}"#])
        .await?;
    pause(Duration::from_secs(2)).await;
    let report = load.stop().await?;
    println!("drain and back: {report}");
    ensure!(report.failed.is_empty(), "{report}");
    ensure!(shares(&report).0 > shares(&later).0, "it gets nothing after the drain");

    for (cluster, name) in [("paris", "front-p"), ("tokyo", "front-t")] {
        world.kubectl(cluster)?.with_input(&["delete", "-f", "-"], &App::new(name).manifests()).await?;
    }
    Ok(())
}

/// A cluster's weight is its share, and one whose endpoints are not healthy has none, though they would answer.
pub(crate) async fn weights_are_shares(world: &World) -> Result<()> {
    let lb = world.kubectl("lb")?;
    let apps = [("paris", App::new("heavy").host(HOST)), ("tokyo", App::new("light").host(HOST))];
    let weigh = async |weights: [Value; 2]| {
        for ((cluster, _), weight) in apps.iter().zip(weights) {
            let patch = json!({"spec": {"weight": weight}}).to_string();
            lb.run(&["patch", "clusters.portolan.dev", cluster, "--type=merge", "-p", &patch]).await?;
        }
        anyhow::Ok(())
    };
    for (cluster, app) in &apps {
        world.kubectl(cluster)?.apply(&app.manifests()).await?;
        let name = if *cluster == "paris" { "heavy" } else { "light" };
        world.served(&format!("{name}.{cluster}.lb.example.net"), name).await?;
    }
    let load = Load::start(world.address().await?, HOST, "/", 200);
    let of = |report: &Report, name: &str| {
        report.by.iter().filter(|(by, _)| by.contains(name)).map(|(_, n)| n).sum::<usize>()
    };
    for (weights, expected) in [([300, 100], 0.75), ([100, 300], 0.25)] {
        weigh(weights.map(|weight| json!(weight))).await?;
        pause(Duration::from_secs(1)).await;
        let before = load.so_far();
        pause(Duration::from_secs(3)).await;
        let after = load.so_far();
        let (heavy, all) = (of(&after, "heavy") - of(&before, "heavy"), after.good - before.good);
        let share = f64::from(u32::try_from(heavy)?) / f64::from(u32::try_from(all)?);
        println!("weights of {weights:?}: {heavy} of {all} requests, {share:.3}");
        // Of 600 requests, four times the standard deviation.
        ensure!(all > 400 && (share - expected).abs() < 0.07, "weights of {weights:?}: {heavy} of {all}");
    }

    // Its port is open and it answers: only the check says that it is not well.
    let tokyo = world.kubectl("tokyo")?;
    let check = async |check: &str| {
        let annotation = format!("portolan.dev/health-check-path{check}");
        tokyo.run(&["annotate", "--overwrite", "service", "light", &annotation]).await
    };
    check("=/status/503").await?;
    let quiet = async || {
        let before = of(&load.so_far(), "light");
        pause(Duration::from_secs(1)).await;
        (of(&load.so_far(), "light") == before).then_some(())
    };
    wait::until("the cluster that is not well to get nothing", LONG, quiet).await?;
    let before = load.so_far();
    pause(Duration::from_secs(2)).await;
    let after = load.so_far();
    ensure!(of(&after, "light") == of(&before, "light") && after.good > before.good + 200, "{after}");
    check("-").await?;
    wait::until("it to get its share again", LONG, || async {
        (of(&load.so_far(), "light") > of(&after, "light") + 50).then_some(())
    })
    .await?;
    let report = load.stop().await?;
    println!("weights, and one that is not well: {report}");
    ensure!(report.failed.is_empty(), "{report}");
    weigh([Value::Null, Value::Null]).await?;
    for (cluster, app) in &apps {
        remove(&world.kubectl(cluster)?, app).await?;
    }
    Ok(())
}
