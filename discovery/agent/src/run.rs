//! The agent at work.
//!
//! ```text
//!  elector (Lease in the member cluster) ──► session, while it leads
//!                                              ├── watches of the member cluster ───┐
//!                                              ├── credential ──► LB client ──┬─────┤ watches, Lease
//!                                              │                              │     ▼
//!                                              └── loop: Keeper ──► writes ───┘   inputs
//! ```
//!
//! One task owns the [`Keeper`](crate::keeper::Keeper); all others send it what they hear, over one bounded channel, and are aborted with it. A session that ends, because
//! it does not lead any more or belongs to another cluster now, leaves nothing behind but what it wrote; the next one finds that.

mod credential;
mod events;
mod figures;
mod http;
mod lease;
mod session;
mod version;
mod watch;
mod write;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use portolan_api::contract::AGENT;
use portolan_source::lease::{Elector, Terms};
use portolan_source::{Access, ApiServer, ConnectError, one_line};

pub use self::figures::Metrics;
use crate::translate::nodes::NodeAddress;

/// What an agent is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The member cluster.
    pub access: Access,
    /// The agent's namespace there.
    pub namespace: String,
    /// What this replica is called, and no other.
    pub identity: String,
    /// The uid of the pod that is called so, where it is one.
    pub pod_uid: Option<String>,
    /// Which address of nodes is reached.
    pub node_address: NodeAddress,
    /// Where `/livez`, `/readyz` and `/metrics` are served; nowhere without.
    pub listen: Option<SocketAddr>,
    /// Writes a second into the LB cluster.
    pub write_rate: f64,
    /// How long tokens are asked for.
    pub token_lifetime: Duration,
}

/// Why an agent gives up.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The member cluster's API server is not known.
    #[error("the member cluster cannot be found")]
    Connect(#[from] ConnectError),
    /// It is too old.
    #[error("{0}")]
    Version(#[from] version::TooOld),
    /// The port for probes.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs until `stop` is there.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<(), RunError> {
    let metrics = Arc::new(Metrics::default());
    if let Some(address) = options.listen {
        let listener = http::bind(address).map_err(|source| RunError::Listen { address, source })?;
        tokio::spawn(http::serve(listener, Arc::clone(&metrics)));
    }
    let member = ApiServer::of(&options.access).await?;
    tracing::info!(server = %member.url, "watching the member cluster");
    let mut stop = std::pin::pin!(stop);
    let whose = format!("the member cluster at {}", member.url);
    tokio::select! {
        () = &mut stop => return Ok(()),
        checked = version::wait(&member.client, &whose) => checked?,
    }
    let leases: Api<Lease> = Api::namespaced(member.client.clone(), &options.namespace);
    let elector = Elector::new(leases, AGENT, options.identity.clone(), Terms::default());
    let (leads, mut leading) = tokio::sync::watch::channel(false);
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let elector = tokio::spawn(elector.run(leads, async {
        let _ = ended.await;
    }));
    loop {
        tokio::select! {
            () = &mut stop => break,
            led = leading.wait_for(|leads| *leads) => if led.is_err() { break },
        }
        metrics.set_leading(true);
        tokio::select! {
            () = &mut stop => break,
            _ = leading.wait_for(|leads| !*leads) => {}
            () = session::run(&options, &member, &metrics) => {}
        }
        metrics.set_leading(false);
    }
    // Whoever stands by takes over at once.
    drop(end);
    let _ = tokio::time::timeout(Duration::from_secs(3), elector).await;
    Ok(())
}

/// What is wrong between the agent and an API server.
fn cause(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            "401 Unauthorized: the token is not taken; it has ended, or its Cluster was made anew: `portolan join` makes another".to_owned()
        }
        kube::Error::Api(status) => format!("{} {}", status.code, status.message),
        other => one_line(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_in_one_sentence() {
        let api = |code: u16, message: &str| {
            let status =
                serde_json::json!({ "status": "Failure", "code": code, "message": message, "reason": "" });
            kube::Error::Api(serde_json::from_value(status).unwrap())
        };
        assert!(cause(&api(401, "Unauthorized")).starts_with("401 Unauthorized: the token is not taken"));
        assert_eq!(cause(&api(403, "pods is forbidden")), "403 pods is forbidden");
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let refused = cause(&kube::Error::Service(Box::new(refused)));
        assert!(refused.contains("connection refused"), "{refused}");
    }
}
