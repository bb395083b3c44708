//! One run of a container, from its start to its end, also when it was started by a kubelet before us.
//!
//! Each run has a folder, `<number>`, whose number is how often the container was restarted. All that is known of it lies there: see `shim`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::runtime::Handle;

use super::root;
use super::shim::{self, CONTAINER, EXIT, Exit, LOG, SHIM, SPEC, Spec, Started};
use crate::net::Namespace;
use crate::process::Record;

/// How often a run that a predecessor of ours started is looked at: it is not our child.
const LOOK: Duration = Duration::from_millis(50);

/// A run.
#[derive(Debug)]
pub(crate) struct Instance {
    dir: PathBuf,
    number: i32,
    shim: Shim,
    inside: Option<Inside>,
}

/// How to get to a run's processes: cheap to copy.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    pub(crate) started: Started,
    spec: Arc<Spec>,
}

#[derive(Debug)]
enum Shim {
    Ours(Child),
    Found(Record),
    Gone,
}

/// The numbers of the runs that have a folder below that of their container, in order.
pub(crate) fn numbers(container: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir(container).into_iter().flatten().flatten();
    let mut numbers: Vec<i32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// The log of a run.
pub(crate) fn log(container: &Path, number: i32) -> PathBuf {
    container.join(number.to_string()).join(LOG)
}

/// How a run ended, if its folder says so.
pub(crate) fn exit(container: &Path, number: i32) -> Option<Exit> {
    shim::read(&container.join(number.to_string()), EXIT)
}

/// A folder for a run; its root is made in it.
pub(crate) fn dir(container: &Path, number: i32) -> PathBuf {
    container.join(number.to_string())
}

impl Instance {
    /// Starts a run, and returns when its program runs or could not be started, which its [`Instance::ended`] then tells.
    pub(crate) async fn start(
        container: &Path,
        number: i32,
        namespace: Option<&Namespace>,
        spec: Spec,
    ) -> Result<Self> {
        let dir = dir(container, number);
        std::fs::create_dir_all(&spec.root.dir).with_context(|| format!("cannot make {}", dir.display()))?;
        // One that says nothing has a log too.
        std::fs::File::create(dir.join(LOG)).context("cannot write the log")?;
        shim::write(&dir, SPEC, &spec)?;
        // Whatever lies at our path by now: the same program.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("rig")
            .arg("shim")
            .arg(&dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut command = tokio::process::Command::from(command);
        let runtime = Handle::current();
        let spawn = || {
            let _runtime = runtime.enter();
            command.spawn()
        };
        let spawned = match namespace {
            Some(namespace) => namespace.run(spawn)?,
            None => std::thread::scope(|scope| scope.spawn(spawn).join())
                .map_err(|_| anyhow!("a thread panicked"))?,
        };
        let mut child = spawned.context("cannot start a shim")?;
        if let Some(out) = child.stdout.take() {
            // "started" or "ended"; nothing if it was killed.
            let _ = BufReader::new(out).lines().next_line().await;
        }
        let inside = shim::read(&dir, CONTAINER).map(|started| Inside { started, spec: Arc::new(spec) });
        Ok(Self { dir, number, shim: Shim::Ours(child), inside })
    }

    /// The last run that a predecessor of ours started.
    pub(crate) fn find(container: &Path) -> Option<Self> {
        let number = *numbers(container).last()?;
        let dir = dir(container, number);
        let shim = match shim::read::<Record>(&dir, SHIM) {
            Some(record) if record.is_alive() => Shim::Found(record),
            _ => Shim::Gone,
        };
        let started: Option<Started> = shim::read(&dir, CONTAINER);
        let spec: Option<Spec> = shim::read(&dir, SPEC);
        let inside = started.zip(spec).map(|(started, spec)| Inside { started, spec: Arc::new(spec) });
        Some(Self { dir, number, shim, inside })
    }

    /// How often the container had been restarted.
    pub(crate) fn number(&self) -> i32 {
        self.number
    }

    /// Its processes, unless it could not be started.
    pub(crate) fn inside(&self) -> Option<&Inside> {
        self.inside.as_ref()
    }

    /// Waits for its end. May be asked again.
    pub(crate) async fn ended(&mut self) -> Exit {
        match &mut self.shim {
            Shim::Ours(child) => {
                // An error says that it is gone.
                let _ = child.wait().await;
            }
            Shim::Found(record) => {
                while record.is_alive() {
                    tokio::time::sleep(LOOK).await;
                }
            }
            Shim::Gone => {}
        }
        if let Some(exit) = shim::read(&self.dir, EXIT) {
            return exit;
        }
        // The shim was killed, or the machine went down. What it watched over must not live on unseen.
        self.kill();
        Exit {
            code: 137,
            started: self.inside.as_ref().map(|inside| inside.started.at),
            finished: Timestamp::now(),
            message: Some("the container could not be located".to_owned()),
        }
    }

    /// Sends its first process a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // It may end just now.
            let _ = kill(pid, signal);
        }
    }

    /// Ends all its processes at once.
    pub(crate) fn kill(&self) {
        if let Some(pid) = self.pid() {
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }

    /// Its first process, which leads their group, if it is alive.
    fn pid(&self) -> Option<Pid> {
        let process = self.inside.as_ref()?.started.process;
        process.is_alive().then(|| Pid::from_raw(process.pid()))
    }
}

impl Inside {
    /// Runs a command in the container: its exit code, and what it said.
    pub(crate) async fn exec(&self, argv: &[String]) -> Result<(i32, String)> {
        let child = {
            let runtime = Handle::current();
            let (pid, spec) = (self.started.process.pid(), &self.spec);
            // A thread that has entered another root is good for nothing else.
            let entered = std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let _runtime = runtime.enter();
                    root::join(pid, &spec.root.dir)?;
                    let mut command = shim::command(argv, &spec.env, &spec.folder, spec.user, spec.group)?;
                    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
                    let mut command = tokio::process::Command::from(command);
                    command.kill_on_drop(true).spawn().with_context(|| format!("cannot start {argv:?}"))
                });
                thread.join()
            });
            entered.map_err(|_| anyhow!("starting {argv:?} panicked"))??
        };
        let output = child.wait_with_output().await?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().chars().take(1024).collect();
        Ok((output.status.code().unwrap_or(-1), said))
    }
}
