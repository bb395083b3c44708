//! Whose connection is this, when a load balancer in front tells by the PROXY protocol?
//!
//! Both versions of haproxy's specification, from the bytes that begin a connection. Stricter than the `ppp` crate,
//! which the tests hold it against: a port with a sign (`+80`) is refused, a whole line that lacks a part is refused
//! and not waited on, a line cut before its last port is waited on and not refused, LOCAL is taken whatever family
//! it names, and a CRC32C that is there is verified.
//!
//! Only ask where the peer is trusted to tell. Cost: the header's bytes once, nothing is allocated.

#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::net::SocketAddr;

/// The longest version 1 header, with its CRLF.
pub const MAX_V1: usize = 107;
/// The longest version 2 header taken; the specification's own limit is 65,551.
pub const MAX_V2: usize = 4096;

/// A whole PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many bytes the header takes; the client's own begin after them.
    pub len: usize,
    /// What it says.
    pub origin: Origin,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A TCP connection, relayed.
    Proxied {
        /// The client's address.
        source: SocketAddr,
        /// The address the client connected to.
        destination: SocketAddr,
    },
    /// The sender's own connection, such as a health check: the socket's addresses count.
    Local,
    /// A relayed connection without IP addresses, or not over TCP: the socket's addresses count.
    Unknown,
}

/// Why bytes are not a PROXY header. The connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Neither signature.
    #[error("the connection does not begin with a PROXY protocol signature")]
    Signature,
    /// A version 1 header without CRLF in its first 107 bytes.
    #[error("the PROXY v1 line is longer than {MAX_V1} bytes")]
    LineTooLong,
    /// A version 1 header with the wrong parts.
    #[error("the PROXY v1 line is not protocol, two addresses and two ports, ended by CRLF")]
    Line,
    /// A version 1 header with an address that is not of its family.
    #[error("the PROXY v1 line holds an address that is not of its family")]
    Address,
    /// A version 1 header with a port that is not a decimal number from 0 to 65535 without leading zeros.
    #[error("the PROXY v1 line holds an invalid port")]
    Port,
    /// A version 2 signature with another version.
    #[error("the PROXY v2 header says version {0}")]
    Version(u8),
    /// A version 2 command that is not assigned.
    #[error("the PROXY v2 header says command {0}")]
    Command(u8),
    /// A version 2 family and transport that are not assigned.
    #[error("the PROXY v2 header says family and transport {0:#04x}")]
    Family(u8),
    /// A version 2 header longer than we take.
    #[error("the PROXY v2 header is longer than {MAX_V2} bytes")]
    TooLong,
    /// A version 2 header too short for the addresses of its family.
    #[error("the PROXY v2 header is too short for its addresses")]
    TooShort,
    /// A version 2 extension that runs past the header's end.
    #[error("a PROXY v2 extension runs past the end of the header")]
    Extension,
    /// A version 2 checksum that does not match.
    #[error("the PROXY v2 checksum does not match")]
    Checksum,
}

/// The answer to [`looks_like`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// It begins with a signature.
    Yes,
    /// It cannot be a PROXY header.
    No,
    /// All there is could be the beginning of a signature.
    Maybe,
}

/// Whether the bytes that begin a connection are a PROXY header, for listeners where it is optional.
pub fn looks_like(buf: &[u8]) -> Likeness {
    if buf.starts_with(v1::SIGNATURE) || buf.starts_with(v2::SIGNATURE) {
        Likeness::Yes
    } else if v1::SIGNATURE.starts_with(buf) || v2::SIGNATURE.starts_with(buf) {
        Likeness::Maybe
    } else {
        Likeness::No
    }
}

/// Reads the header that begins a connection; `None` while it is not whole. Bytes after it are not looked at.
pub fn parse(buf: &[u8]) -> Result<Option<Header>, ProxyError> {
    match looks_like(buf) {
        Likeness::No => Err(ProxyError::Signature),
        Likeness::Maybe => Ok(None),
        Likeness::Yes if buf.starts_with(v1::SIGNATURE) => v1::parse(buf),
        Likeness::Yes => v2::parse(buf),
    }
}
