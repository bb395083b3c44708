//! Who is who in one cluster: its authority, what it signs, and the kubeconfigs made of that.
//!
//! Every cluster has an authority of its own, so that no credential of one is worth anything in another. Everything is a PEM file in one folder.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use serde_json::json;

/// A cluster's authority and its folder.
pub(crate) struct Pki {
    dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// The file of the certificate.
    pub(crate) cert: PathBuf,
    /// The file of its key.
    pub(crate) key: PathBuf,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Pki {
    /// A new authority, `ca.crt`, and the key pair for tokens of service accounts, `sa.key` and `sa.pub`.
    pub(crate) fn create(dir: &Path, cluster: &str) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("rig {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
        let issuer = CertifiedIssuer::self_signed(params, key).context("cannot sign an authority")?;
        let pki = Self { dir: dir.to_owned(), issuer };
        fs::write(pki.ca(), pki.issuer.pem())?;
        let tokens = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
            .context("cannot make an RSA key")?;
        fs::write(pki.token_public(), tokens.public_key_pem())?;
        write_secret(&pki.token_key(), &tokens.serialize_pem())?;
        Ok(pki)
    }

    /// The file of the authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The file of the key that signs tokens of service accounts.
    pub(crate) fn token_key(&self) -> PathBuf {
        self.dir.join("sa.key")
    }

    /// The file of the key that they are checked with.
    pub(crate) fn token_public(&self) -> PathBuf {
        self.dir.join("sa.pub")
    }

    /// A server's certificate.
    pub(crate) fn server(&self, file: &str, names: &[&str], addresses: &[Ipv4Addr]) -> Result<Pair> {
        let mut params =
            CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
        params
            .subject_alt_names
            .extend(addresses.iter().map(|&address| SanType::IpAddress(IpAddr::V4(address))));
        params.distinguished_name.push(DnType::CommonName, file);
        self.sign(file, params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate: the common name is its user, the organisation is its group.
    pub(crate) fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        self.sign(file, params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A kubeconfig that needs no other file, written to `path`.
    pub(crate) fn kubeconfig(&self, path: &Path, cluster: &str, server: &str, client: &Pair) -> Result<()> {
        // In JSON, as in YAML, bytes are base64.
        let read = |path: &Path| {
            fs::read(path).map(ByteString).with_context(|| format!("cannot read {}", path.display()))
        };
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": cluster,
            "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": read(&self.ca())?}}],
            "users": [{
                "name": cluster,
                "user": {"client-certificate-data": read(&client.cert)?, "client-key-data": read(&client.key)?},
            }],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
        });
        write_secret(path, &serde_saphyr::to_string(&config)?)
    }

    fn sign(
        &self,
        file: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
        let cert = params.signed_by(&key, &self.issuer).with_context(|| format!("cannot sign {file}"))?;
        let pair =
            Pair { cert: self.dir.join(format!("{file}.crt")), key: self.dir.join(format!("{file}.key")) };
        fs::write(&pair.cert, cert.pem()).with_context(|| format!("cannot write {}", pair.cert.display()))?;
        write_secret(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }
}

/// Writes what only its owner may read.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::File::options();
    let file = options.create(true).write(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use kube::config::Kubeconfig;

    use super::*;

    #[test]
    fn a_kubeconfig_holds_all_it_needs() {
        let folder = tempfile::tempdir().expect("a folder");
        let pki = Pki::create(&folder.path().join("pki"), "paris").expect("an authority");
        let client = pki.client("admin", "admin", Some("system:masters")).expect("a certificate");
        let path = folder.path().join("kubeconfig");
        pki.kubeconfig(&path, "paris", "https://172.30.1.2:6443", &client).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let config = Kubeconfig::read_from(&path).expect("kube reads it");
        assert_eq!(config.current_context.as_deref(), Some("paris"));
        let cluster = config.clusters[0].cluster.as_ref().expect("a cluster");
        assert_eq!(cluster.server.as_deref(), Some("https://172.30.1.2:6443"));
        let ca = cluster.certificate_authority_data.as_deref().expect("inline");
        let ByteString(ca) = serde_json::from_value(json!(ca)).expect("base64");
        assert_eq!(ca, fs::read(pki.ca()).expect("a file"));
    }

    #[test]
    fn keys_are_of_the_kinds_that_clusters_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let pki = Pki::create(folder.path(), "paris").expect("an authority");
        let read = |path: PathBuf| fs::read_to_string(path).expect("a file");
        assert!(read(pki.token_key()).starts_with("-----BEGIN PRIVATE KEY"));
        assert!(read(pki.token_public()).starts_with("-----BEGIN PUBLIC KEY"));
        let server =
            pki.server("api", &["kubernetes.default.svc"], &[Ipv4Addr::LOCALHOST]).expect("a certificate");
        assert!(read(server.cert).starts_with("-----BEGIN CERTIFICATE"));
    }
}
