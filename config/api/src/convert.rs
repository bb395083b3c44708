//! From what the API spells to what the model means.
//!
//! One conversion serves the folder and the Kubernetes watches: it takes the typed object, states every error with
//! the path of its field, and yields an [`Object`] only if there is none. What needs other objects (does that
//! pool exist) is the compiler's business. Cost: linear in the object; names of namespaces are shared by a [`Names`].

mod cluster;
mod core;
mod header;
mod http;
mod inventory;
mod path;
mod policy;
mod pool;
mod proxy;
mod scalar;

use std::collections::HashSet;
use std::num::NonZeroU16;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portolan_model::host::HostName;
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::{CertificateFacts, Meta, Object, Origin, Spec};

pub use self::scalar::{is_cluster_name, is_object_name};
pub(crate) use self::scalar::{label, object_name};
use crate::contract::POOL_LABEL;
use crate::field::{At, FieldError};
use crate::kinds;

/// Checks that need libraries which this crate does without: the binary supplies them.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    /// Whether a regular expression compiles.
    pub regex: fn(&str) -> Result<(), String>,
    /// Whether a PEM chain and a PEM key can be read and fit, and what the leaf says.
    pub certificate: fn(chain: &[u8], key: &[u8]) -> Result<CertificateFacts, String>,
    /// Whether a PEM bundle holds certificates, and nothing broken.
    pub ca_bundle: fn(&[u8]) -> Result<(), String>,
    /// Whether a cipher suite of that IANA name is offered.
    pub cipher_suite: fn(&str) -> Result<(), String>,
}

/// Names that many objects share, kept once.
#[derive(Debug, Default)]
pub struct Names {
    known: HashSet<Arc<str>>,
    /// How many there may be before those that nobody else holds are dropped.
    limit: usize,
}

impl Names {
    /// The one copy of that name.
    pub fn share(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.limit {
            self.known.retain(|name| Arc::strong_count(name) > 1);
            self.limit = (self.known.len() * 2).max(1024);
        }
        let name: Arc<str> = name.into();
        self.known.insert(Arc::clone(&name));
        name
    }
}

/// What an object of the API comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Converted {
    /// An object of the model.
    Object(Object),
    /// Nothing of ours, and why: a `Secret` without a certificate, say.
    Ignored(&'static str),
}

/// An object of the API that the model knows.
pub trait Resource: Convert {
    /// Its kind.
    const KIND: Kind;

    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;

    /// The generated host name that its status has.
    fn host(&self) -> Option<&str> {
        None
    }
}

/// What can be converted: a `spec`, or a whole object where there is none.
pub trait Convert {
    #[doc(hidden)]
    fn convert(&self, cx: &mut Cx<'_>) -> Option<Spec>;
}

/// Converts an object as an API server hands it out.
pub fn from_api<R: Resource>(
    resource: &R,
    checks: &Checks,
    names: &mut Names,
) -> Result<Converted, Vec<FieldError>> {
    let meta = resource.meta();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    let id = ObjectRef::new(R::KIND, names.share(namespace), name);
    let labels = meta.labels.as_ref();
    let pool = labels.and_then(|labels| labels.get(POOL_LABEL)).map(String::as_str);
    let mut cx = Cx::new(&id, pool, checks, names);
    let spec = resource.convert(&mut cx);
    let converted = cx.finish(spec)?;
    Ok(match converted {
        Ok((spec, origin)) => Converted::Object(Object {
            meta: Meta {
                id,
                created: meta.creation_timestamp.as_ref().map(|time| time.0.as_second()),
                generation: meta.generation.unwrap_or_default(),
                origin,
                host: resource.host().and_then(|host| HostName::parse(host).ok()),
                place: None,
            },
            spec,
        }),
        Err(reason) => Converted::Ignored(reason),
    })
}

/// A conversion under way.
pub struct Cx<'a> {
    pub(crate) id: &'a ObjectRef,
    /// The value of [`POOL_LABEL`].
    pub(crate) pool: Option<&'a str>,
    pub(crate) checks: &'a Checks,
    pub(crate) names: &'a mut Names,
    pub(crate) origin: Option<Box<Origin>>,
    pub(crate) ignored: Option<&'static str>,
    errors: Vec<FieldError>,
}

/// The model's object with its origin, or why there is none.
type Outcome = Result<(Spec, Option<Box<Origin>>), &'static str>;

impl<'a> Cx<'a> {
    pub(crate) fn new(
        id: &'a ObjectRef,
        pool: Option<&'a str>,
        checks: &'a Checks,
        names: &'a mut Names,
    ) -> Self {
        Self { id, pool, checks, names, origin: None, ignored: None, errors: Vec::new() }
    }

    /// Notes an error.
    pub(crate) fn error(&mut self, at: &At<'_>, message: impl Into<String>) -> &mut FieldError {
        let index = self.errors.len();
        self.errors.push(FieldError {
            path: at.path(),
            message: message.into(),
            expected: None,
            suggestion: None,
        });
        &mut self.errors[index]
    }

    /// Notes an error if there is one.
    pub(crate) fn check<T, E: Into<Flaw>>(&mut self, at: &At<'_>, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(flaw) => {
                let Flaw { message, expected, suggestion } = flaw.into();
                let error = self.error(at, message);
                error.expected = expected;
                error.suggestion = suggestion;
                None
            }
        }
    }

    /// A port.
    pub(crate) fn port(&mut self, at: &At<'_>, port: u16) -> Option<NonZeroU16> {
        let port = NonZeroU16::new(port);
        if port.is_none() {
            self.error(at, "0 is not a port").expected = Some("an integer from 1 to 65535".to_owned());
        }
        port
    }

    /// A port, if there is one.
    pub(crate) fn optional_port(&mut self, at: &At<'_>, port: Option<u16>) -> Option<NonZeroU16> {
        port.and_then(|port| self.port(at, port))
    }

    pub(crate) fn finish(self, spec: Option<Spec>) -> Result<Outcome, Vec<FieldError>> {
        match (spec, self.ignored) {
            _ if !self.errors.is_empty() => Err(self.errors),
            (Some(spec), _) => Ok(Ok((spec, self.origin))),
            (None, reason) => Ok(Err(reason.unwrap_or("nothing in it is ours"))),
        }
    }
}

/// What is wrong with a value, whatever field it stands in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) message: String,
    pub(crate) expected: Option<String>,
    pub(crate) suggestion: Option<String>,
}

impl From<String> for Flaw {
    fn from(message: String) -> Self {
        Self { message, ..Self::default() }
    }
}

impl Flaw {
    pub(crate) fn new(message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { message: message.into(), expected: Some(expected.into()), suggestion: None }
    }

    pub(crate) fn meant(mut self, suggestion: impl Into<Option<String>>) -> Self {
        self.suggestion = suggestion.into();
        self
    }
}

macro_rules! custom_resources {
    ($($root:ident => $kind:ident $(, $host:ident)?);* $(;)?) => {$(
        impl Convert for kinds::$root {
            fn convert(&self, cx: &mut Cx<'_>) -> Option<Spec> {
                self.spec.convert(cx)
            }
        }

        impl Resource for kinds::$root {
            const KIND: Kind = Kind::$kind;

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            $(
                fn $host(&self) -> Option<&str> {
                    self.status.as_ref()?.$host.as_deref()
                }
            )?
        }
    )*};
}

custom_resources! {
    Proxy => Proxy;
    Cluster => Cluster;
    HTTPLoadBalancer => HttpLoadBalancer, host;
    UpstreamPool => UpstreamPool;
    NodeSet => NodeSet;
    TrafficPolicy => TrafficPolicy;
}

macro_rules! standard_resources {
    ($($kind:ident),*) => {$(
        impl Resource for $kind {
            const KIND: Kind = Kind::$kind;

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
        }
    )*};
}

standard_resources!(EndpointSlice, Secret, ConfigMap);
