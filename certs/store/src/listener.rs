//! TLS towards the clients of one listener: its rustls configuration, and what a server name comes to.
//!
//! A [`ListenerContext`] belongs to one Snapshot: its configuration resolves against that Snapshot's [`CertStore`] and no
//! other. So a connection that takes the context once, looks at the ClientHello ([`ListenerContext::find`]) and then
//! hands it to the same context's [`ListenerContext::config`] sees one world, however often certificates rotate meanwhile.
//!
//! ```text
//!  LazyConfigAcceptor ─► ClientHello ─► find(sni) ─┬─ Refused ─► write UNRECOGNIZED_NAME, close
//!                                                 └─ else ─► into_stream(config())
//! ```
//!
//! What must outlive Snapshots is in [`ServerTls`]: the keys of session tickets, one set for the process. Cost: building a
//! context some microseconds; a handshake two look-ups and no lock but the ticketer's shared one.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use portolan_model::id::ObjectRef;
use portolan_model::proxy::{ListenerTls, TlsVersion};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use crate::facts::certified_key;
use crate::issue::{IssueError, self_signed};
use crate::provider::provider;
use crate::store::CertStore;
use crate::suites::find as find_suite;

/// The record that refuses a server name: a fatal alert `unrecognized_name` (RFC 6066 §3), to be written in answer to a
/// ClientHello before the connection is closed. rustls itself would say `access_denied`.
pub const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];

/// Why a listener's settings make no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// [`crate::check_cipher_suite`] would have said so.
    #[error("unknown cipher suite {0:?}")]
    UnknownSuite(String),
    /// Such as TLS 1.3 alone with suites of TLS 1.2 alone.
    #[error("the cipher suites and TLS versions do not go together")]
    Versions(#[source] rustls::Error),
    /// There are no random numbers to make a ticket key of.
    #[error("cannot make session ticket keys")]
    Tickets(#[source] rustls::Error),
    /// The certificate of our own making cannot be made.
    #[error("cannot make a certificate for a listener without one")]
    SelfSigned(#[source] IssueError),
    /// It was made, but the library does not take it.
    #[error("cannot use the certificate of our own making: {0}")]
    OwnUnusable(String),
}

/// What TLS towards clients shares between listeners and over reloads.
pub struct ServerTls {
    ticketer: Arc<dyn ProducesTickets>,
    own: Mutex<Option<Own>>,
}

/// The certificate of our own making, for these names.
struct Own {
    names: Vec<String>,
    certified: Arc<CertifiedKey>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// New ticket keys; they rotate every six hours, and a ticket is good for twelve.
    pub fn new() -> Result<Self, ContextError> {
        Ok(Self { ticketer: Ticketer::new().map_err(ContextError::Tickets)?, own: Mutex::new(None) })
    }

    /// The context of a listener with these settings in the Snapshot that `store` belongs to. `http2` offers it by ALPN;
    /// `own_names` are what a certificate of our own making is for, where the settings ask for one.
    pub fn listener(
        &self,
        settings: &ListenerTls,
        http2: bool,
        own_names: &[&str],
        store: Arc<CertStore>,
    ) -> Result<ListenerContext, ContextError> {
        let own = if settings.self_signed { Some(self.own_certificate(own_names)?) } else { None };
        let resolver = Arc::new(Resolver { store, default: settings.default_certificate.clone(), own });
        let versions: &[_] = match settings.min_version {
            TlsVersion::V1_2 => &[&TLS13, &TLS12],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(provider_for(settings)?)
            .with_protocol_versions(versions)
            .map_err(ContextError::Versions)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&resolver) as _);
        config.alpn_protocols =
            if http2 { vec![b"h2".into(), b"http/1.1".into()] } else { vec![b"http/1.1".into()] };
        config.ignore_client_order = !settings.cipher_suites.is_empty();
        config.ticketer = Arc::clone(&self.ticketer);
        // Tickets resume without a memory of ours; a session cache would be a lock in each handshake.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(ListenerContext { config: Arc::new(config), resolver })
    }

    fn own_certificate(&self, names: &[&str]) -> Result<Arc<CertifiedKey>, ContextError> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = own.as_ref().filter(|own| own.names == names) {
            return Ok(Arc::clone(&own.certified));
        }
        let issued = self_signed(names).map_err(ContextError::SelfSigned)?;
        let certified = certified_key(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes())
            .map_err(ContextError::OwnUnusable)?;
        let certified = Arc::new(certified);
        let names = names.iter().map(|&name| name.to_owned()).collect();
        *own = Some(Own { names, certified: Arc::clone(&certified) });
        Ok(certified)
    }
}

fn provider_for(settings: &ListenerTls) -> Result<Arc<CryptoProvider>, ContextError> {
    if settings.cipher_suites.is_empty() {
        return Ok(Arc::clone(provider()));
    }
    let suite =
        |name: &Arc<str>| find_suite(name).ok_or_else(|| ContextError::UnknownSuite(name.to_string()));
    let cipher_suites = settings.cipher_suites.iter().map(suite).collect::<Result<_, _>>()?;
    Ok(Arc::new(CryptoProvider { cipher_suites, ..(**provider()).clone() }))
}

/// What a server name comes to at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Certificates of its own, best first.
    Name(&'a Arc<[ObjectRef]>),
    /// The listener's default certificate, or the one of our own making.
    Default,
    /// Nothing: the handshake is to be refused with [`UNRECOGNIZED_NAME`].
    Refused,
}

/// TLS of one listener in one Snapshot; see the module's documentation.
#[derive(Clone)]
pub struct ListenerContext {
    config: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
}

impl fmt::Debug for ListenerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerContext").field("resolver", &self.resolver).finish_non_exhaustive()
    }
}

impl ListenerContext {
    /// The configuration to go on with after [`find`](Self::find).
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// What a client gets that asks for `server_name`, or for none.
    pub fn find(&self, server_name: Option<&str>) -> Found<'_> {
        self.resolver.find(server_name)
    }
}

#[derive(Debug)]
struct Resolver {
    store: Arc<CertStore>,
    default: Option<ObjectRef>,
    own: Option<Arc<CertifiedKey>>,
}

impl Resolver {
    fn find(&self, server_name: Option<&str>) -> Found<'_> {
        let entry = server_name.and_then(|name| self.store.resolve(name));
        match entry.filter(|entry| self.store.has_any(entry)) {
            Some(entry) => Found::Name(entry),
            None if self.own.is_some() || self.store.has_any(self.default.as_slice()) => Found::Default,
            None => Found::Refused,
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = match self.find(hello.server_name()) {
            Found::Name(entry) => entry,
            Found::Default => self.default.as_slice(),
            Found::Refused => return None,
        };
        self.store.choose(candidates, hello.signature_schemes()).or_else(|| self.own.clone())
    }
}

#[cfg(test)]
mod tests;
