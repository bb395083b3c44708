//! The access log: one JSON line per request, written by a thread of its own.
//!
//! Workers append to a buffer of their own and never wait: a line that would make the buffer larger than [`FULL`] is
//! dropped and counted. The writer takes whole buffers. Standard output or file that is slow slows nobody.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use portolan_metrics::IntCounter;
use portolan_model::proxy::AccessLog as Target;

use crate::line::Line;

/// What a worker's buffer may hold while the writer is busy.
const FULL: usize = 4 << 20;
/// How long lines may lie before they are written.
const LATEST: Duration = Duration::from_millis(50);
/// Buffers; workers beyond share them.
const BUFFERS: usize = 64;

enum Output {
    Off,
    Stdout,
    File { path: Arc<str>, file: Mutex<File> },
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
            wake: Condvar::new(),
            dropped,
        });
        let writer = Arc::clone(&inner);
        std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok(Self { inner })
    }

    /// Logs there from now on. A file that cannot be opened leaves the log as it is.
    pub(crate) fn configure(&self, target: &Target) {
        let output = match (target, &**self.inner.output.load()) {
            (Target::Off, _) => Output::Off,
            (Target::Stdout, _) => Output::Stdout,
            (Target::File(path), Output::File { path: open, .. }) if path == open => return,
            (Target::File(path), _) => match open(path) {
                Ok(file) => Output::File { path: Arc::clone(path), file: Mutex::new(file) },
                Err(error) => {
                    tracing::error!(%error, path = %path, "the access log cannot be opened");
                    return;
                }
            },
        };
        self.inner.on.store(!matches!(output, Output::Off), Ordering::Relaxed);
        self.inner.output.store(Arc::new(output));
    }

    /// Opens the file again, as after it was rotated.
    pub(crate) fn reopen(&self) {
        if let Output::File { path, file } = &**self.inner.output.load() {
            match open(path) {
                Ok(fresh) => *file.lock() = fresh,
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

    /// Writes what lies in the buffers, now.
    pub(crate) fn flush(&self) {
        self.inner.write_out(&mut Vec::new());
    }
}

fn open(path: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Inner {
    fn run(&self) {
        let mut taken = Vec::new();
        loop {
            {
                let mut waiting = self.waiting.lock();
                while !*waiting {
                    self.wake.wait(&mut waiting);
                }
                *waiting = false;
            }
            // Lines that come together are written together.
            std::thread::sleep(LATEST);
            self.write_out(&mut taken);
        }
    }

    fn write_out(&self, taken: &mut Vec<u8>) {
        let output = self.output.load_full();
        for buffer in &self.buffers {
            taken.clear();
            std::mem::swap(&mut *buffer.lock(), taken);
            if taken.is_empty() {
                continue;
            }
            let written = match &*output {
                Output::Off => Ok(()),
                Output::Stdout => io::stdout().lock().write_all(taken),
                Output::File { file, .. } => file.lock().write_all(taken),
            };
            if written.is_err() {
                let lines = taken.iter().filter(|&&byte| byte == b'\n').count();
                self.dropped.inc_by(lines as u64);
            }
        }
    }
}
