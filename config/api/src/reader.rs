//! From the text of a file to objects of the model, or to what is wrong with them.
//!
//! ```text
//!  text ─► documents ─► tree ─► who is it? ─► shape ─► typed spec ─► conversion ─► Object
//!                         │          │           │                       │
//!                         └──────────┴───────────┴───── diagnostics ─────┘
//! ```
//!
//! Invariant: an object comes out only if nothing at all is wrong with it, and one bad document never hides another.
//! Cost: each document is parsed once and walked a few times; nothing is kept but names that objects share.

mod identity;
mod source;
mod standard;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use portolan_model::host::HostName;
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::{Meta, Object, Place};
use serde::Deserialize;

use self::identity::{Identity, Who, identify};
use self::source::locate;
pub use self::source::{Source, Spot};
use crate::contract::POOL_LABEL;
use crate::convert::{Checks, Convert, Cx, Names};
use crate::diagnostic::{Diagnostic, Severity, is_secret};
use crate::field::{At, FieldError, FieldPath, Step};
use crate::kinds;
use crate::shape::{Misfit, spec_shape, unknown};
use crate::yaml::{DeError, Document, Node, Position, Problem, Value, documents, from_node, parse};

/// Longer documents are refused unread. (An API server refuses objects past 1.5 MiB, but a `List` holds many.)
const MAX_DOCUMENT: usize = 16 << 20;
/// More documents in one file than this are refused.
const MAX_DOCUMENTS: usize = 1_000_000;
/// What is told about one object at most.
const MAX_DIAGNOSTICS: usize = 64;

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub struct FileObjects {
    /// The objects that are right, in the order written.
    pub objects: Vec<Object>,
    /// The objects that are there but cannot be used, and why: their last good version stays in force.
    pub invalid: Vec<(ObjectRef, Vec<Diagnostic>)>,
    /// What is to be told besides. An error here belongs to no object that could be named.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether a document is not right as YAML: it may hide objects that are neither here nor told of, as where a `---` is
    /// missing or the file ends too early.
    pub torn: bool,
}

impl FileObjects {
    /// Whether no document stands in it: it is blank but for comments.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.invalid.is_empty() && self.diagnostics.is_empty()
    }

    /// Everything that is to be told, by line.
    pub fn all_diagnostics(&self) -> Vec<&Diagnostic> {
        let invalid = self.invalid.iter().flat_map(|(_, diagnostics)| diagnostics);
        let mut all: Vec<_> = self.diagnostics.iter().chain(invalid).collect();
        all.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        all
    }
}

/// Reads files whose objects share their names.
#[derive(Debug)]
pub struct Reader {
    checks: Checks,
    names: Names,
}

impl Reader {
    /// A reader that knows no names yet.
    pub fn new(checks: Checks) -> Self {
        Self { checks, names: Names::default() }
    }

    /// Reads one file; `file` is its name relative to the folder. YAML of many documents, or JSON.
    pub fn read(&mut self, file: &str, text: &str) -> FileObjects {
        let mut read = Reading { reader: self, file: file.into(), out: FileObjects::default(), cut: false };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, document) in documents(text).enumerate() {
            if index >= MAX_DOCUMENTS {
                let at = Position { line: document.lines_before.saturating_add(1), column: 1 };
                let message =
                    format!("more than {MAX_DOCUMENTS} documents in one file: the rest is not read");
                let flaw = read.flaw(at, FieldPath::default(), message);
                read.out.diagnostics.push(flaw);
                break;
            }
            read.document(document);
        }
        read.out
    }
}

/// One file being read.
struct Reading<'r> {
    reader: &'r mut Reader,
    file: Arc<str>,
    out: FileObjects,
    /// Whether the last of the document's flaws cuts it short.
    cut: bool,
}

impl Reading<'_> {
    fn document(&mut self, document: Document<'_>) {
        if document.text.len() > MAX_DOCUMENT {
            let at = Position { line: document.lines_before.saturating_add(1), column: 1 };
            let message = format!("the document is longer than {} MiB", MAX_DOCUMENT >> 20);
            let flaw = self.flaw(at, FieldPath::default(), message);
            self.out.diagnostics.push(flaw);
            return;
        }
        let (node, problems) = parse(document.text, document.lines_before);
        self.out.torn |= !problems.is_empty();
        self.cut = problems.last().is_some_and(|problem| problem.cut);
        let mut flaws: Vec<_> = problems.into_iter().map(|problem| self.problem(problem)).collect();
        if !flaws.is_empty() && document.text.contains("Secret") {
            flaws.iter_mut().for_each(hide);
        }
        match node {
            Some(node) if !(node.is_null() && flaws.is_empty()) => self.manifest(&node, flaws, false),
            _ => self.out.diagnostics.append(&mut flaws),
        }
    }

    /// Reads one manifest. `flaws` is what is wrong with its document already.
    fn manifest(&mut self, node: &Node<'_>, mut flaws: Vec<Diagnostic>, listed: bool) {
        let who = identify(node, &mut self.reader.names, listed);
        match who {
            Who::List(items) => self.list(node, items, flaws),
            Who::Foreign(at, message, suggestion) => {
                let mut note = self.flaw(at, FieldPath::default(), message);
                note.severity = Severity::Note;
                note.suggestion = suggestion;
                self.out.diagnostics.append(&mut flaws);
                self.out.diagnostics.push(note);
            }
            Who::Nobody(misfits) => {
                // What cuts a document short explains what it lacks.
                if flaws.is_empty() {
                    flaws.extend(misfits.into_iter().map(|misfit| self.misfit(misfit)));
                }
                if !listed || self.out.diagnostics.last() != flaws.last() {
                    self.out.diagnostics.append(&mut flaws);
                }
            }
            Who::Somebody(identity) => self.object(node, identity, flaws),
        }
    }

    /// Reads the items of a `List`, each with the flaws that stand in it.
    fn list(&mut self, node: &Node<'_>, items: &[Node<'_>], mut flaws: Vec<Diagnostic>) {
        if items.is_empty() {
            let mut note = self.flaw(node.at, FieldPath::default(), "the List is empty".to_owned());
            note.severity = Severity::Note;
            self.out.diagnostics.push(note);
        }
        let mut starts: Vec<_> = items.iter().map(|item| item.at).collect();
        starts.sort_unstable();
        let end = end_of_items(node);
        let mut of_items: BTreeMap<Position, Vec<Diagnostic>> = BTreeMap::new();
        // Wherever it is told, what cuts the document short cuts the last item, unless something stands behind that.
        if let Some(last) = items.last().filter(|_| self.cut && end.is_none()) {
            of_items.entry(last.at).or_default().extend(flaws.pop());
        }
        for flaw in flaws {
            let at = Position { line: flaw.line, column: flaw.column };
            let before = starts.partition_point(|&start| start <= at);
            let start = before.checked_sub(1).filter(|_| end.is_none_or(|end| at < end));
            match start.and_then(|start| starts.get(start)) {
                Some(&start) => of_items.entry(start).or_default().push(flaw),
                None => self.out.diagnostics.push(flaw),
            }
        }
        for item in items {
            self.manifest(item, of_items.get(&item.at).cloned().unwrap_or_default(), true);
        }
    }

    fn object(&mut self, node: &Node<'_>, identity: Identity<'_>, mut flaws: Vec<Diagnostic>) {
        let Identity { kind, id, pool, created, misfits } = identity;
        let whole = flaws.is_empty();
        // What cuts a document short explains what it lacks.
        let result = if whole {
            flaws.extend(misfits.into_iter().map(|misfit| self.misfit(misfit)));
            self.convert(node, kind, id.as_ref(), pool, &mut flaws)
        } else {
            None
        };
        for flaw in &mut flaws {
            flaw.object.clone_from(&id);
            if is_secret(kind) {
                hide(flaw);
            }
        }
        let surplus = flaws.len().saturating_sub(MAX_DIAGNOSTICS);
        if surplus > 0 {
            flaws.truncate(MAX_DIAGNOSTICS);
            let mut more = self.flaw(
                node.at,
                FieldPath::default(),
                format!("{surplus} or more errors besides in this object"),
            );
            more.object.clone_from(&id);
            flaws.push(more);
        }
        match (id, result) {
            (Some(_), Some(Ok(mut object))) if flaws.is_empty() => {
                object.meta.created = created;
                object.meta.host = (kind == Kind::HttpLoadBalancer).then(|| status_host(node)).flatten();
                self.out.objects.push(*object);
            }
            (Some(id), Some(Err(reason))) if flaws.is_empty() => {
                let mut note = self.flaw(node.at, FieldPath::default(), format!("left aside: {reason}"));
                note.severity = Severity::Note;
                note.object = Some(id);
                note.secret = is_secret(kind);
                self.out.diagnostics.push(note);
            }
            (Some(id), _) => self.out.invalid.push((id, flaws)),
            (None, _) => self.out.diagnostics.append(&mut flaws),
        }
    }

    /// The object, or why it is none of ours; nothing where `flaws` says why.
    fn convert(
        &mut self,
        node: &Node<'_>,
        kind: Kind,
        id: Option<&ObjectRef>,
        pool: Option<&str>,
        flaws: &mut Vec<Diagnostic>,
    ) -> Option<Result<Box<Object>, &'static str>> {
        // Without a name the rest is checked all the same.
        let nobody = ObjectRef::new(kind, "", "nobody");
        let id = id.unwrap_or(&nobody);
        let slips = standard::slips(kind, node, pool);
        if !slips.is_empty() {
            // What they name is missing besides: said once.
            flaws.extend(slips.into_iter().map(|slip| self.misfit(slip)));
            return None;
        }
        match kind {
            Kind::Proxy => self.spec::<kinds::ProxySpec>(node, id, flaws),
            Kind::Cluster => self.spec::<kinds::ClusterSpec>(node, id, flaws),
            Kind::HttpLoadBalancer => self.spec::<kinds::HTTPLoadBalancerSpec>(node, id, flaws),
            Kind::UpstreamPool => self.spec::<kinds::UpstreamPoolSpec>(node, id, flaws),
            Kind::NodeSet => self.spec::<kinds::NodeSetSpec>(node, id, flaws),
            Kind::TrafficPolicy => self.spec::<kinds::TrafficPolicySpec>(node, id, flaws),
            Kind::EndpointSlice => self.typed::<EndpointSlice>(node, node, id, pool, &[], flaws),
            Kind::Secret => self.typed::<Secret>(node, node, id, pool, &[], flaws),
            Kind::ConfigMap => self.typed::<ConfigMap>(node, node, id, pool, &[], flaws),
        }
    }

    /// One of our own kinds: all its fields must be known, and have the shape of the schema.
    fn spec<'n, T: Deserialize<'n> + Convert>(
        &mut self,
        node: &'n Node<'n>,
        id: &ObjectRef,
        flaws: &mut Vec<Diagnostic>,
    ) -> Option<Result<Box<Object>, &'static str>> {
        let mut misfits = Vec::new();
        if let Value::Mapping(entries) = &node.value {
            const KNOWN: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
            let strangers = entries.iter().filter(|entry| !KNOWN.contains(&&*entry.key));
            misfits.extend(strangers.map(|entry| unknown(entry, KNOWN.into_iter(), None)));
        }
        let spec = node.entry("spec");
        match spec {
            Some(entry) => {
                if let Some(shape) = spec_shape(id.kind) {
                    shape.check(&entry.value, &At::top("spec"), entry.at, &mut misfits);
                }
            }
            None => misfits.push(Misfit {
                path: At::top("spec").path(),
                at: node.at,
                found: String::new(),
                message: "the field \"spec\" is missing".to_owned(),
                expected: None,
                suggestion: None,
                fatal: true,
            }),
        }
        let fatal = misfits.iter().any(|misfit| misfit.fatal);
        let paths: Vec<_> = misfits.iter().map(|misfit| misfit.path.clone()).collect();
        flaws.extend(misfits.into_iter().map(|misfit| self.misfit(misfit)));
        let spec = spec.filter(|_| !fatal)?;
        self.typed::<T>(node, &spec.value, id, None, &paths, flaws)
    }

    /// Makes a `T` of `part` of the manifest and converts it. What is wrong at one of `told` or above has been told.
    fn typed<'n, T: Deserialize<'n> + Convert>(
        &mut self,
        node: &'n Node<'n>,
        part: &'n Node<'n>,
        id: &ObjectRef,
        pool: Option<&str>,
        told: &[FieldPath],
        flaws: &mut Vec<Diagnostic>,
    ) -> Option<Result<Box<Object>, &'static str>> {
        let typed: T = match from_node(part) {
            Ok(typed) => typed,
            Err(error) => {
                let whole = std::ptr::eq(node, part);
                flaws.push(self.mistyped(error, node, whole, is_secret(id.kind)));
                return None;
            }
        };
        let mut cx = Cx::new(id, pool, &self.reader.checks, &mut self.reader.names);
        let spec = typed.convert(&mut cx);
        match cx.finish(spec) {
            Ok(Ok((spec, origin))) => {
                let place = Place { file: Arc::clone(&self.file), line: node.at.line };
                let id = id.clone();
                let meta = Meta { id, created: None, generation: 0, origin, host: None, place: Some(place) };
                Some(Ok(Box::new(Object { meta, spec })))
            }
            Ok(Err(reason)) => Some(Err(reason)),
            Err(errors) => {
                let news =
                    errors.into_iter().filter(|error| !told.iter().any(|path| path.is_under(&error.path)));
                let news: Vec<_> = news.map(|error| self.field_error(node, error)).collect();
                flaws.extend(news);
                None
            }
        }
    }

    /// An error at a place.
    fn flaw(&self, at: Position, field: FieldPath, message: String) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            object: None,
            file: self.file.to_string(),
            line: at.line,
            column: at.column,
            field: field.to_string(),
            found: String::new(),
            message,
            expected: None,
            suggestion: None,
            secret: false,
        }
    }

    fn problem(&self, problem: Problem) -> Diagnostic {
        let Problem { at, found, message, cut: _ } = problem;
        Diagnostic { found, ..self.flaw(at, FieldPath::default(), message) }.bounded()
    }

    fn misfit(&self, misfit: Misfit) -> Diagnostic {
        let Misfit { path, at, found, message, expected, suggestion, fatal: _ } = misfit;
        Diagnostic { found, expected, suggestion, ..self.flaw(at, path, message) }.bounded()
    }

    fn mistyped(&self, error: DeError, node: &Node<'_>, whole: bool, secret: bool) -> Diagnostic {
        let mut path = error.path;
        if !whole {
            path.0.insert(0, Step::field("spec"));
        }
        // serde quotes what it was given.
        let message = if secret { "the value cannot be read".to_owned() } else { error.message };
        let (at, found) = locate(node, &path);
        Diagnostic { found, ..self.flaw(error.at.unwrap_or(at), path, message) }.bounded()
    }

    fn field_error(&self, node: &Node<'_>, error: FieldError) -> Diagnostic {
        let FieldError { path, message, expected, suggestion } = error;
        let (at, found) = locate(node, &path);
        Diagnostic { found, expected, suggestion, ..self.flaw(at, path, message) }.bounded()
    }
}

/// The generated name that a manifest's status has, as those have that were read from an API server.
fn status_host(node: &Node<'_>) -> Option<HostName> {
    HostName::parse(node.get("status")?.get("host")?.text()?).ok()
}

/// Where the next field of a `List` stands behind its items.
fn end_of_items(list: &Node<'_>) -> Option<Position> {
    let Value::Mapping(entries) = &list.value else { return None };
    let items = list.entry("items")?.at;
    entries.iter().map(|entry| entry.at).filter(|&at| at > items).min()
}

/// Keeps a secret out of what is shown.
fn hide(flaw: &mut Diagnostic) {
    flaw.secret = true;
    flaw.found.clear();
}
