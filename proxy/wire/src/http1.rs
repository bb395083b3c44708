//! May these bytes of an HTTP/1 connection pass to a parser that is more lenient than we are?
//!
//! ```text
//!             ┌──────────── no body ────────────┐
//!             ▼                                 │
//!  bytes ─► head: withheld until whole, checked ┴─► body: counted, or its chunks followed ─► next head
//!             │                                        │
//!             └───────────────► refused ◄──────────────┘         tunnel (by the owner): everything passes
//! ```
//!
//! Invariant: a byte passes only if it belongs to a message whose head was accepted, and the next message's bytes are
//! judged as a head however they arrived; how the bytes were cut into pieces changes neither verdicts nor what passes.
//! So all that read the message behind the gate agree on where it ends (RFC 9110, RFC 9112).
//!
//! Cost: each byte is looked at once as it arrives, and those of names and of a few values once more; nothing is
//! allocated. A browser's GET (492 bytes, 10 headers) takes 2,900 instructions, one by curl (96 bytes, 3 headers)
//! 1,300: about what httparse takes to parse them.

mod authority;
mod bytes;
mod chunk;
mod fields;
mod line;
mod refusal;
mod request_line;
#[cfg(test)]
mod tests;

pub use refusal::{Refusal, RefusalReason};
pub use request_line::check_target;

use authority::Authority;
use chunk::Chunks;
use fields::Fields;
use line::{Line, Walk};
use request_line::RequestLine;
use std::ops::Range;

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a message may measure. Sizes are in bytes and count line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    /// The request line without its CRLF; 8 KiB, as nginx and the RFC's advice have it. More is 414.
    pub request_line: u32,
    /// The whole head with request line and last empty line; 60 KiB, so that it fits a 64 KiB buffer. More is 431.
    pub header_block: u32,
    /// Header lines; 100. More is 431. The parser behind ends at 256.
    pub headers: u16,
    /// The trailer section of a chunked body; 8 KiB. More is 431.
    pub trailer_block: u32,
    /// Trailer lines; 32. More is 431.
    pub trailers: u16,
    /// Chunk extensions of one message together; 4 KiB, since nobody uses them but to waste our time. More is 400.
    pub chunk_extensions: u32,
    /// What to do with an encoded slash or backslash in a path.
    pub encoded_slash: EncodedSlash,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            request_line: 8 << 10,
            header_block: 60 << 10,
            headers: 100,
            trailer_block: 8 << 10,
            trailers: 32,
            chunk_extensions: 4 << 10,
            encoded_slash: EncodedSlash::Keep,
        }
    }
}

/// What to do with `%2F` and `%5C` in a path. Some upstreams decode them before they split the path, and so reach
/// what a route by path prefix keeps from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlash {
    /// They pass as they are and are not path separators.
    #[default]
    Keep,
    /// 400.
    Refuse,
}

/// The answer to [`Gate::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing may pass. Keep `buf` and call again when more was appended to it.
    NeedMore,
    /// A head is whole and good: its `len` bytes may pass.
    Head {
        /// How many bytes of `buf` may pass; at least 16.
        len: usize,
        /// How the message goes on.
        framing: Framing,
    },
    /// `len` bytes of a body, with its framing, may pass.
    Body {
        /// How many bytes of `buf` may pass; at least 1.
        len: usize,
        /// Whether the body ends with them.
        end: bool,
    },
    /// The connection is a tunnel: `len` bytes, all there are, may pass.
    Tunnel {
        /// How many bytes of `buf` may pass; at least 1.
        len: usize,
    },
    /// Nothing may pass any more: answer if no answer has begun, and close. All later calls say the same.
    Refuse(Refusal),
}

/// What a head says about the rest of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// The version of the request line.
    pub version: Version,
    /// What follows the head.
    pub body: Body,
    /// The request asks to leave HTTP on this connection. What arrives after its end must be held back until the
    /// answer is known: [`Gate::tunnel`] on 101, else it is the next head (CVE-2026-2833). Never true for HTTP/1.0,
    /// where Upgrade is ignored. A body may stand between the two.
    pub upgrade: bool,
    /// The method is CONNECT. As with `upgrade`, what follows must be held back; any 2xx makes a tunnel.
    pub connect: bool,
    /// The client waits for 100 (Continue) before it sends its body. Never true for HTTP/1.0 or without a body.
    pub expect_continue: bool,
}

/// The version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing: the next byte begins the next head.
    Empty,
    /// So many bytes, at least 1.
    Length(u64),
    /// Chunks, trailers and an empty line.
    Chunked,
}

/// What kind of bytes the gate expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A request head; if the owner holds no bytes, the connection is between two requests.
    Head,
    /// More of a body, its framing or its trailers.
    Body,
    /// Anything.
    Tunnel,
    /// None: a message was refused.
    Refused,
}

/// The gate of one connection.
///
/// The owner appends what it reads to a buffer, calls [`advance`](Gate::advance) with the whole of it, takes from its
/// front what may pass, and calls again with the rest until the answer is [`Progress::NeedMore`].
#[derive(Clone, Debug)]
pub struct Gate {
    limits: GateLimits,
    state: State,
    section: Section,
}

#[derive(Clone, Debug)]
enum State {
    Head,
    Length(u64),
    Chunks(Chunks),
    Trailers,
    Tunnel,
    Refused(Refusal),
}

/// The lines (a head or trailers) that are being read from the front of the owner's buffer.
#[derive(Clone, Debug, Default)]
struct Section {
    walk: Walk,
    request: Option<RequestLine>,
    fields: Fields,
}

impl Gate {
    /// A gate for a connection on which nothing was read yet.
    pub fn new(limits: GateLimits) -> Self {
        Self { limits, state: State::Head, section: Section::default() }
    }

    /// Judges the bytes at hand.
    ///
    /// `buf` begins with the first byte that has not passed yet, and has all that has arrived since.
    pub fn advance(&mut self, buf: &[u8]) -> Progress {
        let judged = match &mut self.state {
            State::Refused(refusal) => return Progress::Refuse(*refusal),
            _ if buf.is_empty() => return Progress::NeedMore,
            State::Tunnel => return Progress::Tunnel { len: buf.len() },
            State::Length(left) => {
                let len = usize::try_from(*left).map_or(buf.len(), |left| left.min(buf.len()));
                *left -= len as u64;
                let end = *left == 0;
                if end {
                    self.state = State::Head;
                }
                return Progress::Body { len, end };
            }
            State::Chunks(chunks) => {
                let taken = chunks.advance(buf, self.limits.chunk_extensions);
                if chunks.done() {
                    self.state = State::Trailers;
                }
                taken.map(|len| Progress::Body { len, end: false })
            }
            State::Head => self.head(buf),
            State::Trailers => self.trailers(buf),
        };
        judged.unwrap_or_else(|reason| {
            self.state = State::Refused(reason.into());
            Progress::Refuse(reason.into())
        })
    }

    /// The connection has left HTTP (101 to an Upgrade, 2xx to a CONNECT): everything passes from now on.
    pub fn tunnel(&mut self) {
        self.state = State::Tunnel;
    }

    /// What kind of bytes come next.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Head => Phase::Head,
            State::Length(_) | State::Chunks(_) | State::Trailers => Phase::Body,
            State::Tunnel => Phase::Tunnel,
            State::Refused(_) => Phase::Refused,
        }
    }

    fn head(&mut self, buf: &[u8]) -> Result<Progress, RefusalReason> {
        let limits = &self.limits;
        let section = &mut self.section;
        let request = match section.request.take() {
            Some(request) => request,
            None => {
                let Some(line) = section.request_line(buf, limits)? else { return Ok(Progress::NeedMore) };
                request_line::parse(buf, line, limits.encoded_slash)?
            }
        };
        let view = &buf[..buf.len().min(limits.header_block as usize)];
        while let Some(line) = section.walk.next(view)? {
            if line.is_empty() {
                let framing = framing(buf, &request, &section.fields)?;
                let len = section.walk.start;
                *section = Section::default();
                self.state = match framing.body {
                    Body::Empty => State::Head,
                    Body::Length(length) => State::Length(length),
                    Body::Chunked => State::Chunks(Chunks::default()),
                };
                return Ok(Progress::Head { len, framing });
            }
            section.fields.count += 1;
            if section.fields.count > limits.headers {
                return Err(RefusalReason::TooManyHeaders);
            }
            section.fields.take(buf, line)?;
        }
        if view.len() == limits.header_block as usize {
            return Err(RefusalReason::HeadersTooLarge);
        }
        section.request = Some(request);
        Ok(Progress::NeedMore)
    }

    /// Trailers are withheld until they are whole, as a head is: only then is it known which fields they are.
    fn trailers(&mut self, buf: &[u8]) -> Result<Progress, RefusalReason> {
        let section = &mut self.section;
        let view = &buf[..buf.len().min(self.limits.trailer_block as usize)];
        while let Some(line) = section.walk.next(view)? {
            if line.is_empty() {
                let len = section.walk.start;
                *section = Section::default();
                self.state = State::Head;
                return Ok(Progress::Body { len, end: true });
            }
            section.fields.count += 1;
            if section.fields.count > self.limits.trailers {
                return Err(RefusalReason::TooManyTrailers);
            }
            if fields::is_reserved(fields::name(buf, line)?) {
                return Err(RefusalReason::TrailerReserved);
            }
        }
        if view.len() == self.limits.trailer_block as usize {
            return Err(RefusalReason::TrailersTooLarge);
        }
        Ok(Progress::NeedMore)
    }
}

impl Section {
    /// The first line, if it is whole, after at most one empty line (RFC 9112, section 2.2: old clients end a body
    /// with a CRLF too many).
    fn request_line(&mut self, buf: &[u8], limits: &GateLimits) -> Result<Option<Line>, RefusalReason> {
        if buf[0] == TLS_HANDSHAKE {
            return Err(RefusalReason::TlsHandshake);
        }
        loop {
            let longest = self.walk.start + limits.request_line as usize + 2;
            let view = &buf[..buf.len().min(longest)];
            match self.walk.next(view)? {
                Some(line) if !line.is_empty() => return Ok(Some(line)),
                Some(line) if line.start > 0 => return Err(RefusalReason::EmptyLine),
                Some(_) => {}
                None if view.len() == longest => return Err(RefusalReason::RequestLineTooLong),
                None => return Ok(None),
            }
        }
    }
}

/// The checks that need the whole head.
fn framing(buf: &[u8], request: &RequestLine, fields: &Fields) -> Result<Framing, RefusalReason> {
    let version = request.version;
    if version == Version::Http11 && fields.host.is_none() {
        return Err(RefusalReason::HostMissing);
    }
    if let (Some((target, port)), Some(host)) = (&request.authority, &fields.host) {
        let read = |range: &Range<usize>| Authority::parse(&buf[range.clone()]);
        // Of a target in absolute form the Host is a copy (RFC 9112, section 3.2), and the parser behind insists on it.
        let same = match request.connect {
            false => buf[target.clone()] == buf[host.clone()],
            true => read(target).zip(read(host)).is_some_and(|(target, host)| target.same(&host, *port)),
        };
        if !same {
            return Err(RefusalReason::HostMismatch);
        }
    }
    let body = match (fields.content_length, fields.chunked) {
        (Some(_), true) => return Err(RefusalReason::FramingConflict),
        (None, true) if version == Version::Http10 => return Err(RefusalReason::TransferEncodingHttp10),
        (None, true) => Body::Chunked,
        (None | Some(0), false) => Body::Empty,
        (Some(length), false) => Body::Length(length),
    };
    if request.connect && body != Body::Empty {
        return Err(RefusalReason::ConnectBody);
    }
    let modern = version == Version::Http11;
    Ok(Framing {
        version,
        body,
        upgrade: fields.upgrade && modern,
        connect: request.connect,
        expect_continue: fields.expect_continue && modern && body != Body::Empty,
    })
}
