//! What is changed of heads on their way upstream and back.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Uri, Version};
use pingora_core::{ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use portolan_filter::{
    CompiledFilter, Headers, REQUEST_ID, forward, hsts_value, remove_any, strip_hop_by_hop,
};

use crate::context::Context;
use crate::request::EXPLAIN;

struct Response<'a>(&'a mut ResponseHeader);

/// A map that is full stays as it is.
impl Headers for Response<'_> {
    fn map(&self) -> &HeaderMap {
        &self.0.headers
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        drop(self.0.insert_header(name, value));
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        drop(self.0.append_header(name, value));
    }

    fn remove(&mut self, name: &HeaderName) {
        drop(self.0.remove_header(name));
    }
}

/// What clients ask of us.
static ANSWERED: [HeaderName; 2] = [header::EXPECT, EXPLAIN];

/// Fields that are added to every request.
const ADDED: usize = 4;

/// The head that goes upstream, of one that came. Hop-by-hop fields are gone already: that is the library's part.
///
/// The library keeps the spelling of names in a second map, which costs more than all that is done here; it is let go, and
/// names go out in lower case, as over HTTP/2.
pub(crate) fn request(came: &RequestHeader, upstream: &mut RequestHeader, ctx: &Context) -> Result<()> {
    let nothing = http::Request::new(()).into_parts().0;
    let mut head: Parts = std::mem::replace(upstream, nothing.into()).into();
    head.headers.reserve(ADDED);
    remove_any(&mut head.headers, &ANSWERED);
    if came.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    } else if let (Version::HTTP_10, false, Some(upstream)) =
        (came.version, head.headers.contains_key(header::HOST), ctx.upstream)
    {
        // It goes on as HTTP/1.1, which must name a host.
        let host = HeaderValue::try_from(upstream.to_string());
        head.headers.set(&header::HOST, host.or_err(ErrorType::InternalError, "an address")?);
    }
    if let Some(conn) = ctx.conn() {
        forward(&mut head.headers, &ctx.client, &conn.arrival, host(came));
    }
    head.headers.set(&REQUEST_ID, ctx.request_id.clone());
    for filter in ctx.filters() {
        match filter {
            CompiledFilter::RequestHeaders(edits) => edits.apply(&mut head.headers),
            CompiledFilter::Rewrite(rewrite) => {
                if let Some(host) = &rewrite.host {
                    set_host(&mut head, host);
                }
                if let Some(path) = &rewrite.path {
                    let came = std::str::from_utf8(came.raw_path()).unwrap_or("/");
                    let (path_before, query) = match came.split_once('?') {
                        Some((path, query)) => (path, Some(query)),
                        None => (came, None),
                    };
                    let taken = ctx.target.as_ref().map_or(0, |target| target.taken);
                    head.uri = with_target(&head.uri, &path.path_and_query(path_before, taken, query))?;
                }
            }
            CompiledFilter::ResponseHeaders(_) | CompiledFilter::Redirect(_) => {}
        }
    }
    *upstream = head.into();
    Ok(())
}

/// The URI with another path and query, and its authority.
pub(crate) fn with_target(uri: &Uri, target: &str) -> Result<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().or_err(ErrorType::InvalidHTTPHeader, "a target")?);
    Uri::from_parts(parts).or_err(ErrorType::InvalidHTTPHeader, "a target")
}

/// HTTP/2 clients may send a field for each cookie; HTTP/1 knows one field (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::try_from(crumbs.join(&b"; "[..])) {
        headers.set(&header::COOKIE, cookie);
    }
}

/// The host as the client spells it, with its port.
fn host(came: &RequestHeader) -> HeaderValue {
    let host = match came.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => came.headers.get(header::HOST).cloned(),
    };
    host.unwrap_or_else(|| HeaderValue::from_static(""))
}

/// Another `Host`: in the field and, where the request came by HTTP/2, in the URI that stands for it.
fn set_host(head: &mut Parts, host: &HeaderValue) {
    head.headers.set(&header::HOST, host.clone());
    if head.uri.authority().is_some() {
        let mut parts = head.uri.clone().into_parts();
        parts.authority = host.to_str().ok().and_then(|host| host.parse().ok());
        if let Ok(uri) = Uri::from_parts(parts) {
            head.uri = uri;
        }
    }
}

/// The head that goes to the client.
pub(crate) fn response(response: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    let upgraded = response.status == 101;
    strip_hop_by_hop(&mut Response(response), upgraded);
    tidy_length(response)?;
    for filter in ctx.filters() {
        if let CompiledFilter::ResponseHeaders(edits) = filter {
            edits.apply(&mut Response(response));
        }
    }
    if let Some(action) = ctx.action() {
        let over_tls = ctx.client.scheme == portolan_model::route::Scheme::Https;
        if let (true, Some(hsts)) = (over_tls, &action.policy.hsts) {
            response.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts_value(hsts))?;
        }
    }
    if ctx.explains {
        explain(response, ctx)?;
    }
    Ok(())
}

/// One `Content-Length` where an endpoint repeats itself, none where there is no content (RFC 9110 §8.6): HTTP/2 clients take
/// anything else for a malformed response.
fn tidy_length(response: &mut ResponseHeader) -> Result<()> {
    if response.status == 204 {
        response.remove_header(&header::CONTENT_LENGTH);
        return Ok(());
    }
    let mut lengths = response.headers.get_all(header::CONTENT_LENGTH).iter();
    if let (Some(first), Some(_)) = (lengths.next(), lengths.next()) {
        let first = first.clone();
        response.insert_header(header::CONTENT_LENGTH, first)?;
    }
    Ok(())
}

/// Tells a trusted client who handled its request.
pub(crate) fn explain(response: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    let mut words = format!("revision={}", ctx.snapshot.revision);
    let mut say = |name: &str, value: &dyn std::fmt::Display| {
        use std::fmt::Write;
        let _ = write!(words, "; {name}={value}");
    };
    if let Some(failure) = ctx.failure {
        say("flag", &failure.flag.as_str());
    }
    if let Some(action) = ctx.action() {
        say("object", &format_args!("{}/{}", action.object.namespace, action.object.name));
        say("rule", &action.rule);
    }
    if let Some(pool) = &ctx.pool {
        say("pool", &pool.id);
    }
    if let Some(upstream) = &ctx.upstream {
        say("upstream", upstream);
    }
    response.insert_header(EXPLAIN, words)
}
