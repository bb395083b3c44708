//! Certificates: what they say, which serves which server name, and TLS towards clients made of them.
//!
//! ```text
//!  PEM ─► read_facts (once, where the Secret is read) ─► TlsSecret in the Plan
//!  Plan's updates ─► CertStore::apply ─► CertStore: persistent, in the Snapshot
//!  ServerTls (per process: tickets) + CertStore + listener's settings ─► ListenerContext: rustls ServerConfig, look-up by SNI
//! ```
//!
//! Keys are parsed when a handshake first needs them; nothing here ever shows one.

mod facts;
mod issue;
mod listener;
mod pem;
mod provider;
mod store;
mod suites;

pub use facts::{check_ca_bundle, read_facts};
pub use issue::{DemoCa, IssueError, Issued, self_signed};
pub use listener::{ContextError, Found, ListenerContext, ServerTls, UNRECOGNIZED_NAME};
pub use provider::{ProviderError, install_provider};
pub use store::{CertStore, Listed};
pub use suites::check_cipher_suite;
