//! The port itself: connections within bounds, and an end to all of them.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::endpoints::router;
use crate::state::{Scope, State};

/// Connections at once; others wait until one of them ends.
const CONNECTIONS: usize = 256;
/// For a request's head, and between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A request's head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Fields of a request's head.
const MAX_HEADERS: usize = 64;
/// For all that a connection does; a reader who takes longer for an answer is cut off.
const LIFETIME: Duration = Duration::from_secs(300);
/// For answers under way when the port closes.
const DRAIN: Duration = Duration::from_secs(2);
/// After an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves the admin port until `shutdown` is done, and then what is under way for two seconds at most. Fails only where the
/// socket is none to accept on.
pub async fn serve(
    listener: TcpListener,
    state: Arc<dyn State>,
    scope: Scope,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let service = TowerToHyperService::new(router(state, scope));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let (closes, closing) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let outcome = loop {
        while connections.try_join_next().is_some() {}
        let accept = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut shutdown => break Ok(()),
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, service.clone(), closing.clone());
                connections.spawn(async move {
                    let _permit = permit;
                    // Nothing is to be done for a client that does not speak HTTP, or takes for ever.
                    let _ = tokio::time::timeout(LIFETIME, connection).await;
                });
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break Err(error),
            Err(error) => {
                tracing::debug!(%error, "the admin port could not accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    drop((listener, closes));
    let _ = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    outcome
}

async fn connection(
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    mut closing: watch::Receiver<()>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let done = tokio::select! {
        done = connection.as_mut() => done,
        _ = closing.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = done {
        tracing::debug!(%error, "a connection to the admin port failed");
    }
}
