//! What runs in the background, and how is it found again?
//!
//! A [`Process`] stands in a namespace, writes to a log file, and outlives whoever started it. Beside its log lies its [`Record`]: the id and
//! the start time that the kernel gave it, so that an id that was handed out anew is never mistaken for it.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::net::Namespace;
use crate::wait;

/// How long a process may take to be gone after it was killed; it may have gigabytes to give back.
const GONE: Duration = Duration::from_secs(20);
/// How the file of a record ends.
const RECORD: &str = "process.json";

/// What to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// What it is called here; the name of its log and of its record.
    pub name: String,
    /// Its binary.
    pub binary: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

impl Program {
    /// A binary and its arguments.
    pub fn new<A: Into<String>>(name: &str, binary: &Path, args: impl IntoIterator<Item = A>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self { name: name.to_owned(), binary: binary.to_owned(), args }
    }
}

/// A process as the kernel knows it: its id, and when it was started, in ticks since the machine was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pid: i32,
    started: u64,
}

impl Record {
    /// That of a process that is alive.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        (!stat.dead).then_some(Self { pid, started: stat.started })
    }

    /// All below a folder.
    pub(crate) fn below(dir: &Path) -> Vec<(String, Self)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.extend(Self::below(&path));
            } else if let Some(name) = name.strip_suffix(&format!(".{RECORD}"))
                && let Ok(text) = std::fs::read(&path)
                && let Ok(record) = serde_json::from_slice(&text)
            {
                found.push((name.to_owned(), record));
            }
        }
        found
    }

    /// Whether that very process is alive.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Its id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends it a signal; false if it is gone.
    fn signal(&self, signal: Signal) -> Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot send {signal} to {}", self.pid)),
        }
    }
}

/// A background process of a fleet. Dropping it leaves it running.
#[derive(Debug)]
pub struct Process {
    program: Program,
    namespace: Arc<Namespace>,
    dir: PathBuf,
    running: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    record: Option<Record>,
}

impl Process {
    /// Starts a program in a namespace; its log and its record lie in `dir`.
    pub fn start(namespace: &Arc<Namespace>, dir: &Path, program: Program) -> Result<Self> {
        let running = Mutex::new(launch(namespace, dir, &program)?);
        Ok(Self { program, namespace: Arc::clone(namespace), dir: dir.to_owned(), running })
    }

    /// Starts it again, after a kill, with the same arguments.
    pub fn restart(&self) -> Result<()> {
        self.kill()?;
        *self.running() = launch(&self.namespace, &self.dir, &self.program)?;
        Ok(())
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running().child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        matches!(self.running().child.try_wait(), Ok(None))
    }

    /// Stops the clock for it: it keeps its connections and answers nothing.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Ends it at once, and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        let mut running = self.running();
        // An error here says that it ended before.
        let _ = running.child.kill();
        running.child.wait().with_context(|| format!("{} does not end", self.program.name))?;
        Ok(())
    }

    /// Asks it to end, and kills it if it has not within that time.
    pub async fn stop(&self, within: Duration) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        self.signal(Signal::SIGTERM)?;
        let ended = wait::until("its end", within, || async { (!self.is_running()).then_some(()) }).await;
        ended.or_else(|_| self.kill())
    }

    /// Where it writes.
    pub fn log(&self) -> PathBuf {
        log(&self.dir, &self.program.name)
    }

    /// What it wrote last, and where: the end of an error's message.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(8)..].join("\n");
        format!("{} ends with:\n{last}", self.log().display())
    }

    /// An error if it has ended.
    pub fn must_run(&self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        bail!("{} has ended; {}", self.program.name, self.last_words())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        match self.running().record.map(|record| record.signal(signal)).transpose()? {
            Some(true) => Ok(()),
            _ => bail!("{} is not running", self.program.name),
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    /// Reaps it if it has ended, so that no zombie stays.
    fn drop(&mut self) {
        let mut running = self.running();
        if !running.record.is_some_and(|record| record.is_alive()) {
            // Its first thread is gone; the last one follows at once.
            let _ = running.child.wait();
        }
    }
}

fn log(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log"))
}

fn launch(namespace: &Namespace, dir: &Path, program: &Program) -> Result<Running> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = log(dir, &program.name);
    let open = || File::options().create(true).append(true).open(&path);
    let (out, err) = open()
        .and_then(|out| Ok((out, open()?)))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new(&program.binary);
    // A group of its own: an interrupt at the terminal is not meant for it.
    command
        .args(&program.args)
        .current_dir(dir)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err);
    let child = namespace.spawn(&mut command)?;
    let record = i32::try_from(child.id()).ok().and_then(Record::of);
    if let Some(record) = &record {
        let path = dir.join(format!("{}.{RECORD}", program.name));
        std::fs::write(&path, serde_json::to_vec(record)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(Running { child, record })
}

/// The processes in these namespaces, whoever started them.
pub(crate) fn inside(namespaces: &[Namespace]) -> Vec<Record> {
    inside_or_at(namespaces, None)
}

/// The processes in these namespaces, and in those that lost their name but hold a process whose working folder is below `dir`.
pub(crate) fn inside_or_at(namespaces: &[Namespace], dir: Option<&Path>) -> Vec<Record> {
    let key = |path: String| std::fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    let seen = pids().filter_map(|pid| Some((pid, key(format!("/proc/{pid}/ns/net"))?)));
    let seen: Vec<_> = seen.collect();
    let folder = |pid| std::fs::read_link(format!("/proc/{pid}/cwd"));
    let stands_there = |pid| dir.is_some_and(|dir| folder(pid).is_ok_and(|path| path.starts_with(dir)));
    let mut wanted: HashSet<_> = namespaces.iter().filter_map(Namespace::key).collect();
    wanted.extend(seen.iter().filter(|(pid, _)| stands_there(*pid)).map(|(_, key)| *key));
    // Somebody may stand in the folder with a shell.
    if let Some(ours) = key("/proc/self/ns/net".to_owned()) {
        wanted.remove(&ours);
    }
    seen.iter().filter(|(_, key)| wanted.contains(key)).filter_map(|(pid, _)| Record::of(*pid)).collect()
}

/// Sends all of them a signal; those that are gone by now are passed over.
pub(crate) fn signal_all(records: &[Record], signal: Signal) -> Result<()> {
    records.iter().try_for_each(|record| record.signal(signal).map(drop))
}

/// Kills what `find` finds until it finds nothing more.
pub(crate) fn kill_all(mut find: impl FnMut() -> Vec<Record>) -> Result<()> {
    let end = std::time::Instant::now() + GONE;
    loop {
        let left = find();
        if left.is_empty() {
            return Ok(());
        }
        signal_all(&left, Signal::SIGKILL)?;
        if std::time::Instant::now() > end {
            bail!("{} processes do not end, the first is {}", left.len(), left[0].pid);
        }
        std::thread::sleep(wait::STEP);
    }
}

/// Memory of these processes in bytes; a page that several share is counted once.
pub(crate) fn memory(processes: &[Record]) -> u64 {
    processes.iter().filter_map(|record| proportional_set(record.pid)).sum()
}

fn proportional_set(pid: i32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What we need of `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    dead: bool,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field, the name, may hold spaces and parentheses: what counts stands after its last one. See proc_pid_stat(5).
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let dead = matches!(fields.next()?, "Z" | "X");
        Some(Self { dead, started: fields.nth(18)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests;
