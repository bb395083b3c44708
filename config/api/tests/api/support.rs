//! Checks that need no libraries, and short ways to read.

use portolan_api::{Checks, FileObjects, Reader};
use portolan_model::intent::{CertificateFacts, KeyAlgorithm, Object, Spec};

/// Checks that take what looks right.
pub(crate) fn checks() -> Checks {
    Checks {
        regex: |text| {
            if text.matches('(').count() == text.matches(')').count() {
                Ok(())
            } else {
                Err(format!("{text:?} has an unclosed group"))
            }
        },
        certificate: |chain, _| {
            if !chain.starts_with(b"-----BEGIN CERTIFICATE-----") {
                return Err("no PEM certificate in tls.crt".to_owned());
            }
            Ok(CertificateFacts {
                names: Vec::new(),
                not_before: 0,
                not_after: 1,
                key: KeyAlgorithm::Ecdsa,
                serial: "00".to_owned(),
            })
        },
        ca_bundle: |pem| {
            if pem.starts_with(b"-----BEGIN CERTIFICATE-----") {
                Ok(())
            } else {
                Err("no PEM certificate in the bundle".to_owned())
            }
        },
        cipher_suite: |name| {
            if name.starts_with("TLS_") || name.starts_with("TLS13_") {
                Ok(())
            } else {
                Err(format!("{name:?} is not a cipher suite that is offered"))
            }
        },
    }
}

/// Reads a file of that text.
pub(crate) fn read(text: &str) -> FileObjects {
    Reader::new(checks()).read("test.yaml", text)
}

/// Reads a file of one object that is right.
pub(crate) fn one(text: &str) -> Object {
    let read = read(text);
    let told: Vec<_> = read.all_diagnostics().into_iter().map(ToString::to_string).collect();
    assert!(told.is_empty() && read.objects.len() == 1, "{told:#?}");
    read.objects.into_iter().next().unwrap()
}

/// The spec of one of our own kinds, in `tenant-paris` where it is namespaced.
pub(crate) fn spec(kind: &str, spec: &str) -> Spec {
    one(&manifest(kind, spec)).spec
}

/// A manifest of one of our own kinds; `spec` is indented by two.
pub(crate) fn manifest(kind: &str, spec: &str) -> String {
    let (name, namespace) = match kind {
        "Proxy" => ("default", ""),
        "Cluster" => ("paris", ""),
        _ => ("shop", "\n  namespace: tenant-paris"),
    };
    let spec: String = spec.trim_matches('\n').lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: portolan.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}{namespace}\nspec:\n{spec}"
    )
}
