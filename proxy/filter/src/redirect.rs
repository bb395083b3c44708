//! Where does a redirect lead? The `Location` of a rule's redirect (Gateway API `HTTPRequestRedirectFilter`) and of the policy's
//! redirect to HTTPS.
//!
//! Always an absolute URI. Its port is the filter's; else the scheme's own where the filter names a scheme; else the one the
//! request arrived at. A port that is the scheme's own is left out.

use std::fmt::Write;
use std::net::Ipv6Addr;
use std::num::NonZeroU16;

use http::{HeaderValue, StatusCode};
use portolan_model::host::HostName;
use portolan_model::route::{Redirect, Scheme};

use crate::rewrite::{CompiledPath, escape};

/// Why a redirect cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// Not a redirect.
    #[error("the status {0} is no redirect: 301, 302, 303, 307 or 308")]
    Status(u16),
}

/// What of a request a redirect may keep.
#[derive(Clone, Copy, Debug)]
pub struct RequestTarget<'a> {
    /// The client's scheme.
    pub scheme: Scheme,
    /// Without its port.
    pub host: &'a str,
    /// The port that the client spoke to: the listener's.
    pub port: u16,
    /// Without the query.
    pub path: &'a str,
    /// How many bytes of it the route's prefix match took.
    pub taken: usize,
    /// What follows the `?`.
    pub query: Option<&'a str>,
}

/// A redirect, parsed.
#[derive(Clone, Debug)]
pub struct CompiledRedirect {
    /// The answer's.
    pub status: StatusCode,
    scheme: Option<Scheme>,
    host: Option<HostName>,
    port: Option<NonZeroU16>,
    path: Option<CompiledPath>,
}

impl CompiledRedirect {
    /// Parses a redirect.
    pub fn build(redirect: &Redirect) -> Result<Self, RedirectError> {
        let status = match redirect.status {
            301 => StatusCode::MOVED_PERMANENTLY,
            302 => StatusCode::FOUND,
            303 => StatusCode::SEE_OTHER,
            307 => StatusCode::TEMPORARY_REDIRECT,
            308 => StatusCode::PERMANENT_REDIRECT,
            other => return Err(RedirectError::Status(other)),
        };
        Ok(Self {
            status,
            scheme: redirect.scheme,
            host: redirect.host.clone(),
            port: redirect.port,
            path: redirect.path.as_ref().map(CompiledPath::build),
        })
    }

    /// The `Location`; `None` where the request's host, which it would keep, is none.
    pub fn location(&self, request: &RequestTarget<'_>) -> Option<HeaderValue> {
        let port = match (self.port, self.scheme) {
            (Some(port), _) => port.get(),
            (None, Some(scheme)) => scheme.default_port(),
            (None, None) => request.port,
        };
        let host = self.host.as_ref().map_or(request.host, HostName::as_str);
        absolute(self.scheme.unwrap_or(request.scheme), host, port, self.path.as_ref(), request)
    }
}

/// The `Location` of a redirect to the same URL over HTTPS, on 443 where no other port is given; `None` where the request's host is none.
pub fn https_location(port: Option<NonZeroU16>, request: &RequestTarget<'_>) -> Option<HeaderValue> {
    let port = port.map_or_else(|| Scheme::Https.default_port(), NonZeroU16::get);
    absolute(Scheme::Https, request.host, port, None, request)
}

fn absolute(
    scheme: Scheme,
    host: &str,
    port: u16,
    path: Option<&CompiledPath>,
    request: &RequestTarget<'_>,
) -> Option<HeaderValue> {
    if !is_host(host) {
        return None;
    }
    let query = request.query.map_or(0, str::len);
    let mut location = String::with_capacity(host.len() + request.path.len() + query + 32);
    location.push_str(scheme.as_str());
    location.push_str("://");
    location.push_str(host);
    if port != scheme.default_port() {
        // Writing to a string cannot fail.
        let _ = write!(location, ":{port}");
    }
    let new;
    let path = match path {
        Some(change) => {
            new = change.path(request.path, request.taken);
            &new
        }
        None => request.path,
    };
    if !path.starts_with('/') {
        location.push('/');
    }
    escape(&mut location, path, false);
    if let Some(query) = request.query {
        location.push('?');
        escape(&mut location, query, true);
    }
    HeaderValue::try_from(location).ok()
}

/// Whether a text can stand as the host of a URI: a name, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            !text.is_empty() && text.bytes().all(plain)
        }
    }
}
