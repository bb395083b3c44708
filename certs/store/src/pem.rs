//! The PEM blocks of a text (RFC 7468), and the certificates and keys among them.
//!
//! Errors are sentences for people: what was expected, what was found.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::error::PEMError;
use x509_parser::pem::Pem;

const CERTIFICATE: &str = "CERTIFICATE";

/// All blocks; text around them is passed over, as the standard has it.
pub(crate) fn blocks(pem: &[u8]) -> Result<Vec<Pem>, String> {
    Pem::iter_from_buffer(pem)
        .enumerate()
        .map(|(index, block)| block.map_err(|error| broken(index, &error)))
        .collect()
}

fn broken(index: usize, error: &PEMError) -> String {
    let what = match error {
        PEMError::Base64DecodeError => "what stands in it is not base64".to_owned(),
        PEMError::IncompletePEM => "its END line is missing".to_owned(),
        PEMError::InvalidHeader => "its BEGIN line is damaged".to_owned(),
        PEMError::MissingHeader => "its BEGIN line is missing".to_owned(),
        PEMError::IOError(error) => error.to_string(),
    };
    format!("PEM block {} cannot be read: {what}", index + 1)
}

/// What the blocks are, for a person.
pub(crate) fn found(pem: &[u8], blocks: &[Pem]) -> String {
    if blocks.is_empty() {
        let blank = pem.iter().all(u8::is_ascii_whitespace);
        return if blank { "nothing".to_owned() } else { "no PEM block at all".to_owned() };
    }
    let labels: Vec<String> = blocks.iter().map(|block| format!("{:?}", block.label)).collect();
    labels.join(", ")
}

/// Whether the block is a private key of whatever kind.
pub(crate) fn is_key(block: &Pem) -> bool {
    block.label.ends_with("PRIVATE KEY")
}

/// Whether the block is a certificate.
pub(crate) fn is_certificate(block: &Pem) -> bool {
    block.label == CERTIFICATE
}

/// The certificates among the blocks, in their order.
pub(crate) fn certificates(blocks: &[Pem]) -> Vec<CertificateDer<'static>> {
    blocks.iter().filter(|block| is_certificate(block)).map(|block| block.contents.clone().into()).collect()
}

/// The key in the block, by the label's word for its form; `None` where it is encrypted or of an unknown form.
pub(crate) fn key(block: &Pem) -> Option<PrivateKeyDer<'static>> {
    let der = block.contents.clone();
    match block.label.as_str() {
        "PRIVATE KEY" => Some(PrivateKeyDer::Pkcs8(der.into())),
        "RSA PRIVATE KEY" => Some(PrivateKeyDer::Pkcs1(der.into())),
        "EC PRIVATE KEY" => Some(PrivateKeyDer::Sec1(der.into())),
        _ => None,
    }
}
