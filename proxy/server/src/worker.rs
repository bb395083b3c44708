//! A worker: one thread, one runtime, one Pingora proxy with upstream connections of its own.

use std::sync::Arc;

use pingora_proxy::HttpProxy;
use portolan_model::proxy::Proxy;
use tokio::sync::watch;

use crate::service::Service;
use crate::shared::Shared;

/// What connections find on their worker.
pub(crate) struct Worker {
    /// What all workers share.
    pub(crate) shared: Arc<Shared>,
    /// The proxy.
    pub(crate) proxy: Arc<HttpProxy<Service>>,
    /// A shutdown signal that says no.
    pub(crate) running: watch::Receiver<bool>,
    /// A shutdown signal that says yes.
    pub(crate) closing: watch::Receiver<bool>,
}

impl Worker {
    /// The settings in force.
    pub(crate) fn proxy_settings(&self) -> Arc<Proxy> {
        Arc::clone(&self.shared.snapshot.load().proxy)
    }
}
