//! Which cryptography does the process use? aws-lc-rs, with the hybrid post-quantum key exchange offered first.
//!
//! Invariant: once [`install_provider`] has succeeded, whatever in the process asks rustls for its default gets this one.
//! Cost: once per process.

use std::sync::{Arc, LazyLock};

use rustls::NamedGroup;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Somebody was faster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another cryptography provider is the process default already: install_provider must be called first in main"
)]
pub struct ProviderError;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The provider that listeners are built with, whatever the process default is.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    &PROVIDER
}

/// Makes aws-lc-rs the process default; to be called before anything else touches TLS, and harmless when called again.
pub fn install_provider() -> Result<(), ProviderError> {
    if CryptoProvider::get_default().is_none() {
        // An error means that another thread installed one since; the check below sees which.
        let _ = CryptoProvider::install_default((**provider()).clone());
    }
    let first = CryptoProvider::get_default().and_then(|default| default.kx_groups.first());
    match first {
        Some(group) if group.name() == NamedGroup::X25519MLKEM768 => Ok(()),
        _ => Err(ProviderError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installing_again_is_harmless() {
        assert_eq!(install_provider(), Ok(()));
        assert_eq!(install_provider(), Ok(()));
        let default = CryptoProvider::get_default().unwrap();
        assert_eq!(default.kx_groups[0].name(), NamedGroup::X25519MLKEM768);
    }
}
