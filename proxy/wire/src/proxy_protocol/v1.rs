//! Version 1: one line of text.

use super::{Header, MAX_V1, Origin, ProxyError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

pub(super) fn parse(buf: &[u8]) -> Result<Option<Header>, ProxyError> {
    let view = &buf[..buf.len().min(MAX_V1)];
    let end = view.iter().position(|b| !(b' '..=b'~').contains(b)).unwrap_or(view.len());
    match view[end..] {
        [b'\r', b'\n', ..] => {
            let line = str::from_utf8(&view[SIGNATURE.len()..end]).map_err(|_| ProxyError::Line)?;
            Ok(Some(Header { len: end + 2, origin: origin(line)? }))
        }
        [] | [b'\r'] if view.len() == MAX_V1 => Err(ProxyError::LineTooLong),
        [] | [b'\r'] => Ok(None),
        _ => Err(ProxyError::Line),
    }
}

/// Reads the line between signature and CRLF.
fn origin(line: &str) -> Result<Origin, ProxyError> {
    let (protocol, rest) = line.split_once(' ').unwrap_or((line, ""));
    let address: fn(&str) -> Option<IpAddr> = match protocol {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        // Whatever follows is to be ignored.
        "UNKNOWN" => return Ok(Origin::Unknown),
        _ => return Err(ProxyError::Line),
    };
    let mut parts = rest.split(' ');
    let mut part = || parts.next().ok_or(ProxyError::Line);
    let (source, destination, source_port, destination_port) = (part()?, part()?, part()?, part()?);
    if parts.next().is_some() {
        return Err(ProxyError::Line);
    }
    let address = |text| address(text).ok_or(ProxyError::Address);
    Ok(Origin::Proxied {
        source: SocketAddr::new(address(source)?, port(source_port)?),
        destination: SocketAddr::new(address(destination)?, port(destination_port)?),
    })
}

fn port(text: &str) -> Result<u16, ProxyError> {
    let padded = text.len() > 1 && text.starts_with('0');
    if padded || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ProxyError::Port);
    }
    text.parse().map_err(|_| ProxyError::Port)
}
