//! Settings that attach to rules from outside: what a `TrafficPolicy` sets ([`PolicySpec`]) and what is in force once the
//! default, the cluster's and the object's own have been laid over each other ([`Policy`]).

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::id::ObjectRef;

/// What one policy sets; what is unset comes from the less specific one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicySpec {
    /// To a TCP connection and, where asked for, a TLS session with the endpoint.
    #[serde(serialize_with = "crate::seconds::maybe")]
    pub connect: Option<Duration>,
    /// For one try, to the response's head.
    #[serde(serialize_with = "crate::seconds::maybe")]
    pub per_try: Option<Duration>,
    /// From the request's head to the response's end. Zero: no limit.
    #[serde(serialize_with = "crate::seconds::maybe")]
    pub request: Option<Duration>,
    /// Between two pieces of a body, in either direction; for an upgraded connection too.
    #[serde(serialize_with = "crate::seconds::maybe")]
    pub idle: Option<Duration>,
    /// Of a request's body, in bytes. Zero: no limit.
    pub max_request_body: Option<u64>,
    /// Whether plain HTTP is answered with a redirect.
    pub https_redirect: Option<HttpsRedirect>,
    /// `Strict-Transport-Security` on responses over TLS.
    pub hsts: Option<Hsts>,
}

/// What is done with requests over plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum HttpsRedirect {
    /// Served as they come.
    Off,
    /// Redirected to the same URL over HTTPS.
    On {
        /// 301, 302, 307 or 308.
        status: u16,
        /// The port in the new URL, if not 443.
        port: Option<NonZeroU16>,
    },
}

/// RFC 6797.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Hsts {
    /// Zero tells clients to forget.
    #[serde(serialize_with = "crate::seconds::one")]
    pub max_age: Duration,
    /// Whether names below the host are meant too.
    pub include_subdomains: bool,
    /// Whether the owner asks for a place in the browsers' lists.
    pub preload: bool,
}

/// A `TrafficPolicy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrafficPolicy {
    /// `HTTPLoadBalancer`s of its namespace, or the `Cluster` that the namespace belongs to.
    pub targets: Vec<ObjectRef>,
    /// What it sets.
    pub spec: PolicySpec,
}

/// What is in force for a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Policy {
    /// To a TCP connection and, where asked for, a TLS session with the endpoint.
    #[serde(serialize_with = "crate::seconds::one")]
    pub connect: Duration,
    /// For one try, to the response's head.
    #[serde(serialize_with = "crate::seconds::one")]
    pub per_try: Duration,
    /// From the request's head to the response's end.
    #[serde(serialize_with = "crate::seconds::maybe")]
    pub request: Option<Duration>,
    /// Between two pieces of a body, in either direction.
    #[serde(serialize_with = "crate::seconds::one")]
    pub idle: Duration,
    /// Of a request's body, in bytes.
    pub max_request_body: Option<u64>,
    /// What is done with requests over plain HTTP.
    pub https_redirect: HttpsRedirect,
    /// `Strict-Transport-Security` on responses over TLS.
    pub hsts: Option<Hsts>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            per_try: Duration::from_secs(60),
            request: Some(Duration::from_secs(3600)),
            idle: Duration::from_secs(300),
            max_request_body: None,
            https_redirect: HttpsRedirect::Off,
            hsts: None,
        }
    }
}

impl Policy {
    /// This policy with what `spec` sets laid over it.
    pub fn overlaid(&self, spec: &PolicySpec) -> Self {
        Self {
            connect: spec.connect.unwrap_or(self.connect),
            per_try: spec.per_try.unwrap_or(self.per_try),
            request: spec.request.map_or(self.request, |limit| (!limit.is_zero()).then_some(limit)),
            idle: spec.idle.unwrap_or(self.idle),
            max_request_body: spec
                .max_request_body
                .map_or(self.max_request_body, |limit| (limit > 0).then_some(limit)),
            https_redirect: spec.https_redirect.unwrap_or(self.https_redirect),
            hsts: spec.hsts.or(self.hsts),
        }
    }
}

/// Effective policies are few and shared by many rules.
pub type SharedPolicy = Arc<Policy>;
