//! The access log: one JSON line per request, written by a thread of its own.
//!
//! Workers append to a buffer of their own and never wait: a line that would make the buffer larger than [`FULL`] is
//! dropped and counted. The writer takes whole buffers. Standard output or file that is slow slows nobody: files are
//! never waited for in a system call, so that also a pipe that nobody reads can be replaced by something else.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use portolan_metrics::IntCounter;
use portolan_model::proxy::AccessLog as Target;

use crate::line::Line;

/// What a worker's buffer may hold while the writer is busy.
const FULL: usize = 4 << 20;
/// How long lines may lie before they are written.
const LATEST: Duration = Duration::from_millis(50);
/// How long the end of the process waits for the last lines.
const FLUSH: Duration = Duration::from_secs(1);
/// Buffers; workers beyond share them.
const BUFFERS: usize = 64;

enum Output {
    Off,
    Stdout,
    File { path: Arc<str>, file: File },
}

/// See the module's documentation.
pub(crate) struct AccessLog {
    inner: Arc<Inner>,
}

struct Inner {
    on: AtomicBool,
    output: ArcSwap<Output>,
    buffers: Box<[Mutex<Vec<u8>>]>,
    waiting: Mutex<bool>,
    /// Whether the writer is at work.
    busy: AtomicBool,
    wake: Condvar,
    dropped: IntCounter,
}

impl AccessLog {
    /// A log to nowhere, and its thread.
    pub(crate) fn start(dropped: IntCounter) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            on: AtomicBool::new(false),
            output: ArcSwap::from_pointee(Output::Off),
            buffers: (0..BUFFERS).map(|_| Mutex::default()).collect(),
            waiting: Mutex::new(false),
            busy: AtomicBool::new(false),
            wake: Condvar::new(),
            dropped,
        });
        let writer = Arc::clone(&inner);
        std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok(Self { inner })
    }

    /// Logs there from now on. A file that cannot be opened leaves the log as it is.
    pub(crate) fn configure(&self, target: &Target) -> io::Result<()> {
        let output = match (target, &**self.inner.output.load()) {
            (Target::Off, _) => Output::Off,
            (Target::Stdout, _) => Output::Stdout,
            (Target::File(path), Output::File { path: open, .. }) if path == open => return Ok(()),
            (Target::File(path), _) => Output::File { path: Arc::clone(path), file: open(path)? },
        };
        self.inner.on.store(!matches!(output, Output::Off), Ordering::Relaxed);
        self.inner.output.store(Arc::new(output));
        Ok(())
    }

    /// Opens the file again, as after it was rotated.
    pub(crate) fn reopen(&self) {
        if let Output::File { path, .. } = &**self.inner.output.load() {
            match open(path) {
                Ok(file) => self.inner.output.store(Arc::new(Output::File { path: Arc::clone(path), file })),
                Err(error) => tracing::error!(%error, path = %path, "the access log cannot be opened again"),
            }
        }
    }

    /// Whether lines are wanted.
    pub(crate) fn is_on(&self) -> bool {
        self.inner.on.load(Ordering::Relaxed)
    }

    /// Appends a line for a worker.
    pub(crate) fn write(&self, worker: usize, line: &Line<'_>) {
        let mut buffer = self.inner.buffers[worker % BUFFERS].lock();
        let before = buffer.len();
        if before > FULL {
            self.inner.dropped.inc();
            return;
        }
        line.write(&mut buffer);
        drop(buffer);
        if before == 0 {
            *self.inner.waiting.lock() = true;
            self.inner.wake.notify_one();
        }
    }

    /// Waits until what lies in the buffers is written, for as long as somebody who is about to leave may wait.
    pub(crate) fn flush(&self) {
        let until = Instant::now() + FLUSH;
        while !self.inner.is_idle() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn open(path: &str) -> io::Result<File> {
    // Without waiting: where that is a pipe, for somebody who reads it.
    OpenOptions::new().create(true).append(true).custom_flags(libc::O_NONBLOCK).open(path)
}

impl Inner {
    fn run(&self) {
        let mut taken = Vec::new();
        loop {
            {
                let mut waiting = self.waiting.lock();
                self.busy.store(false, Ordering::Relaxed);
                while !*waiting {
                    self.wake.wait(&mut waiting);
                }
                *waiting = false;
                self.busy.store(true, Ordering::Relaxed);
            }
            // Lines that come together are written together.
            std::thread::sleep(LATEST);
            for buffer in &self.buffers {
                {
                    let mut filled = buffer.lock();
                    // Room stays with those who fill it.
                    if filled.is_empty() {
                        continue;
                    }
                    std::mem::swap(&mut *filled, &mut taken);
                }
                self.put(&taken);
                taken.clear();
            }
        }
    }

    fn is_idle(&self) -> bool {
        let waiting = self.waiting.lock();
        !*waiting && !self.busy.load(Ordering::Relaxed)
    }

    /// Writes whole lines, as soon as the output takes them.
    fn put(&self, mut lines: &[u8]) {
        let mut output = self.output.load_full();
        let mut within_line = false;
        while !lines.is_empty() {
            let written = match &*output {
                Output::Off => return,
                Output::Stdout => io::stdout().lock().write_all(lines).map(|()| lines.len()),
                Output::File { file, .. } => (&mut &*file).write(lines),
            };
            match written {
                Ok(written) if written > 0 => {
                    within_line = lines[written - 1] != b'\n';
                    lines = &lines[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(LATEST);
                    let now = self.output.load_full();
                    if within_line && !Arc::ptr_eq(&now, &output) {
                        // Half of a line is of no use to the next.
                        let end =
                            lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), |at| at + 1);
                        lines = &lines[end..];
                        within_line = false;
                        self.dropped.inc();
                    }
                    output = now;
                }
                Ok(_) | Err(_) => {
                    self.dropped.inc_by(lines.iter().filter(|&&byte| byte == b'\n').count() as u64);
                    return;
                }
            }
        }
    }
}
