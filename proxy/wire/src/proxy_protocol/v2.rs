//! Version 2: sixteen fixed bytes, addresses, extensions (type, length, value).

use super::{Header, MAX_V2, Origin, ProxyError};
use std::net::{IpAddr, SocketAddr};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;
/// The extension that carries a CRC32C over the whole header, counted with zeros in its own place.
const TYPE_CRC32C: u8 = 3;

pub(super) fn parse(buf: &[u8]) -> Result<Option<Header>, ProxyError> {
    let Some(&[version_command, family, high, low]) = buf.get(SIGNATURE.len()..FIXED) else {
        return Ok(None);
    };
    if version_command >> 4 != 2 {
        return Err(ProxyError::Version(version_command >> 4));
    }
    let local = match version_command & 0x0f {
        0 => true,
        1 => false,
        command => return Err(ProxyError::Command(command)),
    };
    // LOCAL says nothing, whatever family it names; UNIX sockets and datagrams are valid, but not ours.
    let addresses = match family {
        _ if local => 0,
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(ProxyError::Family(family)),
    };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_V2 {
        return Err(ProxyError::TooLong);
    }
    if len < FIXED + addresses {
        return Err(ProxyError::TooShort);
    }
    let Some(header) = buf.get(..len) else { return Ok(None) };
    let origin = match (family, &header[FIXED..]) {
        _ if local => return Ok(Some(Header { len, origin: Origin::Local })),
        (0x00, _) => return Ok(Some(Header { len, origin: Origin::Unknown })),
        (0x11, body) => proxied::<4>(body),
        (0x21, body) => proxied::<16>(body),
        _ => Some(Origin::Unknown),
    };
    check_extensions(header, FIXED + addresses)?;
    origin.map(|origin| Some(Header { len, origin })).ok_or(ProxyError::TooShort)
}

/// Reads source, destination and their ports, of addresses `N` bytes long.
fn proxied<const N: usize>(body: &[u8]) -> Option<Origin>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, _) = rest.split_first_chunk()?;
    let socket = |address: &[u8; N], port| SocketAddr::new((*address).into(), u16::from_be_bytes(port));
    Some(Origin::Proxied {
        source: socket(source, *source_port),
        destination: socket(destination, *destination_port),
    })
}

/// Skips the extensions, which must end where the header does, and verifies the checksum if there is one.
fn check_extensions(header: &[u8], mut at: usize) -> Result<(), ProxyError> {
    while at < header.len() {
        let Some(&[kind, high, low]) = header.get(at..at + 3) else { return Err(ProxyError::Extension) };
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(value..at).ok_or(ProxyError::Extension)?;
        if kind == TYPE_CRC32C {
            let sum = value.try_into().map(u32::from_be_bytes).map_err(|_| ProxyError::Checksum)?;
            let zeroed = header[..at - 4].iter().chain(&[0; 4]).chain(&header[at..]);
            if crc32c(zeroed) != sum {
                return Err(ProxyError::Checksum);
            }
        }
    }
    Ok(())
}

/// CRC-32C (Castagnoli) bit by bit: seldom asked for, once a connection.
pub(super) fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg()))
    })
}
