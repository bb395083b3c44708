//! What feeds Intent and Inventory: a folder of manifests, or an API server.
//!
//! ```text
//!  folder ─► inotify, a slow poll, reload() ─► Dirt ─► (20 ms of quiet, 80 ms at most) ─► Folder::update ─► Batch ─► channel
//!  API server ─► a watch per collection ─► news ─► (10 ms after the last batch) ──────────────────────────► Batch ─┘
//! ```
//!
//! [`Folder`] knows what stands in which file and turns what may have changed into deltas; [`FolderWatch`] is the thread that
//! tells it when. A `Folder` alone is enough for a check that reads once. [`KubernetesSource`] is the same for the
//! objects of an API server, and keeps the last good state on disk. [`ReplicaLease`] says there what is in force.

mod batch;
mod cause;
mod connect;
mod folder;
mod index;
mod kubernetes;
pub mod lease;
pub mod member;
mod replica;
mod told;
mod version;
mod versions;
mod walk;
mod watch;

pub use cause::one_line;
pub use connect::{Access, ApiServer, ConnectError, client};
pub use folder::{Batch, Dirt, Folder};
pub use kubernetes::{KubernetesOptions, KubernetesSource, SourceStatus, Trouble};
pub use replica::ReplicaLease;
pub use version::{TooOld, check_version};
pub use versions::Versions;
pub use watch::{FolderWatch, WatchError};
