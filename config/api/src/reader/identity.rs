//! Who does a manifest speak of?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use portolan_model::id::{Kind, ObjectRef};

use super::POOL_LABEL;
use crate::convert::{Names, label, object_name};
use crate::diagnostic::shorten;
use crate::field::{At, FieldPath, nearest};
use crate::shape::{Misfit, excerpt, one_of, unknown};
use crate::yaml::{Node, Position, Value, from_node};

const GROUP: &str = "portolan.dev";
const API_VERSION: &str = "portolan.dev/v1alpha1";

/// The longest name of an object (RFC 1123 §2.1); nobody goes by a longer one.
const LONGEST: usize = 253;

/// Among this many fields a misspelt one is looked for: a manifest has five.
const FIELDS: usize = 64;

/// The fields of Kubernetes' `ObjectMeta`.
const METADATA: [&str; 15] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Whom a manifest speaks of.
pub(super) enum Who<'n> {
    /// An object of a kind that is read.
    Somebody(Identity<'n>),
    /// The items of a `List`.
    List(&'n [Node<'n>]),
    /// Something of no interest here: where that is said, what, and what was probably meant.
    Foreign(Position, String, Option<String>),
    /// It cannot be told.
    Nobody(Vec<Misfit>),
}

/// An object of a kind that is read.
pub(super) struct Identity<'n> {
    pub(super) kind: Kind,
    /// Not known if name or namespace are missing, or too long for any object.
    pub(super) id: Option<ObjectRef>,
    /// The value of [`POOL_LABEL`].
    pub(super) pool: Option<&'n str>,
    /// Seconds since 1970 at which it was created, if that is said.
    pub(super) created: Option<i64>,
    /// What is wrong with the metadata.
    pub(super) misfits: Vec<Misfit>,
}

/// Whom a manifest speaks of; `listed` says that it stands in a `List`.
pub(super) fn identify<'n>(node: &'n Node<'n>, names: &mut Names, listed: bool) -> Who<'n> {
    if !matches!(node.value, Value::Mapping(_)) {
        let mut misfit = misfit(node.at, FieldPath::default(), "a manifest is a mapping".to_owned());
        misfit.found = excerpt(node);
        misfit.expected = Some("apiVersion, kind, metadata and spec".to_owned());
        return Who::Nobody(vec![misfit]);
    }
    let mut misfits = Vec::new();
    let api_version = required_text(node, "apiVersion", &mut misfits);
    let kind = required_text(node, "kind", &mut misfits);
    let (Some((api_version, at_version)), Some((kind, at_kind))) = (api_version, kind) else {
        return Who::Nobody(misfits);
    };
    if (api_version, kind) == ("v1", "List") && !listed {
        return match node.get("items").map(|items| &items.value) {
            Some(Value::Sequence(items)) => Who::List(items),
            _ => Who::Nobody(vec![misfit(at_kind, At::top("items").path(), "a List needs items".to_owned())]),
        };
    }
    let known = Kind::ALL.into_iter().find(|k| k.as_str() == kind && k.api_version() == api_version);
    match known {
        Some(kind) => Who::Somebody(metadata(node, kind, names, misfits)),
        None => match stranger(api_version, at_version, kind, at_kind) {
            Some(misfit) => Who::Nobody(vec![misfit]),
            None => foreign(api_version, at_version, kind, at_kind),
        },
    }
}

/// A kind that is none of those read, and which of Kubernetes' own was probably meant.
fn foreign<'n>(api_version: &str, at_version: Position, kind: &str, at_kind: Position) -> Who<'n> {
    let group = |api_version: &str| api_version.rsplit_once('/').map(|(group, _)| group.to_owned());
    let other = Kind::ALL.into_iter().find(|other| other.as_str() == kind);
    if let Some(read) = other.map(Kind::api_version).filter(|read| group(read) == group(api_version)) {
        let message = format!("left aside: {} {kind}: only {read} is read", shorten(api_version));
        return Who::Foreign(at_version, message, Some(read.to_owned()));
    }
    let alike = Kind::ALL.into_iter().filter(|other| other.api_version() == api_version).map(Kind::as_str);
    let list = Some("List").filter(|_| api_version == "v1");
    let meant = nearest(kind, alike.chain(list)).map(str::to_owned);
    let message = format!("left aside: {} {} is of no interest here", shorten(api_version), shorten(kind));
    Who::Foreign(at_kind, message, meant)
}

/// What is wrong with a kind that claims, or was probably meant, to be ours.
fn stranger(api_version: &str, at_version: Position, kind: &str, at_kind: Position) -> Option<Misfit> {
    let ours = || Kind::ALL.into_iter().filter(|kind| kind.api_version() == API_VERSION).map(Kind::as_str);
    let group = api_version.split('/').next().unwrap_or_default();
    if api_version == API_VERSION {
        let found = shorten(kind);
        let message = format!("unknown kind {found:?} of {API_VERSION}");
        let mut misfit = misfit(at_kind, At::top("kind").path(), message);
        misfit.found = found;
        misfit.expected = Some(one_of(ours()));
        misfit.suggestion = nearest(kind, ours()).map(str::to_owned);
        return Some(misfit);
    }
    let near = || group.len() <= 2 * GROUP.len() && strsim::levenshtein(group, GROUP) <= 3;
    let meant = group == GROUP || (ours().any(|name| name == kind) && near());
    meant.then(|| {
        let found = shorten(api_version);
        let message = format!("unknown apiVersion {found:?}");
        let mut misfit = misfit(at_version, At::top("apiVersion").path(), message);
        misfit.found = found;
        misfit.expected = Some(API_VERSION.to_owned());
        misfit.suggestion = Some(API_VERSION.to_owned());
        misfit
    })
}

fn metadata<'n>(node: &'n Node<'n>, kind: Kind, names: &mut Names, mut misfits: Vec<Misfit>) -> Identity<'n> {
    let at = At::top("metadata");
    let Some(entry) = node.entry("metadata") else {
        misfits.push(misfit(node.at, at.path(), "the field \"metadata\" is missing".to_owned()));
        return Identity { kind, id: None, pool: None, created: None, misfits };
    };
    let Value::Mapping(fields) = &entry.value.value else {
        let mut misfit = misfit(entry.at, at.path(), "a mapping belongs here".to_owned());
        misfit.found = excerpt(&entry.value);
        misfits.push(misfit);
        return Identity { kind, id: None, pool: None, created: None, misfits };
    };
    let strangers = fields.iter().filter(|field| !METADATA.contains(&&*field.key));
    misfits.extend(strangers.map(|field| unknown(field, METADATA.into_iter(), Some(&at))));

    let mut text = |field: &'static str, missing: bool| {
        let path = at.field(field).path();
        match entry.value.entry(field) {
            Some(found) => {
                let text = found.value.text().filter(|text| !text.is_empty());
                if text.is_none() {
                    let message = format!("{} where a string belongs", found.value.describe());
                    let mut misfit = misfit(found.value.at.max(found.at), path, message);
                    misfit.found = excerpt(&found.value);
                    let quoted = Some(misfit.found.clone()).filter(|found| !found.is_empty());
                    misfit.suggestion = quoted.map(|found| format!("\"{found}\""));
                    misfits.push(misfit);
                }
                text.map(|text| (text, found.value.at))
            }
            None if missing => {
                misfits.push(misfit(entry.at, path, format!("the field {field:?} is missing")));
                None
            }
            None => None,
        }
    };
    let name = text("name", true);
    let namespace = text("namespace", !kind.is_cluster_scoped());

    if let Some((name, place)) = name
        && let Err(flaw) = object_name(name)
    {
        misfits.push(flawed(flaw, place, at.field("name").path(), name));
    }
    let namespace = match namespace {
        Some((namespace, place)) if kind.is_cluster_scoped() => {
            let message = format!("a {kind} lives in no namespace");
            let mut misfit = misfit(place, at.field("namespace").path(), message);
            misfit.found = shorten(namespace);
            misfits.push(misfit);
            Some("")
        }
        Some((namespace, place)) => {
            if let Err(flaw) = label(namespace) {
                misfits.push(flawed(flaw, place, at.field("namespace").path(), namespace));
            }
            Some(namespace)
        }
        None => kind.is_cluster_scoped().then_some(""),
    };
    let id = name
        .zip(namespace)
        .filter(|((name, _), namespace)| name.len() <= LONGEST && namespace.len() <= LONGEST)
        .map(|((name, _), namespace)| ObjectRef::new(kind, names.share(namespace), name));
    let labels = entry.value.get("labels");
    let pool = labels.and_then(|labels| labels.get(POOL_LABEL)).and_then(Node::text);
    let created = entry.value.entry("creationTimestamp").filter(|found| !found.value.is_null());
    let created = created.and_then(|found| match from_node::<Time>(&found.value) {
        Ok(time) => Some(time.0.as_second()),
        Err(_) => {
            let path = at.field("creationTimestamp").path();
            let message = format!("{} where a time belongs", found.value.describe());
            let mut misfit = misfit(found.value.at, path, message);
            misfit.found = excerpt(&found.value);
            misfit.expected = Some("a time such as 2026-01-31T12:00:00Z".to_owned());
            misfits.push(misfit);
            None
        }
    });
    Identity { kind, id, pool, created, misfits }
}

fn required_text<'n>(
    node: &'n Node<'n>,
    field: &'static str,
    misfits: &mut Vec<Misfit>,
) -> Option<(&'n str, Position)> {
    let path = At::top(field).path();
    match node.entry(field) {
        Some(entry) => match entry.value.text() {
            Some(text) => Some((text, entry.value.at)),
            None => {
                let message = format!("{} where a string belongs", entry.value.describe());
                misfits.push(misfit(entry.at, path, message));
                None
            }
        },
        None => {
            let mut missing = misfit(node.at, path, format!("the field {field:?} is missing"));
            if let Value::Mapping(entries) = &node.value
                && let Some(near) = nearest(field, entries.iter().take(FIELDS).map(|entry| &*entry.key))
            {
                missing.expected = Some(format!("{field:?} in place of {near:?}"));
            }
            misfits.push(missing);
            None
        }
    }
}

fn misfit(at: Position, path: FieldPath, message: String) -> Misfit {
    Misfit { path, at, found: String::new(), message, expected: None, suggestion: None, fatal: true }
}

fn flawed(flaw: crate::convert::Flaw, at: Position, path: FieldPath, found: &str) -> Misfit {
    let crate::convert::Flaw { message, expected, suggestion } = flaw;
    Misfit { path, at, found: shorten(found), message, expected, suggestion, fatal: false }
}
