//! YAML as far as manifests need it: a stream cut into documents, a document read into a tree that knows where
//! each of its parts stands, and that tree handed to serde.
//!
//! ```text
//!  text ─► documents ─► granit-parser's events ─► Node ─► serde ─► the types of crate::kinds
//! ```
//!
//! Only the parser's events are taken from a library: what wants a line and a column for each key and value, several
//! errors a document and a tree for what an error cuts short is a tree, and a tree is short.

mod de;
mod documents;
mod node;

pub(crate) use de::{DeError, from_node};
pub(crate) use documents::{Document, documents, lines};
pub(crate) use node::{Entry, Node, Position, Problem, Scalar, Value, parse};
