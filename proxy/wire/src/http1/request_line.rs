//! Is this a request line, and what does its target name? (RFC 9112, section 3)
//!
//! Bytes of the target are held to RFC 3986, with these departures:
//!
//! - `^ { | } [ ]` pass anywhere: browsers and API clients send them raw, no reader gives them a meaning, and nginx and
//!   Envoy let them pass.
//! - `\` and backtick pass in the query only. Nobody splits a query there, but a path's backslash is a slash to
//!   some origins, and the URI type behind refuses the other in paths.
//! - `" < > #`, controls, spaces and bytes from 0x80 on pass nowhere: no browser sends them raw, each is read
//!   differently by somebody, and the parser behind refuses the first without a word.
//! - In the path every `%` begins a valid escape, and never that of NUL: decoders disagree about what is left. In the
//!   query a stray `%` passes, since people type `?q=100%`, and so does `%00`, which trackers send in binary hashes;
//!   nobody on the way decodes a query.
//!
//! Cost: about two instructions a byte of the target when it has no escapes.

use super::authority::Authority;
use super::bytes::{PATH_BAD, PERCENT, TARGET_BAD, class, is};
use super::line::Line;
use super::refusal::RefusalReason;
use super::{EncodedSlash, Version};
use std::ops::Range;

/// What the rest of the head's checks need of the request line.
#[derive(Clone, Debug)]
pub(super) struct RequestLine {
    pub(super) version: Version,
    pub(super) connect: bool,
    /// Where in the head the target's authority stands, and the port it means if it has none.
    pub(super) authority: Option<(Range<usize>, u16)>,
}

/// Reads a line of `buf`.
pub(super) fn parse(buf: &[u8], line: Line, slash: EncodedSlash) -> Result<RequestLine, RefusalReason> {
    let method = &buf[line.start..line.token_end];
    if method.is_empty() || buf[line.token_end] != b' ' {
        return Err(RefusalReason::Method);
    }
    let start = line.token_end + 1;
    let end = line.end.saturating_sub(b" HTTP/1.1".len());
    let target = buf.get(start..end).filter(|t| !t.is_empty()).ok_or(RefusalReason::RequestLine)?;
    let version = match &buf[end..line.end] {
        b" HTTP/1.1" => Version::Http11,
        b" HTTP/1.0" => Version::Http10,
        b" HTTP/2.0" if method == b"PRI" && target == b"*" => return Err(RefusalReason::Http2Preface),
        [b' ', b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(RefusalReason::Version);
        }
        _ => return Err(RefusalReason::RequestLine),
    };
    let connect = method == b"CONNECT";
    check_target(target, slash)?;
    let authority = match target {
        _ if connect => Some((0..target.len(), None)),
        [b'/', ..] => None,
        b"*" if method == b"OPTIONS" => None,
        _ => {
            let (offset, port) = after_scheme(target)?;
            let length = target[offset..].iter().take_while(|&&b| b != b'/' && b != b'?').count();
            Some((offset..offset + length, Some(port)))
        }
    };
    let authority = match authority {
        None => None,
        Some((range, default)) => {
            let parsed = Authority::parse(&target[range.clone()]).ok_or(RefusalReason::TargetAuthority)?;
            let port = default.or(parsed.port).ok_or(RefusalReason::TargetAuthority)?;
            Some((start + range.start..start + range.end, port))
        }
    };
    Ok(RequestLine { version, connect, authority })
}

/// Whether a target's bytes and escapes may pass, wherever it comes from.
pub fn check_target(target: &[u8], slash: EncodedSlash) -> Result<(), RefusalReason> {
    let found = target.iter().fold(0, |found, &b| found | class(b));
    if found & TARGET_BAD != 0 {
        return Err(bad_byte(target));
    }
    if found & (PATH_BAD | PERCENT) != 0 { check_path(target, slash) } else { Ok(()) }
}

/// Which reason a target with a byte of [`TARGET_BAD`] gets.
fn bad_byte(target: &[u8]) -> RefusalReason {
    match target.iter().find(|&&b| is(b, TARGET_BAD)) {
        Some(b' ') => RefusalReason::RequestLine,
        Some(b'#') => RefusalReason::TargetFragment,
        _ => RefusalReason::TargetByte,
    }
}

/// Where the authority of an absolute target begins, and its scheme's port.
fn after_scheme(target: &[u8]) -> Result<(usize, u16), RefusalReason> {
    let begins = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|t| t.eq_ignore_ascii_case(scheme));
    if begins(b"http://") {
        Ok((b"http://".len(), 80))
    } else if begins(b"https://") {
        Ok((b"https://".len(), 443))
    } else if target.windows(3).any(|w| w == b"://") {
        Err(RefusalReason::TargetScheme)
    } else {
        Err(RefusalReason::TargetForm)
    }
}

/// Looks at everything before the query; a valid authority has none of what is refused here.
fn check_path(target: &[u8], slash: EncodedSlash) -> Result<(), RefusalReason> {
    let path = target.split(|&b| b == b'?').next().unwrap_or_default();
    if path.iter().any(|&b| is(b, PATH_BAD)) {
        return Err(RefusalReason::TargetByte);
    }
    for escape in path.split(|&b| b == b'%').skip(1) {
        match escape {
            [b'0', b'0', ..] => return Err(RefusalReason::TargetNul),
            [b'2', b'f' | b'F', ..] | [b'5', b'c' | b'C', ..] if slash == EncodedSlash::Refuse => {
                return Err(RefusalReason::TargetEncodedSlash);
            }
            [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
            _ => return Err(RefusalReason::TargetEscape),
        }
    }
    Ok(())
}
