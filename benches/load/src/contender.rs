//! Who takes part: how each is found or fetched, configured alike, and started.
//!
//! Each gets one worker, an upstream pool of 256 or more idle connections, `X-Forwarded-For` and `X-Forwarded-Proto`, and
//! no access log unless asked for. One module a contender holds its configuration.

mod bare;
mod envoy;
mod haproxy;
mod nginx;
mod portolan;

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::load::Client;
use crate::proc::{Proc, run};
use crate::site::{HOST, Site, TLS_UPSTREAM_HOST, free_address};

/// A proxy that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    Nginx,
    Haproxy,
    Envoy,
    Bare,
    Portolan,
}

/// Where one contender listens.
pub(crate) struct Ports {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// A contender that serves.
pub(crate) struct Running {
    pub(crate) contender: Contender,
    pub(crate) client: Rc<Client>,
    pub(crate) proc: Proc,
}

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Contender::Nginx => "nginx",
            Contender::Haproxy => "haproxy",
            Contender::Envoy => "envoy",
            Contender::Bare => "bare",
            Contender::Portolan => "portolan",
        }
    }

    /// The program to run, fetched first where that is possible; an error says why it is left out.
    pub(crate) fn find(self) -> Result<PathBuf> {
        match self {
            Contender::Nginx | Contender::Haproxy => debian_package(self.name()),
            Contender::Envoy => envoy::find(),
            Contender::Bare => built("portolan-bench-bare", "cargo build --release -p portolan-bench-bare"),
            Contender::Portolan => match env::var_os("PORTOLAN") {
                Some(path) => Ok(path.into()),
                None => built("portolan", "cargo build --release -p portolan"),
            },
        }
    }

    /// Writes the configuration, starts the program on `core` and waits until it serves every host.
    pub(crate) fn start(self, program: &Path, site: &Site, core: usize, access_log: bool) -> Result<Running> {
        let ports = Ports { http: free_address()?, https: free_address()?, admin: free_address()? };
        let command = match self {
            Contender::Nginx => nginx::command(program, site, &ports, access_log)?,
            Contender::Haproxy => haproxy::command(program, site, &ports, access_log)?,
            Contender::Envoy => envoy::command(program, site, &ports, access_log)?,
            Contender::Bare => bare::command(program, site, &ports),
            Contender::Portolan => portolan::command(program, site, &ports)?,
        };
        let log = PathBuf::from(site.path(&format!("{}.log", self.name())));
        let mut proc = Proc::start(core, &command, &log)?;
        let client = Client::new(ports.http, ports.https, &site.ca_pem)?;
        let started = Instant::now();
        for host in [HOST, TLS_UPSTREAM_HOST] {
            while let Err(e) = client.probe(host) {
                let said = || std::fs::read_to_string(&log).unwrap_or_default();
                ensure!(!proc.has_ended(), "{} ended at once; it said:\n{}", self.name(), said());
                if started.elapsed() > Duration::from_secs(15) {
                    bail!("{} does not serve {host}: {e:#}; it said:\n{}", self.name(), said());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        proc.settle()?;
        Ok(Running { contender: self, client, proc })
    }
}

/// A program built by this workspace, beside this one.
fn built(name: &str, how: &str) -> Result<PathBuf> {
    let path = env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} is missing (build it: {how})", path.display());
    Ok(path)
}

/// A program of the Debian package of the same name, installed where we may.
fn debian_package(name: &str) -> Result<PathBuf> {
    if let Some(path) = in_path(name) {
        return Ok(path);
    }
    // RUNLEVEL keeps the package from starting its service.
    let install = format!("RUNLEVEL=1 apt-get install -y --no-install-recommends {name}");
    run("sh", &["-c", &install]).with_context(|| format!("{name} is not installed"))?;
    in_path(name).with_context(|| format!("the package {name} brought no program {name}"))
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
