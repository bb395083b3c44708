//! What was there when this process last heard of it, for a start without the API server?
//!
//! ```text
//!  Supervisor ─► Journal::keep, ::gone ─► (a bounded queue) ─► the writer's thread ─► objects.jsonl ─► read(), at the next start
//! ```
//!
//! A file with a line per change: the object's last good version as the server sent it, or that it is gone. Secrets are
//! among them: the file is its owner's alone. Each line has a checksum; one that is torn or was changed is passed over and told.
//! Where the file is twice as large as what it is worth, the writer makes it anew beside it and puts it in its place in one
//! step. Nothing waits for the disk: where it is too slow, full or broken, the journal gives up, says so, and is written from the
//! start later. Cost: a copy of the text per change; no object stays in memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use portolan_model::id::{Kind, ObjectRef};

use super::item::Item;

pub(crate) mod line;
mod writer;

use self::line::{Content, Line};
use self::writer::Writer;

/// What may wait to be written. A burst that is larger outruns the disk for seconds.
const WAITING: usize = 64 << 20;
/// A file that is longer is not read: it is not ours.
const LONGEST: u64 = 4 << 30;
/// Of the lines that are passed over, so many are named.
const NAMED: usize = 5;

/// Where the lines are.
pub(crate) const FILE: &str = "objects.jsonl";

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
    /// To the thread that writes.
    orders: mpsc::Sender<Order>,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Why nothing is written any more.
    broken: Mutex<Option<String>>,
}

/// What the thread is to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// What follows is to be added to what there is, of which so many bytes count.
    Resume { worth: u64 },
    /// A line to be added.
    Add(Vec<u8>),
    /// What follows is everything: it goes into a file beside the one there is.
    Anew,
    /// That was everything: it takes the old one's place.
    Whole,
}

/// An object of the journal.
pub(crate) struct Kept {
    pub(crate) kind: Kind,
    pub(crate) item: Item,
}

/// What reading came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Objects that were there at the end.
    pub(crate) objects: usize,
    /// Lines that were passed over.
    pub(crate) skipped: usize,
    /// The first of them, from 1.
    pub(crate) first_skipped: Vec<usize>,
    /// Bytes of the lines that count.
    pub(crate) worth: u64,
}

impl Shared {
    pub(crate) fn break_off(&self, why: String) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get_or_insert(why);
    }

    fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn mend(&self) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Journal {
    /// The journal in that folder, of the API server at that URL. It goes on where it stood when `worth` was what [`read`] found it
    /// to be worth; without, everything has to follow, as after [`Journal::anew`].
    pub(crate) fn start(folder: &Path, server: &str, worth: Option<u64>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (orders, queue) = mpsc::channel();
        let _ = orders.send(worth.map_or(Order::Anew, |worth| Order::Resume { worth }));
        let writer = Writer::new(folder, server, Arc::clone(&shared));
        thread::Builder::new().name("portolan-journal".to_owned()).spawn(move || writer.run(queue))?;
        Ok(Self { shared, orders })
    }

    /// This is the object's last good version.
    pub(crate) fn keep(&self, id: &ObjectRef, item: &Item) {
        self.add(|| line::object(id, &item.text));
    }

    /// The object is gone.
    pub(crate) fn gone(&self, id: &ObjectRef) {
        self.add(|| line::gone(id));
    }

    /// Everything follows: what stands there counts no more once that was [`Journal::whole`].
    pub(crate) fn anew(&self) {
        self.shared.mend();
        self.order(Order::Anew);
    }

    /// That was everything.
    pub(crate) fn whole(&self) {
        self.order(Order::Whole);
    }

    /// Why nothing is written any more, if so.
    pub(crate) fn broken(&self) -> Option<String> {
        self.shared.broken()
    }

    fn add(&self, line: impl FnOnce() -> Vec<u8>) {
        if self.broken().is_some() {
            return;
        }
        let line = line();
        let waiting = self.shared.waiting.fetch_add(line.len(), Ordering::Relaxed);
        if waiting > WAITING {
            self.shared.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.shared.break_off("the disk is too slow".to_owned());
        } else {
            self.order(Order::Add(line));
        }
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            self.shared.break_off("its thread has ended".to_owned());
        }
    }
}

/// Reads the journal in that folder, of the API server at that URL: the last version of each object, in the order of the file.
/// An error if there is none that can be read.
pub(crate) fn read(folder: &Path, server: &str, mut found: impl FnMut(Kept)) -> io::Result<Summary> {
    let path = folder.join(FILE);
    let mut file = File::open(&path)?;
    match file.metadata()?.len() {
        // Nobody came to write into it.
        0 => return Err(io::ErrorKind::NotFound.into()),
        length if length > LONGEST => {
            return Err(io::Error::other(format!("it is longer than {LONGEST} bytes")));
        }
        _ => {}
    }
    let mut summary = Summary::default();
    let last = line::last(&mut file, |number, content| match content {
        Some(Content::Header { server: whose }) if whose != server => {
            Err(io::Error::other(format!("it is of the API server {whose}, not of {server}")))
        }
        Some(Content::Header { .. }) => Ok(()),
        _ if number == 1 => Err(io::Error::other("its first line does not say whose it is")),
        Some(_) => Ok(()),
        None => {
            summary.skipped += 1;
            if summary.first_skipped.len() < NAMED {
                summary.first_skipped.push(number);
            }
            Ok(())
        }
    })?;
    line::at(&mut file, &last, |line| {
        if let Line { content: Content::Object { kind, object }, text } = line
            && let Ok((item, _)) = Item::of(object)
        {
            summary.objects += 1;
            summary.worth += text.len() as u64;
            found(Kept { kind, item });
        }
        Ok(())
    })?;
    Ok(summary)
}

/// A new file that is its owner's alone.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
}

fn beside(folder: &Path) -> PathBuf {
    folder.join(format!("{FILE}.new"))
}

/// Has a file take the journal's place, as one step even where the power fails.
fn replace(folder: &Path, file: &File) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(beside(folder), folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
