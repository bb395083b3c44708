//! Who is the client, and what is the upstream told about it?
//!
//! ```text
//!  client ─► proxies in front, each appends its peer ─► X-Forwarded-For: client, p1 ─► p2 = our peer
//!                                                                         ◄── we walk from the right
//! ```
//!
//! The walk begins at the peer and goes one entry to the left as long as the address it stands on is trusted: because it lies
//! in a trusted network (as nginx's `real_ip_recursive`), or because that many hops in front are taken on trust (as Envoy's
//! `xff_num_trusted_hops`). The first address that is not trusted is the client; where all are in trusted networks, the leftmost is. Where
//! there are fewer entries than trusted hops, the request did not come the way that was promised: the address at which hops
//! began to be counted is the client, and its words are not believed.
//!
//! What a trusted peer says (`X-Forwarded-*`, `Forwarded`, `X-Request-Id`) is kept and added to; what anybody else says is replaced or
//! removed, so that no client chooses its own address.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use portolan_model::proxy::ClientAddress;
use portolan_model::route::Scheme;

use crate::headers::{Headers, remove_any};

/// `X-Request-Id`.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// The fields that say who the client is.
pub(crate) static NAMES: [HeaderName; 7] = [
    FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-request-id"),
];

/// What nobody but a trusted peer may say, and we do not say ourselves.
static SAID: [HeaderName; 3] =
    [FORWARDED, HeaderName::from_static("x-forwarded-port"), HeaderName::from_static("x-real-ip")];

/// The longest request id that is kept.
const LONGEST_ID: usize = 128;

/// How a connection's requests arrive.
#[derive(Clone, Debug)]
pub struct Arrival {
    peer: IpAddr,
    scheme: Scheme,
    port: u16,
    /// The peer, as upstreams are told.
    entry: HeaderValue,
}

impl Arrival {
    /// `peer` is the connection's other end, or whom its PROXY protocol header names; `scheme` and `port` are the listener's.
    pub fn new(peer: IpAddr, scheme: Scheme, port: u16) -> Self {
        let peer = peer.to_canonical();
        let entry = HeaderValue::try_from(peer.to_string());
        Self { peer, scheme, port, entry: entry.unwrap_or_else(|_| unreachable!("an address")) }
    }
}

/// Who a request is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// Whether what the peer says about it is believed.
    pub trusted: bool,
    /// What it spoke: the trusted peer's word, else the listener's.
    pub scheme: Scheme,
    /// The port it spoke to: the trusted peer's word, else its scheme's own, else the listener's.
    pub port: u16,
}

/// Who a request is from. Without trusted networks and hops nothing is read.
pub fn client(trust: &ClientAddress, arrival: &Arrival, headers: &HeaderMap) -> Client {
    let (address, trusted) = walk(trust, arrival.peer, headers);
    let said =
        |name: &HeaderName| headers.get(name).filter(|_| trusted).and_then(|value| value.to_str().ok());
    let scheme = said(&PROTO).and_then(|scheme| {
        [("https", Scheme::Https), ("wss", Scheme::Https), ("http", Scheme::Http), ("ws", Scheme::Http)]
            .into_iter()
            .find_map(|(name, value)| name.eq_ignore_ascii_case(scheme).then_some(value))
    });
    let port = said(&PORT).and_then(|port| port.parse().ok()).filter(|&port| port > 0);
    Client {
        address,
        trusted,
        scheme: scheme.unwrap_or(arrival.scheme),
        port: port.or_else(|| scheme.map(Scheme::default_port)).unwrap_or(arrival.port),
    }
}

/// Tells the upstream: `X-Forwarded-For`, `-Proto` and `-Host` (`host` is the request's, with its port).
pub fn forward(headers: &mut HeaderMap, client: &Client, arrival: &Arrival, host: HeaderValue) {
    if client.trusted {
        let walked = with_entry(headers, &arrival.entry);
        headers.set(&FOR, walked);
    } else {
        headers.set(&FOR, arrival.entry.clone());
        remove_any(headers, &SAID);
    }
    let keep = |headers: &HeaderMap, name| client.trusted && headers.contains_key(name);
    if !keep(headers, &PROTO) {
        headers.set(&PROTO, HeaderValue::from_static(arrival.scheme.as_str()));
    }
    if !keep(headers, &HOST) {
        headers.set(&HOST, host);
    }
}

/// The id that a request goes by: the trusted peer's if it is 1 to 128 visible characters, else `random` as a UUID (RFC 9562 §5.4).
pub fn request_id(headers: &HeaderMap, trusted: bool, random: u128) -> HeaderValue {
    let plain = |id: &&HeaderValue| {
        (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    let said = if trusted { headers.get(&REQUEST_ID).filter(plain) } else { None };
    said.cloned().unwrap_or_else(|| uuid(random))
}

fn uuid(random: u128) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = random & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (number, byte) in bits.to_be_bytes().into_iter().enumerate() {
        at += usize::from(matches!(number, 4 | 6 | 8 | 10));
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 0xf)];
        at += 2;
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| unreachable!("hexadecimal digits and dashes"))
}

/// `X-Forwarded-For` with one more entry.
fn with_entry(headers: &HeaderMap, entry: &HeaderValue) -> HeaderValue {
    let fields = headers.get_all(&FOR).iter().chain([entry]).map(HeaderValue::as_bytes);
    let joined = fields.collect::<Vec<_>>().join(&b", "[..]);
    HeaderValue::try_from(joined).unwrap_or_else(|_| unreachable!("joined header values"))
}

fn walk(trust: &ClientAddress, peer: IpAddr, headers: &HeaderMap) -> (IpAddr, bool) {
    if trust.trusted.is_empty() && trust.trusted_hops == 0 {
        return (peer, false);
    }
    let known = |address: &IpAddr| trust.trusted.iter().any(|network| network.contains(address));
    let fields = headers.get_all(&FOR).iter().rev();
    let mut entries = fields.flat_map(|field| field.as_bytes().rsplit(|&byte| byte == b',')).map(address);

    let (mut current, mut hops, mut hops_began) = (peer, trust.trusted_hops, None);
    loop {
        let by_network = known(&current);
        if !by_network {
            if hops == 0 {
                return (current, hops_began.is_some() || known(&peer));
            }
            hops -= 1;
        }
        let began = if by_network { hops_began } else { hops_began.or(Some(current)) };
        match entries.next().flatten() {
            Some(next) => (current, hops_began) = (next, began),
            None if by_network => return (current, true),
            None => return (began.unwrap_or(current), known(&peer)),
        }
    }
}

/// An entry of `X-Forwarded-For`: an address, with a port where some put one; an IPv6 address may stand in brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare().or_else(with_port).or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}
