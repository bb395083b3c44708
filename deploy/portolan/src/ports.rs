//! Where a process tells of itself: the ports that `run` and `controller` have alike.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use portolan_admin::{Scope, State};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// At the end, what is being answered has so long.
const ENDED_IN: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(crate) struct PortsArgs {
    /// Where the admin port listens: everything about the process, and the log level. Keep it local.
    #[arg(long, default_value = "127.0.0.1:9901")]
    pub(crate) admin: SocketAddr,
    /// Where /metrics, /livez and /readyz are offered to scrapers and probes from elsewhere. Nowhere without.
    #[arg(long)]
    pub(crate) metrics: Option<SocketAddr>,
}

/// Ports that are open.
pub(crate) struct Ports {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<io::Result<()>>>,
}

impl PortsArgs {
    /// Answers there from now on.
    pub(crate) async fn open(&self, state: Arc<dyn State>) -> anyhow::Result<Ports> {
        let mut ports = Ports { stop: watch::Sender::new(false), tasks: Vec::new() };
        let metrics = self.metrics.map(|address| (address, Scope::Probes));
        for (address, scope) in [(self.admin, Scope::Full)].into_iter().chain(metrics) {
            let listener = TcpListener::bind(address).await;
            let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
            let mut stopped = ports.stop.subscribe();
            ports.tasks.push(tokio::spawn(portolan_admin::serve(
                listener,
                Arc::clone(&state),
                scope,
                async move {
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                },
            )));
        }
        Ok(ports)
    }
}

impl Ports {
    /// Ends them.
    pub(crate) async fn close(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            let _ = timeout(ENDED_IN, task).await;
        }
    }
}
