//! The process as its admin port sees it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use portolan_admin::{ExplainRequest, Spot};
use portolan_api::Diagnostic;
use portolan_compile::Compiler;
use portolan_metrics::Metrics;
use portolan_model::condition::Condition;
use portolan_model::id::ObjectRef;
use portolan_model::intent::Place;
use portolan_model::plan::Plan;
use portolan_proxy::{Lack, View};
use portolan_source::SourceStatus;
use serde_json::{Value, json};

use crate::{log, read, verdict};

/// See the module's documentation.
pub(crate) struct State {
    /// Where the manifests lie, if in a folder.
    folder: Option<PathBuf>,
    /// How it is with an API server.
    source: SourceStatus,
    /// Held for a look-up, or as long as a batch takes.
    compiler: Arc<Mutex<Compiler>>,
    view: View,
    metrics: Arc<Metrics>,
    log: log::Handle,
    inner: Mutex<Inner>,
    draining: AtomicBool,
}

struct Inner {
    plan: Plan,
    in_force: bool,
    /// By file.
    diagnostics: BTreeMap<String, Vec<Diagnostic>>,
    lacks: Vec<String>,
    stopped_by: Option<String>,
    /// Whether it has been ready before.
    served: bool,
}

impl State {
    pub(crate) fn new(
        folder: Option<PathBuf>,
        source: SourceStatus,
        compiler: Arc<Mutex<Compiler>>,
        view: View,
        metrics: Arc<Metrics>,
        log: log::Handle,
    ) -> Self {
        let inner = Inner {
            plan: Plan::empty(),
            in_force: false,
            diagnostics: BTreeMap::new(),
            lacks: Vec::new(),
            stopped_by: None,
            served: false,
        };
        Self {
            folder,
            source,
            compiler,
            view,
            metrics,
            log,
            inner: Mutex::new(inner),
            draining: AtomicBool::new(false),
        }
    }

    /// This plan is in force now. `files` are those that `diagnostics` is about.
    pub(crate) fn in_force(&self, plan: Plan, files: &[Arc<str>], diagnostics: Vec<Diagnostic>) {
        let mut inner = self.inner.lock();
        for file in files {
            inner.diagnostics.remove(&**file);
        }
        for diagnostic in diagnostics {
            inner.diagnostics.entry(diagnostic.file.clone()).or_default().push(diagnostic);
        }
        inner.plan = plan;
        inner.in_force = true;
    }

    /// This is what the process does not have now. What is new is logged.
    pub(crate) fn lacks(&self, lacks: &[Lack]) {
        let mut inner = self.inner.lock();
        let before = std::mem::replace(&mut inner.lacks, lacks.iter().map(ToString::to_string).collect());
        let stopped = lacks.iter().filter(|lack| lack.stops_traffic());
        let nowhere = lacks.iter().filter(|lack| matches!(lack, Lack::Socket { .. })).count();
        let all = nowhere >= inner.plan.proxy.listeners.len();
        // A listener that cannot be had later must not take from clients those that are there.
        inner.stopped_by = stopped.map(ToString::to_string).next().filter(|_| all || !inner.served);
        inner.served |=
            inner.in_force && inner.stopped_by.is_none() && !inner.plan.proxy.listeners.is_empty();
        for lack in inner.lacks.iter().filter(|lack| !before.contains(lack)) {
            tracing::error!("{lack}");
        }
    }

    /// No new requests, please.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

impl portolan_admin::State for State {
    fn plan(&self) -> Plan {
        self.inner.lock().plan.clone()
    }

    fn place(&self, object: &ObjectRef) -> Option<Place> {
        self.compiler.lock().object(object)?.meta.place.clone()
    }

    fn spots(&self, conditions: &[(&ObjectRef, &Condition)]) -> Vec<Option<Spot>> {
        let placed = {
            let compiler = self.compiler.lock();
            let place = |object| compiler.object(object).and_then(|known| known.meta.place.clone());
            conditions
                .iter()
                .map(|&(object, condition)| (object, condition, place(object)))
                .collect::<Vec<_>>()
        };
        let spots = read::locate(self.folder.as_deref(), &placed, read::AGAIN);
        let spot = |portolan_api::Spot { line, column, found }| Spot { line, column, found };
        spots.into_iter().map(|found| found.map(spot)).collect()
    }

    fn diagnostics(&self) -> Value {
        let inner = self.inner.lock();
        let read = inner.diagnostics.values().flatten().map(|diagnostic| {
            json!({
                "severity": diagnostic.severity.to_string(),
                "object": diagnostic.object.as_ref().map(ToString::to_string),
                "file": diagnostic.file,
                "line": diagnostic.line,
                "column": diagnostic.column,
                "field": diagnostic.field,
                "message": diagnostic.to_string(),
            })
        });
        let lacks = inner.lacks.iter().map(|lack| json!({"severity": "error", "message": lack}));
        let now = Instant::now();
        let troubles = self.source.troubles();
        let troubles = troubles.iter().map(|it| json!({"severity": "error", "message": it.message(now)}));
        read.chain(lacks).chain(troubles).collect()
    }

    fn metrics(&self) -> String {
        let plan = self.plan();
        let mut reasons = BTreeMap::new();
        for (_, conditions) in plan.conditions.iter() {
            for condition in conditions.iter() {
                *reasons.entry(format!("{:?}", condition.reason)).or_insert(0) += 1;
            }
        }
        // What no object's condition says: files, documents, duplicates, what the machine does not give.
        let inner = self.inner.lock();
        let told = inner.diagnostics.values().map(Vec::len).sum::<usize>() + inner.lacks.len();
        drop(inner);
        let told = told + self.source.troubles().len();
        if told > 0 {
            reasons.insert("Diagnostic".to_owned(), told);
        }
        self.metrics.set_ready(self.not_ready().is_none());
        self.metrics.set_stale(self.source.stale(Instant::now()));
        self.metrics.set_conditions(reasons.iter().map(|(reason, count)| (reason.as_str(), *count)));
        self.view.metrics()
    }

    fn not_ready(&self) -> Option<String> {
        if self.draining.load(Ordering::Relaxed) {
            return Some("draining".into());
        }
        let inner = self.inner.lock();
        match (inner.in_force, &inner.stopped_by) {
            (false, _) => {
                let yet = "no configuration is in force yet".to_owned();
                match self.source.troubles().into_iter().next() {
                    Some(why) => Some(format!("{yet}: {}: {}", why.subject, why.reason)),
                    None => Some(yet),
                }
            }
            (true, Some(error)) => Some(error.clone()),
            (true, None) if inner.plan.proxy.listeners.is_empty() => {
                Some("there is no listener: see the conditions of the Proxy".into())
            }
            (true, None) => None,
        }
    }

    fn explain(&self, request: &ExplainRequest) -> Result<Value, String> {
        let refused = self.compiler.lock().refused(&request.host);
        Ok(verdict::explain(&self.plan(), request, &refused, |pool| self.view.endpoints(pool)))
    }

    fn certificates(&self) -> Value {
        let certificates = self.view.certificates();
        certificates.iter().map(|listed| json!({"secret": listed.secret, "facts": listed.facts})).collect()
    }

    fn set_log_level(&self, filter: &str) -> Result<(), String> {
        log::set(&self.log, filter)
    }

    fn log_level(&self) -> String {
        log::level(&self.log)
    }
}
