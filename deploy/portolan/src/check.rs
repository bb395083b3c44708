//! `portolan check`: what is wrong with a folder of manifests.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use portolan_api::{Diagnostic, Severity};
use portolan_compile::Compiler;
use portolan_model::id::Kind;
use portolan_source::{Dirt, Folder};

use crate::{print, read};

pub(crate) fn check(folder: &Path) -> anyhow::Result<ExitCode> {
    let (compiler, diagnostics) = compile(folder)?;
    let mut sources: HashMap<&str, String> = HashMap::new();
    let mut errors = 0;
    for diagnostic in &diagnostics {
        let source = sources
            .entry(&diagnostic.file)
            .or_insert_with(|| fs::read_to_string(folder.join(&diagnostic.file)).unwrap_or_default());
        print::err(&(diagnostic.render(source) + "\n"));
        errors += usize::from(diagnostic.severity == Severity::Error);
    }
    let untold = untold(&compiler, &diagnostics);
    for line in &untold {
        print::err(&format!("{line}\n"));
    }
    errors += untold.len();
    let plan = compiler.plan();
    let objects: usize = Kind::ALL.into_iter().map(|kind| compiler.number(kind)).sum();
    // Likely the wrong path. Of a folder that holds manifests of others only, the notes say so.
    anyhow::ensure!(
        objects > 0 || errors > 0 || !diagnostics.is_empty(),
        "no manifests in {}",
        folder.display()
    );
    print::out(&format!(
        "{objects} objects, {} hosts, {} pools: {errors} {}\n",
        plan.hosts.len(),
        plan.pools.len(),
        if errors == 1 { "error" } else { "errors" }
    ))?;
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The conditions in lines, but for those that say again what a diagnostic has said.
fn untold(compiler: &Compiler, diagnostics: &[Diagnostic]) -> Vec<String> {
    let mut conditions: Vec<_> = compiler.plan().conditions.iter().collect();
    conditions.sort_by_key(|(object, _)| *object);
    let mut lines = Vec::new();
    for (object, conditions) in conditions {
        let place = compiler.object(object).and_then(|known| known.meta.place.clone());
        let place = place.map_or_else(String::new, |place| format!("{place}: "));
        let untold = conditions.iter().filter(|condition| !read::is_told(object, condition, diagnostics));
        lines.extend(untold.map(|condition| format!("{place}error: {object}: {condition}")));
    }
    lines
}

/// Reads and compiles a folder once.
pub(crate) fn compile(folder: &Path) -> anyhow::Result<(Compiler, Vec<Diagnostic>)> {
    portolan_certs::install_provider().context("cannot use the cryptography library")?;
    anyhow::ensure!(folder.is_dir(), "{} is not a folder", folder.display());
    let batch = Folder::new(folder, read::CHECKS).update(&Dirt::everything());
    let mut compiler = Compiler::new();
    compiler.apply(batch.deltas);
    Ok((compiler, batch.diagnostics))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARIS: &str =
        "{apiVersion: portolan.dev/v1alpha1, kind: Cluster, metadata: {name: paris}, spec: {}}";

    /// The fields that each part of `check` names: diagnostics, then conditions.
    fn fields(specs: &[&str]) -> (Vec<String>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let mut text = PARIS.to_owned();
        for spec in specs {
            text += &format!(
                "\n---\n{{apiVersion: portolan.dev/v1alpha1, kind: HTTPLoadBalancer, metadata: {{name: shop, namespace: tenant-paris}}, spec: {spec}}}"
            );
        }
        fs::write(folder.path().join("fleet.yaml"), text).unwrap();
        let (compiler, diagnostics) = compile(folder.path()).unwrap();
        let lines = untold(&compiler, &diagnostics);
        let field = |line: &String| line.split(": ").nth(4).unwrap_or_default().to_owned();
        (diagnostics.into_iter().map(|it| it.field).collect(), lines.iter().map(field).collect())
    }

    #[test]
    fn nothing_is_hidden_and_nothing_said_twice() {
        let missing = "rules: [{backends: [{pool: gone}]}]";
        let pool = "spec.rules[0].backends[0].pool";
        for (say, spec, expected) in [
            ("a condition", format!("{{{missing}}}"), (&[][..], &[pool][..])),
            ("an error", format!("{{{missing}, wrong: 1}}"), (&["spec.wrong"], &[])),
            // Regression: the second spelling was dropped, and the refusal named rules[0].hosts[1].
            (
                "the place of a refused host",
                format!("{{hosts: [a.com, A.com, b.org], {missing}}}"),
                (&[], &["spec.hosts[0]", "spec.hosts[2]", pool]),
            ),
        ] {
            let (diagnostics, conditions) = fields(&[&spec]);
            assert_eq!((&*diagnostics, &*conditions), (&*owned(expected.0), &*owned(expected.1)), "{say}");
        }
    }

    /// Regression: any diagnostic about an object hid all its conditions.
    #[test]
    fn a_diagnostic_hides_no_other_condition() {
        let spec = "{rules: [{backends: [{pool: gone}]}]}";
        let (diagnostics, conditions) = fields(&[spec, spec]);
        let expected = owned(&["spec.rules[0].backends[0].pool"]);
        assert_eq!((diagnostics.len(), conditions), (1, expected), "it stands twice, and its pool nowhere");
    }

    /// Regression: a job that checked the wrong folder passed.
    #[test]
    fn a_folder_without_manifests_does_not_pass() {
        let foreign = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: shop}}";
        for (file, text, passes) in [
            ("README.md", PARIS, false),
            ("empty.yaml", "# Nothing yet.\n", false),
            ("fleet.yaml", PARIS, true),
            ("deployment.yaml", foreign, true),
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(file), text).unwrap();
            match check(folder.path()) {
                Ok(code) => assert!(passes && code == ExitCode::SUCCESS, "{file}: {code:?}"),
                Err(error) => {
                    let expected = format!("no manifests in {}", folder.path().display());
                    assert!(!passes && error.to_string() == expected, "{file}: {error}");
                }
            }
        }
    }

    fn owned(fields: &[&str]) -> Vec<String> {
        fields.iter().map(|&field| field.to_owned()).collect()
    }
}
