//! A request that somebody asks about, as the admin port and the command line take it.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use portolan_model::host::{HostError, HostName, normalize};
use portolan_model::route::Scheme;

/// A request that has not been sent.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    /// Whether it would come over TLS.
    pub scheme: Scheme,
    /// Normalised, IPv6 addresses in brackets: the header `Host` where one is given, else the URL's.
    pub host: String,
    /// The port it would come to.
    pub port: NonZeroU16,
    /// As it would be sent: with its escapes, without the query. Begins with `/`.
    pub path: String,
    /// What follows the `?`.
    pub query: Option<String>,
    /// The method.
    pub method: Method,
    /// The headers, `Host` left out.
    pub headers: HeaderMap,
}

/// Why there is no such request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// Not `http://` or `https://`.
    #[error("{0:?} is not a URL: expected http://<host>/<path> or https://<host>/<path>")]
    Scheme(String),
    /// RFC 9110 §4.2.4.
    #[error("{0:?}: user and password have no place in the URL")]
    UserInfo(String),
    /// Neither a name nor an address.
    #[error("{url:?}: the host is not valid: {source}")]
    Host {
        /// The URL, or the header.
        url: String,
        /// Why.
        source: HostError,
    },
    /// Brackets without an IPv6 address.
    #[error("{0:?}: expected an IPv6 address between the brackets, as in http://[2001:db8::1]/")]
    Ipv6(String),
    /// Not a number from 1 to 65535.
    #[error("{0:?}: the port must be a number from 1 to 65535")]
    Port(String),
    /// It stays in the client.
    #[error("{0:?}: what follows the # is never sent; leave it out, or write %23")]
    Fragment(String),
    /// A byte that a request line cannot carry.
    #[error("{url:?}: {found:?} cannot stand in a URL; write it percent-encoded")]
    Byte {
        /// The URL.
        url: String,
        /// The offender.
        found: char,
    },
    /// Whatever else RFC 3986 forbids.
    #[error("{0:?}: path and query are not valid")]
    Target(String),
    /// RFC 9110 §9.1.
    #[error("{0:?} is not a method: expected a word such as GET")]
    Method(String),
    /// RFC 9110 §5.
    #[error("{0:?} is not a header: expected \"Name: value\"")]
    Header(String),
    /// RFC 9112 §3.2.
    #[error("the header Host is given twice")]
    Hosts,
}

impl ExplainRequest {
    /// Reads a URL, a method (`GET` without) and headers, each `Name: value`. As with curl, a header `Host` takes the place of the
    /// URL's host.
    pub fn parse<'a>(
        url: &str,
        method: Option<&str>,
        headers: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ExplainError> {
        let (scheme, rest) = scheme(url)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(ExplainError::UserInfo(url.to_owned()));
        }
        let (mut host, port) = host_and_port(url, authority)?;
        let (path, query) = path_and_query(url, target)?;
        let method = match method {
            Some(method) => {
                Method::from_bytes(method.as_bytes()).map_err(|_| ExplainError::Method(method.to_owned()))?
            }
            None => Method::GET,
        };
        let mut map = HeaderMap::new();
        for line in headers {
            let (name, value) = header_field(line)?;
            map.append(name, value);
        }
        let mut hosts = map.get_all(header::HOST).into_iter();
        if let Some(value) = hosts.next() {
            if hosts.next().is_some() {
                return Err(ExplainError::Hosts);
            }
            let value = value.to_str().unwrap_or_default();
            host = host_and_port(&format!("Host: {value}"), value)?.0;
            map.remove(header::HOST);
        }
        let standard = NonZeroU16::new(scheme.default_port()).unwrap_or(NonZeroU16::MIN);
        Ok(Self { scheme, host, port: port.unwrap_or(standard), path, query, method, headers: map })
    }
}

fn scheme(url: &str) -> Result<(Scheme, &str), ExplainError> {
    let split = url.split_once("://");
    let known = split.and_then(|(scheme, rest)| match scheme.to_ascii_lowercase().as_str() {
        "http" => Some((Scheme::Http, rest)),
        "https" => Some((Scheme::Https, rest)),
        _ => None,
    });
    known.ok_or_else(|| ExplainError::Scheme(url.to_owned()))
}

fn host_and_port(whole: &str, authority: &str) -> Result<(String, Option<NonZeroU16>), ExplainError> {
    let (host, port) = match authority.strip_prefix('[').map(|_| authority.find(']')) {
        Some(Some(end)) => authority.split_at(end + 1),
        Some(None) => return Err(ExplainError::Ipv6(whole.to_owned())),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port {
        "" => None,
        port => {
            let number = port.strip_prefix(':').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
            let number = number.and_then(|digits| digits.parse().ok());
            Some(number.ok_or_else(|| ExplainError::Port(whole.to_owned()))?)
        }
    };
    if let Some(v6) = host.strip_prefix('[') {
        let valid = v6.strip_suffix(']').and_then(|v6| v6.parse::<Ipv6Addr>().ok());
        return match valid {
            Some(address) => Ok((format!("[{address}]"), port)),
            None => Err(ExplainError::Ipv6(whole.to_owned())),
        };
    }
    if host.parse::<IpAddr>().is_err() {
        HostName::parse(host).map_err(|source| ExplainError::Host { url: whole.to_owned(), source })?;
    }
    Ok((normalize(host).unwrap_or_default().into_owned(), port))
}

fn path_and_query(url: &str, target: &str) -> Result<(String, Option<String>), ExplainError> {
    if target.contains('#') {
        return Err(ExplainError::Fragment(url.to_owned()));
    }
    if let Some(found) = target.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(ExplainError::Byte { url: url.to_owned(), found });
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    if path.parse::<Uri>().is_err() {
        return Err(ExplainError::Target(url.to_owned()));
    }
    Ok((path.to_owned(), query))
}

fn header_field(line: &str) -> Result<(HeaderName, HeaderValue), ExplainError> {
    let parse = || {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = HeaderValue::from_str(value.trim_matches([' ', '\t'])).ok()?;
        Some((name, value))
    };
    parse().ok_or_else(|| ExplainError::Header(line.to_owned()))
}

#[cfg(test)]
mod tests;
