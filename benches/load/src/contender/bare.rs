//! The bare Pingora proxy of `benches/bare`: arguments only.

use std::path::Path;

use super::{Ports, text};
use crate::site::{HOST, Site, TLS_UPSTREAM_HOST};

pub(super) fn command(program: &Path, site: &Site, ports: &Ports) -> Vec<String> {
    let route = format!("{HOST}={}", site.backend);
    let tls_route = format!("{TLS_UPSTREAM_HOST}={}", site.backend_tls);
    let options = [
        ("--http", ports.http.to_string()),
        ("--https", ports.https.to_string()),
        ("--cert", site.path("cert.pem")),
        ("--key", site.path("key.pem")),
        ("--ca", site.path("ca.pem")),
        ("--route", route),
        ("--tls-route", tls_route),
    ];
    std::iter::once(text(program))
        .chain(options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]))
        .collect()
}
