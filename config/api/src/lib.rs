//! The custom resources, their reader with diagnostics, and the way into the model.
//!
//! ```text
//!  a file ───────► Reader ──► typed object ──► conversion ──► portolan_model::intent::Object
//!  an API object ───────────────────┘              └────────► Diagnostic, FieldError
//!  crate::kinds ─► crds()
//! ```
//!
//! The one way in for both: what a folder refuses, the conversion of API objects refuses in the same words.

pub mod contract;
mod convert;
mod crds;
mod diagnostic;
mod field;
pub mod kinds;
mod plain;
mod reader;
mod shape;
mod yaml;

pub use convert::{
    Checks, Convert, Converted, Cx, Names, Resource, from_api, is_cluster_name, is_object_name,
};
pub use crds::{crd_files, crds, definitions};
pub use diagnostic::{Diagnostic, Severity};
pub use field::{FieldError, FieldPath, Step};
pub use plain::{YamlError, from_yaml, to_yaml};
pub use reader::{FileObjects, Reader, Source, Spot};
