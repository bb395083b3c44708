//! The `Proxy`: what every proxy replica does alike.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::host::HostName;
use crate::id::ObjectRef;
use crate::locality::Locality;
use crate::policy::PolicySpec;

/// The `Proxy` named `default`, or what counts where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proxy {
    /// Below it lie the generated names: `<label>.<cluster>.<lb domain>`.
    pub lb_domain: HostName,
    /// Where the proxies are: of hosts that several clusters serve, the nearest ones that can take a request do.
    pub locality: Locality,
    /// Where connections are accepted; names are unique, and so are address and port.
    pub listeners: Vec<Arc<Listener>>,
    /// Whose word about the client is believed.
    pub client_address: ClientAddress,
    /// On connections and heads.
    pub limits: Limits,
    /// What is logged of each request.
    pub access_log: AccessLog,
    /// The cluster whose rules without a host catch what nobody else serves.
    pub catch_all_cluster: Option<Arc<str>>,
    /// Worker threads; one per core without.
    pub workers: Option<NonZeroU16>,
    /// How long a drain may take.
    #[serde(serialize_with = "crate::seconds::one")]
    pub drain_timeout: Duration,
    /// Laid over the built-in policy, below all others.
    pub default_policy: PolicySpec,
    /// What the LB cluster has for itself: its node, pod and service ranges. Endpoints of a cluster that is not integrated may
    /// not lie there.
    pub reserved: Arc<[IpNet]>,
}

impl Proxy {
    /// What counts where nobody declared a `Proxy`: 8080 for HTTP, 8443 for HTTPS with a certificate of its own making.
    pub fn fallback() -> Self {
        let listener = |name: &str, port: u16, tls: Option<ListenerTls>| {
            Arc::new(Listener {
                name: name.into(),
                address: ListenAddress::Any,
                port: NonZeroU16::new(port).unwrap_or(NonZeroU16::MIN),
                tls,
                http2: true,
                proxy_protocol: None,
                max_connections: None,
            })
        };
        Self {
            lb_domain: HostName::parse("lb.localhost").unwrap_or_else(|_| unreachable!("a valid constant")),
            locality: Locality::default(),
            listeners: vec![
                listener("http", 8080, None),
                listener("https", 8443, Some(ListenerTls { self_signed: true, ..ListenerTls::default() })),
            ],
            client_address: ClientAddress::default(),
            limits: Limits::default(),
            access_log: AccessLog::default(),
            catch_all_cluster: None,
            workers: None,
            drain_timeout: Duration::from_secs(30),
            default_policy: PolicySpec::default(),
            reserved: Arc::default(),
        }
    }
}

/// Where connections are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// Its name.
    pub name: Arc<str>,
    /// The local address.
    pub address: ListenAddress,
    /// The local port.
    pub port: NonZeroU16,
    /// TLS; plain HTTP without.
    pub tls: Option<ListenerTls>,
    /// Whether HTTP/2 is spoken: by ALPN over TLS, by prior knowledge in plaintext.
    pub http2: bool,
    /// Whether a PROXY protocol header is expected.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Connections at once; only the process-wide limit without.
    pub max_connections: Option<u32>,
}

/// A local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ListenAddress {
    /// Every address of both families (IPv4 alone where the machine has no IPv6).
    Any,
    /// That address; `::` means IPv6 alone.
    Ip(IpAddr),
}

/// TLS towards clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListenerTls {
    /// The lowest version spoken.
    pub min_version: TlsVersion,
    /// IANA names of the cipher suites offered, in order; the library's safe ones without.
    pub cipher_suites: Vec<Arc<str>>,
    /// The `Secret` for unknown and missing server names; they are refused without.
    pub default_certificate: Option<ObjectRef>,
    /// Whether a certificate of the process's own making serves where no other does.
    pub self_signed: bool,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// Versions 1 and 2 of HAProxy's PROXY protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProxyProtocol {
    /// From whom it is read; others' bytes are taken as they are, unless it is required.
    pub trusted: Vec<IpNet>,
    /// Whether connections without it are closed.
    pub required: bool,
}

/// Whose word about the client is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClientAddress {
    /// Proxies in front of us: their `X-Forwarded-*` and `X-Request-Id` are kept, others' are replaced.
    pub trusted: Vec<IpNet>,
    /// How many proxies stand in front, where their addresses are not known: that many entries of `X-Forwarded-For`, from the right, are believed.
    pub trusted_hops: u8,
}

/// Limits on connections and heads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Connections at once in the process; derived from the open-file limit without.
    pub max_connections: Option<u32>,
    /// A request's head, in bytes.
    pub max_header_bytes: u32,
    /// Fields of a request's head.
    pub max_headers: u16,
    /// From a connection's or a request's first byte to the end of its head; for a TLS handshake too.
    #[serde(serialize_with = "crate::seconds::one")]
    pub header_timeout: Duration,
    /// Bytes a second below which a head or body is given up, after a grace of some seconds.
    pub min_rate: u32,
    /// Between requests on a connection.
    #[serde(serialize_with = "crate::seconds::one")]
    pub idle_timeout: Duration,
    /// After which a connection is closed once its requests are done.
    #[serde(serialize_with = "crate::seconds::maybe")]
    pub max_connection_age: Option<Duration>,
    /// Requests on one HTTP/2 connection at once.
    pub max_concurrent_streams: u32,
    /// Whether `%2F` and `%5C` in a path are refused.
    pub refuse_encoded_slash: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_header_bytes: 60 * 1024,
            max_headers: 100,
            header_timeout: Duration::from_secs(10),
            min_rate: 240,
            idle_timeout: Duration::from_secs(60),
            max_connection_age: None,
            max_concurrent_streams: 100,
            refuse_encoded_slash: false,
        }
    }
}

/// Where requests are logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// JSON lines on standard output.
    #[default]
    Stdout,
    /// JSON lines appended to a file, opened again on SIGHUP.
    File(Arc<str>),
}
