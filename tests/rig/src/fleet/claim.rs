//! Which number does a fleet have, and what is left of one that is gone?
//!
//! A number is claimed by a lock on `/run/portolan-rig/<number>.lock`, a file that holds the name of the fleet's folder. The lock goes with the
//! process that holds it, however that ends; a fleet that is to outlive its maker is marked as kept and lives as long as a process of it
//! does. So whoever gets the lock knows whether there is something to clean up.
//!
//! Everything of a fleet is found again by its number and folder: processes by the namespace they are in and by the records in the folder,
//! namespaces and the host's link by their names.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::addresses::FLEETS;
use crate::net::{self, Namespace};
use crate::process::{self, Record};

/// Where locks stand, whatever the folders of fleets are, for numbers belong to the machine; and folders, unless they are to be elsewhere.
pub(crate) const HOME: &str = "/run/portolan-rig";
/// The file that marks a fleet that outlives its maker.
const KEPT: &str = "kept";

/// A locked file. It is unlocked in so many words: a process that is just being started has a copy of every open file for a moment, and the
/// lock would stay with it.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// The right to a number. Dropping it removes all that the fleet has, unless it is kept.
#[derive(Debug)]
pub(crate) struct Claim {
    number: u8,
    dir: PathBuf,
    _lock: Lock,
    done: bool,
}

impl Claim {
    /// Claims the first number that is free, and makes a folder for it below `parent`.
    pub(crate) fn first_free(parent: &Path) -> Result<Self> {
        for number in 0..FLEETS {
            if let Some(claim) = Self::take(number, parent)? {
                return Ok(claim);
            }
        }
        bail!("all {FLEETS} fleets that a machine can have are in use: `rig down` ends those that were kept")
    }

    /// Claims a number, if it is free, having removed what its last holder left.
    fn take(number: u8, parent: &Path) -> Result<Option<Self>> {
        let Some((mut lock, left)) = lock(number)? else { return Ok(None) };
        if left.as_deref().is_some_and(is_in_use) {
            return Ok(None);
        }
        sweep(number, left.as_deref())?;
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let dir = parent.canonicalize()?.join(number.to_string());
        lock.0.set_len(0)?;
        lock.0.rewind()?;
        lock.0.write_all(dir.as_os_str().as_encoded_bytes())?;
        // What lies there is of a time before this lock.
        remove(&dir)?;
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Some(Self { number, dir, _lock: lock, done: false }))
    }

    /// The fleet's number.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// The fleet's folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Lets the fleet outlive us.
    pub(crate) fn keep(mut self) -> Result<()> {
        fs::write(self.dir.join(KEPT), "")
            .with_context(|| format!("cannot write to {}", self.dir.display()))?;
        self.done = true;
        Ok(())
    }

    /// Removes all that the fleet has, and gives the number back.
    pub(crate) fn clear(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        retire(self.number, Some(&self.dir))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            tracing::error!("fleet {} is not removed whole: {error:#}", self.number);
        }
    }
}

/// The folders of the fleets that were kept, by number.
pub(crate) fn kept() -> Result<Vec<(u8, PathBuf)>> {
    let mut found = Vec::new();
    for number in (0..FLEETS).filter(|&number| path(number).exists()) {
        // One that is locked belongs to a test that runs.
        let Some((_lock, dir)) = lock(number)? else { continue };
        found.extend(dir.filter(|dir| is_in_use(dir)).map(|dir| (number, dir)));
    }
    Ok(found)
}

/// Removes one fleet, or all, but those that a running process holds: kept ones, and what crashed ones left. Says which.
pub(crate) fn clear(only: Option<u8>) -> Result<Vec<u8>> {
    let mut cleared = Vec::new();
    for number in (0..FLEETS).filter(|&number| only.is_none_or(|only| only == number)) {
        let left = path(number).exists() || !Namespace::list(&prefix(number)).is_empty();
        if left && let Some((_lock, dir)) = lock(number)? {
            retire(number, dir.as_deref())?;
            cleared.push(number);
        }
    }
    Ok(cleared)
}

/// Takes the lock of a number, and reads which folder its last holder had; nothing if it is held.
fn lock(number: u8) -> Result<Option<(Lock, Option<PathBuf>)>> {
    let path = path(number);
    let failed = || format!("cannot lock {}", path.display());
    loop {
        fs::create_dir_all(HOME).with_context(failed)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(failed)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
            Ok(()) => {}
        }
        let mut file = Lock(file);
        // Its last holder may have removed it between our opening and our locking.
        let same = fs::metadata(&path).ok().map(|data| data.ino())
            == Some(file.0.metadata().with_context(failed)?.ino());
        if same {
            let mut dir = String::new();
            file.0.read_to_string(&mut dir).with_context(failed)?;
            return Ok(Some((file, (!dir.is_empty()).then(|| dir.into()))));
        }
    }
}

fn path(number: u8) -> PathBuf {
    Path::new(HOME).join(format!("{number}.lock"))
}

/// How the names of a fleet's namespaces begin.
fn prefix(number: u8) -> String {
    format!("rig{number}-")
}

fn is_in_use(dir: &Path) -> bool {
    dir.join(KEPT).exists() && Record::below(dir).iter().any(|(_, record)| record.is_alive())
}

/// The processes of a fleet: those in its namespaces, whoever started them, and those recorded in its folder.
pub(crate) fn processes(number: u8, dir: Option<&Path>) -> Vec<Record> {
    let names = Namespace::list(&prefix(number));
    // One that is gone by now has no processes.
    let namespaces: Vec<_> = names.iter().filter_map(|name| Namespace::open(name).ok()).collect();
    let mut found = process::inside_or_at(&namespaces, dir);
    let recorded = dir.map(Record::below).unwrap_or_default().into_iter().map(|(_, record)| record);
    found.extend(recorded.filter(Record::is_alive));
    found.sort_by_key(Record::pid);
    found.dedup();
    found
}

/// Removes all that a fleet of that number has; its lock is held.
fn sweep(number: u8, dir: Option<&Path>) -> Result<()> {
    process::kill_all(|| processes(number, dir))?;
    let host = format!("rig{number}");
    if nix::net::if_::if_nametoindex(host.as_str()).is_ok() {
        net::ip(None, &format!("link delete {host}"))?;
    }
    let names = Namespace::list(&prefix(number));
    if !names.is_empty() {
        net::ip(None, &names.iter().map(|name| format!("netns delete {name}\n")).collect::<String>())?;
    }
    if let Some(dir) = dir {
        remove(dir)?;
    }
    Ok(())
}

/// Removes all that a fleet of that number has, and the lock, which is held.
fn retire(number: u8, dir: Option<&Path>) -> Result<()> {
    sweep(number, dir)?;
    let file = path(number);
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    // Others may stand there.
    let _ = fs::remove_dir(HOME);
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
