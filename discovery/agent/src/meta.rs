//! What all objects have: metadata as it is written, a revision, a digest by which it is compared.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write};

use kube::api::ObjectMeta;
use portolan_api::contract::{AGENT, MANAGED_BY_LABEL};
use serde::Serialize;

/// The metadata of an object to apply: its name, and whose it is.
pub fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), AGENT.to_owned())])),
        ..ObjectMeta::default()
    }
}

/// The revision of an object, which grows with every write; 0 where there is none.
pub fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// A digest of whatever can be written down; equal only within a process.
pub fn digest(value: &impl Serialize) -> u64 {
    let mut sink = Sink(DefaultHasher::new());
    // Neither the sink nor our own types fail.
    let _ = serde_json::to_writer(&mut sink, value);
    sink.0.finish()
}

struct Sink(DefaultHasher);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
