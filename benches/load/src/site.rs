//! What every contender serves alike: addresses, host names, certificates, and the folder they lie in.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Proxied to the backend over plain HTTP. It has the shape of one of Portolan's generated names.
pub(crate) const HOST: &str = "web.paris.lb.example.net";
/// Proxied to the backend over TLS, its name and chain verified.
pub(crate) const TLS_UPSTREAM_HOST: &str = "secure.paris.lb.example.net";

/// The backend's addresses and the certificates (ECDSA P-256) of one run.
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    pub(crate) backend: SocketAddr,
    pub(crate) backend_tls: SocketAddr,
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
    pub(crate) ca_pem: String,
}

impl Site {
    pub(crate) fn new() -> Result<Site> {
        let dir = std::env::temp_dir().join(format!("portolan-bench-{}", std::process::id()));
        fs::create_dir_all(&dir)?;

        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "portolan bench");
        let ca_key = KeyPair::generate()?;
        let ca_pem = params.self_signed(&ca_key)?.pem();
        let ca = Issuer::new(params, ca_key);
        let key = KeyPair::generate()?;
        let names = vec![HOST.to_owned(), TLS_UPSTREAM_HOST.to_owned(), "*.paris.lb.example.net".to_owned()];
        let cert_pem = CertificateParams::new(names)?.signed_by(&key, &ca)?.pem();
        let key_pem = key.serialize_pem();

        let site =
            Site { dir, backend: free_address()?, backend_tls: free_address()?, cert_pem, key_pem, ca_pem };
        fs::write(site.path("ca.pem"), &site.ca_pem)?;
        fs::write(site.path("cert.pem"), &site.cert_pem)?;
        fs::write(site.path("key.pem"), &site.key_pem)?;
        fs::write(site.path("bundle.pem"), format!("{}{}", site.cert_pem, site.key_pem))?;
        Ok(site)
    }

    /// The path of a file in the run's folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A loopback address that nobody listens on at the moment.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
