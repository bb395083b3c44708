//! Which address does a pod have, and in which namespace does it stand?
//!
//! A pod keeps its address for as long as its folder is there, whatever becomes of its node in between.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::shim;
use crate::net::{self, Namespace};
use crate::process;

/// The file with a pod's address.
const ADDRESS: &str = "network.json";

/// The addresses of a node's pods.
#[derive(Debug)]
pub(crate) struct Pool {
    first: u32,
    last: u32,
    next: u32,
    taken: BTreeSet<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Assigned {
    address: Ipv4Addr,
}

impl Pool {
    /// All addresses of a range but its first two and its last.
    pub(crate) fn parse(range: &str) -> Result<Self> {
        let refused = || format!("{range:?} is no range of addresses, as 10.0.1.0/24 is");
        let (base, length) = range.split_once('/').with_context(refused)?;
        let (base, length): (Ipv4Addr, u32) =
            (base.parse().with_context(refused)?, length.parse().with_context(refused)?);
        if !(8..=29).contains(&length) {
            bail!(refused());
        }
        let size = 1 << (32 - length);
        let base = u32::from(base) & !(size - 1);
        let first = base + 2;
        Ok(Self { first, last: base + size - 2, next: first, taken: BTreeSet::new() })
    }

    /// One that nobody has, and that nobody had lately.
    pub(crate) fn take(&mut self) -> Option<Ipv4Addr> {
        let free = |address: &u32| !self.taken.contains(address);
        let found = (self.next..=self.last).chain(self.first..self.next).find(free)?;
        self.next = if found == self.last { self.first } else { found + 1 };
        self.taken.insert(found);
        Some(found.into())
    }

    /// Takes a certain one: it was assigned before. False if somebody has it, or if it is not ours.
    pub(crate) fn claim(&mut self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        (self.first..=self.last).contains(&address) && self.taken.insert(address)
    }

    /// Gives one back.
    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        self.taken.remove(&u32::from(address));
    }
}

/// The address that a pod was given, by its folder.
pub(crate) fn assigned(dir: &Path) -> Option<Ipv4Addr> {
    shim::read::<Assigned>(dir, ADDRESS).map(|assigned| assigned.address)
}

/// Writes down which address a pod was given.
pub(crate) fn assign(dir: &Path, address: Ipv4Addr) -> Result<()> {
    shim::write(dir, ADDRESS, &Assigned { address })
}

/// A pod's namespace, joined to the node's. Takes some ten milliseconds if it has to be made.
pub(crate) fn make(node: &Namespace, name: &str, address: Ipv4Addr) -> Result<Namespace> {
    if let Ok(found) = Namespace::open(name) {
        if found.has_interface("eth0")? {
            return Ok(found);
        }
        // Whoever made it did not come to its end.
        found.delete()?;
    }
    let made = Namespace::create(name)?;
    net::join_pod(node, &made, address)?;
    Ok(made)
}

/// Ends all that runs in a namespace, and removes it. That it is gone is no error.
pub(crate) fn remove(name: &str) -> Result<()> {
    let Ok(namespace) = Namespace::open(name) else { return Ok(()) };
    let namespace = [namespace];
    process::kill_all(|| process::inside(&namespace))?;
    let [namespace] = namespace;
    namespace.delete()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round() {
        let mut pool = Pool::parse("10.244.3.7/29").expect("a range");
        assert!(pool.claim(Ipv4Addr::new(10, 244, 3, 3)));
        assert!(!pool.claim(Ipv4Addr::new(10, 244, 3, 3)));
        assert!(!pool.claim(Ipv4Addr::new(10, 244, 4, 3)));
        let mut take = |release: Option<u8>| {
            if let Some(last) = release {
                pool.release(Ipv4Addr::new(10, 244, 3, last));
            }
            pool.take().map(|address| address.octets()[3])
        };
        let taken =
            [take(None), take(Some(2)), take(None), take(None), take(None), take(None), take(Some(5))];
        assert_eq!(taken, [Some(2), Some(4), Some(5), Some(6), Some(2), None, Some(5)]);
        for wrong in ["10.244.3.0", "10.244.3.0/33", "x/24", "10.0.0.0/30"] {
            assert!(Pool::parse(wrong).is_err(), "{wrong}");
        }
    }
}
