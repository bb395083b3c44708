//! What do the header lines of a head say about its framing, its host and its connection?
//!
//! Each line is read once, when it is whole; of the many headers only six are looked into. Cost: the name's bytes,
//! and the values of those six.

use super::authority::Authority;
use super::bytes::{TOKEN, is};
use super::line::Line;
use super::refusal::RefusalReason;
use std::ops::Range;

/// What has been read of a head's fields so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) count: u16,
    /// Where the value of Host stands.
    pub(super) host: Option<Range<usize>>,
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) upgrade: bool,
    pub(super) expect_continue: bool,
}

impl Fields {
    /// Takes in one header line of `buf`.
    #[inline(always)]
    pub(super) fn take(&mut self, buf: &[u8], line: Line) -> Result<(), RefusalReason> {
        let name = name(buf, line)?;
        let colon = line.token_end;
        let value = &buf[colon + 1..line.end];
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.take_host(value, colon + 1),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expect_continue = true;
                let known = trim(value).eq_ignore_ascii_case(b"100-continue");
                if known { Ok(()) } else { Err(RefusalReason::Expectation) }
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => check_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.take_length(trim(value)),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.take_coding(trim(value)),
            _ => Ok(()),
        }
    }

    fn take_host(&mut self, value: &[u8], start: usize) -> Result<(), RefusalReason> {
        if self.host.is_some() {
            return Err(RefusalReason::HostTwice);
        }
        let host = trim(value);
        Authority::parse(host).ok_or(RefusalReason::HostInvalid)?;
        let start = start + value.iter().take_while(|&&b| b == b' ' || b == b'\t').count();
        self.host = Some(start..start + host.len());
        Ok(())
    }

    /// A list, even of equal values, is refused like a second header: nothing that is well sends either.
    fn take_length(&mut self, value: &[u8]) -> Result<(), RefusalReason> {
        if self.content_length.is_some() {
            return Err(RefusalReason::ContentLengthTwice);
        }
        let digits = Some(value).filter(|v| !v.is_empty() && v.iter().all(u8::is_ascii_digit));
        let length = digits.and_then(|v| str::from_utf8(v).ok()?.parse::<i64>().ok()?.try_into().ok());
        self.content_length = Some(length.ok_or(RefusalReason::ContentLength)?);
        Ok(())
    }

    fn take_coding(&mut self, value: &[u8]) -> Result<(), RefusalReason> {
        if value.is_empty() {
            return Err(RefusalReason::TransferEncoding);
        }
        let mut codings = value.split(|&b| b == b',').map(trim);
        if !codings.all(|coding| coding.eq_ignore_ascii_case(b"chunked")) {
            return Err(RefusalReason::TransferEncodingUnknown);
        }
        if self.chunked || value.contains(&b',') {
            return Err(RefusalReason::TransferEncodingTwice);
        }
        self.chunked = true;
        Ok(())
    }
}

/// The name of a field line: a token that the colon follows at once (RFC 9112, section 5).
#[inline(always)]
pub(super) fn name(buf: &[u8], line: Line) -> Result<&[u8], RefusalReason> {
    if line.token_end > line.start && buf[line.token_end] == b':' {
        Ok(&buf[line.start..line.token_end])
    } else {
        Err(without_name(&buf[line.start..line.end]))
    }
}

/// Why a line does not begin with a name and a colon.
#[cold]
fn without_name(line: &[u8]) -> RefusalReason {
    let token = line.iter().take_while(|&&b| is(b, TOKEN)).count();
    match line[token..] {
        [b' ' | b'\t', ..] if token == 0 => RefusalReason::ObsoleteFold,
        [] => RefusalReason::HeaderWithoutColon,
        [b' ' | b'\t', ref rest @ ..] if trim(rest).first() == Some(&b':') => RefusalReason::SpaceBeforeColon,
        _ => RefusalReason::HeaderName,
    }
}

/// Without the spaces and tabs around it. The walk over the line has let through no other white space.
fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// Options of Connection are dropped with the fields they name. A client must not be able to take away what frames
/// and routes the request, or what the proxy says about it to the upstream (CVE-2026-105299).
fn check_connection(value: &[u8]) -> Result<(), RefusalReason> {
    for option in value.split(|&b| b == b',').map(trim) {
        if !option.iter().all(|&b| is(b, TOKEN)) {
            return Err(RefusalReason::ConnectionOption);
        }
        if is_reserved(option) {
            return Err(RefusalReason::ConnectionReserved);
        }
    }
    Ok(())
}

/// The fields that frame, route, identify the client or authenticate: no Connection header may name them and no
/// trailer may carry them. All that begin with [`RESERVED_PREFIX`] belong to them.
const RESERVED: [&[u8]; 12] = [
    b"host",
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"transfer-encoding",
    b"authorization",
    b"proxy-authorization",
    b"cookie",
    b"forwarded",
    b"via",
    b"x-real-ip",
    b"x-request-id",
];
const RESERVED_PREFIX: &[u8] = b"x-forwarded-";

/// Whether `name` is one of [`RESERVED`].
pub(super) fn is_reserved(name: &[u8]) -> bool {
    let prefixed = name.get(..RESERVED_PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(RESERVED_PREFIX));
    prefixed || RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
}
