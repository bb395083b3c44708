//! What the admin port is told by the rest of the process.

use portolan_model::condition::Condition;
use portolan_model::id::ObjectRef;
use portolan_model::intent::Place;
use portolan_model::plan::Plan;
use serde::Serialize;
use serde_json::Value;

use crate::explain::ExplainRequest;

/// The process as the admin port sees it. Every method may be slow: none is called on the runtime's own threads, except
/// [`State::not_ready`] and the log level's.
pub trait State: Send + Sync + 'static {
    /// What is in force.
    fn plan(&self) -> Plan;

    /// What could not be read: an array.
    fn diagnostics(&self) -> Value;

    /// Where an object stands, if it came from a folder.
    fn place(&self, _object: &ObjectRef) -> Option<Place> {
        None
    }

    /// Where the fields of these conditions stand, one answer for each; nothing where that cannot be told.
    fn spots(&self, conditions: &[(&ObjectRef, &Condition)]) -> Vec<Option<Spot>> {
        vec![None; conditions.len()]
    }

    /// All metrics, in Prometheus' text format.
    fn metrics(&self) -> String;

    /// Why no requests should be sent here yet, or any more.
    fn not_ready(&self) -> Option<String>;

    /// What would become of a request, or why that cannot be said.
    fn explain(&self, request: &ExplainRequest) -> Result<Value, String>;

    /// The certificates in use: names and expiry, no keys.
    fn certificates(&self) -> Value;

    /// Logs by that filter from now on, or says what is wrong with it.
    fn set_log_level(&self, filter: &str) -> Result<(), String>;

    /// The filter in force.
    fn log_level(&self) -> String;
}

/// Where in its file a field stands, both from 1, and what is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spot {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
    /// The text; empty where the field is missing, spans lines, or is secret.
    pub found: String,
}

/// How much of it a port offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything: for people on the machine itself.
    Full,
    /// `/metrics`, `/livez` and `/readyz`: for scrapers and probes from elsewhere.
    Probes,
}
