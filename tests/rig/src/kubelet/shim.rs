//! Who watches over a container when the kubelet is gone?
//!
//! A process between the two, one for each run of a container. It makes the container's root, starts its program, writes what it says to `log` with
//! the time of each line, and how it ended to `exit.json`; so a kubelet that was killed and comes back finds all of it.
//!
//! ```text
//!  kubelet ── spec.json ─► shim ── container
//!     ◄── "started" ───────┘  ├─► container.json, log
//!                             └─► exit.json
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::root::{self, Root};
use crate::process::Record;

/// What the kubelet wants to be run.
pub(crate) const SPEC: &str = "spec.json";
/// The shim itself.
pub(crate) const SHIM: &str = "shim.json";
/// What runs.
pub(crate) const CONTAINER: &str = "container.json";
/// How it ended.
pub(crate) const EXIT: &str = "exit.json";
/// What it said.
pub(crate) const LOG: &str = "log";
/// A line that is longer is written in parts.
const LINE: u64 = 16 << 10;
/// How long output may take to arrive once all that could write is killed.
const DRAIN: Duration = Duration::from_secs(2);

/// One run of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) root: Root,
    /// The program, as the container sees it, and its arguments.
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) folder: String,
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
}

/// A container that was started.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) process: Record,
    pub(crate) at: Timestamp,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Timestamp,
    /// Why it could not be started, or its last words.
    pub(crate) message: Option<String>,
}

/// Runs the container whose `spec.json` stands in a folder, to its end.
pub(crate) fn run(dir: &Path) -> Result<()> {
    let this = i32::try_from(std::process::id())?;
    write(dir, SHIM, &Record::of(this).context("we are alive")?)?;
    let spec: Spec = read(dir, SPEC).context("no spec.json")?;
    let exit = match start(&spec) {
        Ok(mut child) => {
            let pid = i32::try_from(child.id())?;
            let started = Timestamp::now();
            if let Some(process) = Record::of(pid) {
                write(dir, CONTAINER, &Started { process, at: started })?;
            }
            say("started");
            let code = watch(dir, &mut child, pid)?;
            let words = std::fs::read(spec.root.dir.join(root::LAST_WORDS)).unwrap_or_default();
            let words = String::from_utf8_lossy(&words[words.len().saturating_sub(4096)..]).into_owned();
            let message = (!words.is_empty()).then_some(words);
            Exit { code, started: Some(started), finished: Timestamp::now(), message }
        }
        Err(error) => {
            let message = Some(format!("{error:#}"));
            Exit { code: 128, started: None, finished: Timestamp::now(), message }
        }
    };
    write(dir, EXIT, &exit)?;
    say("ended");
    Ok(())
}

/// Tells the kubelet, which may be gone.
fn say(what: &str) {
    let _ = writeln!(std::io::stdout(), "{what}");
}

/// Starts the program from a thread that has entered its root; we stay outside.
fn start(spec: &Spec) -> Result<Child> {
    let started = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            root::enter(&spec.root)?;
            command(&spec.argv, &spec.env, &spec.folder, spec.user, spec.group)?
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .with_context(|| format!("cannot start {:?}", spec.argv))
        });
        thread.join()
    });
    started.unwrap_or_else(|_| anyhow::bail!("starting {:?} panicked", spec.argv))
}

/// A program in a process group of its own.
pub(crate) fn command(
    argv: &[String],
    env: &[(String, String)],
    folder: &str,
    user: Option<u32>,
    group: Option<u32>,
) -> Result<Command> {
    let (program, args) = argv.split_first().context("nothing to start")?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env.iter().cloned()).current_dir(folder).process_group(0);
    if let Some(user) = user {
        command.uid(user);
    }
    if let Some(group) = group {
        command.gid(group);
    }
    Ok(command)
}

/// Writes what a container says until it has ended, and kills what it left running.
fn watch(dir: &Path, child: &mut Child, pid: i32) -> Result<i32> {
    let log =
        File::options().create(true).append(true).open(dir.join(LOG)).context("cannot write the log")?;
    let (done, drained) = mpsc::channel();
    let streams: [(&str, Option<Box<dyn Read + Send>>); 2] = [
        ("stdout", child.stdout.take().map(|pipe| Box::new(pipe) as _)),
        ("stderr", child.stderr.take().map(|pipe| Box::new(pipe) as _)),
    ];
    for (name, stream) in streams {
        let (log, done) = (log.try_clone()?, done.clone());
        thread::spawn(move || {
            if let Some(stream) = stream {
                copy(stream, name, log);
            }
            let _ = done.send(());
        });
    }
    let status = child.wait().context("cannot wait for the container")?;
    // As the end of the first process of a container is the end of all.
    let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    for _ in 0..2 {
        let _ = drained.recv_timeout(DRAIN);
    }
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

/// Each line in one write, which appends: lines of both streams never mix.
fn copy(stream: impl Read, name: &str, mut log: File) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match stream.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let whole = line.ends_with(b"\n");
        if !whole {
            line.push(b'\n');
        }
        let mut entry =
            format!("{:.9} {name} {} ", Timestamp::now(), if whole { 'F' } else { 'P' }).into_bytes();
        entry.append(&mut line);
        // A full disk must not stop the container.
        let _ = log.write_all(&entry);
    }
}

/// Writes a file that is there whole or not at all.
pub(crate) fn write<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<()> {
    let (new, path) = (dir.join(format!("{name}.new")), dir.join(name));
    std::fs::write(&new, serde_json::to_vec(value)?)
        .and_then(|()| std::fs::rename(&new, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Reads what [`write`] wrote.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&std::fs::read(dir.join(name)).ok()?).ok()
}
