//! Manifests, spelled as people spell them, with what tests vary left open.

use std::fmt::Write;
use std::net::SocketAddr;

/// Each line of `text`, `by` spaces further in.
pub fn indent(text: &str, by: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let _ = writeln!(out, "{:by$}{line}", "");
    }
    out
}

/// A member cluster whose endpoints may be on this machine, with further lines of its `spec`.
pub fn cluster(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: {name}\nspec:\n  \
         allowedEndpointCIDRs: [127.0.0.0/8, \"::1/128\"]\n{}",
        indent(spec, 2)
    )
}

/// An `UpstreamPool` of a cluster with these endpoints, and further lines of its `spec`.
pub fn pool(cluster: &str, name: &str, endpoints: &[SocketAddr], spec: &str) -> String {
    let mut text = format!(
        "---\napiVersion: portolan.dev/v1alpha1\nkind: UpstreamPool\nmetadata:\n  name: {name}\n  namespace: tenant-{cluster}\nspec:\n"
    );
    if !endpoints.is_empty() {
        text.push_str("  endpoints:\n");
    }
    for endpoint in endpoints {
        let _ = writeln!(text, "  - {{address: \"{}\", port: {}}}", endpoint.ip(), endpoint.port());
    }
    text + &indent(spec, 2)
}

/// An `HTTPLoadBalancer` of a cluster with this `spec`.
pub fn route(cluster: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: portolan.dev/v1alpha1\nkind: HTTPLoadBalancer\nmetadata:\n  name: {name}\n  namespace: tenant-{cluster}\nspec:\n{}",
        indent(spec, 2)
    )
}

/// An application that answers everything on its generated name, `<name>.<cluster>.lb.test`, from these endpoints.
pub fn app(cluster: &str, name: &str, endpoints: &[SocketAddr]) -> String {
    route(cluster, name, &format!("rules:\n- backends: [{{pool: {name}}}]\n"))
        + &pool(cluster, name, endpoints, "")
}

/// A `Secret` of type `kubernetes.io/tls`.
pub fn secret(namespace: &str, name: &str, chain: &str, key: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
         stringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indent(chain, 4),
        indent(key, 4)
    )
}

/// A `ConfigMap` with CA certificates.
pub fn config_map(namespace: &str, name: &str, ca: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: {namespace}\ndata:\n  ca.crt: |\n{}",
        indent(ca, 4)
    )
}
