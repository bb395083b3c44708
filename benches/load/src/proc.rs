//! A child process: pinned to a core, measured from /proc, and gone when dropped.
//!
//! CPU time is the scheduler's own nanosecond count (`/proc/<pid>/task/*/schedstat`), summed over the process and its
//! children (nginx works in a child), because the clock ticks of `/proc/<pid>/stat` are 10 ms each. The ticks serve only for
//! the share of user time.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// CPU time used so far by a process and its children.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) nanos: u64,
    user_ticks: u64,
    ticks: u64,
}

impl Cpu {
    pub(crate) fn since(self, start: Cpu) -> Cpu {
        Cpu {
            nanos: self.nanos - start.nanos,
            user_ticks: self.user_ticks - start.user_ticks,
            ticks: self.ticks - start.ticks,
        }
    }

    /// The share of it that was spent outside the kernel, 0 to 1.
    pub(crate) fn user_share(self) -> f64 {
        self.user_ticks as f64 / self.ticks.max(1) as f64
    }
}

pub(crate) struct Proc {
    child: Child,
    pids: Vec<u32>,
}

impl Proc {
    /// Starts `command` on one core. Its complaints go to `log`; its output, an access log perhaps, goes nowhere.
    pub(crate) fn start(core: usize, command: &[String], log: &Path) -> Result<Proc> {
        // Should this program be killed, its children go with it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "taskset", "-c", &core.to_string()])
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", command.join(" ")))?;
        let pids = vec![child.id()];
        Ok(Proc { child, pids })
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Finds the process's children; to be called once it serves.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.pids = family(self.child.id())?;
        Ok(())
    }

    pub(crate) fn cpu(&self) -> Cpu {
        let mut sum = Cpu::default();
        for pid in &self.pids {
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let line = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                sum.nanos += number(line.split_whitespace().next());
            }
            let fields = stat(*pid);
            let (user, system) = (number_at(&fields, 11), number_at(&fields, 12));
            sum.user_ticks += user;
            sum.ticks += user + system;
        }
        sum
    }

    /// Resident memory in bytes, children included.
    pub(crate) fn resident(&self) -> u64 {
        let of = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
            number(line.split_whitespace().nth(1)) * 1024
        };
        self.pids.iter().map(of).sum()
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let started = Instant::now();
        signal("-TERM", &self.pids[..1]);
        while !self.has_ended() && started.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if !self.has_ended() {
            signal("-KILL", &self.pids);
            let _ = self.child.wait();
        }
    }
}

fn signal(name: &str, pids: &[u32]) {
    let _ =
        Command::new("kill").arg(name).args(pids.iter().map(u32::to_string)).stderr(Stdio::null()).status();
}

/// The process and all that descend from it.
fn family(root: u32) -> Result<Vec<u32>> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .map(|pid| (pid, number_at(&stat(pid), 1) as u32))
        .collect();
    let mut pids = vec![root];
    let mut next = 0;
    while let Some(parent) = pids.get(next).copied() {
        pids.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(pids)
}

/// The fields of `/proc/<pid>/stat` after the command's name: state, parent, …
fn stat(pid: u32) -> Vec<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    line.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().map(str::to_owned).collect()
}

fn number_at(fields: &[String], index: usize) -> u64 {
    number(fields.get(index).map(String::as_str))
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}

/// Pins this process to a core and raises its limit of open files as far as it may, which its children inherit.
pub(crate) fn prepare_self(core: usize, files: usize) -> Result<()> {
    let pid = std::process::id().to_string();
    run("taskset", &["-a", "-p", "-c", &core.to_string(), &pid])?;
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap_or_default();
    let hard = line.split_whitespace().nth(4).unwrap_or_default();
    let enough = hard == "unlimited" || hard.parse::<usize>().is_ok_and(|n| n >= files);
    ensure!(enough, "{files} open files are needed, the hard limit is {hard}");
    let soft = hard.parse().unwrap_or(65536).min(65536);
    run("prlimit", &["--pid", &pid, &format!("--nofile={soft}:{hard}")])
}

/// Runs a command to its end, quietly.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<()> {
    let out = Command::new(program)
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        out.status.success(),
        "{program} {} failed: {}",
        args.join(" "),
        String::from_utf8_lossy(&out.stderr).trim()
    );
    Ok(())
}
