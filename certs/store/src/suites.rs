//! Which cipher suites may a listener name? Those of the provider, by their IANA names; rustls' own spelling of the TLS 1.3
//! ones (`TLS13_…`) is understood too.

use rustls::SupportedCipherSuite;

use crate::provider::provider;

/// The suite's IANA name.
fn name(suite: SupportedCipherSuite) -> String {
    let own = format!("{:?}", suite.suite());
    own.strip_prefix("TLS13_").map_or_else(|| own.clone(), |rest| format!("TLS_{rest}"))
}

/// The suite of that name.
pub(crate) fn find(wanted: &str) -> Option<SupportedCipherSuite> {
    let wanted =
        wanted.strip_prefix("TLS13_").map_or_else(|| wanted.to_owned(), |rest| format!("TLS_{rest}"));
    provider().cipher_suites.iter().copied().find(|&suite| name(suite) == wanted)
}

/// Whether a listener may offer the suite of that name; otherwise a sentence that lists those it may.
pub fn check_cipher_suite(wanted: &str) -> Result<(), String> {
    if find(wanted).is_some() {
        return Ok(());
    }
    let known: Vec<String> = provider().cipher_suites.iter().copied().map(name).collect();
    let upper = wanted.to_ascii_uppercase().replace('-', "_");
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(name, &upper), name))
        .min()
        .filter(|(distance, _)| *distance <= 6)
        .map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"));
    Err(format!("unknown cipher suite {wanted:?}: expected one of {}{near}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_known() {
        for name in [
            "TLS_AES_128_GCM_SHA256",
            "TLS13_AES_128_GCM_SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ] {
            assert_eq!(check_cipher_suite(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn unknown_ones_are_refused_with_what_is_known() {
        for (name, near) in [
            ("TLS_AES_128_GCM_SHA265", Some("TLS_AES_128_GCM_SHA256")),
            ("tls-aes-256-gcm-sha384", Some("TLS_AES_256_GCM_SHA384")),
            ("TLS_RSA_WITH_AES_128_CBC_SHA", None),
            ("AES", None),
        ] {
            let sentence = check_cipher_suite(name).unwrap_err();
            assert!(sentence.contains("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"), "{sentence}");
            match near {
                Some(near) => assert!(sentence.ends_with(&format!("did you mean {near}?")), "{sentence}"),
                None => assert!(!sentence.contains("did you mean"), "{sentence}"),
            }
        }
    }
}
