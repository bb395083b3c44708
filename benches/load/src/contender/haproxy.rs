//! HAProxy: one thread, connections to the servers always shared.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{Ports, text};
use crate::site::{Site, TLS_UPSTREAM_HOST};

pub(super) fn command(program: &Path, site: &Site, ports: &Ports, access_log: bool) -> Result<Vec<String>> {
    fs::write(site.path("haproxy.cfg"), config(site, ports, access_log))?;
    Ok(vec![text(program), "-db".to_owned(), "-f".to_owned(), site.path("haproxy.cfg")])
}

fn config(site: &Site, ports: &Ports, access_log: bool) -> String {
    let log = if access_log { "log stdout format raw local0\n  option httplog" } else { "" };
    let (http, https) = (ports.http, ports.https);
    let (backend, backend_tls) = (site.backend, site.backend_tls);
    let (bundle, ca) = (site.path("bundle.pem"), site.path("ca.pem"));
    format!(
        r#"
global
  nbthread 1
  maxconn 12000
  no strict-limits
defaults
  mode http
  {log}
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  http-reuse always
  option forwardfor
frontend all
  bind {http} backlog 4096
  bind {https} ssl crt {bundle} alpn h2,http/1.1 backlog 4096
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto http unless {{ ssl_fc }}
  use_backend secure if {{ hdr(host) -i {TLS_UPSTREAM_HOST} }}
  default_backend web
backend web
  server s1 {backend} pool-max-conn 256
backend secure
  server s1 {backend_tls} pool-max-conn 256 ssl verify required ca-file {ca} sni str({TLS_UPSTREAM_HOST})
"#
    )
}
