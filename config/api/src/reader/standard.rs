//! Which fields of Kubernetes' own kinds are slips of fields that are read?
//!
//! These kinds grow with Kubernetes, so that a field which nobody knows here is passed over, unless it is within two letters of
//! one that is read: without that one the object would mean something else. Cost: one walk over the object.

use portolan_model::id::Kind;

use crate::field::{At, nearest};
use crate::shape::{Misfit, unknown};
use crate::yaml::{Node, Value};

/// More than this in one object is not told.
const MAX_SLIPS: usize = 64;

/// The fields of a mapping, or of each mapping in a list.
struct Fields {
    /// Those that are read, and what is in them.
    read: &'static [(&'static str, Option<&'static Fields>)],
    /// Others of Kubernetes.
    passed: &'static [&'static str],
}

const ENDPOINT_SLICE: Fields = Fields {
    read: &[("addressType", None), ("endpoints", Some(&ENDPOINT)), ("ports", Some(&PORT))],
    passed: &["apiVersion", "kind", "metadata"],
};
const ENDPOINT: Fields = Fields {
    read: &[("addresses", None), ("conditions", Some(&CONDITIONS)), ("zone", None)],
    passed: &["deprecatedTopology", "hints", "hostname", "nodeName", "targetRef"],
};
const CONDITIONS: Fields =
    Fields { read: &[("ready", None), ("serving", None), ("terminating", None)], passed: &[] };
const PORT: Fields =
    Fields { read: &[("name", None), ("port", None), ("protocol", None)], passed: &["appProtocol"] };
const SECRET: Fields = Fields {
    read: &[("data", None), ("stringData", None), ("type", None)],
    passed: &["apiVersion", "kind", "metadata", "immutable"],
};
const CONFIG_MAP: Fields = Fields {
    read: &[("data", None)],
    passed: &["apiVersion", "kind", "metadata", "binaryData", "immutable"],
};

/// The slips in a manifest of that kind; none in our own kinds, whose schema says more. `pool` is the value of a slice's label.
pub(super) fn slips(kind: Kind, node: &Node<'_>, pool: Option<&str>) -> Vec<Misfit> {
    let is_tls = || node.get("type").and_then(Node::text) == Some("kubernetes.io/tls");
    let fields = match kind {
        Kind::EndpointSlice if pool.is_some() => &ENDPOINT_SLICE,
        Kind::Secret if is_tls() => &SECRET,
        Kind::ConfigMap => &CONFIG_MAP,
        _ => return Vec::new(),
    };
    let mut misfits = Vec::new();
    fields.check(node, None, &mut misfits);
    misfits
}

impl Fields {
    fn check(&self, node: &Node<'_>, path: Option<&At<'_>>, misfits: &mut Vec<Misfit>) {
        match &node.value {
            Value::Mapping(entries) => {
                for entry in entries {
                    if misfits.len() >= MAX_SLIPS {
                        return;
                    }
                    let key: &str = &entry.key;
                    let path = path.map_or_else(|| At::top(key), |path| path.field(key));
                    match self.read.iter().find(|(name, _)| *name == key) {
                        Some((_, Some(within))) => within.check(&entry.value, Some(&path), misfits),
                        Some((_, None)) => {}
                        None if self.passed.contains(&key) => {}
                        None => misfits.extend(self.slip(key).then(|| Misfit {
                            path: path.path(),
                            ..unknown(entry, self.read.iter().map(|(name, _)| *name), None)
                        })),
                    }
                }
            }
            Value::Sequence(items) => {
                let Some(path) = path else { return };
                for (index, item) in items.iter().enumerate() {
                    self.check(item, Some(&path.index(index)), misfits);
                }
            }
            Value::Scalar(..) => {}
        }
    }

    /// Whether a field is closest to one that is read.
    fn slip(&self, key: &str) -> bool {
        let read = self.read.iter().map(|(name, _)| *name);
        let near = nearest(key, read.clone().chain(self.passed.iter().copied()));
        near.is_some_and(|near| {
            let letters = strsim::damerau_levenshtein(&key.to_ascii_lowercase(), &near.to_ascii_lowercase());
            letters <= 2 && read.clone().any(|name| name == near)
        })
    }
}
