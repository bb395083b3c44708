//! `portolan demo`: a fleet on one machine to try things on.

mod echo;
mod manifests;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use portolan_certs::DemoCa;
use portolan_model::intent::KeyAlgorithm;

use crate::run::{self, RunArgs};

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Where manifests and certificates are written. What is there of an earlier demo is replaced.
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
    admin: std::net::SocketAddr,
}

/// The member clusters and what each of them runs.
const CLUSTERS: [&str; 2] = ["paris", "tokyo"];
const APPS: [&str; 3] = ["shop", "api", "blog"];
const LB_DOMAIN: &str = "lb.example.net";
const SHARED_HOST: &str = "www.example.com";

pub(crate) fn demo(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let folder = args.folder.join("manifests");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

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
    run::run_then(RunArgs::of_demo(folder, args.admin), move || println!("{try_this}"))
}

fn instructions(args: &DemoArgs, folder: &std::path::Path, ca: &std::path::Path) -> String {
    let (http, https, admin) = (args.http_port, args.https_port, args.admin);
    let (folder, ca) = (folder.display(), ca.display());
    format!(
        "
The demo fleet is up: clusters paris and tokyo, each with shop, api and blog; {SHARED_HOST} is served by both.
Try, in another terminal in this folder:

  curl -H 'Host: shop.paris.{LB_DOMAIN}' http://127.0.0.1:{http}/
  curl -H 'Host: api.tokyo.{LB_DOMAIN}' http://127.0.0.1:{http}/v1/items?page=2
  curl --cacert {ca} --resolve blog.tokyo.{LB_DOMAIN}:{https}:127.0.0.1 https://blog.tokyo.{LB_DOMAIN}:{https}/

One host, both clusters (ask a few times):

  curl --cacert {ca} --resolve {SHARED_HOST}:{https}:127.0.0.1 https://{SHARED_HOST}:{https}/

Change something while it runs: send half of the shop in Paris elsewhere, and ask again.

  sed -i 's|value: /$|value: /only-here|' {folder}/paris-shop.yaml
  curl -H 'Host: shop.paris.{LB_DOMAIN}' http://127.0.0.1:{http}/
  curl -H 'Host: shop.paris.{LB_DOMAIN}' http://127.0.0.1:{http}/only-here

Look inside:

  curl 'http://{admin}/explain?url=http://{SHARED_HOST}/' -H 'Accept: text/plain'
  curl http://{admin}/conditions
  curl http://{admin}/metrics

Ctrl-C ends it.
"
    )
}
