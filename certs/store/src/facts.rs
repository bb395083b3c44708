//! What does a certificate say, and does its key fit?
//!
//! Read once, where a `Secret` or a CA bundle is read, so that whatever reaches the Plan is known to work. Errors are
//! sentences for people that name the data key (`tls.crt`, `tls.key`, `ca.crt`), what was expected and what was found. Cost: parsing the
//! leaf and the key, tens of microseconds.

use std::sync::Arc;

use portolan_model::host::HostPattern;
use portolan_model::intent::{CertificateFacts, KeyAlgorithm};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{RootCertStore, SignatureAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use crate::pem;
use crate::provider::provider;

const EXPECTED_KEY: &str =
    "expected one PEM block \"PRIVATE KEY\", \"EC PRIVATE KEY\" or \"RSA PRIVATE KEY\"";

/// Reads the leaf of `tls.crt` and checks that `tls.key` belongs to it. Names are the DNS names among the leaf's
/// alternative names; its common name and IP addresses do not count (RFC 9525 §2). Times are not judged.
pub fn read_facts(chain_pem: &[u8], key_pem: &[u8]) -> Result<CertificateFacts, String> {
    let (chain, key) = read_pair(chain_pem, key_pem)?;
    let leaf = parse(&chain[0]).map_err(|error| format!("tls.crt: the first certificate {error}"))?;
    let key = load(key)?;
    check_fit(&chain, &key)?;
    Ok(CertificateFacts {
        names: dns_names(&leaf)?,
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
        key: algorithm(key.as_ref())?,
        serial: leaf.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// Whether `ca.crt` holds certificates, one at least, that can vouch for others.
pub fn check_ca_bundle(pem: &[u8]) -> Result<(), String> {
    let blocks = pem::blocks(pem).map_err(|error| format!("ca.crt: {error}"))?;
    let certificates = pem::certificates(&blocks);
    if certificates.len() != blocks.len() || certificates.is_empty() {
        let found = pem::found(pem, &blocks);
        return Err(format!("ca.crt: expected PEM blocks \"CERTIFICATE\" alone, found {found}"));
    }
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates.into_iter().enumerate() {
        let reason = match parse(&certificate) {
            Err(error) => Some(error),
            Ok(_) => roots.add(certificate).err().map(|error| format!("cannot vouch for others: {error}")),
        };
        if let Some(reason) = reason {
            return Err(format!("ca.crt: certificate {} {reason}", index + 1));
        }
    }
    Ok(())
}

/// Parses a pair that [`read_facts`] has accepted.
pub(crate) fn certified_key(chain_pem: &[u8], key_pem: &[u8]) -> Result<CertifiedKey, String> {
    let (chain, key) = read_pair(chain_pem, key_pem)?;
    Ok(CertifiedKey::new(chain, load(key)?))
}

fn read_pair(
    chain_pem: &[u8],
    key_pem: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain_blocks = pem::blocks(chain_pem).map_err(|error| format!("tls.crt: {error}"))?;
    let key_blocks = pem::blocks(key_pem).map_err(|error| match has_encryption_header(key_pem) {
        true => format!("tls.key: the key is encrypted: {EXPECTED_KEY} without a passphrase"),
        false => format!("tls.key: {error}"),
    })?;
    let chain = pem::certificates(&chain_blocks);
    if chain.is_empty() && chain_blocks.iter().any(pem::is_key) && key_blocks.iter().any(pem::is_certificate)
    {
        return Err("tls.crt holds a private key and tls.key a certificate: the two are swapped".to_owned());
    }
    if chain.is_empty() || chain.len() != chain_blocks.len() {
        let found = pem::found(chain_pem, &chain_blocks);
        return Err(format!(
            "tls.crt: expected PEM blocks \"CERTIFICATE\" alone, the leaf first, found {found}"
        ));
    }
    let key = read_key(key_pem, &key_blocks)?;
    Ok((chain, key))
}

fn read_key(key_pem: &[u8], blocks: &[Pem]) -> Result<PrivateKeyDer<'static>, String> {
    let mut keys = blocks.iter().filter(|block| pem::is_key(block));
    match (keys.next(), keys.next()) {
        (Some(block), None) if block.label == "ENCRYPTED PRIVATE KEY" => {
            Err(format!("tls.key: the key is encrypted: {EXPECTED_KEY} without a passphrase"))
        }
        (Some(block), None) => {
            pem::key(block).ok_or_else(|| format!("tls.key: {EXPECTED_KEY}, found {:?}", block.label))
        }
        _ => Err(format!("tls.key: {EXPECTED_KEY}, found {}", pem::found(key_pem, blocks))),
    }
}

/// Old encrypted keys say so by a header inside the block (RFC 1421), which is not base64.
fn has_encryption_header(key_pem: &[u8]) -> bool {
    key_pem.windows(10).any(|text| text == b"Proc-Type:")
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err("has bytes behind its end".to_owned()),
        Err(_) => Err("is not a valid X.509 certificate".to_owned()),
    }
}

fn load(key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, String> {
    provider().key_provider.load_private_key(key).map_err(|_| {
        "tls.key: the key is damaged or of a kind that is not supported: expected ECDSA on P-256, P-384 or P-521, Ed25519, \
         or RSA of 2048 bits or more"
            .to_owned()
    })
}

fn check_fit(chain: &[CertificateDer<'static>], key: &Arc<dyn SigningKey>) -> Result<(), String> {
    let public = key.public_key();
    let fits = |certificate: &CertificateDer<'static>| {
        ParsedCertificate::try_from(certificate)
            .is_ok_and(|parsed| Some(parsed.subject_public_key_info()) == public)
    };
    match chain.iter().position(fits) {
        Some(0) => Ok(()),
        Some(index) => Err(format!(
            "tls.key belongs to certificate {} of tls.crt: expected it to belong to the first, since the leaf comes first",
            index + 1
        )),
        None => {
            let leaf = parse(&chain[0]).map(|leaf| key_kind(&leaf)).unwrap_or_default();
            Err(format!(
                "tls.key does not belong to tls.crt: the certificate is for another key ({leaf}), tls.key is {:?}",
                key.algorithm()
            ))
        }
    }
}

fn key_kind(leaf: &X509Certificate<'_>) -> String {
    use x509_parser::oid_registry as oid;
    let kind = &leaf.public_key().algorithm.algorithm;
    if *kind == oid::OID_KEY_TYPE_EC_PUBLIC_KEY {
        "ECDSA".to_owned()
    } else if *kind == oid::OID_PKCS1_RSAENCRYPTION {
        "RSA".to_owned()
    } else if *kind == oid::OID_SIG_ED25519 {
        "ED25519".to_owned()
    } else {
        format!("algorithm {kind}")
    }
}

fn dns_names(leaf: &X509Certificate<'_>) -> Result<Vec<HostPattern>, String> {
    let names = leaf
        .subject_alternative_name()
        .map_err(|_| "tls.crt: the first certificate's alternative names cannot be read".to_owned())?;
    let mut names: Vec<HostPattern> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) if !name.starts_with("**.") => HostPattern::parse(name).ok(),
            _ => None,
        })
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn algorithm(key: &dyn SigningKey) -> Result<KeyAlgorithm, String> {
    match key.algorithm() {
        SignatureAlgorithm::ECDSA => Ok(KeyAlgorithm::Ecdsa),
        SignatureAlgorithm::ED25519 => Ok(KeyAlgorithm::Ed25519),
        SignatureAlgorithm::RSA => Ok(KeyAlgorithm::Rsa),
        other => Err(format!("tls.key: expected an ECDSA, Ed25519 or RSA key, found {other:?}")),
    }
}

#[cfg(test)]
mod tests;
