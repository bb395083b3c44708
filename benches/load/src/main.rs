//! The load comparison: what does a request cost in Portolan, in its peers, and in a bare Pingora proxy?
//!
//! ```text
//!   core 1: this program (the load) and the backend          core 0: the contenders, one working at a time
//!   load ── HTTP/1.1, HTTP/2, TLS ──► contender ── HTTP/1.1, TLS ──► backend
//! ```
//!
//! For each scenario the contenders take turns, round after round; see `benches/README.md` for how to read it.

mod backend;
mod contender;
mod load;
mod message;
mod proc;
mod report;
mod scenario;
mod site;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use contender::{Contender, Running};
use load::{Load, Pace};
use proc::Proc;
use report::Sample;
use scenario::{Measure, SCENARIOS, Scenario};
use site::{HOST, Site};

/// Compare Portolan's cost per request with nginx, HAProxy, Envoy and a bare Pingora proxy.
#[derive(Parser)]
struct Args {
    /// Two short rounds of everything: about two minutes, for a first look.
    #[arg(long)]
    quick: bool,
    /// Only this scenario (may be given again).
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<String>,
    /// Only this contender (may be given again).
    #[arg(long)]
    contender: Vec<Contender>,
    /// Rounds of each scenario.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds that each contender is measured for in each round.
    #[arg(long)]
    seconds: Option<f64>,
    /// Let nginx, HAProxy and Envoy write access logs too.
    #[arg(long)]
    access_log: bool,
    /// The core of the proxies and the core of the load.
    #[arg(long, num_args = 2, value_names = ["PROXY", "LOAD"], default_values_t = [0, 1])]
    cores: Vec<usize>,
    /// Say which scenarios there are.
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// The backend process (started by the comparison itself).
    #[command(hide = true)]
    Backend { plain: SocketAddr, tls: SocketAddr, cert: String, key: String },
}

/// How much is measured.
struct Effort {
    rounds: usize,
    warm_up: Duration,
    duration: Duration,
    idle_connections: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.part {
        Some(Part::Backend { plain, tls, cert, key }) => backend::serve(*plain, *tls, cert, key),
        None if args.list => {
            SCENARIOS.iter().for_each(|s| println!("{:13} {}", s.name, s.about));
            Ok(())
        }
        None => compare(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<()> {
    let scenarios = chosen(&args.only)?;
    let (default_rounds, default_seconds) = if args.quick { (2, 0.5) } else { (5, 0.6) };
    let duration = Duration::from_secs_f64(args.seconds.unwrap_or(default_seconds));
    let effort = Effort {
        rounds: args.rounds.unwrap_or(default_rounds),
        warm_up: Duration::from_millis(250),
        duration,
        idle_connections: if args.quick { 5_000 } else { 9_000 },
    };
    let (proxy_core, load_core) = (args.cores[0], args.cores[1]);
    let contenders: Vec<(Contender, PathBuf)> = Contender::value_variants()
        .iter()
        .filter(|c| args.contender.is_empty() || args.contender.contains(c))
        .filter_map(|c| match c.find() {
            Ok(program) => Some((*c, program)),
            Err(e) => {
                println!("{} is left out: {e:#}", c.name());
                None
            }
        })
        .collect();
    ensure!(!contenders.is_empty(), "nobody to measure");

    proc::prepare_self(load_core, effort.idle_connections + 2_000)?;
    let site = Site::new()?;
    let _backend = start_backend(&site, load_core)?;
    let start = |of: &(Contender, PathBuf)| of.0.start(&of.1, &site, proxy_core, args.access_log);
    let names: Vec<Contender> = contenders.iter().map(|(c, _)| *c).collect();

    let mut results = Vec::new();
    let mut running: Vec<Running> = Vec::new();
    for scenario in scenarios {
        let mut rounds = Vec::new();
        match scenario.measure {
            Measure::Cost(load) => {
                if running.is_empty() {
                    running = contenders.iter().map(start).collect::<Result<_>>()?;
                }
                for _ in 0..effort.rounds {
                    rounds.push(running.iter().map(|r| cost(r, load, &effort)).collect::<Result<_>>()?);
                }
            }
            // Memory is taken from fresh processes, one at a time: allocators keep what earlier loads made them ask for.
            Measure::IdleMemory { tls } => {
                running.clear();
                let fresh = |of| idle_memory(&start(of)?, tls, &effort);
                rounds.push(contenders.iter().map(fresh).collect::<Result<_>>()?);
            }
        }
        let result = report::Result { scenario, rounds };
        result.print(&names);
        results.push(result);
    }
    report::print_limits(&results);
    let wrong: u64 = results.iter().map(report::Result::wrong).sum();
    ensure!(wrong == 0, "{wrong} answers were wrong");
    Ok(())
}

fn chosen(only: &[String]) -> Result<Vec<Scenario>> {
    if let Some(unknown) = only.iter().find(|name| SCENARIOS.iter().all(|s| s.name != **name)) {
        bail!("there is no scenario {unknown}; --list shows them");
    }
    Ok(SCENARIOS.into_iter().filter(|s| only.is_empty() || only.iter().any(|name| name == s.name)).collect())
}

fn start_backend(site: &Site, core: usize) -> Result<Proc> {
    let own = std::env::current_exe()?.display().to_string();
    let addresses = [site.backend.to_string(), site.backend_tls.to_string()];
    let files = [site.path("cert.pem"), site.path("key.pem")];
    let command: Vec<String> =
        [own, "backend".to_owned()].into_iter().chain(addresses).chain(files).collect();
    Proc::start(core, &command, Path::new(&site.path("backend.log")))
}

fn cost(of: &Running, load: Load, effort: &Effort) -> Result<Sample> {
    let (counted, before, after) = of
        .client
        .run(load, effort.warm_up, effort.duration, || of.proc.cpu())
        .with_context(|| format!("{} under load", of.contender.name()))?;
    ensure!(counted.requests > 0, "{} answered nothing: {:?}", of.contender.name(), counted.first_wrong);
    Ok(Sample::of_cpu(of.contender, after.since(before), counted))
}

/// Growth of resident memory by idle connections. It is counted from when a fifth of them are open, because the first
/// ones live in what the allocator had left over.
fn idle_memory(of: &Running, tls: bool, effort: &Effort) -> Result<Sample> {
    let load = Load { pace: Pace::KeepAlive, tls, connections: 64, host: HOST, size: 128, post: 0 };
    let (few, many) = (effort.idle_connections / 5, effort.idle_connections);
    let (before, after) = of.client.hold(load, few, many, || settled(&of.proc))?;
    let bytes = (after as f64 - before as f64) / (many - few) as f64;
    Ok(Sample::of_memory(of.contender, bytes))
}

/// Resident memory once it has stopped changing.
fn settled(proc: &Proc) -> u64 {
    let mut last = proc.resident();
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(100));
        let now = proc.resident();
        if now == last {
            return now;
        }
        last = now;
    }
    last
}
