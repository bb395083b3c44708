//! Where does a process stand in the network, and what connects it to others?
//!
//! A [`Namespace`] is a named one in `/run/netns`, so that `ip netns` shows it. It is entered by one thread for one closure, and by the
//! processes that this closure starts: only the network changes, never the view of the file system.
//!
//! ```text
//!  pod: eth0 10.244.1.5/32, default via 169.254.1.1 ── p0af40105 :node: eth0 172.30.3.2/30 ── n3 172.30.3.1/30 :wan
//! ```
//!
//! Changes go through `ip -batch` and `nft -f`: a few milliseconds for each batch.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};

mod wan;

pub use wan::{Link, Wan};

/// Where named namespaces stand.
const NETNS: &str = "/run/netns";
/// The next hop of every pod, on the node's side of its link; no interface has this address.
const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The hardware address of the node's side of every pod's link, so that no pod has to ask for it.
const POD_GATEWAY_MAC: &str = "ee:ee:ee:ee:ee:ee";

/// A named network namespace. Dropping it leaves it where it is; [`Namespace::delete`] removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    /// Makes one, its loopback up, that forwards packets and lets everybody bind low ports.
    pub fn create(name: &str) -> Result<Self> {
        ip(None, &format!("netns add {name}"))?;
        ip(Some(name), "link set lo up")?;
        let namespace = Self::open(name)?;
        namespace.sysctl("net/ipv4/ip_forward", "1")?;
        namespace.sysctl("net/ipv4/ip_unprivileged_port_start", "0")?;
        Ok(namespace)
    }

    /// One that is there.
    pub fn open(name: &str) -> Result<Self> {
        let handle =
            File::open(format!("{NETNS}/{name}")).with_context(|| format!("no network namespace {name}"))?;
        Ok(Self { name: name.to_owned(), handle })
    }

    /// The names of all that start with `prefix`.
    pub fn list(prefix: &str) -> Vec<String> {
        let entries = std::fs::read_dir(NETNS).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(prefix))
            .collect();
        names.sort();
        names
    }

    /// Takes its name away: it is gone once the last process in it has ended.
    pub fn delete(self) -> Result<()> {
        ip(None, &format!("netns delete {}", self.name))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a closure on a thread that has entered it. Sockets opened and processes started there belong to it for good.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T> {
        let entered = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.handle, CloneFlags::CLONE_NEWNET)?;
                Ok::<T, nix::Error>(inside())
            });
            thread.join()
        });
        let result = entered.map_err(|_| anyhow!("a thread in namespace {} panicked", self.name))?;
        result.with_context(|| format!("cannot enter network namespace {}", self.name))
    }

    /// Starts a program inside.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.run(|| command.spawn())?.with_context(|| format!("cannot start {program} in {}", self.name))
    }

    /// Runs lines of `ip` inside; the first that fails ends it.
    pub fn ip(&self, lines: &str) -> Result<()> {
        ip(Some(&self.name), lines)
    }

    /// Runs lines of `nft` inside, all or none.
    pub fn nft(&self, lines: &str) -> Result<()> {
        self.run(|| batch(Command::new("nft").args(["-f", "-"]), lines))?
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// Sets a kernel parameter of this namespace: a path below `/proc/sys`.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.run(|| std::fs::write(format!("/proc/sys/{path}"), value))?
            .with_context(|| format!("cannot set {path} to {value} in {}", self.name))
    }

    /// What tells it from others, whatever they are called: see `/proc/<pid>/ns/net`.
    pub(crate) fn key(&self) -> Option<(u64, u64)> {
        self.handle.metadata().ok().map(|data| (data.dev(), data.ino()))
    }

    /// Whether it has an interface of this name.
    pub fn has_interface(&self, name: &str) -> Result<bool> {
        self.run(|| if_nametoindex(name).is_ok())
    }
}

/// Joins a pod's namespace to its node's by a routed link: the pod has `address` on `eth0` and sends everything to the node, the node
/// has a route to that one address. What an earlier pod with this address left is replaced.
pub fn join_pod(node: &Namespace, pod: &Namespace, address: Ipv4Addr) -> Result<()> {
    let link = pod_link(address);
    if node.has_interface(&link)? {
        node.ip(&format!("link delete {link}"))?;
    }
    node.ip(&format!(
        "link add {link} address {POD_GATEWAY_MAC} type veth peer name eth0 netns {}\n\
         link set {link} up\n\
         route add {address}/32 dev {link}",
        pod.name
    ))?;
    pod.ip(&format!(
        "address add {address}/32 dev eth0\n\
         link set eth0 up\n\
         route add {POD_GATEWAY} dev eth0 scope link\n\
         neighbour add {POD_GATEWAY} lladdr {POD_GATEWAY_MAC} dev eth0 nud permanent\n\
         route add default via {POD_GATEWAY} dev eth0"
    ))
}

/// The name of the node's end of a pod's link; an interface's name has at most 15 bytes.
fn pod_link(address: Ipv4Addr) -> String {
    format!("p{:08x}", u32::from(address))
}

/// Runs lines of `ip`, in a namespace or outside of all.
pub(crate) fn ip(namespace: Option<&str>, lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(name) = namespace {
        command.args(["-n", name]);
    }
    batch(command.args(["-batch", "-"]), lines)
}

/// Feeds a command lines and waits for its end.
fn batch(command: &mut Command, lines: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Where the program ended early, its message below says why.
        let _ = stdin.write_all(lines.as_bytes()).and_then(|()| stdin.write_all(b"\n"));
    }
    let output = child.wait_with_output().with_context(|| format!("{program} ran"))?;
    if !output.status.success() {
        bail!("{program} refused:\n{lines}\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
