//! Portolan: a folder of manifests with one cluster and two load balancers. Access log, metrics, forwarding headers and
//! health checks are on.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Ports, text};
use crate::site::{HOST, Site, TLS_UPSTREAM_HOST};

pub(super) fn command(program: &Path, site: &Site, ports: &Ports) -> Result<Vec<String>> {
    let folder = site.path("portolan");
    fs::create_dir_all(&folder)?;
    fs::write(format!("{folder}/bench.yaml"), manifests(site, ports)?)?;
    let options = ["run", "--config", &folder, "--admin", &ports.admin.to_string()];
    Ok(std::iter::once(text(program)).chain(options.map(str::to_owned)).collect())
}

/// The generated names of the two load balancers, `web` and `secure` of the cluster `paris`, are the hosts of the site.
fn manifests(site: &Site, ports: &Ports) -> Result<String> {
    let (http, https) = (ports.http.port(), ports.https.port());
    let (backend, backend_tls) = (site.backend.port(), site.backend_tls.port());
    let (cert, key) = (base64(&site.path("cert.pem"))?, base64(&site.path("key.pem"))?);
    let ca = site.ca_pem.trim_end().replace('\n', "\n    ");
    let lb_domain = HOST.trim_start_matches("web.paris.");
    Ok(format!(
        r#"
apiVersion: portolan.dev/v1alpha1
kind: Proxy
metadata: {{ name: default }}
spec:
  lbDomain: {lb_domain}
  workers: 1
  limits: {{ idleTimeout: 300s }}
  listeners:
  - {{ name: http, address: 127.0.0.1, port: {http}, protocol: HTTP }}
  - {{ name: https, address: 127.0.0.1, port: {https}, protocol: HTTPS }}
---
apiVersion: portolan.dev/v1alpha1
kind: Cluster
metadata: {{ name: paris }}
spec:
  allowedEndpointCIDRs: [127.0.0.0/8]
  certificateRef: {{ name: bench }}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{ name: bench, namespace: tenant-paris }}
data:
  tls.crt: {cert}
  tls.key: {key}
---
apiVersion: v1
kind: ConfigMap
metadata: {{ name: bench-ca, namespace: tenant-paris }}
data:
  ca.crt: |
    {ca}
---
apiVersion: portolan.dev/v1alpha1
kind: HTTPLoadBalancer
metadata: {{ name: web, namespace: tenant-paris }}
spec:
  rules:
  - backends: [{{ pool: web }}]
---
apiVersion: portolan.dev/v1alpha1
kind: HTTPLoadBalancer
metadata: {{ name: secure, namespace: tenant-paris }}
spec:
  rules:
  - backends: [{{ pool: secure }}]
---
apiVersion: portolan.dev/v1alpha1
kind: UpstreamPool
metadata: {{ name: web, namespace: tenant-paris }}
spec:
  endpoints: [{{ address: 127.0.0.1, port: {backend} }}]
  healthCheck: {{ tcp: {{}} }}
---
apiVersion: portolan.dev/v1alpha1
kind: UpstreamPool
metadata: {{ name: secure, namespace: tenant-paris }}
spec:
  endpoints: [{{ address: 127.0.0.1, port: {backend_tls} }}]
  tls: {{ serverName: {TLS_UPSTREAM_HOST}, caRef: {{ name: bench-ca }} }}
  healthCheck: {{ tcp: {{}} }}
"#
    ))
}

fn base64(path: &str) -> Result<String> {
    let out = Command::new("base64").args(["-w0", path]).output().context("cannot run base64")?;
    ensure!(out.status.success(), "base64 cannot read {path}");
    Ok(String::from_utf8(out.stdout)?)
}
