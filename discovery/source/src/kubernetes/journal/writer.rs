//! The thread that writes a journal.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::{FILE, LONGEST, Order, Shared, beside, create, line, replace};

/// A file that grew by less is not worth making anew.
const SLACK: u64 = 1 << 20;
/// So much is written at once.
const CHUNK: usize = 1 << 20;

pub(super) struct Writer {
    folder: PathBuf,
    server: String,
    shared: Arc<Shared>,
    open: Option<Open>,
    /// Only one process writes.
    lock: Option<File>,
}

struct Open {
    file: File,
    buffer: Vec<u8>,
    size: u64,
    /// What it was worth when it was last made.
    worth: u64,
    /// Whether it is being made, beside the one that counts.
    beside: bool,
}

impl Writer {
    pub(super) fn new(folder: &Path, server: &str, shared: Arc<Shared>) -> Self {
        Self { folder: folder.to_owned(), server: server.to_owned(), shared, open: None, lock: None }
    }

    /// Until nobody orders any more.
    pub(super) fn run(mut self, orders: Receiver<Order>) {
        loop {
            let order = match orders.try_recv() {
                Ok(order) => order,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.with(Open::flush);
                    let Ok(order) = orders.recv() else { break };
                    order
                }
            };
            match order {
                Order::Add(text) => {
                    self.shared.waiting.fetch_sub(text.len(), Ordering::Relaxed);
                    self.with(|open| open.add(&text));
                    self.compact_if_worthwhile();
                }
                Order::Resume { worth } => self.open = self.attempt(|writer| writer.resume(worth)),
                Order::Anew => self.open = self.attempt(|writer| writer.anew()),
                Order::Whole => {
                    let folder = self.folder.clone();
                    self.with(|open| open.count(&folder));
                }
            }
        }
        self.with(Open::flush);
    }

    /// What an attempt comes to; the journal is broken where it fails.
    fn attempt<T>(&mut self, attempt: impl FnOnce(&mut Self) -> io::Result<T>) -> Option<T> {
        match attempt(self) {
            Ok(done) => Some(done),
            Err(error) => {
                self.shared.break_off(error.to_string());
                None
            }
        }
    }

    fn with(&mut self, work: impl FnOnce(&mut Open) -> io::Result<()>) {
        if let Some(open) = &mut self.open
            && let Err(error) = work(open)
        {
            self.open = None;
            self.shared.break_off(error.to_string());
        }
    }

    fn lock(&mut self) -> io::Result<()> {
        if self.lock.is_none() {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            let mut options = OpenOptions::new();
            let lock = options.create(true).append(true).mode(0o600).open(self.folder.join("lock"))?;
            match lock.try_lock() {
                Ok(()) => self.lock = Some(lock),
                Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process writes it")),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Goes on where the file ends.
    fn resume(&mut self, worth: u64) -> io::Result<Open> {
        self.lock()?;
        let mut file = OpenOptions::new().read(true).append(true).open(self.folder.join(FILE))?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        let mut open =
            Open { size: file.seek(SeekFrom::End(0))?, file, buffer: Vec::new(), worth, beside: false };
        let mut end = [b'\n'];
        if open.size > 0 {
            open.file.seek(SeekFrom::End(-1))?;
            open.file.read_exact(&mut end)?;
        }
        if end != [b'\n'] {
            // Half a line: what comes must not be taken for its other half.
            open.add(b"\n")?;
        }
        Ok(open)
    }

    fn anew(&mut self) -> io::Result<Open> {
        self.lock()?;
        let file = create(&beside(&self.folder))?;
        let mut open = Open { file, buffer: Vec::new(), size: 0, worth: 0, beside: true };
        open.add(&line::header(&self.server))?;
        Ok(open)
    }

    fn compact_if_worthwhile(&mut self) {
        let grown = |open: &Open| !open.beside && open.size > 2 * open.worth + SLACK;
        if self.open.as_ref().is_some_and(grown) {
            self.with(Open::flush);
            self.open = self.attempt(Writer::compact);
        }
    }

    /// Makes the file anew from what counts in it.
    fn compact(&mut self) -> io::Result<Open> {
        let mut old = File::open(self.folder.join(FILE))?;
        let places = line::last(&mut old, |_, _| Ok(()))?;
        let mut open = self.anew()?;
        line::at(&mut old, &places, |line| open.add(line.text))?;
        if open.size > LONGEST {
            fs::remove_file(beside(&self.folder))?;
            return Err(io::Error::other(format!("it would be longer than {LONGEST} bytes")));
        }
        open.count(&self.folder)?;
        Ok(open)
    }
}

impl Open {
    fn add(&mut self, text: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(text);
        self.size += text.len() as u64;
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// It is whole and takes the old one's place.
    fn count(&mut self, folder: &Path) -> io::Result<()> {
        if self.beside {
            self.flush()?;
            replace(folder, &self.file)?;
            (self.beside, self.worth) = (false, self.size);
        }
        Ok(())
    }
}
