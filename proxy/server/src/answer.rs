//! What we say where no upstream does.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use portolan_filter::{Format, REQUEST_ID, negotiate, own_answer};

use crate::clock;
use crate::context::Context;
use crate::failure::Failure;
use crate::forward;

/// How long a client may go on sending a request that was answered.
const SENT_IN: Duration = Duration::from_millis(500);

/// The answer to a request that failed.
pub(crate) fn build(
    request: &RequestHeader,
    ctx: &Context,
    failure: Failure,
) -> Result<(Box<ResponseHeader>, Bytes)> {
    let id = ctx.request_id.to_str().unwrap_or_default();
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let format = negotiate(&request.headers);
    let (kind, body) = own_answer(failure.flag.as_str(), status, id, failure.text, format);
    let mut head = ResponseHeader::build(status, Some(6))?;
    head.insert_header(header::CONTENT_TYPE, kind)?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    head.insert_header(&REQUEST_ID, ctx.request_id.clone())?;
    if ctx.explains {
        forward::explain(&mut head, ctx)?;
    }
    Ok((Box::new(head), body.into()))
}

/// Whether no other response follows: hints before it (RFC 8297) still leave room for an answer.
pub(crate) fn is_final(response: &ResponseHeader) -> bool {
    !response.status.is_informational() || response.status == 101
}

/// Sends an answer; its body not where the request's method forbids one.
pub(crate) async fn send(session: &mut Session, head: Box<ResponseHeader>, body: Bytes) -> Result<()> {
    let bodiless = body.is_empty() || session.req_header().method == Method::HEAD;
    session.write_response_header(head, bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(body), true).await?;
    } else if session.is_http2() {
        // Over HTTP/2 the library leaves the stream open after a head.
        session.finish_body().await?;
    }
    if session.is_http2() && !session.is_body_done() {
        // A client that is still sending may take the stream's reset for a failure, answer or not (RFC 9113 §8.1).
        let client = session.as_downstream_mut();
        client.set_total_drain_timeout(Some(SENT_IN));
        client.drain_request_body().await?;
    }
    Ok(())
}

/// The whole answer to an HTTP/1 client whose head was refused: it says nothing that can be trusted, so neither what it
/// accepts.
pub(crate) fn bare(failure: Failure, request_id: &HeaderValue) -> Vec<u8> {
    let id = request_id.to_str().unwrap_or_default();
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::BAD_REQUEST);
    let (kind, body) = own_answer(failure.flag.as_str(), status, id, failure.text, Format::Plain);
    let reason = status.canonical_reason().unwrap_or("Refused");
    format!(
        "HTTP/1.1 {} {reason}\r\ndate: {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-request-id: {id}\r\nconnection: close\r\n\r\n{body}",
        status.as_u16(),
        clock::http_date(),
        body.len()
    )
    .into_bytes()
}
