//! What feeds Intent and Inventory: here, a folder of manifests.
//!
//! ```text
//!  folder ─► inotify, a slow poll, reload() ─► Dirt ─► (20 ms of quiet, 80 ms at most) ─► Folder::update ─► Batch ─► channel
//! ```
//!
//! [`Folder`] knows what stands in which file and turns what may have changed into deltas; [`FolderWatch`] is the thread that
//! tells it when. A `Folder` alone is enough for a check that reads once.

mod batch;
mod folder;
mod index;
mod told;
mod walk;
mod watch;

pub use folder::{Batch, Dirt, Folder};
pub use watch::{FolderWatch, WatchError};
