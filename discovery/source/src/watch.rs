//! When is a folder to be looked at again? The thread that watches it.
//!
//! Events of the file system (inotify) say which paths; a burst of them becomes one step. A slow poll finds what they miss:
//! what lies behind links, network file systems, a folder that was replaced. It takes a fiftieth of a
//! core at most. The channel is bounded by its owner: while nobody receives, changes pile up as paths, and
//! past a bound as "anything".

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, Event, EventKind};
use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::batch::{Burst, Pace};
use crate::folder::{Batch, Dirt, Folder};

/// Of a folder, whose writers take their time.
const PACE: Pace = Pace { quiet: Duration::from_millis(20), at_most: Duration::from_millis(80) };

/// The poll's shortest period.
const POLL: Duration = Duration::from_secs(2);

/// The poll's period is so many times what its last look took.
const POLL_SHARE: u32 = 50;

/// The thread cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the thread that watches {folder}")]
pub struct WatchError {
    folder: PathBuf,
    #[source]
    source: std::io::Error,
}

/// A folder being watched; it ends when this is dropped or nobody receives any more.
#[derive(Debug)]
pub struct FolderWatch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    dirt: Dirt,
    burst: Option<Burst>,
    stopped: bool,
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut Dirt)) {
        let now = Instant::now();
        let mut state = self.locked();
        note(&mut state.dirt);
        if !state.dirt.is_empty() {
            state.burst.get_or_insert_with(|| Burst::new(PACE, now)).event(now);
            self.changed.notify_one();
        }
    }

    /// Waits until a burst is over or it is time to poll; `None` at the end.
    fn wait(&self, poll_at: Instant) -> Option<Dirt> {
        let mut state = self.locked();
        loop {
            if state.stopped {
                return None;
            }
            let until = state.burst.map_or(poll_at, |burst| burst.over_at());
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.burst = None;
                let dirt = std::mem::take(&mut state.dirt);
                return Some(if dirt.is_empty() { Dirt::anything() } else { dirt });
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl FolderWatch {
    /// Starts to watch `folder`. The first batch holds everything in it; others come as it changes. They are sent from a
    /// thread of their own, which waits while `batches` is full.
    pub fn start(folder: Folder, batches: mpsc::Sender<Batch>) -> Result<Self, WatchError> {
        let shared = Arc::new(Shared::default());
        let root = folder.root().to_owned();
        let thread = thread::Builder::new()
            .name("portolan-folder".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || watch(folder, &shared, &batches)
            })
            .map_err(|source| WatchError { folder: root, source })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Reads every file again, whatever its stamp says: for SIGHUP.
    pub fn reload(&self) {
        self.shared.note(|dirt| dirt.everything = true);
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.shared.locked().stopped = true;
        self.shared.changed.notify_one();
        // The thread may be waiting for room in the channel: it ends when the receiver does, and is not waited for.
        drop(self.thread.take());
    }
}

fn watch(mut folder: Folder, shared: &Arc<Shared>, batches: &mpsc::Sender<Batch>) {
    // Events first, then the look at everything, so that nothing falls between them.
    let mut watched = Watched::new(folder.root(), shared);
    let mut dirt = Dirt::everything();
    let mut poll_at = Instant::now() + POLL;
    loop {
        let began = Instant::now();
        let batch = folder.update(&dirt);
        if dirt.anything || dirt.everything {
            poll_at = Instant::now() + POLL.max(began.elapsed() * POLL_SHARE);
        }
        let worth_sending = batch.first || !batch.deltas.is_empty() || !batch.files.is_empty();
        if worth_sending && batches.blocking_send(batch).is_err() {
            return;
        }
        let Some(next) = shared.wait(poll_at) else { return };
        dirt = next;
        if dirt.anything && watched.is_stale(folder.root()) {
            info!(folder = %folder.root().display(), "the folder was replaced; watching the new one");
            watched = Watched::new(folder.root(), shared);
        }
    }
}

/// Events of a folder, as long as it is the same one.
struct Watched {
    identity: Option<(u64, u64)>,
    _watcher: Option<RecommendedWatcher>,
}

impl Watched {
    fn new(root: &Path, shared: &Arc<Shared>) -> Self {
        // Before the events: a swap in between is found by the next look.
        let identity = identity(root);
        let watcher = Self::events(root, shared);
        if let Err(error) = &watcher {
            warn!(folder = %root.display(), %error, "no events from this folder: changes are found by polling alone");
        }
        Self { identity, _watcher: watcher.ok() }
    }

    fn events(root: &Path, shared: &Arc<Shared>) -> Result<RecommendedWatcher, notify::Error> {
        let folder = root.canonicalize()?;
        // The same name in its real surroundings; the root of all has neither.
        let around = root.parent().map(Path::canonicalize).transpose()?;
        let named = around.as_ref().zip(root.file_name()).map(|(around, name)| around.join(name));
        let (shared, base) = (Arc::clone(shared), folder.clone());
        // A folder that is met again through a link inside would be told of by that path alone. So links are not followed, but for
        // those that lead to the root.
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(
            move |event: Result<Event, notify::Error>| match event {
                Ok(event) if event.need_rescan() => shared.note(|dirt| dirt.anything = true),
                Ok(event) if is_change(&event.kind) => shared.note(|dirt| {
                    for path in &event.paths {
                        match path.strip_prefix(&base) {
                            Ok(relative) => dirt.path(relative),
                            // Of the folder around it, only what becomes of the folder itself.
                            Err(_) => dirt.anything |= named.as_ref() == Some(path),
                        }
                    }
                }),
                Ok(_) => {}
                Err(_) => shared.note(|dirt| dirt.anything = true),
            },
            config,
        )?;
        watcher.watch(&folder, RecursiveMode::Recursive)?;
        // Where that may not be read, a swap of the folder itself is the poll's.
        let _ = around.map(|around| watcher.watch(&around, RecursiveMode::NonRecursive));
        Ok(watcher)
    }

    fn is_stale(&self, root: &Path) -> bool {
        let now = identity(root);
        now.is_some() && now != self.identity
    }
}

fn identity(root: &Path) -> Option<(u64, u64)> {
    fs::metadata(root).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Our own reading makes events too.
fn is_change(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests;
