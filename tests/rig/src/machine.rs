//! Can this machine carry a fleet?
//!
//! Asked before anything is started, and answered by trying: root, `ip`, `nft`, and a kernel with network namespaces, veth pairs and
//! nf_tables. Costs about 30 ms.

use std::path::PathBuf;

use anyhow::{Error, Result, anyhow, bail};

use crate::net::Namespace;

/// An error of one sentence that says what is missing.
pub(crate) fn check() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the rig needs root, for network namespaces: run it with sudo");
    }
    for (program, package) in [("ip", "iproute2"), ("nft", "nftables")] {
        if find(program).is_none() {
            bail!("the rig needs `{program}`, which is not in the PATH: install {package}");
        }
    }
    let name = format!("rigcheck-{}", std::process::id());
    let namespace =
        Namespace::create(&name).map_err(|error| lacks("network namespaces (CONFIG_NET_NS)", &error))?;
    let veth = namespace
        .ip("link add one type veth peer name two")
        .map_err(|error| lacks("veth pairs (CONFIG_VETH)", &error));
    let nft = namespace
        .nft("table inet rig { chain forward { type filter hook forward priority 0; ct state established accept; }; }")
        .map_err(|error| lacks("nf_tables and conntrack (CONFIG_NF_TABLES, CONFIG_NFT_CT)", &error));
    namespace.delete()?;
    veth.and(nft)
}

/// The sentence for a kernel without a feature, and what was said when it was tried, which may have several lines.
fn lacks(feature: &str, error: &Error) -> Error {
    let said = format!("{error:#}");
    let said: Vec<_> = said.split_whitespace().collect();
    anyhow!("the rig needs root in full and a kernel with {feature}: {}", said.join(" "))
}

/// Where a program is in the PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
