//! How is a kind spelled in requests, and what does the text of one of its objects come to?
//!
//! An object is read by itself, from the text that the server sent: what does not fit its type concerns nobody else. Cost: one
//! pass over the text, a second one where something is wrong, to name the field.

use std::panic::{AssertUnwindSafe, catch_unwind};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource as _;
use portolan_api::contract::POOL_LABEL;
use portolan_api::{Checks, Converted, FieldError, Names, Resource, from_api, kinds};
use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::id::Kind;
use portolan_model::intent::Object;
use serde::de::DeserializeOwned;

/// What an object's text comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Read {
    /// An object of the model.
    Object(Box<Object>),
    /// Nothing of ours.
    Ignored,
    /// Something that cannot be used.
    Invalid(Vec<Condition>),
}

macro_rules! typed {
    ($kind:expr, $type:ident => $body:expr) => {
        match $kind {
            Kind::Proxy => {
                type $type = kinds::Proxy;
                $body
            }
            Kind::Cluster => {
                type $type = kinds::Cluster;
                $body
            }
            Kind::HttpLoadBalancer => {
                type $type = kinds::HTTPLoadBalancer;
                $body
            }
            Kind::UpstreamPool => {
                type $type = kinds::UpstreamPool;
                $body
            }
            Kind::NodeSet => {
                type $type = kinds::NodeSet;
                $body
            }
            Kind::TrafficPolicy => {
                type $type = kinds::TrafficPolicy;
                $body
            }
            Kind::EndpointSlice => {
                type $type = EndpointSlice;
                $body
            }
            Kind::Secret => {
                type $type = Secret;
                $body
            }
            Kind::ConfigMap => {
                type $type = ConfigMap;
                $body
            }
        }
    };
}

/// The path of all objects of a kind, or of those in a namespace.
pub(crate) fn path(kind: Kind, namespace: Option<&str>) -> String {
    typed!(kind, T => T::url_path(&(), namespace))
}

/// What of a kind is asked for: a query, or nothing where it is everything.
pub(crate) fn selector(kind: Kind) -> String {
    let escaped = |text: &str| text.replace('/', "%2F").replace('=', "%3D");
    match kind {
        Kind::EndpointSlice => format!("labelSelector={}", escaped(POOL_LABEL)),
        // What else lies in a namespace, Helm's releases for one, is large and none of our business.
        Kind::Secret => format!("fieldSelector={}", escaped("type=kubernetes.io/tls")),
        _ => String::new(),
    }
}

/// Whether objects of a kind are read by namespace, where somebody has allowed it.
pub(crate) fn is_by_namespace(kind: Kind) -> bool {
    matches!(kind, Kind::Secret | Kind::ConfigMap)
}

/// Reads the text of an object.
pub(crate) fn read(kind: Kind, text: &str, checks: &Checks, names: &mut Names) -> Read {
    // A reader that panics must not take the watches with it.
    let read = catch_unwind(AssertUnwindSafe(|| typed!(kind, T => read_as::<T>(text, checks, names))));
    let failed = || Condition::new(ConditionType::Accepted, Reason::Invalid, "", "the reader failed");
    read.unwrap_or_else(|_| Read::Invalid(vec![failed()]))
}

fn read_as<R: Resource + DeserializeOwned>(text: &str, checks: &Checks, names: &mut Names) -> Read {
    let typed: R = match serde_json::from_str(text) {
        Ok(typed) => typed,
        Err(error) => return Read::Invalid(vec![misfit::<R>(text, error)]),
    };
    match from_api(&typed, checks, names) {
        Ok(Converted::Object(object)) => Read::Object(Box::new(object)),
        Ok(Converted::Ignored(_)) => Read::Ignored,
        Err(errors) => Read::Invalid(errors.into_iter().map(condition).collect()),
    }
}

/// The field that does not fit its type.
fn misfit<R: DeserializeOwned>(text: &str, error: serde_json::Error) -> Condition {
    let mut json = serde_json::Deserializer::from_str(text);
    let (field, error) = match serde_path_to_error::deserialize::<_, R>(&mut json) {
        Err(found) => (found.path().to_string(), found.into_inner()),
        // It cannot fit this time.
        Ok(_) => (String::new(), error),
    };
    let field = if field == "." { String::new() } else { field };
    // Where in the text it stands means nothing to people: it is one line.
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
    Condition::new(ConditionType::Accepted, Reason::Invalid, field, message)
}

fn condition(error: FieldError) -> Condition {
    let expected = error.expected.map(|text| format!("expected {text}"));
    let meant = error.suggestion.map(|text| format!("did you mean {text:?}?"));
    let message: Vec<_> = [error.message].into_iter().chain(expected).chain(meant).collect();
    Condition::new(ConditionType::Accepted, Reason::Invalid, error.path.to_string(), message.join("; "))
}

#[cfg(test)]
mod tests;
