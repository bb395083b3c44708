//! Which header fields end here? Those of the connection that a message came by (RFC 9110 §7.6.1).
//!
//! `Connection` and what it nominates, `Keep-Alive`, `Proxy-Connection`, `Upgrade` unless it is proxied, and of `TE` all but
//! `trailers`, which gRPC asks for. Framing (`Transfer-Encoding`, `Content-Length`) is left to whoever writes the message, and
//! `Proxy-Authenticate` and `Trailer` are the ends' own business.
//!
//! A nomination never removes what frames a message or says who the client is: `Connection: X-Forwarded-For` is an old way to be
//! taken for somebody else.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::forwarded;
use crate::headers::Headers;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes the fields that end here. With `keep_upgrade` the message asks for (or answers) an upgrade that is proxied:
/// `Upgrade` stays, and `Connection` says so and nothing else.
pub fn strip_hop_by_hop(headers: &mut impl Headers, keep_upgrade: bool) {
    if headers.map().contains_key(header::CONNECTION) {
        for name in nominated(headers.map()) {
            headers.remove(&name);
        }
        if !keep_upgrade {
            headers.remove(&header::CONNECTION);
        }
    }
    if keep_upgrade {
        headers.set(&header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        remove(headers, &header::UPGRADE);
    }
    remove(headers, &KEEP_ALIVE);
    remove(headers, &PROXY_CONNECTION);
    if headers.map().contains_key(header::TE) {
        if tokens(headers.map(), &header::TE).any(|token| token.eq_ignore_ascii_case(b"trailers")) {
            headers.set(&header::TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(&header::TE);
        }
    }
}

fn remove(headers: &mut impl Headers, name: &HeaderName) {
    if headers.map().contains_key(name) {
        headers.remove(name);
    }
}

/// What `Connection` nominates and may be removed for it.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, &header::CONNECTION)
        .filter(|token| !token.eq_ignore_ascii_case(b"close") && !token.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !is_protected(name))
        .collect()
}

fn is_protected(name: &HeaderName) -> bool {
    [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
    ]
    .contains(name)
        || forwarded::NAMES.contains(name)
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|field| field.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}
