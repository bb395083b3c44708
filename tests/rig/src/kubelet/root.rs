//! What does a container see of the file system?
//!
//! A root folder of its own, for each run anew, in which stand: the image's binary; the machine's programs and libraries (`/usr`, `/bin`, `/lib`…),
//! read-only; a few files of `/etc`; devices, `/proc` and `/sys`; an empty `/tmp`; and the volumes at their mount paths. All of them
//! are bind mounts in a mount namespace that only the container has, so that absolute paths work for many pods at once, nothing of it is
//! visible on the machine, and all of it is gone with the container's last process. Nothing has to be unmounted.
//!
//! A mount path below a folder that is the machine's (`/usr/share/x`) is refused unless something stands there: nothing is made in it.
//! [`enter`] changes the thread that calls it, and what this thread starts.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chdir, chroot, sethostname};
use serde::{Deserialize, Serialize};

/// Folders of the machine, as far as it has them.
const HOST: &[&str] = &["usr", "bin", "sbin", "lib", "lib32", "lib64"];
/// Of `/etc`: what programs need to find libraries, authorities, names and time zones.
const ETC: &[&str] = &[
    "alternatives",
    "group",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "passwd",
    "pki",
    "protocols",
    "services",
    "ssl",
];
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
/// Where a program says its last words.
pub(crate) const LAST_WORDS: &str = "dev/termination-log";

/// What a root is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Root {
    /// The folder it is made in; it must be empty.
    pub(crate) dir: PathBuf,
    /// The image's binary, found in `/` under its own name.
    pub(crate) binary: PathBuf,
    /// What stands where.
    pub(crate) mounts: Vec<Mount>,
    /// Files by their absolute paths.
    pub(crate) files: Vec<(String, String)>,
    /// The name of the machine as the container sees it, unless it is the real one.
    pub(crate) hostname: Option<String>,
}

/// One volume, or a part of one, in one container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

/// Makes a root and puts this thread into it.
pub(crate) fn enter(root: &Root) -> Result<()> {
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS;
    if root.hostname.is_some() {
        flags |= CloneFlags::CLONE_NEWUTS;
    }
    unshare(flags).context("cannot make a mount namespace")?;
    // Before anything else: no mount of ours may reach the machine.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("cannot make mounts private")?;
    if let Some(name) = &root.hostname {
        sethostname(name).context("cannot set the name of the machine")?;
    }
    let dir = &root.dir;
    make(dir, &["dev/shm", "etc", "proc", "root", "run", "sys", "tmp", "var/run", "var/tmp"])?;
    for folder in ["dev/shm", "tmp", "var/tmp"] {
        fs::set_permissions(dir.join(folder), fs::Permissions::from_mode(0o1777))?;
    }
    for name in HOST {
        host(dir, name)?;
    }
    for name in ETC {
        let path = Path::new("/etc").join(name);
        if path.is_dir() {
            bind(&path, &dir.join("etc").join(name), true)?;
        } else if path.is_file() {
            fs::copy(&path, dir.join("etc").join(name))
                .with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    for (path, text) in &root.files {
        let path = dir.join(path.trim_start_matches('/'));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    for name in DEVICES {
        bind(&Path::new("/dev").join(name), &dir.join("dev").join(name), false)?;
    }
    for (name, to) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        symlink(format!("/proc/self/fd{to}"), dir.join("dev").join(name))?;
    }
    File::create(dir.join(LAST_WORDS))?;
    bind(Path::new("/proc"), &dir.join("proc"), false)?;
    bind(Path::new("/sys"), &dir.join("sys"), true)?;
    let name = root.binary.file_name().context("a binary has a name")?;
    bind(&root.binary, &dir.join(name), true)?;
    let mut mounts = root.mounts.clone();
    // What stands in another comes after it.
    mounts.sort_by_key(|mount| mount.target.components().count());
    for mount in &mounts {
        let target = mount.target.strip_prefix("/").unwrap_or(&mount.target);
        bind(&mount.source, &dir.join(target), mount.read_only)
            .with_context(|| format!("cannot mount at {}", mount.target.display()))?;
    }
    into(dir)
}

/// Puts this thread into the root of a container that runs: `process` is one of its processes.
pub(crate) fn join(process: i32, dir: &Path) -> Result<()> {
    let handle = |kind: &str| {
        let path = format!("/proc/{process}/ns/{kind}");
        File::open(&path).with_context(|| format!("no {path}"))
    };
    let (mounts, names, network) = (handle("mnt")?, handle("uts")?, handle("net")?);
    unshare(CloneFlags::CLONE_FS)?;
    setns(network, CloneFlags::CLONE_NEWNET)?;
    setns(names, CloneFlags::CLONE_NEWUTS)?;
    setns(mounts, CloneFlags::CLONE_NEWNS)?;
    into(dir)
}

fn into(dir: &Path) -> Result<()> {
    chroot(dir).with_context(|| format!("cannot enter {}", dir.display()))?;
    chdir("/").context("cannot change to /")
}

fn make(dir: &Path, folders: &[&str]) -> Result<()> {
    folders.iter().try_for_each(|folder| {
        let path = dir.join(folder);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))
    })
}

/// A folder of the machine's: a link where it is one there, else its content.
fn host(dir: &Path, name: &str) -> Result<()> {
    let (path, target) = (Path::new("/").join(name), dir.join(name));
    match fs::read_link(&path) {
        // Never absolute: that would lead out of a root that nobody has entered yet.
        Ok(link) => symlink(link.strip_prefix("/").unwrap_or(&link), &target).context("cannot make a link"),
        Err(_) if path.is_dir() => bind(&path, &target, true),
        Err(_) => Ok(()),
    }
}

/// Makes `target` show what `source` holds. What has to be made for that is made within the root only.
fn bind(source: &Path, target: &Path, read_only: bool) -> Result<()> {
    let failed = || format!("cannot show {} at {}", source.display(), target.display());
    if !target.exists() {
        if source.is_dir() {
            fs::create_dir_all(target).with_context(failed)?;
        } else {
            let parent = target.parent().with_context(failed)?;
            fs::create_dir_all(parent).with_context(failed)?;
            File::create(target).with_context(failed)?;
        }
    }
    if source.is_dir() != target.is_dir() {
        bail!("{}: one is a folder and the other is not", failed());
    }
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).with_context(failed)?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, target, none, flags, none).with_context(failed)?;
    }
    Ok(())
}
