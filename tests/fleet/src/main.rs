//! `make fleet`: three clusters on this machine, Portolan among them, an application in two, and what to try.

use std::process::ExitCode;

use anyhow::{Context, Result};
use portolan_fleet::{App, DOMAIN, Names, Settings, World};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const SHARED: &str = "shared.example.com";
const CUSTOMER: &str = "www.customer.example";

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        println!(
            "usage: fleet\n\nStarts three clusters with Portolan among them, says what to try, and takes them down on Ctrl-C."
        );
        return ExitCode::SUCCESS;
    }
    match fleet().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn fleet() -> Result<()> {
    let world = tokio::select! {
        world = up() => world?,
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    let folder = world.fleet().dir().join("names");
    std::fs::create_dir_all(&folder)?;
    let address = world.address().await?;
    let names = Names::serve(&folder, address.ip(), &format!("shop.paris.{DOMAIN}")).await?;
    println!("{}\n", world.fleet().report());
    println!("{}", what_to_try(&world, &names).await?);
    let mut lines = typed();
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            Some(line) = lines.recv() => match obey(&world, &line).await {
                Ok(said) => println!("{said}"),
                Err(error) => println!("{error:#}"),
            },
            _ = tokio::signal::ctrl_c() => break,
            _ = terminate.recv() => break,
        }
    }
    println!("taking everything down");
    world.down()
}

/// What is typed, read by a thread that nobody waits for: at the end it may be waiting for another line. Nothing where there is no terminal.
fn typed() -> UnboundedReceiver<String> {
    let (told, typed) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if told.send(line).is_err() {
                return;
            }
        }
    });
    typed
}

/// Does what is typed.
async fn obey(world: &World, line: &str) -> Result<String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let node = |name: &str| {
        let (cluster, number) = name.rsplit_once('-').context("a node is called <cluster>-<number>")?;
        world.cluster(cluster)?.node(number.parse().context("a node is called <cluster>-<number>")?)
    };
    match words[..] {
        ["kill", name] if name.ends_with("-1") => {
            anyhow::bail!("{name} carries the API server of its cluster; kill the other one")
        }
        ["kill", name] => {
            let node = node(name)?;
            // Without power it forwards nothing either.
            node.link().cut()?;
            node.kill()?;
        }
        ["start", name] => {
            let node = node(name)?;
            node.link().heal()?;
            node.start()?;
        }
        ["cut", cluster] => world.fleet().link("lb", cluster)?.cut()?,
        ["heal", cluster] => world.fleet().link("lb", cluster)?.heal()?,
        _ => anyhow::bail!("type: kill paris-2, start paris-2, cut tokyo, heal tokyo"),
    }
    Ok(format!("done: {line}"))
}

/// Clusters, agents, applications; each step is told.
async fn up() -> Result<World> {
    println!("starting three clusters, and Portolan in lb: a minute or so");
    let settings = Settings { nodes: 2, ..Settings::of(&["paris", "tokyo"]) };
    let domains = serde_json::json!([
        {"suffix": SHARED, "sharing": "Shared"}, {"suffix": "customer.example"},
    ]);
    let world = World::up(settings).await?;
    for cluster in ["paris", "tokyo"] {
        println!("{cluster} joins");
        world.join(cluster, serde_json::json!({"allowedDomains": domains})).await?;
    }
    for cluster in ["paris", "tokyo"] {
        world.ready(cluster).await?;
    }
    let shop = App::new("shop").host(SHARED).host(CUSTOMER);
    let cafe = App::new("cafe").host(SHARED);
    for (cluster, name, app) in [("paris", "shop", shop), ("tokyo", "cafe", cafe)] {
        println!("{cluster} gets the application {name}");
        world.kubectl(cluster)?.apply(&app.manifests()).await?;
        world.served(&format!("{name}.{cluster}.{DOMAIN}"), name).await?;
    }
    Ok(world)
}

async fn what_to_try(world: &World, names: &Names) -> Result<String> {
    let address = world.address().await?.ip();
    let kubectl = |cluster: &str| {
        anyhow::Ok(format!(
            "{} --kubeconfig {}",
            world.kubectl_program().display(),
            world.cluster(cluster)?.kubeconfig().display()
        ))
    };
    let (lb, paris) = (kubectl("lb")?, kubectl("paris")?);
    let resolved = names.resolve(CUSTOMER).await?;
    anyhow::ensure!(resolved == address, "{CUSTOMER} is {resolved}, not {address}");
    world.served(CUSTOMER, "shop").await?;
    let server = names.address();
    Ok(format!(
        "Try, in another terminal:

  # The fleet at a glance, and one application.
  {lb} get clusters.portolan.dev
  {lb} get httploadbalancers -A
  {paris} get ingress

  # By its generated name, and by that of the other cluster.
  curl -s -H 'Host: shop.paris.{DOMAIN}' http://{address}/
  curl -s -H 'Host: cafe.tokyo.{DOMAIN}' http://{address}/

  # By a customer's name, a CNAME that a name server on {server} resolves (dig: apt-get install bind9-dnsutils).
  dig +short @{} -p {} {CUSTOMER}
  curl -s --resolve {CUSTOMER}:80:{resolved} http://{CUSTOMER}/

  # A host of both clusters together: who answers?
  for i in $(seq 8); do curl -s -H 'Host: {SHARED}' http://{address}/ | grep '\"pod\"'; done

  # Drain a cluster, ask again, and let it back.
  {lb} patch clusters.portolan.dev paris --type=merge -p '{{\"spec\":{{\"drain\":true}}}}'
  {lb} patch clusters.portolan.dev paris --type=merge -p '{{\"spec\":{{\"drain\":false}}}}'

  # Edit an Ingress; a new host is served within the second.
  {paris} patch ingress shop --type=json -p '[{{\"op\":\"replace\",\"path\":\"/spec/rules/1/host\",\"value\":\"new.customer.example\"}}]'
  curl -s -H 'Host: new.customer.example' http://{address}/

Type here, and Enter:

  kill paris-2     everything on that node ends at once; other nodes take its requests within seconds,
                   and after five minutes Kubernetes makes its pods anew there
  start paris-2    and it comes back
  cut tokyo        tokyo is out of reach of the LB cluster
  heal tokyo       and back

Ctrl-C takes everything down.",
        server.ip(),
        server.port(),
    ))
}
