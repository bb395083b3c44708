//! `portolan check`: what is wrong with a folder of manifests.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use portolan_api::contract::POOL_LABEL;
use portolan_api::{Diagnostic, FieldPath, Severity, Source, Step};
use portolan_compile::Compiler;
use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::Spec;
use portolan_source::{Dirt, Folder};

use crate::read::Limits;
use crate::{print, read};

pub(crate) fn check(folder: &Path) -> anyhow::Result<ExitCode> {
    let (compiler, mut diagnostics) = compile(folder)?;
    let (untold, placeless) = untold(folder, &compiler, &diagnostics);
    diagnostics.extend(untold);
    diagnostics.extend(poolless(folder, &compiler));
    diagnostics.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    let mut errors = placeless.len();
    for of_file in diagnostics.chunk_by(|a, b| a.file == b.file) {
        let text = fs::read_to_string(folder.join(&of_file[0].file)).unwrap_or_default();
        let source = Source::new(&text);
        for diagnostic in of_file {
            print::err(&(diagnostic.render(&source) + "\n"));
            errors += usize::from(diagnostic.severity == Severity::Error);
        }
    }
    for line in &placeless {
        print::err(&format!("{line}\n"));
    }
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

/// The conditions, but for those that say again what a diagnostic has said; those of objects that stand nowhere in lines.
fn untold(folder: &Path, compiler: &Compiler, diagnostics: &[Diagnostic]) -> (Vec<Diagnostic>, Vec<String>) {
    let mut conditions: Vec<_> = compiler.plan().conditions.iter().collect();
    conditions.sort_by_key(|(object, _)| *object);
    let mut untold = Vec::new();
    for (object, conditions) in conditions {
        let place = compiler.object(object).and_then(|known| known.meta.place.clone());
        let news = conditions.iter().filter(|condition| !read::is_told(object, condition, diagnostics));
        untold.extend(news.map(|condition| (object, condition, place.clone())));
    }
    let spots = read::locate(Some(folder), &untold, Limits { files: usize::MAX, bytes: u64::MAX });
    let (mut placed, mut placeless) = (Vec::new(), Vec::new());
    for ((object, condition, place), spot) in untold.into_iter().zip(spots) {
        match place {
            Some(place) => placed.push(read::told(object, condition, &place, spot)),
            None => placeless.push(format!("error: {object}: {condition}")),
        }
    }
    (placed, placeless)
}

/// Notes of slices that nobody uses: an agent may write a slice before its pool, a person has mistyped the label.
fn poolless(folder: &Path, compiler: &Compiler) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for object in compiler.objects(Kind::EndpointSlice) {
        let Spec::EndpointSlice(slice) = &object.spec else { continue };
        let pool = ObjectRef::new(Kind::UpstreamPool, object.meta.id.namespace.clone(), slice.pool.clone());
        if compiler.object(&pool).is_none() {
            let field = FieldPath(["metadata", "labels", POOL_LABEL].map(Step::field).into()).to_string();
            let message = format!("{pool} does not exist or is invalid: nobody uses the slice");
            let condition =
                Condition::new(ConditionType::ResolvedRefs, Reason::BackendNotFound, field, message);
            found.push((&object.meta, condition));
        }
    }
    let asked: Vec<_> = found.iter().map(|(meta, it)| (&meta.id, it, meta.place.clone())).collect();
    let spots = read::locate(Some(folder), &asked, Limits { files: usize::MAX, bytes: u64::MAX });
    let notes = asked.iter().zip(spots).filter_map(|((object, condition, place), spot)| {
        let told = read::told(object, condition, place.as_ref()?, spot);
        Some(Diagnostic { severity: Severity::Note, message: condition.message.clone(), ..told })
    });
    notes.collect()
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
        let (conditions, placeless) = untold(folder.path(), &compiler, &diagnostics);
        assert!(placeless.is_empty(), "{placeless:?}");
        let fields = |told: Vec<Diagnostic>| told.into_iter().map(|it| it.field).collect();
        (fields(diagnostics), fields(conditions))
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

    /// Regression: a condition named the line of its document, and no column.
    #[test]
    fn a_condition_says_where_its_field_stands() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "{PARIS}\n---\napiVersion: portolan.dev/v1alpha1\nkind: HTTPLoadBalancer\nmetadata:\n  name: shop\n  namespace: tenant-paris\nspec:\n  rules:\n    - backends:\n        - pool: gone\n"
        );
        fs::write(folder.path().join("fleet.yaml"), &text).unwrap();
        let (compiler, diagnostics) = compile(folder.path()).unwrap();
        let (conditions, _) = untold(folder.path(), &compiler, &diagnostics);
        let shown: Vec<_> = conditions.iter().map(|told| told.render(&Source::new(&text))).collect();
        let expected = "error: BackendNotFound: UpstreamPool tenant-paris/gone does not exist
  --> fleet.yaml:11:17
   |
11 |         - pool: gone
   |                 ^^^^
   = object: HTTPLoadBalancer tenant-paris/shop
   = field: spec.rules[0].backends[0].pool
";
        assert_eq!(shown, [expected]);

        // What is written meanwhile is not guessed about, nor is more read than may be.
        let limits = [(1, u64::MAX, true), (0, u64::MAX, false), (1, 10, false)];
        let (object, conditions) = compiler.plan().conditions.iter().next().unwrap();
        let place = compiler.object(object).and_then(|known| known.meta.place.clone());
        let found =
            |limits| read::locate(Some(folder.path()), &[(object, &conditions[0], place.clone())], limits);
        for (files, bytes, expected) in limits {
            assert_eq!(found(Limits { files, bytes })[0].is_some(), expected, "{files} files, {bytes} bytes");
        }
        fs::write(folder.path().join("fleet.yaml"), format!("# Longer.\n{text}")).unwrap();
        assert_eq!(found(read::AGAIN), [None]);
    }

    #[test]
    fn a_slice_without_its_pool_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let text = |pool: &str| {
            format!(
                "{PARIS}\n---\n{{apiVersion: portolan.dev/v1alpha1, kind: UpstreamPool, metadata: {{name: shop, namespace: tenant-paris}}, spec: {{endpointSlices: {{}}}}}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: a\n  namespace: tenant-paris\n  labels:\n    portolan.dev/pool: {pool}\naddressType: IPv4\nports: [{{port: 80}}]\nendpoints: []\n"
            )
        };
        for (pool, expected) in [
            ("shop", vec![]),
            (
                "shpo",
                vec![
                    "fleet.yaml:11:24: note: EndpointSlice tenant-paris/a: metadata.labels[\"portolan.dev/pool\"]: UpstreamPool tenant-paris/shpo does not exist or is invalid: nobody uses the slice",
                ],
            ),
        ] {
            fs::write(folder.path().join("fleet.yaml"), text(pool)).unwrap();
            let (compiler, _) = compile(folder.path()).unwrap();
            let told: Vec<_> = poolless(folder.path(), &compiler).iter().map(ToString::to_string).collect();
            assert_eq!(told, expected, "{pool}");
        }
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
