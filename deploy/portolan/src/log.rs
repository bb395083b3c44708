//! The process's own log: lines for people on a terminal, JSON elsewhere; its level can be changed while it runs.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// To change the level by.
pub(crate) type Handle = reload::Handle<EnvFilter, Registry>;

/// Libraries below say much that is ours to say.
const QUIET: &str = "pingora_core=off,pingora_proxy=off,pingora_load_balancing=off,hickory_net=error,hickory_proto=error,hickory_resolver=error,kube_client=off";

/// Changes what is logged.
pub(crate) fn set(log: &Handle, text: &str) -> Result<(), String> {
    let filter = filter(text).map_err(|error| format!("{error:#}"))?;
    log.reload(filter).map_err(|error| error.to_string())
}

/// What is logged, as people wrote it.
pub(crate) fn level(log: &Handle) -> String {
    log.with_current(ToString::to_string).map_or_else(|_| String::new(), |all| wanted(&all))
}

/// A filter without what is ours.
fn wanted(all: &str) -> String {
    let ours = |directive: &&str| !QUIET.split(',').any(|quiet| quiet == *directive);
    all.split(',').filter(ours).collect::<Vec<_>>().join(",")
}

/// Reads a filter as people write it.
fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    let what = || format!("{text:?} is no log level: off, error, warn, info, debug, trace, or module=level");
    // The library takes any word alone for the name of a module.
    let level = |directive: &str| directive.contains('=') || directive.trim().parse::<LevelFilter>().is_ok();
    anyhow::ensure!(text.split(',').all(level), what());
    EnvFilter::try_new(format!("{QUIET},{text}")).with_context(what)
}

/// Starts logging, to standard error.
pub(crate) fn start(text: &str) -> anyhow::Result<Handle> {
    let (filter, handle) = reload::Layer::new(filter(text)?);
    let registry = tracing_subscriber::registry().with(filter);
    let terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr);
    let started = if terminal {
        registry.with(lines.with_target(false)).try_init()
    } else {
        registry.with(lines.json().flatten_event(true)).try_init()
    };
    started.context("cannot start the log")?;
    Ok(handle)
}
