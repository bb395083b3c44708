//! A name server for the fleet's domain and for a customer's: CoreDNS with a wildcard record, as an operator sets it up.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use portolan_rig::binaries::Binaries;
use portolan_rig::wait;
use tokio::process::{Child, Command};

use crate::world::DOMAIN;

/// The customer's domain.
const CUSTOMER: &str = "customer.example";

/// A running name server; it ends when it is dropped.
#[derive(Debug)]
pub struct Names {
    address: SocketAddr,
    _server: Child,
}

impl Names {
    /// Serves, from files in `folder`: every name below the lb domain as `edge`, and `www.customer.example` as a CNAME of `target`.
    pub async fn serve(folder: &Path, edge: IpAddr, target: &str) -> Result<Self> {
        let address = free().context("no free port for a name server")?;
        let soa = "@ 60 IN SOA ns admin 1 60 60 60 60\n@ 60 IN NS ns\nns 60 IN A 127.0.0.1\n";
        for (zone, records) in
            [(DOMAIN, format!("* 60 IN A {edge}\n")), (CUSTOMER, format!("www 60 IN CNAME {target}.\n"))]
        {
            std::fs::write(folder.join(format!("db.{zone}")), format!("$ORIGIN {zone}.\n{soa}{records}"))?;
        }
        let block = |zone: &str| {
            let file = folder.join(format!("db.{zone}"));
            format!("{zone}:{} {{\n  bind {}\n  file {}\n}}\n", address.port(), address.ip(), file.display())
        };
        let file = folder.join("Corefile");
        std::fs::write(&file, block(DOMAIN) + &block(CUSTOMER))?;
        let server = Command::new(Binaries::coredns()?)
            .arg("-conf")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start CoreDNS")?;
        let names = Self { address, _server: server };
        let answers = || async { names.resolve(&format!("www.{CUSTOMER}")).await.ok() };
        wait::until("the name server to answer", Duration::from_secs(20), answers).await?;
        Ok(names)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks it as a stub resolver does.
    pub async fn resolve(&self, name: &str) -> Result<IpAddr> {
        let mut server = NameServerConfig::udp(self.address.ip());
        for connection in &mut server.connections {
            connection.port = self.address.port();
        }
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()?;
        resolver.lookup_ip(name).await?.iter().next().context("no address")
    }
}

/// A port of the loopback that nobody has, for both UDP and TCP.
fn free() -> Option<SocketAddr> {
    (0..100).find_map(|_| {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").ok()?;
        let address = udp.local_addr().ok()?;
        std::net::TcpListener::bind(address).ok().map(|_| address)
    })
}
