//! The rules again, written the slow and obvious way, over whole messages as text.

use super::super::*;

/// Reads the message that begins `input`: the end of its head, its framing, and the end of its body if that is whole.
/// `Err` if the message is bad, `Ok(None)` if its head is not whole.
pub(super) type Read = Result<Option<(usize, Framing, Option<usize>)>, ()>;

pub(super) fn read(input: &[u8]) -> Read {
    let text: String = input.iter().map(|&b| char::from(b)).collect();
    let skipped = if text.starts_with("\r\n") { 2 } else { 0 };
    let Some(end) = text[skipped..].find("\r\n\r\n").map(|at| skipped + at + 4) else { return Ok(None) };
    let framing = head(&text[skipped..end - 4])?;
    let end = text[..end].chars().count();
    let rest = &input[end..];
    let body = match framing.body {
        Body::Empty => Some(0),
        Body::Length(length) => usize::try_from(length).ok().filter(|&length| length <= rest.len()),
        Body::Chunked => chunked(rest)?,
    };
    Ok(Some((end, framing, body.map(|length| end + length))))
}

fn all(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    text.chars().all(allowed)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && all(text, |c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

fn demand(holds: bool) -> Result<(), ()> {
    if holds { Ok(()) } else { Err(()) }
}

fn ows(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn fields(text: &str) -> Result<Vec<(String, String)>, ()> {
    let lines = text.split("\r\n").filter(|_| !text.is_empty());
    let fields = lines.map(|line| {
        let (name, value) = line.split_once(':').ok_or(())?;
        demand(is_token(name) && all(value, |c| c == '\t' || (c >= ' ' && c != '\x7f')))?;
        Ok((name.to_ascii_lowercase(), ows(value).to_owned()))
    });
    fields.collect()
}

fn reserved(name: &str) -> bool {
    let list = "host content-length content-type content-encoding transfer-encoding authorization \
                proxy-authorization cookie forwarded via x-real-ip x-request-id";
    list.split_whitespace().any(|r| r == name) || name.starts_with("x-forwarded-")
}

fn head(text: &str) -> Result<Framing, ()> {
    let (line, rest) = text.split_once("\r\n").unwrap_or((text, ""));
    let fields = fields(rest)?;
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    };
    let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else { return Err(()) };
    demand(is_token(method) && (version == "HTTP/1.1" || version == "HTTP/1.0"))?;
    let modern = version == "HTTP/1.1";
    let host = match values("host")[..] {
        [] if modern => return Err(()),
        [] => None,
        [host] => Some(authority(host)?),
        _ => return Err(()),
    };
    if let Some((named, port)) = names_authority(method, target)? {
        let expected = (named.0, named.1.or(Some(port)));
        demand(host.is_none_or(|host| (host.0, host.1.or(Some(port))) == expected))?;
        let copied = target.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next());
        demand(method == "CONNECT" || values("host").iter().all(|host| copied == Some(*host)))?;
    }
    for option in values("connection").join(",").split(',').map(ows).filter(|o| !o.is_empty()) {
        demand(is_token(option) && !reserved(&option.to_ascii_lowercase()))?;
    }
    let expect = values("expect");
    demand(expect.iter().all(|v| v.eq_ignore_ascii_case("100-continue")))?;
    let body = match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => Body::Empty,
        ([], [coding]) if modern && coding.eq_ignore_ascii_case("chunked") => Body::Chunked,
        ([length], []) if all(length, |c| c.is_ascii_digit()) => {
            match length.parse::<i64>().map_err(|_| ())? {
                0 => Body::Empty,
                length => Body::Length(length as u64),
            }
        }
        _ => return Err(()),
    };
    let connect = method == "CONNECT";
    demand(!connect || body == Body::Empty)?;
    Ok(Framing {
        version: if modern { Version::Http11 } else { Version::Http10 },
        body,
        upgrade: modern && !values("upgrade").is_empty(),
        connect,
        expect_continue: modern && !expect.is_empty() && body != Body::Empty,
    })
}

type HostPort = (String, Option<u16>);

/// The authority a target names, with the port it means when it has none; an error if the target is bad.
fn names_authority(method: &str, target: &str) -> Result<Option<(HostPort, u16)>, ()> {
    demand(all(target, |c| c.is_ascii_graphic() && !"\"<>#".contains(c)))?;
    if method == "CONNECT" {
        let named = authority(target)?;
        let port = named.1.ok_or(())?;
        return Ok(Some((named, port)));
    }
    if target == "*" && method == "OPTIONS" {
        return Ok(None);
    }
    let (named, path) = if target.starts_with('/') {
        (None, target)
    } else {
        let (scheme, rest) = target.split_once("://").ok_or(())?;
        let port = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(()),
        };
        let (name, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        (Some((authority(name)?, port)), path)
    };
    let path = path.split('?').next().unwrap_or_default();
    demand(!path.contains(['\\', '`']))?;
    for (at, _) in path.match_indices('%') {
        let hex = path.get(at + 1..at + 3).ok_or(())?;
        demand(all(hex, |c| c.is_ascii_hexdigit()) && hex != "00")?;
    }
    Ok(named)
}

fn authority(text: &str) -> Result<HostPort, ()> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(())?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| ())?;
            (address, port)
        }
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let named = all(host, |c| c.is_ascii_alphanumeric() || "-._".contains(c));
            demand(named && !host.is_empty() && host.len() <= 255)?;
            (host, port)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some(digits) if all(digits, |c| c.is_ascii_digit()) => Some(digits.parse().map_err(|_| ())?),
        _ => return Err(()),
    };
    demand(port != Some(0))?;
    Ok((host.to_ascii_lowercase(), port))
}

/// The length of a chunked body with its trailers; `Ok(None)` if it is not whole.
fn chunked(body: &[u8]) -> Result<Option<usize>, ()> {
    let find =
        |from: usize, what: &[u8]| body[from..].windows(what.len()).position(|w| w == what).map(|i| from + i);
    let mut at = 0;
    loop {
        let Some(end) = find(at, b"\r\n") else { return Ok(None) };
        let line: String = body[at..end].iter().map(|&b| char::from(b)).collect();
        let (size, extension) = line.split_at(line.find(';').unwrap_or(line.len()));
        demand(all(size, |c| c.is_ascii_hexdigit()) && size.len() <= 16)?;
        demand(all(extension, |c| c == '\t' || (' '..='~').contains(&c)))?;
        let size = i64::from_str_radix(size, 16).map_err(|_| ())? as usize;
        at = end + 2;
        if size == 0 {
            break;
        }
        match body.get(at.saturating_add(size)..at.saturating_add(size).saturating_add(2)) {
            None => return Ok(None),
            Some(crlf) => demand(crlf == b"\r\n")?,
        }
        at += size + 2;
    }
    if body[at..].starts_with(b"\r\n") {
        return Ok(Some(at + 2));
    }
    let Some(end) = find(at, b"\r\n\r\n") else { return Ok(None) };
    let text: String = body[at..end].iter().map(|&b| char::from(b)).collect();
    demand(!fields(&text)?.iter().any(|(name, _)| reserved(name)))?;
    Ok(Some(end + 4))
}
