//! What is changed of heads on their way upstream and back.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use portolan_filter::{CompiledFilter, Headers, REQUEST_ID, forward, hsts_value, strip_hop_by_hop};

use crate::context::Context;
use crate::request::{EXPLAIN, authority};

struct Request<'a>(&'a mut RequestHeader);
struct Response<'a>(&'a mut ResponseHeader);

macro_rules! headers {
    ($head:ident) => {
        /// A map that is full stays as it is.
        impl Headers for $head<'_> {
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
    };
}

headers!(Request);
headers!(Response);

/// The head that goes upstream, of one that came. Hop-by-hop fields are gone already: that is the library's part.
pub(crate) fn request(came: &RequestHeader, upstream: &mut RequestHeader, ctx: &Context) -> Result<()> {
    // We answer it ourselves.
    upstream.remove_header(&header::EXPECT);
    upstream.remove_header(EXPLAIN);
    let host = authority(came).and_then(|host| HeaderValue::from_str(host).ok());
    let host = host.unwrap_or_else(|| HeaderValue::from_static(""));
    forward(&mut Request(upstream), &ctx.client, &ctx.arrival, host);
    upstream.insert_header(&REQUEST_ID, ctx.request_id.clone())?;
    for filter in ctx.filters() {
        match filter {
            CompiledFilter::RequestHeaders(edits) => edits.apply(&mut Request(upstream)),
            CompiledFilter::Rewrite(rewrite) => {
                if let Some(host) = &rewrite.host {
                    set_host(upstream, host)?;
                }
                if let Some(path) = &rewrite.path {
                    let target = std::str::from_utf8(came.raw_path()).unwrap_or("/");
                    let (path_before, query) = match target.split_once('?') {
                        Some((path, query)) => (path, Some(query)),
                        None => (target, None),
                    };
                    let taken = ctx.target.as_ref().map_or(0, |target| target.taken);
                    upstream.set_raw_path(path.path_and_query(path_before, taken, query).as_bytes())?;
                }
            }
            CompiledFilter::ResponseHeaders(_) | CompiledFilter::Redirect(_) => {}
        }
    }
    Ok(())
}

/// Another `Host`: in the field and, where the request came by HTTP/2, in the URI that stands for it.
fn set_host(upstream: &mut RequestHeader, host: &HeaderValue) -> Result<()> {
    upstream.insert_header(header::HOST, host.clone())?;
    if upstream.uri.authority().is_some() {
        let mut parts = upstream.uri.clone().into_parts();
        parts.authority = host.to_str().ok().and_then(|host| host.parse().ok());
        if let Ok(uri) = http::Uri::from_parts(parts) {
            upstream.set_uri(uri);
        }
    }
    Ok(())
}

/// The head that goes to the client.
pub(crate) fn response(response: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    let upgraded = response.status == 101;
    strip_hop_by_hop(&mut Response(response), upgraded);
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
