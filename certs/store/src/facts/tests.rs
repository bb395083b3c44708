use portolan_model::host::HostPattern;

use super::*;
use crate::issue::{DemoCa, Issued, self_signed};

fn read(chain: &str, key: &str) -> Result<CertificateFacts, String> {
    read_facts(chain.as_bytes(), key.as_bytes())
}

fn issue(names: &[&str], algorithm: KeyAlgorithm) -> Issued {
    DemoCa::new().unwrap().issue(names, algorithm).unwrap()
}

#[test]
fn facts_are_the_leafs() {
    let names = ["shop.example.com", "*.Example.com", "10.0.0.1", "shop.example.com"];
    for algorithm in [KeyAlgorithm::Ecdsa, KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa] {
        let Issued { chain_pem, key_pem } = issue(&names, algorithm);
        let facts = read(&chain_pem, &key_pem).unwrap();
        let expected: Vec<_> =
            ["shop.example.com", "*.example.com"].map(|name| HostPattern::parse(name).unwrap()).into();
        assert_eq!(facts.names, expected, "IP addresses do not count, a wildcard spans one label");
        assert_eq!(facts.key, algorithm);
        assert!(facts.not_before < facts.not_after);
        assert!(!facts.serial.is_empty() && facts.serial.bytes().all(|b| b"0123456789abcdef".contains(&b)));
    }
}

#[test]
fn a_chain_and_text_around_blocks_are_fine() {
    let ca = DemoCa::new().unwrap();
    let Issued { chain_pem, key_pem } = ca.issue(&["a.example"], KeyAlgorithm::Ecdsa).unwrap();
    let chain = format!("subject=a.example\n{chain_pem}\nissuer=demo\n{}", ca.certificate_pem());
    assert_eq!(read(&chain, &key_pem).unwrap().names.len(), 1);
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    assert!(read(&chain, &format!("{parameters}{key_pem}")).is_ok());
    let bare = issue(&["10.0.0.1"], KeyAlgorithm::Ecdsa);
    assert!(read(&bare.chain_pem, &bare.key_pem).unwrap().names.is_empty());
}

#[test]
fn what_does_not_fit_is_said_in_a_sentence() {
    let ca = DemoCa::new().unwrap();
    let Issued { chain_pem: chain, key_pem: key } = ca.issue(&["a.example"], KeyAlgorithm::Ecdsa).unwrap();
    let rsa = ca.issue(&["a.example"], KeyAlgorithm::Rsa).unwrap();
    let other = ca.issue(&["a.example"], KeyAlgorithm::Ecdsa).unwrap();
    let cut = &chain[..chain.len() / 2];
    let garbled = chain.replace("MII", "M!I");
    let no_certificate = chain.replace("MII", "MIJ");
    let relabelled = |label: &str| key.replace("PRIVATE KEY", label);
    let damaged = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let reversed = format!("{}{chain}", ca.certificate_pem());
    for (chain, key, expected) in [
        (
            "",
            key.as_str(),
            "tls.crt: expected PEM blocks \"CERTIFICATE\" alone, the leaf first, found nothing",
        ),
        ("hello", &key, "found no PEM block at all"),
        (&key, &chain, "tls.crt holds a private key and tls.key a certificate: the two are swapped"),
        (
            &key,
            &key,
            "tls.crt: expected PEM blocks \"CERTIFICATE\" alone, the leaf first, found \"PRIVATE KEY\"",
        ),
        (&format!("{chain}{key}"), &key, "found \"CERTIFICATE\", \"PRIVATE KEY\""),
        (cut, &key, "tls.crt: PEM block 1 cannot be read: its END line is missing"),
        (&garbled, &key, "tls.crt: PEM block 1 cannot be read: what stands in it is not base64"),
        (&no_certificate, &key, "tls.crt: the first certificate is not a valid X.509 certificate"),
        (
            &chain,
            "",
            "tls.key: expected one PEM block \"PRIVATE KEY\", \"EC PRIVATE KEY\" or \"RSA PRIVATE KEY\", found nothing",
        ),
        (&chain, &chain, "found \"CERTIFICATE\""),
        (&chain, &format!("{key}{key}"), "found \"PRIVATE KEY\", \"PRIVATE KEY\""),
        (&chain, &relabelled("ENCRYPTED PRIVATE KEY"), "tls.key: the key is encrypted"),
        (&chain, &relabelled("OPENSSH PRIVATE KEY"), "found \"OPENSSH PRIVATE KEY\""),
        (&chain, &relabelled("PUBLIC KEY"), "found \"PUBLIC KEY\""),
        (&chain, damaged, "tls.key: the key is damaged or of a kind that is not supported"),
        (
            &chain,
            &rsa.key_pem,
            "tls.key does not belong to tls.crt: the certificate is for another key (ECDSA), tls.key is RSA",
        ),
        (&rsa.chain_pem, &key, "another key (RSA), tls.key is ECDSA"),
        (&chain, &other.key_pem, "tls.key does not belong to tls.crt"),
        (&reversed, &key, "tls.key belongs to certificate 2 of tls.crt"),
    ] {
        let sentence = read(chain, key).unwrap_err();
        assert!(sentence.contains(expected), "{sentence:?} should contain {expected:?}");
    }
    let proc_type = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let sentence = read(&chain, proc_type).unwrap_err();
    assert!(sentence.contains("the key is encrypted"), "{sentence}");
}

#[test]
fn ca_bundles_are_checked() {
    let ca = DemoCa::new().unwrap().certificate_pem();
    let own = self_signed(&["a.example"]).unwrap();
    for good in [&ca, &format!("{ca}{}", own.chain_pem)] {
        assert_eq!(check_ca_bundle(good.as_bytes()), Ok(()));
    }
    for (bad, expected) in [
        (String::new(), "ca.crt: expected PEM blocks \"CERTIFICATE\" alone, found nothing"),
        (format!("{ca}{}", own.key_pem), "found \"CERTIFICATE\", \"PRIVATE KEY\""),
        (
            format!("{ca}{}", ca.replace("MII", "MIJ")),
            "ca.crt: certificate 2 is not a valid X.509 certificate",
        ),
        (ca[..ca.len() - 30].to_owned(), "its END line is missing"),
    ] {
        let sentence = check_ca_bundle(bad.as_bytes()).unwrap_err();
        assert!(sentence.contains(expected), "{sentence:?} should contain {expected:?}");
    }
}
