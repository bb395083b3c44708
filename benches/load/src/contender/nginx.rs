//! nginx: one worker, keep-alive upstreams, streaming in both directions.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{Ports, text};
use crate::site::{HOST, Site, TLS_UPSTREAM_HOST};

pub(super) fn command(program: &Path, site: &Site, ports: &Ports, access_log: bool) -> Result<Vec<String>> {
    let config = config(site, ports, access_log);
    fs::write(site.path("nginx.conf"), config)?;
    let options = ["-p", &site.path(""), "-e", "stderr", "-c", &site.path("nginx.conf")];
    Ok(std::iter::once(text(program)).chain(options.map(str::to_owned)).collect())
}

fn config(site: &Site, ports: &Ports, access_log: bool) -> String {
    let log = if access_log { "/dev/null" } else { "off" };
    let (backend, backend_tls) = (site.backend, site.backend_tls);
    let (http, https, admin) = (ports.http, ports.https, ports.admin);
    let (cert, key, ca) = (site.path("cert.pem"), site.path("key.pem"), site.path("ca.pem"));
    let dir = site.path("nginx");
    let user = if is_root() { "user root;" } else { "" };
    format!(
        r#"
daemon off;
{user}
worker_processes 1;
error_log stderr warn;
pid {dir}.pid;
events {{ worker_connections 15000; }}
http {{
  access_log {log};
  server_tokens off;
  client_body_temp_path {dir}.body; proxy_temp_path {dir}.proxy; fastcgi_temp_path {dir}.fastcgi;
  uwsgi_temp_path {dir}.uwsgi; scgi_temp_path {dir}.scgi;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_buffer_size 64k;
  upstream web {{ server {backend}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 300s; }}
  upstream secure {{ server {backend_tls}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 300s; }}
  proxy_http_version 1.1;
  proxy_request_buffering off;
  proxy_max_temp_file_size 0;
  proxy_buffers 8 16k;
  proxy_set_header Host $host;
  proxy_set_header Connection "";
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_ssl_server_name on;
  proxy_ssl_name {TLS_UPSTREAM_HOST};
  proxy_ssl_verify on;
  proxy_ssl_trusted_certificate {ca};
  proxy_ssl_protocols TLSv1.3;
  ssl_certificate {cert};
  ssl_certificate_key {key};
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_tickets on;
  server {{
    listen {http} backlog=4096;
    listen {https} ssl http2 backlog=4096;
    server_name {HOST};
    location / {{ proxy_pass http://web; }}
  }}
  server {{
    listen {http};
    listen {https} ssl http2;
    server_name {TLS_UPSTREAM_HOST};
    location / {{ proxy_pass https://secure; }}
  }}
  server {{ listen {admin}; location / {{ return 200; }} }}
}}
"#
    )
}

/// A root-owned run folder can only be read by a worker that stays root.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
