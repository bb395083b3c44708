//! Which manifests lie in a folder, and what does the file system say of each?
//!
//! Symbolic links are followed, as mounted ConfigMaps need it; entries that begin with a dot are passed over, so that a
//! ConfigMap's `..data` is not read twice. Cost: a `stat` per file, a `readdir` per folder; no file is opened.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where a file's time is as coarse as this, two writes may look like one.
const TICK: Duration = Duration::from_millis(20);

/// What changes when a file's content does, as long as writes are further apart than a tick of the file system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp, if it can be relied on from now on: not where the file was written within the last tick.
    pub(crate) fn settled(metadata: &fs::Metadata) -> Option<Self> {
        let age =
            metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        age.is_some_and(|age| age > TICK).then(|| Self::of(metadata))
    }

    pub(crate) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Whether a file of that name is read.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// What a walk found, with paths relative to its root, `/` between their parts.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Manifests.
    pub(crate) files: Vec<(String, Stamp)>,
    /// Folders, and files, that could not be looked at: what was known of them stays.
    pub(crate) unreadable: Vec<(String, io::Error)>,
}

/// Looks at everything in `root/below`.
pub(crate) fn walk(root: &Path, below: &str) -> Found {
    let mut found = Found::default();
    // Folders on the way down, so that a link to one of them does not lead round in circles.
    descend(root, below, &mut Vec::new(), &mut found);
    found.files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    found
}

fn descend(root: &Path, folder: &str, above: &mut Vec<(u64, u64)>, found: &mut Found) {
    let path = join(root, folder);
    let identity = fs::metadata(&path).map(|metadata| (metadata.dev(), metadata.ino()));
    let entries = identity.and_then(|identity| Ok((identity, fs::read_dir(&path)?)));
    let (identity, entries) = match entries {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) && !folder.is_empty() => {
            return found.unreadable.extend(link_to_nothing(&path).map(|error| (folder.to_owned(), error)));
        }
        Err(error) => return found.unreadable.push((folder.to_owned(), error)),
    };
    if above.contains(&identity) {
        return;
    }
    above.push(identity);
    for entry in entries {
        let name = match entry {
            Ok(entry) => entry.file_name(),
            Err(error) => {
                found.unreadable.push((folder.to_owned(), error));
                break;
            }
        };
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let relative = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        match fs::metadata(path.join(name)) {
            Ok(metadata) if metadata.is_dir() => descend(root, &relative, above, found),
            Ok(metadata) if metadata.is_file() && is_manifest(Path::new(name)) => {
                found.files.push((relative, Stamp::of(&metadata)));
            }
            Err(error) if is_gone(&error) => {
                found.unreadable.extend(link_to_nothing(&path.join(name)).map(|error| (relative, error)));
            }
            Err(error) => found.unreadable.push((relative, error)),
            _ => {}
        }
    }
    above.pop();
}

/// Whether there is nothing of that name any more.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What is wrong where a manifest is a link to what is not there. Of a link by another name nobody knows what it is meant for.
pub(crate) fn link_to_nothing(path: &Path) -> Option<io::Error> {
    let dangles = is_manifest(path)
        && fs::symlink_metadata(path).is_ok_and(|entry| entry.is_symlink())
        && fs::metadata(path).is_err_and(|error| is_gone(&error));
    dangles.then(|| io::Error::new(io::ErrorKind::NotFound, "it is a link to nothing"))
}

/// The path of what `relative` names.
pub(crate) fn join(root: &Path, relative: &str) -> PathBuf {
    if relative.is_empty() { root.to_owned() } else { root.join(relative) }
}
