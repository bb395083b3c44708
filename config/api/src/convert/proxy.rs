//! `Proxy`.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use portolan_model::id::SYSTEM_NAMESPACE;
use portolan_model::intent::Spec;
use portolan_model::policy::PolicySpec;
use portolan_model::proxy::{
    AccessLog, ClientAddress, Limits, ListenAddress, Listener, ListenerTls, Proxy, ProxyProtocol, TlsVersion,
};

use super::cluster::{cidrs, locality, secret_ref};
use super::policy::policy;
use super::scalar::{address, host_name, label, positive};
use super::{Convert, Cx};
use crate::field::At;
use crate::kinds::{self, AccessLogOutput, ListenerProtocol, ListenerTLS, ProxySpec, TLSVersion};

impl Convert for ProxySpec {
    fn convert(&self, cx: &mut Cx<'_>) -> Option<Spec> {
        let at = At::top("spec");
        let lb_domain = cx.check(&at.field("lbDomain"), host_name(&self.lb_domain));
        if self.listeners.is_empty() {
            cx.error(&at.field("listeners"), "a proxy needs a listener");
        }
        let mut listeners: Vec<Arc<Listener>> = Vec::with_capacity(self.listeners.len());
        for (index, spec) in self.listeners.iter().enumerate() {
            let at = at.field("listeners");
            let at = at.index(index);
            let Some(listener) = listener(cx, &at, spec) else { continue };
            if listeners.iter().any(|known| known.name == listener.name) {
                cx.error(&at.field("name"), format!("the name {:?} stands twice", listener.name));
            }
            if let Some(known) = listeners.iter().find(|known| collide(known, &listener)) {
                let message =
                    format!("port {} is already taken by the listener {:?}", listener.port, known.name);
                cx.error(&at.field("port"), message);
            }
            listeners.push(Arc::new(listener));
        }
        let client_address = self.client_address.clone().unwrap_or_default();
        let at_client = at.field("clientAddress");
        let client_address = ClientAddress {
            trusted: cidrs(cx, &at_client.field("trustedCIDRs"), &client_address.trusted_cidrs),
            trusted_hops: client_address.trusted_hops.unwrap_or(0),
        };
        let limits = self.limits.as_ref();
        let limits = limits.map_or_else(Limits::default, |spec| limits_of(cx, &at.field("limits"), spec));
        let access_log = self.access_log.as_ref();
        let access_log = access_log
            .map_or_else(AccessLog::default, |spec| access_log_of(cx, &at.field("accessLog"), spec));
        let catch_all = self.catch_all_cluster.as_deref();
        let catch_all = catch_all.and_then(|name| cx.check(&at.field("catchAllCluster"), label(name)));
        let workers = self.workers.map(NonZeroU16::new);
        if workers == Some(None) {
            cx.error(&at.field("workers"), "must be 1 at least");
        }
        let drain = self.drain_timeout.as_ref();
        let drain = drain.and_then(|text| cx.check(&at.field("drainTimeout"), positive(text)));
        let default_policy = self.default_policy.as_ref();
        let default_policy = default_policy
            .map_or_else(PolicySpec::default, |settings| policy(cx, &at.field("defaultPolicy"), settings));
        let reserved = cidrs(cx, &at.field("reservedCIDRs"), &self.reserved_cidrs);
        Some(Spec::Proxy(Box::new(Proxy {
            lb_domain: lb_domain?,
            locality: locality(cx, self.locality.as_ref()),
            listeners,
            client_address,
            limits,
            access_log,
            catch_all_cluster: catch_all.map(Arc::from),
            workers: workers.flatten(),
            drain_timeout: drain.unwrap_or_else(|| Proxy::fallback().drain_timeout),
            default_policy,
            reserved: reserved.into(),
        })))
    }
}

fn listener(cx: &mut Cx<'_>, at: &At<'_>, spec: &kinds::Listener) -> Option<Listener> {
    let name = cx.check(&at.field("name"), label(&spec.name));
    let address = if spec.address == "*" {
        Some(ListenAddress::Any)
    } else {
        cx.check(&at.field("address"), address(&spec.address)).map(ListenAddress::Ip)
    };
    let port = cx.port(&at.field("port"), spec.port);
    let tls = match (spec.protocol, &spec.tls) {
        (ListenerProtocol::HTTP, None) => None,
        (ListenerProtocol::HTTP, Some(_)) => {
            cx.error(&at.field("tls"), "TLS settings on a listener that speaks plain HTTP").suggestion =
                Some("protocol: HTTPS".to_owned());
            None
        }
        (ListenerProtocol::HTTPS, None) => Some(ListenerTls::default()),
        (ListenerProtocol::HTTPS, Some(tls)) => Some(listener_tls(cx, &at.field("tls"), tls)),
    };
    let proxy_protocol = spec.proxy_protocol.as_ref().map(|protocol| {
        let at = at.field("proxyProtocol");
        let at = at.field("trustedCIDRs");
        if protocol.trusted_cidrs.is_empty() {
            cx.error(&at, "a PROXY protocol header has to be trusted from somewhere");
        }
        ProxyProtocol { trusted: cidrs(cx, &at, &protocol.trusted_cidrs), required: protocol.required }
    });
    Some(Listener {
        name: name?.into(),
        address: address?,
        port: port?,
        tls,
        http2: spec.http2,
        proxy_protocol,
        max_connections: spec.max_connections,
    })
}

/// Whether the two cannot be bound beside each other.
fn collide(one: &Listener, other: &Listener) -> bool {
    one.port == other.port
        && match (one.address, other.address) {
            (ListenAddress::Any, _) | (_, ListenAddress::Any) => true,
            (ListenAddress::Ip(a), ListenAddress::Ip(b)) => {
                let wide = |ip: IpAddr| ip.is_unspecified();
                a == b || (a.is_ipv4() == b.is_ipv4() && (wide(a) || wide(b)))
            }
        }
}

fn listener_tls(cx: &mut Cx<'_>, at: &At<'_>, spec: &ListenerTLS) -> ListenerTls {
    let at_suites = at.field("cipherSuites");
    for (index, suite) in spec.cipher_suites.iter().enumerate() {
        cx.check(&at_suites.index(index), (cx.checks.cipher_suite)(suite));
    }
    // The suites of TLS 1.2 name the key exchange too: TLS_ECDHE_RSA_WITH_….
    let old =
        !spec.cipher_suites.is_empty() && spec.cipher_suites.iter().all(|suite| suite.contains("_WITH_"));
    if spec.min_version == TLSVersion::V1_3 && old {
        cx.error(&at_suites, "minVersion is \"1.3\", and all these cipher suites are of TLS 1.2").expected =
            Some("a suite of TLS 1.3 among them, such as TLS_AES_128_GCM_SHA256".to_owned());
    }
    let default = spec.default_certificate_ref.as_ref();
    let default = default.and_then(|reference| {
        secret_ref(cx, &at.field("defaultCertificateRef"), reference, SYSTEM_NAMESPACE)
    });
    ListenerTls {
        min_version: match spec.min_version {
            TLSVersion::V1_2 => TlsVersion::V1_2,
            TLSVersion::V1_3 => TlsVersion::V1_3,
        },
        cipher_suites: spec.cipher_suites.iter().map(|suite| Arc::from(&**suite)).collect(),
        default_certificate: default,
        self_signed: spec.self_signed,
    }
}

fn limits_of(cx: &mut Cx<'_>, at: &At<'_>, spec: &kinds::Limits) -> Limits {
    let safe = Limits::default();
    let header_timeout = spec.header_timeout.as_ref();
    let idle_timeout = spec.idle_timeout.as_ref();
    let age = spec.max_connection_age.as_ref();
    Limits {
        max_connections: spec.max_connections,
        max_header_bytes: spec.max_header_bytes.unwrap_or(safe.max_header_bytes),
        max_headers: spec.max_headers.unwrap_or(safe.max_headers),
        header_timeout: header_timeout
            .and_then(|text| cx.check(&at.field("headerTimeout"), positive(text)))
            .unwrap_or(safe.header_timeout),
        min_rate: spec.min_rate.unwrap_or(safe.min_rate),
        idle_timeout: idle_timeout
            .and_then(|text| cx.check(&at.field("idleTimeout"), positive(text)))
            .unwrap_or(safe.idle_timeout),
        max_connection_age: age.and_then(|text| cx.check(&at.field("maxConnectionAge"), positive(text))),
        max_concurrent_streams: spec.max_concurrent_streams.unwrap_or(safe.max_concurrent_streams),
        refuse_encoded_slash: spec.refuse_encoded_slash,
    }
}

fn access_log_of(cx: &mut Cx<'_>, at: &At<'_>, spec: &kinds::AccessLog) -> AccessLog {
    match (spec.output, &spec.path) {
        (AccessLogOutput::File, Some(path)) => AccessLog::File((**path).into()),
        (AccessLogOutput::File, None) => {
            cx.error(at, "output File needs the field \"path\"");
            AccessLog::default()
        }
        (_, Some(_)) => {
            cx.error(&at.field("path"), "a path goes with output File alone").suggestion =
                Some("output: File".to_owned());
            AccessLog::default()
        }
        (AccessLogOutput::None, None) => AccessLog::Off,
        (AccessLogOutput::Stdout, None) => AccessLog::Stdout,
    }
}
