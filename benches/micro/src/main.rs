//! How many instructions does each hot function take?
//!
//! ```text
//!  for each case: valgrind --tool=callgrind ─► this program, --run NAME ─► the case counts what it calls by Meter::count
//!  instructions / calls ─► table ─► beside baseline.txt: more than a twentieth dearer fails
//! ```
//!
//! Instruction counts hardly depend on what else the machine does, so they decide where times cannot. Callgrind collects
//! only within `meter::counted`; what a case prepares is free. Each case is a process of its own.
//!
//! `portolan-bench-micro [--update] [NAME…]`: all cases, or those whose names begin so; `--update` writes the baseline.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};

mod cases;
mod fleet;
mod meter;

use crate::cases::{CASES, Case};
use crate::meter::Meter;

// What is shipped has it too: an allocation costs there what it costs here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.txt");

/// A count may grow by this share of its baseline, in percent.
const TOLERANCE: u64 = 5;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--run", name] => {
            let case = CASES.iter().find(|case| case.name == *name).context("there is no such case")?;
            let mut meter = Meter::default();
            (case.run)(&mut meter)?;
            println!("{}", meter.calls());
            Ok(ExitCode::SUCCESS)
        }
        ["--update"] => {
            write_baseline(&measure_all(|_| true)?)?;
            Ok(ExitCode::SUCCESS)
        }
        wanted => compare(|name| wanted.is_empty() || wanted.iter().any(|prefix| name.starts_with(prefix))),
    }
}

/// Measures the cases that are wanted and holds them against the baseline.
fn compare(wanted: impl Fn(&str) -> bool) -> Result<ExitCode> {
    let baseline = read_baseline()?;
    let mut dearer = Vec::new();
    println!("{:<40} {:>12} {:>12}", "instructions a call", "baseline", "now");
    for (name, now) in measure_all(wanted)? {
        let Some(&before) = baseline.get(name) else {
            println!("{name:<40} {:>12} {now:>12}      new", "-");
            continue;
        };
        let growth = 100.0 * (now as f64 / before as f64 - 1.0);
        println!("{name:<40} {before:>12} {now:>12} {growth:>+7.1}%");
        if now * 100 > before * (100 + TOLERANCE) {
            dearer.push(name);
        }
    }
    if dearer.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "More than {TOLERANCE} % dearer: {}. If it must be so, --update writes the new counts.",
        dearer.join(", ")
    );
    Ok(ExitCode::FAILURE)
}

/// Measures the cases that are wanted, on all cores: counts do not mind.
fn measure_all(wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<&'static str, u64>> {
    let cases = Mutex::new(CASES.iter().filter(|case| wanted(case.name)).rev().collect::<Vec<_>>());
    let next = || cases.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let worker =
        || std::iter::from_fn(next).map(|case| Ok((case.name, measure(case)?))).collect::<Result<Vec<_>>>();
    let parts: Result<Vec<_>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        let ended =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")));
        ended.collect()
    });
    Ok(parts?.into_iter().flatten().collect())
}

/// Instructions a call.
fn measure(case: &Case) -> Result<u64> {
    let program = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{}*", meter::COUNTED))
        .arg(program)
        .args(["--run", case.name])
        .output()
        .context("cannot run valgrind: is it installed?")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}: {}\n{said}", case.name, output.status);
    }
    let calls: u64 =
        String::from_utf8_lossy(&output.stdout).trim().parse().context("the case counted no calls")?;
    let collected =
        said.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    let instructions: u64 = collected.context("valgrind collected nothing")?.parse()?;
    Ok(instructions / calls.max(1))
}

fn read_baseline() -> Result<BTreeMap<String, u64>> {
    let text = std::fs::read_to_string(BASELINE).with_context(|| format!("cannot read {BASELINE}"))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line.rsplit_once(' ').with_context(|| format!("{BASELINE}: {line:?}"))?;
            Ok((name.trim().to_owned(), count.parse()?))
        })
        .collect()
}

fn write_baseline(counts: &BTreeMap<&str, u64>) -> Result<()> {
    let mut text = String::from(
        "# Instructions a call, release build, x86-64. portolan-bench-micro --update writes this.\n",
    );
    for (name, count) in counts {
        writeln!(text, "{name:<40} {count:>10}")?;
    }
    std::fs::write(Path::new(BASELINE), text).with_context(|| format!("cannot write {BASELINE}"))
}
