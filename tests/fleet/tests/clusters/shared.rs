//! One host, several clusters (P10).

use anyhow::{Result, ensure};
use portolan_fleet::{App, Load, World, pause};
use std::time::Duration;

const HOST: &str = "shared.example.com";

pub(crate) async fn one_host_over_two_clusters(world: &World) -> Result<()> {
    let lb = world.kubectl("lb")?;
    for (cluster, name) in [("paris", "front-p"), ("tokyo", "front-t")] {
        let app = App::new(name).host(HOST);
        world.kubectl(cluster)?.apply(&app.manifests()).await?;
        world.served(&format!("{name}.{cluster}.lb.example.net"), name).await?;
    }
    let address = world.address().await?;
    let shares = |report: &portolan_fleet::Report| {
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
