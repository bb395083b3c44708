//! Where scenarios are played: one world for all of them, taken down after the last.

use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use libtest_mimic::{Arguments, Failed, Trial};
use portolan_fleet::{App, Kubectl, Settings, World, get};
use portolan_rig::wait;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

/// What anything may take on a busy machine.
pub(crate) const LONG: std::time::Duration = std::time::Duration::from_secs(60);

/// Answers that make sure of both proxies, for a connection goes to either.
const IN_A_ROW: usize = 20;

/// A scenario being played.
pub(crate) type Outcome<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;
/// A scenario.
pub(crate) type Scenario = fn(&World) -> Outcome<'_>;

/// Plays those that the command line names.
pub(crate) fn play(scenarios: impl IntoIterator<Item = (&'static str, Scenario)>) -> ExitCode {
    let arguments = Arguments::from_args();
    let stage = Arc::new(Stage { runtime: Runtime::new().expect("a runtime"), world: Mutex::new(None) });
    let trials = scenarios.into_iter().map(|(name, scenario)| {
        let stage = Arc::clone(&stage);
        Trial::test(name, move || stage.play(scenario)).with_ignored_flag(true)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let world = stage.world.try_lock().ok().and_then(|mut world| world.take());
    if let Some(world) = world
        && let Err(error) = stage.runtime.block_on(async { world.down() })
    {
        eprintln!("the clusters could not be taken down: {error:#}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

struct Stage {
    runtime: Runtime,
    world: Mutex<Option<World>>,
}

impl Stage {
    fn play(&self, scenario: Scenario) -> Result<(), Failed> {
        let played = self.runtime.block_on(async {
            let mut world = self.world.lock().await;
            if world.is_none() {
                let settings = Settings { nodes: 2, ..Settings::of(&["paris", "tokyo"]) };
                let up = World::joined(settings).await?;
                println!("{}", up.fleet().report());
                *world = Some(up);
            }
            let played = match &*world {
                Some(world) => scenario(world).await,
                None => Ok(()),
            };
            // What a failed one leaves behind is nobody else's trouble.
            if played.is_err()
                && let Some(world) = world.take()
            {
                world.down()?;
            }
            played
        });
        played.map_err(|error| format!("{error:#}").into())
    }
}

/// Takes an application away, and waits until its objects are gone.
pub(crate) async fn remove(kubectl: &Kubectl, app: &App) -> Result<()> {
    let args = ["delete", "--ignore-not-found", "--timeout=60s", "-f", "-"];
    kubectl.with_input(&args, &app.manifests()).await.map(drop)
}

/// Waits until nobody serves a host.
pub(crate) async fn gone(address: SocketAddr, host: &str) -> Result<()> {
    let what = format!("{host} to be gone");
    let gone = wait::until(&what, LONG, || async {
        get(address, host, "/").await.ok().filter(|reply| reply.status == 404).map(drop)
    });
    gone.await
}

/// Waits until whichever proxy takes the connection answers for a host with one of these statuses.
pub(crate) async fn answered(address: SocketAddr, host: &str, statuses: &[u16]) -> Result<()> {
    let last = std::sync::Mutex::new(String::new());
    let what = format!("{host} to be answered with {statuses:?}");
    let answered = wait::until(&what, LONG, || async {
        for _ in 0..IN_A_ROW {
            let reply = get(address, host, "/").await.ok()?;
            if !statuses.contains(&reply.status.as_u16()) {
                *last.lock().ok()? = format!("{} {}", reply.status, reply.text());
                return None;
            }
        }
        Some(())
    });
    answered
        .await
        .with_context(|| format!("last {}", last.lock().map(|last| last.clone()).unwrap_or_default()))
}

/// Objects, as kubectl reads them.
pub(crate) fn list(items: Vec<Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// Waits for a warning about an object whose reason or message names `about`.
pub(crate) async fn refused(kubectl: &Kubectl, kind: &str, name: &str, about: &str) -> Result<()> {
    let selector = format!("type=Warning,involvedObject.kind={kind},involvedObject.name={name}");
    let what = format!("a warning at {kind} {name} about {about}");
    let warned = wait::until(&what, LONG, || async {
        let events = kubectl.get(&["events", "-A", "--field-selector", &selector]).await.ok()?;
        let items = events["items"].as_array()?.clone();
        let says =
            |event: &Value, field: &str| event[field].as_str().is_some_and(|text| text.contains(about));
        items.iter().any(|event| says(event, "reason") || says(event, "message")).then_some(())
    });
    match warned.await {
        Ok(()) => Ok(()),
        Err(error) => bail!("{error:#}: {}", kubectl.run(&["get", "events", "-A"]).await?),
    }
}
