//! Certificates of our own making: for listeners that have none, for the demo and for tests.
//!
//! Cost: a key generation, 30 µs for ECDSA and Ed25519, up to a second for RSA.

use std::fmt;

use portolan_model::intent::KeyAlgorithm;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256,
};

/// A name that no certificate can carry, or a failure of the cryptography.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate for {names:?}")]
pub struct IssueError {
    names: Vec<String>,
    #[source]
    source: rcgen::Error,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The chain, the leaf first.
    pub chain_pem: String,
    /// The key.
    pub key_pem: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("chain_pem", &self.chain_pem).finish_non_exhaustive()
    }
}

/// An ECDSA certificate for these names that vouches for itself.
pub fn self_signed(names: &[&str]) -> Result<Issued, IssueError> {
    let make = || {
        let key = key_pair(KeyAlgorithm::Ecdsa)?;
        let certificate = leaf(names)?.self_signed(&key)?;
        Ok(Issued { chain_pem: certificate.pem(), key_pem: key.serialize_pem() })
    };
    make().map_err(|source| error(names, source))
}

/// A certificate authority that lives as long as the process: for the demo and for tests.
pub struct DemoCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl fmt::Debug for DemoCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemoCa").finish_non_exhaustive()
    }
}

impl DemoCa {
    /// A new authority with a key of its own.
    pub fn new() -> Result<Self, IssueError> {
        let make = || {
            let mut params = CertificateParams::default();
            params.distinguished_name = common_name("Portolan demo CA");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            CertifiedIssuer::self_signed(params, key_pair(KeyAlgorithm::Ecdsa)?)
        };
        Ok(Self { issuer: make().map_err(|source| error(&[], source))? })
    }

    /// Its own certificate, PEM, for clients to trust.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names (DNS names, wildcards, IP addresses).
    pub fn issue(&self, names: &[&str], algorithm: KeyAlgorithm) -> Result<Issued, IssueError> {
        let make = || {
            let key = key_pair(algorithm)?;
            let mut params = leaf(names)?;
            params.use_authority_key_identifier_extension = true;
            let certificate = params.signed_by(&key, &self.issuer)?;
            Ok(Issued { chain_pem: certificate.pem(), key_pem: key.serialize_pem() })
        };
        make().map_err(|source| error(names, source))
    }
}

fn error(names: &[&str], source: rcgen::Error) -> IssueError {
    IssueError { names: names.iter().map(|&name| name.to_owned()).collect(), source }
}

fn key_pair(algorithm: KeyAlgorithm) -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(match algorithm {
        KeyAlgorithm::Ecdsa => &PKCS_ECDSA_P256_SHA256,
        KeyAlgorithm::Ed25519 => &PKCS_ED25519,
        KeyAlgorithm::Rsa => &PKCS_RSA_SHA256,
    })
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn leaf(names: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name = common_name(names.first().copied().unwrap_or("portolan"));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}
