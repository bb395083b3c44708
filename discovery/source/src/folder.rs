//! What stands in the files of a folder, and what does it come to when some of them may have changed?
//!
//! Invariant: the deltas of all batches, applied in order, come to what the files declare, each object as in the first file
//! that declares it. What a file declares is what its last reading made out, and beside that what the reading before made out and
//! this one may have missed: all of it where the file cannot be read or was emptied, the objects that are not in it where a
//! document is torn or cannot be told apart. Cost: an update reads the files it is told of, and only those whose content
//! differs are parsed; a scan costs a `stat` per file.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use portolan_api::{Checks, Diagnostic, FileObjects, Reader, Severity};
use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::intent::Delta;

use crate::index::{Change, Entry, Index};
use crate::told::Told;
use crate::versions::Versions;
use crate::walk::{Stamp, is_gone, is_manifest, join, link_to_nothing, walk};

/// Reads one file's text; its first argument is the file's name, relative to the folder.
pub(crate) type ReadFile = Box<dyn FnMut(&str, &str) -> FileObjects + Send>;

/// Up to this many files one thread reads them all.
const FEW: usize = 64;

/// Why a file is not taken at its word that held objects and is blank now.
const EMPTIED: &str = "it is empty; delete the file to remove its objects";

/// One step: everything that changed together.
#[derive(Debug, Default)]
pub struct Batch {
    /// What to apply, in order.
    pub deltas: Vec<Delta>,
    /// The files that were parsed or are gone, and those of which something else is to be said than before (`.` is the folder
    /// itself): what was said of them before no longer holds.
    pub files: Vec<Arc<str>>,
    /// All that is to be said of these files.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether it is the first, with everything that there is.
    pub first: bool,
    /// What of an API server it contains; in a folder nothing.
    pub versions: Versions,
}

/// What may have changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dirt {
    /// Files, or folders with all that is in them, relative to the folder.
    pub(crate) paths: HashSet<String>,
    /// Anything: look at every file's stamp.
    pub(crate) anything: bool,
    /// Everything: read and parse every file.
    pub(crate) everything: bool,
}

impl Dirt {
    /// Past this many paths it is cheaper to look at every file.
    const PATHS: usize = 10_000;

    /// Every file is to be read and parsed.
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Every file is to be read whose stamp differs.
    pub fn anything() -> Self {
        Self { anything: true, ..Self::default() }
    }

    /// A file or folder may have changed, by its path relative to the folder. A path through an entry that begins with two
    /// dots means the folder around that entry, whose files are links through it; other hidden entries mean nothing.
    pub fn path(&mut self, relative: &Path) {
        let Some(relative) = relative.to_str() else { return };
        let mut visible = String::new();
        for part in relative.split('/').filter(|part| !part.is_empty()) {
            if part.starts_with("..") {
                break;
            }
            if part.starts_with('.') {
                return;
            }
            if !visible.is_empty() {
                visible.push('/');
            }
            visible.push_str(part);
        }
        if visible.is_empty() || self.paths.len() >= Self::PATHS {
            self.anything = true;
            self.paths.clear();
        } else if !self.anything {
            self.paths.insert(visible);
        }
    }

    /// Whether a path or a folder around it may have changed.
    fn covers(&self, path: &str) -> bool {
        let around = path.match_indices('/').map(|(at, _)| &path[..at]);
        self.anything || around.chain([path]).any(|path| self.paths.contains(path))
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.anything && !self.everything
    }
}

/// What is known of a file's bytes.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// `None` where the file was written too recently to rely on it.
    stamp: Option<Stamp>,
    hash: u64,
}

/// A folder of manifests; see the module's documentation.
pub struct Folder {
    root: PathBuf,
    /// One per thread that reads.
    readers: Vec<ReadFile>,
    known: BTreeMap<Arc<str>, Known>,
    index: Index,
    told: Told,
    started: bool,
}

/// What an update has to read, and what it cannot.
#[derive(Debug, Default)]
struct ToRead {
    files: BTreeSet<Arc<str>>,
    unreadable: Vec<(String, io::Error)>,
}

/// What reading a file came to.
enum Read {
    Same(Known),
    New(Known, FileObjects),
    Gone,
    Unreadable(io::Error),
}

impl Folder {
    /// The folder at `root`, of which nothing is known yet. `checks` are what reading needs of other libraries.
    pub fn new(root: impl Into<PathBuf>, checks: Checks) -> Self {
        Self::with_readers(root, || {
            let mut reader = Reader::new(checks);
            Box::new(move |file, text| reader.read(file, text))
        })
    }

    pub(crate) fn with_readers(root: impl Into<PathBuf>, reader: impl Fn() -> ReadFile) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let readers = (0..threads).map(|_| reader()).collect();
        let root = root.into();
        // Events name absolute paths. An empty path has no absolute form, and is as unreadable without.
        let root = std::path::absolute(&root).unwrap_or(root);
        Self {
            root,
            readers,
            known: BTreeMap::new(),
            index: Index::default(),
            told: Told::default(),
            started: false,
        }
    }

    /// Where it is; absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads what may have changed. The first update reads everything.
    pub fn update(&mut self, dirt: &Dirt) -> Batch {
        let mut batch = Batch { first: !self.started, ..Batch::default() };
        let everything = dirt.everything || batch.first;
        let mut found = ToRead::default();
        if everything || dirt.anything {
            self.look(&mut found, "", everything);
        } else {
            for path in &dirt.paths {
                self.look_at(&mut found, path);
            }
        }
        self.started = true;
        let mut change = Change::default();
        let mut unreadable = found.unreadable;
        for (name, read) in self.read_all(found.files, everything) {
            if let Some(error) = self.take_in(&mut change, &name, read) {
                unreadable.push((name.to_string(), error));
            }
        }
        let complaint = |(path, error): (String, io::Error)| {
            (path.into(), format!("cannot be read: {error}; what it said before stays in force"))
        };
        let unreadable = unreadable.into_iter().map(complaint).collect();
        self.told.unreadable(unreadable, |path| everything || dirt.covers(path), everything);
        let (deltas, files) = self.index.finish(change);
        files.iter().for_each(|file| self.told.touch(file));
        batch.deltas = deltas;
        (batch.files, batch.diagnostics) = self.told.say(|file| self.index.duplicates(file));
        batch
    }

    /// What may have changed at one path: a file, a folder, or what used to be one.
    fn look_at(&self, to_read: &mut ToRead, path: &str) {
        match fs::metadata(join(&self.root, path)) {
            Ok(metadata) if metadata.is_file() => {
                if is_manifest(Path::new(path)) {
                    to_read.files.insert(path.into());
                }
                // It may have been a folder.
                to_read.files.extend(self.known_below(path).cloned());
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                to_read.unreadable.push((path.to_owned(), error));
            }
            _ => self.look(to_read, path, false),
        }
    }

    /// Adds the files in `root/below` whose stamps differ from what is known, and those known that are gone.
    fn look(&self, to_read: &mut ToRead, below: &str, everything: bool) {
        let found = walk(&self.root, below);
        let kept = |file: &str| {
            found.unreadable.iter().any(|(path, _)| path.is_empty() || file == path || is_in(file, path))
        };
        let mut names: HashSet<&str> = HashSet::with_capacity(found.files.len());
        for (file, stamp) in &found.files {
            names.insert(file);
            let same = self.known.get(file.as_str()).is_some_and(|known| known.stamp == Some(*stamp));
            if everything || !same {
                to_read.files.insert(file.as_str().into());
            }
        }
        let gone = self.known_below(below).filter(|file| !names.contains(&***file) && !kept(file));
        to_read.files.extend(gone.cloned());
        to_read.unreadable.extend(found.unreadable);
    }

    /// Known files at `below` or in it.
    fn known_below<'a>(&'a self, below: &'a str) -> impl Iterator<Item = &'a Arc<str>> {
        self.known
            .range::<str, _>((Bound::Included(below), Bound::Unbounded))
            .map(|(file, _)| file)
            .take_while(move |file| file.starts_with(below))
            .filter(move |file| below.is_empty() || &***file == below || is_in(file, below))
    }

    /// Reads files, many of them on all cores.
    fn read_all(&mut self, files: BTreeSet<Arc<str>>, everything: bool) -> Vec<(Arc<str>, Read)> {
        let files: Vec<Arc<str>> = files.into_iter().collect();
        let (root, known) = (&self.root, &self.known);
        let read = |reader: &mut ReadFile, file: &Arc<str>| {
            let known = known.get(file).filter(|_| !everything);
            // A reader that panics must not take the folder with it: what was known stays.
            let read = catch_unwind(AssertUnwindSafe(|| read_one(root, file, known, reader)));
            let failed = |_| Read::Unreadable(io::Error::other("the reader failed"));
            (Arc::clone(file), read.unwrap_or_else(failed))
        };
        let share = files.len().div_ceil(self.readers.len()).max(FEW);
        thread::scope(|scope| {
            let shares = self.readers.iter_mut().zip(files.chunks(share));
            let threads: Vec<_> = shares
                .map(|(reader, share)| {
                    scope.spawn(|| share.iter().map(|file| read(reader, file)).collect::<Vec<_>>())
                })
                .collect();
            let ended = |thread: thread::ScopedJoinHandle<'_, Vec<_>>| {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))
            };
            threads.into_iter().flat_map(ended).collect()
        })
    }

    /// Takes in what reading a file came to; gives back why it could not be read.
    fn take_in(&mut self, change: &mut Change, name: &Arc<str>, read: Read) -> Option<io::Error> {
        match read {
            Read::Same(known) => {
                self.known.insert(Arc::clone(name), known);
            }
            Read::New(_, file) if file.is_empty() && !self.index.entries(name).is_empty() => {
                // As likely as not somebody is about to write it: `> file` empties it first.
                return self.take_in(change, name, Read::Unreadable(io::Error::other(EMPTIED)));
            }
            Read::New(known, file) => {
                self.told.read(name, file.all_diagnostics().into_iter().cloned().collect());
                // An error of no object, or a torn document: an object that is missing may be just the one that could not be told.
                let told = file.diagnostics.iter().all(|diagnostic| diagnostic.severity != Severity::Error);
                let whole = told && !file.torn;
                let mut entries = entries(file);
                if !whole {
                    let read: HashSet<_> = entries.iter().map(|entry| entry.id().clone()).collect();
                    let lost = self.index.entries(name).iter().filter(|entry| !read.contains(entry.id()));
                    entries.extend(lost.cloned().collect::<Vec<_>>());
                }
                self.index.set(change, name, entries);
                self.known.insert(Arc::clone(name), known);
            }
            Read::Gone => {
                self.told.read(name, Vec::new());
                self.index.set(change, name, Vec::new());
                self.known.remove(name);
            }
            Read::Unreadable(error) => {
                // It is to be read again at the next look, whatever its stamp.
                if let Some(known) = self.known.get_mut(name) {
                    known.stamp = None;
                }
                return Some(error);
            }
        }
        None
    }
}

/// Reads a file, and parses it if its content is not what is `known`.
fn read_one(root: &Path, file: &str, known: Option<&Known>, reader: &mut ReadFile) -> Read {
    let path = join(root, file);
    let read = || {
        let metadata = fs::metadata(&path)?;
        if metadata.is_dir() {
            // It was a file.
            return Err(io::ErrorKind::NotFound.into());
        }
        let stamp = Stamp::settled(&metadata);
        let text = String::from_utf8(fs::read(&path)?)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))?;
        Ok::<_, io::Error>((stamp, text))
    };
    match read() {
        Ok((stamp, text)) => {
            let mut hasher = DefaultHasher::new();
            hasher.write(text.as_bytes());
            let hash = hasher.finish();
            let now = Known { stamp, hash };
            match known {
                Some(before) if before.hash == hash => Read::Same(now),
                _ => Read::New(now, reader(file, &text)),
            }
        }
        Err(error) if is_gone(&error) => link_to_nothing(&path).map_or(Read::Gone, Read::Unreadable),
        Err(error) => Read::Unreadable(error),
    }
}

fn is_in(file: &str, folder: &str) -> bool {
    file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// What a file declares.
fn entries(file: FileObjects) -> Vec<Entry> {
    let condition = |diagnostic: Diagnostic| {
        let expected = diagnostic.expected.iter().map(|text| format!("expected {text}"));
        let meant = diagnostic.suggestion.iter().map(|text| format!("did you mean {text:?}?"));
        let message: Vec<_> = [diagnostic.message].into_iter().chain(expected).chain(meant).collect();
        Condition::new(ConditionType::Accepted, Reason::Invalid, diagnostic.field, message.join("; "))
    };
    let invalid = file.invalid.into_iter().map(|(id, diagnostics)| {
        let conditions = diagnostics.into_iter().map(condition).collect();
        Entry::Invalid(Arc::new((id, conditions)))
    });
    let valid = file.objects.into_iter().map(|object| Entry::Valid(Arc::new(object)));
    valid.chain(invalid).collect()
}

#[cfg(test)]
pub(crate) mod tests;
