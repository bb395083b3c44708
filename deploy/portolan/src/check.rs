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

use crate::read;

pub(crate) fn check(folder: &Path) -> anyhow::Result<ExitCode> {
    let (compiler, diagnostics) = compile(folder)?;
    let mut sources: HashMap<&str, String> = HashMap::new();
    let mut errors = 0;
    for diagnostic in &diagnostics {
        let source = sources
            .entry(&diagnostic.file)
            .or_insert_with(|| fs::read_to_string(folder.join(&diagnostic.file)).unwrap_or_default());
        eprintln!("{}", diagnostic.render(source));
        errors += usize::from(diagnostic.severity == Severity::Error);
    }
    let plan = compiler.plan();
    let mut conditions: Vec<_> = plan.conditions.iter().collect();
    conditions.sort_by_key(|(object, _)| *object);
    for (object, conditions) in conditions {
        let told = diagnostics.iter().any(|diagnostic| diagnostic.object.as_ref() == Some(object));
        if told {
            continue;
        }
        let place = compiler.object(object).and_then(|known| known.meta.place.clone());
        let place = place.map_or_else(String::new, |place| format!("{place}: "));
        for condition in conditions.iter() {
            eprintln!("{place}error: {object}: {condition}");
            errors += 1;
        }
    }
    let objects: usize = Kind::ALL.iter().map(|&kind| compiler.objects(kind).count()).sum();
    println!(
        "{objects} objects, {} hosts, {} pools: {errors} {}",
        plan.hosts.len(),
        plan.pools.len(),
        if errors == 1 { "error" } else { "errors" }
    );
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
