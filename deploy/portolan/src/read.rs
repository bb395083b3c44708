//! Reading manifests, with the checks that need other crates' libraries.

use std::fs;
use std::path::Path;

use portolan_api::{Checks, Diagnostic, Severity, Source, Spot};
use portolan_model::condition::{Condition, Reason};
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::Place;

/// How many files, and bytes of them, a running process reads again to say where fields stand.
pub(crate) const AGAIN: Limits = Limits { files: 100, bytes: 16 << 20 };

/// How much is read again.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

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

/// Where the fields of conditions stand, given where their objects do: the files are read again. Nothing past `limits`, and where a
/// file says something else by now; nothing without a folder.
pub(crate) fn locate(
    root: Option<&Path>,
    conditions: &[(&ObjectRef, &Condition, Option<Place>)],
    mut limits: Limits,
) -> Vec<Option<Spot>> {
    let mut spots = vec![None; conditions.len()];
    let Some(root) = root else { return spots };
    let mut placed: Vec<_> = (0..conditions.len())
        .filter_map(|at| conditions[at].2.as_ref().map(|place| (&*place.file, place.line, at)))
        .collect();
    placed.sort_unstable();
    for group in placed.chunk_by(|a, b| a.0 == b.0).take(limits.files) {
        let path = root.join(group[0].0);
        let Some(rest) = fs::metadata(&path).ok().and_then(|file| limits.bytes.checked_sub(file.len()))
        else {
            continue;
        };
        limits.bytes = rest;
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let mut source = Source::new(&text);
        for &(_, line, at) in group {
            spots[at] = source.locate(conditions[at].0, line, &conditions[at].1.field);
        }
    }
    spots
}

/// A condition as what is told of a manifest. Without a spot it is at the start of the object.
pub(crate) fn told(
    object: &ObjectRef,
    condition: &Condition,
    place: &Place,
    spot: Option<Spot>,
) -> Diagnostic {
    let Spot { line, column, found } =
        spot.unwrap_or_else(|| Spot { line: place.line, column: 1, found: String::new() });
    Diagnostic {
        severity: Severity::Error,
        object: Some(object.clone()),
        file: place.file.to_string(),
        line,
        column,
        field: condition.field.clone(),
        found,
        message: format!("{:?}: {}", condition.reason, condition.message),
        expected: None,
        suggestion: None,
        secret: object.kind == Kind::Secret,
    }
}

/// Says what is wrong with a manifest.
pub(crate) fn log(diagnostic: &Diagnostic) {
    match diagnostic.severity {
        Severity::Error => tracing::error!("{diagnostic}"),
        Severity::Note => tracing::info!("{diagnostic}"),
    }
}
