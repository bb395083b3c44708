//! `portolan demo`: a fleet on one machine to try things on.

mod echo;
mod manifests;

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use portolan_certs::DemoCa;
use portolan_model::intent::KeyAlgorithm;

use crate::print;
use crate::run::{self, RunArgs};

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Where manifests and certificates are written: a folder that is empty, or an earlier demo's, which is replaced.
    #[arg(long, default_value = "target/demo")]
    folder: PathBuf,
    /// The port for HTTP.
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// The port for HTTPS.
    #[arg(long, default_value_t = 8443)]
    https_port: u16,
    /// The admin port's address.
    #[arg(long, default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
}

/// The member clusters and what each of them runs.
const CLUSTERS: [&str; 2] = ["paris", "tokyo"];
const APPS: [&str; 3] = ["shop", "api", "blog"];
const LB_DOMAIN: &str = "lb.example.net";
const SHARED_HOST: &str = "www.example.com";

/// Says that a folder is ours to replace.
const MARKER: &str = ".portolan-demo";

pub(crate) fn demo(args: DemoArgs) -> anyhow::Result<ExitCode> {
    // First: a demo that runs already may live in the same folder.
    ports_are_free(&args)?;
    let folder = prepare(&args.folder)?;
    let ca = DemoCa::new().context("cannot make a certificate authority")?;
    let ca_file = args.folder.join("ca.pem");
    fs::write(&ca_file, ca.certificate_pem())
        .with_context(|| format!("cannot write {}", ca_file.display()))?;

    let write = |name: &str, text: String| {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))
    };
    write("proxy.yaml", manifests::proxy(LB_DOMAIN, args.http_port, args.https_port))?;
    for cluster in CLUSTERS {
        let generated = ca.issue(&[&format!("*.{cluster}.{LB_DOMAIN}")], KeyAlgorithm::Ecdsa)?;
        let shared = ca.issue(&[SHARED_HOST], KeyAlgorithm::Ecdsa)?;
        write(&format!("{cluster}.yaml"), manifests::cluster(cluster))?;
        write(
            &format!("{cluster}-certificates.yaml"),
            [
                manifests::secret(cluster, "generated-names", &generated.chain_pem, &generated.key_pem),
                manifests::secret(cluster, "www", &shared.chain_pem, &shared.key_pem),
            ]
            .concat(),
        )?;
        for app in APPS.into_iter().chain(["www"]) {
            let endpoints = [echo::start(app, cluster)?, echo::start(app, cluster)?];
            let host = (app == "www").then_some(SHARED_HOST);
            write(&format!("{cluster}-{app}.yaml"), manifests::app(cluster, app, host, &endpoints))?;
        }
    }

    let try_this = instructions(&args, &folder, &ca_file);
    run::run_then(RunArgs::of_demo(folder, args.admin), move || {
        // The fleet serves whether or not this can be read.
        let _ = print::out(&format!("{try_this}\n"));
    })
}

/// Refuses ports on which somebody listens: the proxy would share one with another demo, and start without one that another
/// program has.
fn ports_are_free(args: &DemoArgs) -> anyhow::Result<()> {
    let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let mut held = Vec::new();
    for (name, address) in
        [("admin", args.admin), ("HTTP", any(args.http_port)), ("HTTPS", any(args.https_port))]
    {
        // Each is held until the last is tried, so that none is named twice.
        held.push(listen(address).with_context(|| {
            format!(
                "cannot listen on {address} for {name}; if another demo is running, end it, \
                 or choose other ports with --admin, --http-port and --https-port"
            )
        })?);
    }
    Ok(())
}

/// Listens as only one can. Any address of IPv4 stands for any of IPv6 as well, where the machine has them.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if address.ip() == Ipv4Addr::UNSPECIFIED {
        match TcpListener::bind((Ipv6Addr::UNSPECIFIED, address.port())) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
            _ => {}
        }
    }
    TcpListener::bind(address)
}

/// Makes room for the manifests of a demo in `home`; gives back their folder.
fn prepare(home: &Path) -> anyhow::Result<PathBuf> {
    let marker = home.join(MARKER);
    let occupied = match fs::read_dir(home) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", home.display())),
    };
    anyhow::ensure!(
        !occupied || marker.exists(),
        "{} holds files that no demo wrote; give --folder one that is empty or does not exist, or remove it",
        home.display()
    );
    let folder = home.join("manifests");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(&marker, "The demo replaces what is in this folder.\n")
        .with_context(|| format!("cannot write {}", marker.display()))?;
    Ok(folder)
}

fn instructions(args: &DemoArgs, folder: &Path, ca: &Path) -> String {
    let (http, https, admin) = (args.http_port, args.https_port, args.admin);
    let (folder, ca) = (folder.display(), ca.display());
    format!(
        "
The demo fleet is up: clusters paris and tokyo, each with shop, api and blog; {SHARED_HOST} is served by both.
Try, in another terminal in this folder:

  curl -H 'Host: shop.paris.{LB_DOMAIN}' http://127.0.0.1:{http}/
  curl -H 'Host: api.tokyo.{LB_DOMAIN}' 'http://127.0.0.1:{http}/v1/items?page=2'
  curl --cacert {ca} --resolve blog.tokyo.{LB_DOMAIN}:{https}:127.0.0.1 https://blog.tokyo.{LB_DOMAIN}:{https}/

One host, both clusters (ask a few times):

  curl --cacert {ca} --resolve {SHARED_HOST}:{https}:127.0.0.1 https://{SHARED_HOST}:{https}/

Change something while it runs: send half of the shop's requests in Paris to the api there, ask a few times, and undo it.

  sed -i 's/^    - pool: shop$/&\\n    - pool: api/' {folder}/paris-shop.yaml
  curl -H 'Host: shop.paris.{LB_DOMAIN}' http://127.0.0.1:{http}/
  sed -i '/- pool: api$/d' {folder}/paris-shop.yaml

Look inside:

  curl 'http://{admin}/explain?url=http://{SHARED_HOST}/' -H 'Accept: text/plain'
  curl http://{admin}/conditions
  curl http://{admin}/metrics

Ctrl-C ends it.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: `--folder X` removed X/manifests, whoever had written them.
    #[test]
    fn only_a_demo_s_folder_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let theirs = home.path().join("manifests/theirs.yaml");
        fs::create_dir(home.path().join("manifests")).unwrap();
        fs::write(&theirs, "kind: Cluster").unwrap();
        let error = prepare(home.path()).unwrap_err().to_string();
        assert!(error.contains(&home.path().display().to_string()) && error.contains("--folder"), "{error}");
        assert!(theirs.exists());

        let empty = tempfile::tempdir().unwrap();
        for fresh in [&*home.path().join("new/one"), empty.path()] {
            let folder = prepare(fresh).unwrap();
            fs::write(folder.join("old.yaml"), "").unwrap();
            assert_eq!(prepare(fresh).unwrap(), folder);
            assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "an earlier demo's manifests are gone");
        }
    }

    /// Regression: a second demo wrote over the folder of a running one before it found the ports taken.
    #[test]
    fn a_demo_whose_ports_are_taken_writes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("demo");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        for [admin, http_port, https_port] in [[port, 0, 0], [0, port, 0], [0, 0, port]] {
            let admin = (Ipv4Addr::LOCALHOST, admin).into();
            let args = DemoArgs { folder: folder.clone(), http_port, https_port, admin };
            let error = format!("{:#}", demo(args).unwrap_err());
            for expected in [&format!(":{port} "), "--admin", "--http-port", "--https-port", "in use"] {
                assert!(error.contains(expected), "{expected}: {error}");
            }
            assert!(!folder.exists());
        }
    }
}
