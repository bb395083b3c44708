//! Requests at a fixed rate, each of them counted.
//!
//! Half of the requests go over connections that are kept, half over one each, so that what becomes of both is seen. As every
//! client does, a request is tried once more where a kept connection turns out closed before any byte of an answer.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::http::PATIENCE;

/// Failures that are told one by one.
const TOLD: usize = 20;

/// Requests under way, until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<bool>,
    counts: Arc<Mutex<Report>>,
    began: Instant,
    driver: JoinHandle<()>,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// All of them.
    pub sent: usize,
    /// Answered with 200.
    pub good: usize,
    /// Tried again because a kept connection was closed.
    pub again: usize,
    /// The others: when, from the start, and why.
    pub failed: Vec<(Duration, String)>,
    /// Good ones by who answered: `namespace/pod`.
    pub by: BTreeMap<String, usize>,
    /// The longest that a good one took.
    pub slowest: Duration,
}

impl Report {
    /// Those that failed after that time from the start.
    pub fn failed_after(&self, time: Duration) -> usize {
        self.failed.iter().filter(|(at, _)| *at > time).count()
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed.len();
        write!(
            f,
            "{} requests, {} good, {failed} failed, {} sent again on another connection, slowest {:?}",
            self.sent, self.good, self.again, self.slowest
        )?;
        for (at, why) in self.failed.iter().take(TOLD) {
            write!(f, "\n  after {at:?}: {why}")?;
        }
        Ok(())
    }
}

impl Load {
    /// So many requests a second for a host and path, to an address.
    pub fn start(address: SocketAddr, host: &str, path: &str, rate: u32) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let counts = Arc::new(Mutex::new(Report::default()));
        let target = Arc::new(Target { address, host: host.to_owned(), path: path.to_owned() });
        let kept: Arc<Mutex<Vec<Kept>>> = Arc::default();
        let began = Instant::now();
        let driver = tokio::spawn({
            let counts = Arc::clone(&counts);
            async move {
                let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let mut requests = tokio::task::JoinSet::new();
                for number in 0_u64.. {
                    tokio::select! {
                        _ = ticks.tick() => {}
                        _ = stopped.changed() => break,
                    }
                    while requests.try_join_next().is_some() {}
                    let (target, kept, counts) =
                        (Arc::clone(&target), Arc::clone(&kept), Arc::clone(&counts));
                    requests.spawn(async move {
                        let start = Instant::now();
                        let (outcome, again) = target.ask(number.is_multiple_of(2).then_some(&*kept)).await;
                        let mut counts = lock(&counts);
                        counts.sent += 1;
                        counts.again += usize::from(again);
                        match outcome {
                            Ok(by) => {
                                counts.good += 1;
                                counts.slowest = counts.slowest.max(start.elapsed());
                                *counts.by.entry(by).or_default() += 1;
                            }
                            Err(error) => {
                                counts.failed.push((start - began, format!("{error:#}")));
                            }
                        }
                    });
                }
                // Those under way are counted too.
                while requests.join_next().await.is_some() {}
            }
        });
        Self { stop, counts, began, driver }
    }

    /// The time from the start, as failures have it.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// What there is so far.
    pub fn so_far(&self) -> Report {
        lock(&self.counts).clone()
    }

    /// Stops it, waits for those under way, and counts.
    pub async fn stop(self) -> Result<Report> {
        let _ = self.stop.send(true);
        self.driver.await.context("the load has panicked")?;
        Ok(lock(&self.counts).clone())
    }
}

struct Target {
    address: SocketAddr,
    host: String,
    path: String,
}

type Kept = SendRequest<Empty<Bytes>>;

impl Target {
    /// Who answered, or why nobody did; and whether it was sent again.
    async fn ask(&self, kept: Option<&Mutex<Vec<Kept>>>) -> (Result<String>, bool) {
        let mut again = false;
        let whole = async {
            // A ready one: others were closed meanwhile.
            let old = kept.and_then(|kept| {
                let mut kept = lock(kept);
                std::iter::from_fn(|| kept.pop()).find(|sender| sender.is_ready())
            });
            if let Some(mut old) = old {
                match self.exchange(&mut old).await {
                    Ok(by) => return Ok((by, Some(old))),
                    Err(Refused { unanswered: true, .. }) => again = true,
                    Err(refused) => return Err(refused.error),
                }
            }
            let stream = TcpStream::connect(self.address).await.context("cannot connect")?;
            stream.set_nodelay(true)?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let by = self.exchange(&mut sender).await.map_err(|refused| refused.error)?;
            Ok((by, Some(sender)))
        };
        let outcome = tokio::time::timeout(PATIENCE, whole).await;
        let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("no answer within {PATIENCE:?}")));
        let by = outcome.map(|(by, sender)| {
            if let (Some(kept), Some(sender)) = (kept, sender) {
                lock(kept).push(sender);
            }
            by
        });
        (by, again)
    }

    async fn exchange(&self, sender: &mut Kept) -> Result<String, Refused> {
        let request = Request::get(&self.path).header("host", &self.host).body(Empty::new());
        let request = request.map_err(|error| Refused { unanswered: false, error: error.into() })?;
        let unanswered = |error: hyper::Error| Refused {
            unanswered: error.is_incomplete_message() || error.is_closed() || error.is_canceled(),
            error: anyhow!(error).context("no answer"),
        };
        let response = sender.send_request(request).await.map_err(unanswered)?;
        let status = response.status();
        let torn = |error: hyper::Error| Refused {
            unanswered: false,
            error: anyhow!(error).context("a torn answer"),
        };
        let body = response.into_body().collect().await.map_err(torn)?.to_bytes();
        if status != StatusCode::OK {
            let text = String::from_utf8_lossy(&body);
            let error = anyhow!("{status}: {}", text.trim());
            return Err(Refused { unanswered: false, error });
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let field = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        // Whoever is asked next finds it ready.
        let _ = sender.ready().await;
        Ok(format!("{}/{}", field("namespace"), field("pod")))
    }
}

/// An exchange without a good answer.
struct Refused {
    /// Whether the connection closed before any byte of one.
    unanswered: bool,
    error: anyhow::Error,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
