//! Reading manifests, with the checks that need other crates' libraries.

use portolan_api::{Checks, Diagnostic, Severity};
use portolan_model::condition::{Condition, Reason};
use portolan_model::id::ObjectRef;

/// What the reader leaves to libraries that it does without.
pub(crate) const CHECKS: Checks = Checks {
    regex: portolan_route::check_regex,
    certificate: portolan_certs::read_facts,
    ca_bundle: portolan_certs::check_ca_bundle,
    cipher_suite: portolan_certs::check_cipher_suite,
};

/// Whether a condition says again what a diagnostic has said.
pub(crate) fn is_told(object: &ObjectRef, condition: &Condition, diagnostics: &[Diagnostic]) -> bool {
    condition.reason == Reason::Invalid
        && diagnostics.iter().any(|diagnostic| {
            diagnostic.object.as_ref() == Some(object) && diagnostic.field == condition.field
        })
}

/// Says what is wrong with a manifest.
pub(crate) fn log(diagnostic: &Diagnostic) {
    match diagnostic.severity {
        Severity::Error => tracing::error!("{diagnostic}"),
        Severity::Note => tracing::info!("{diagnostic}"),
    }
}
