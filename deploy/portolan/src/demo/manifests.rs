//! The demo fleet's manifests, as a person would write them.

use std::fmt::Write;
use std::net::SocketAddr;

/// The listeners.
pub(super) fn proxy(lb_domain: &str, http: u16, https: u16) -> String {
    format!(
        "# What every proxy does alike. Change it while it runs.
apiVersion: portolan.dev/v1alpha1
kind: Proxy
metadata:
  name: default
spec:
  lbDomain: {lb_domain}
  listeners:
  - name: http
    port: {http}
    protocol: HTTP
  - name: https
    port: {https}
    protocol: HTTPS
  clientAddress:
    trustedCIDRs: [127.0.0.0/8]
"
    )
}

/// A member cluster. Its endpoints are on this machine, which must be said: by default a cluster may not name loopback addresses.
pub(super) fn cluster(name: &str) -> String {
    format!(
        "apiVersion: portolan.dev/v1alpha1
kind: Cluster
metadata:
  name: {name}
spec:
  weight: 100
  allowedDomains:
  - suffix: example.com
    sharing: Shared
  allowedEndpointCIDRs: [127.0.0.0/8]
  certificateRef:
    name: generated-names
"
    )
}

/// A certificate with its key.
pub(super) fn secret(cluster: &str, name: &str, chain: &str, key: &str) -> String {
    let block = |pem: &str| pem.trim_end().lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata:
  name: {name}
  namespace: tenant-{cluster}
stringData:
  tls.crt: |
{}  tls.key: |
{}",
        block(chain),
        block(key)
    )
}

/// An application: its hosts and rules, and the pool behind them.
pub(super) fn app(cluster: &str, name: &str, host: Option<&str>, endpoints: &[SocketAddr]) -> String {
    let mut text = format!(
        "apiVersion: portolan.dev/v1alpha1
kind: HTTPLoadBalancer
metadata:
  name: {name}
  namespace: tenant-{cluster}
spec:
"
    );
    if let Some(host) = host {
        let _ = write!(text, "  hosts: [{host}]\n  tls:\n  - secretName: {name}\n");
    }
    let _ = write!(
        text,
        "  rules:
  - matches:
    - path:
        type: Prefix
        value: /
    backends:
    - pool: {name}
---
apiVersion: portolan.dev/v1alpha1
kind: UpstreamPool
metadata:
  name: {name}
  namespace: tenant-{cluster}
spec:
  endpoints:
"
    );
    for endpoint in endpoints {
        let _ = writeln!(text, "  - address: {}\n    port: {}", endpoint.ip(), endpoint.port());
    }
    text.push_str("  healthCheck:\n    http:\n      path: /healthz\n");
    text
}
