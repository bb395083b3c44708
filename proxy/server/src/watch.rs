//! Deadlines of a request that reach into Pingora, which has timeouts per read only.
//!
//! A request's context says what must have happened by when ([`Watch`]); the task that serves it polls the request under
//! [`guard`]. One timer a connection, moved only where a deadline comes sooner than it: the usual request costs a few loads.
//! When a deadline passes, the upstream connection is shut down under Pingora's hands, or the client's seems to fail
//! (HTTP/1 only), so that the request fails there and is answered, or cut, and logged in the usual way. Where that is not
//! possible, or nobody notices, the request is dropped.

use std::future::poll_fn;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};
use tokio::time::Sleep;

/// How long a request whose upstream was shut down may take to notice.
const NOTICE: u64 = 1000;

const NONE: u64 = u64::MAX;

/// When a timer goes off that nobody waits for.
const FAR: Duration = Duration::from_secs(3600);

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// A time as it is kept here.
pub(crate) fn millis(at: Instant) -> u64 {
    at.saturating_duration_since(epoch()).as_millis().min(u128::from(NONE - 1)) as u64
}

/// Who let a deadline pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Late {
    /// The endpoint, or nobody in particular.
    Upstream = 1,
    /// The client took nothing of what was written to it.
    ClientReading,
    /// The client sent nothing of what it still owes.
    ClientSending,
}

impl Late {
    const ALL: [Self; 3] = [Self::Upstream, Self::ClientReading, Self::ClientSending];
}

/// What must have happened by when. Times are milliseconds since the process began to count.
pub(crate) struct Watch {
    /// The response's head of the try that runs.
    head: AtomicU64,
    /// The response's end.
    end: AtomicU64,
    /// More of the request's body, where the connection itself does not see to that.
    body: AtomicU64,
    /// How long an exchange may stand still.
    idle: AtomicU64,
    /// The client's taking more of the response, where it has to.
    client: AtomicU64,
    /// The upstream's socket, where it serves this request alone.
    upstream: AtomicI32,
    started: AtomicBool,
    /// A [`Late`], or 0.
    late: AtomicU8,
    /// Whether the client's connection is ours to fail.
    http1: bool,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            head: AtomicU64::new(NONE),
            end: AtomicU64::new(NONE),
            body: AtomicU64::new(NONE),
            idle: AtomicU64::new(NONE),
            client: AtomicU64::new(NONE),
            upstream: AtomicI32::new(-1),
            started: AtomicBool::new(false),
            late: AtomicU8::new(0),
            http1: false,
        }
    }
}

impl Watch {
    /// For the requests of an HTTP/1 connection, which fails once a deadline has passed.
    pub(crate) fn http1() -> Self {
        Self { http1: true, ..Self::default() }
    }

    /// Forgets the request before.
    pub(crate) fn reset(&self) {
        self.head.store(NONE, Ordering::Relaxed);
        self.end.store(NONE, Ordering::Relaxed);
        self.body.store(NONE, Ordering::Relaxed);
        self.idle.store(NONE, Ordering::Relaxed);
        self.client.store(NONE, Ordering::Relaxed);
        self.upstream.store(-1, Ordering::Relaxed);
        self.started.store(false, Ordering::Relaxed);
        self.late.store(0, Ordering::Relaxed);
    }

    /// How long the exchange may stand still.
    pub(crate) fn set_idle(&self, idle: Duration) {
        self.idle.store(idle.as_millis() as u64, Ordering::Relaxed);
    }

    /// The response must have ended by then.
    pub(crate) fn end_by(&self, at: Instant) {
        self.end.store(millis(at), Ordering::Relaxed);
    }

    /// More of the request's body must have come by then; `None` where it is whole.
    pub(crate) fn body_by(&self, at: Option<Instant>) {
        self.body.store(at.map_or(NONE, millis), Ordering::Relaxed);
    }

    /// A try begins: the response's head must be here by then.
    pub(crate) fn begin_try(&self, head_by: Instant) {
        self.head.store(millis(head_by), Ordering::Relaxed);
    }

    /// The try has a connection of its own.
    pub(crate) fn connected(&self, upstream: RawFd) {
        self.upstream.store(upstream, Ordering::Relaxed);
    }

    /// The try is over; its connection is not ours any more.
    pub(crate) fn end_try(&self) {
        self.head.store(NONE, Ordering::Relaxed);
        self.upstream.store(-1, Ordering::Relaxed);
    }

    /// The request's body is whole: the response's head must be here by then, if it is not yet.
    pub(crate) fn uploaded(&self, head_by: Instant) {
        if !self.started.load(Ordering::Relaxed) {
            self.begin_try(head_by);
        }
    }

    /// A piece of the response is here, and there will be more: it must come by then, or the client must have taken some of
    /// what there is.
    pub(crate) fn goes_on(&self, more_by: Instant) {
        self.head.store(millis(more_by), Ordering::Relaxed);
    }

    /// A piece of the request is on its way: an endpoint that takes it need not answer meanwhile.
    pub(crate) fn request_goes_on(&self, more_by: Instant) {
        if self.started.load(Ordering::Relaxed) && self.head.load(Ordering::Relaxed) != NONE {
            self.head.store(millis(more_by), Ordering::Relaxed);
        }
    }

    /// A piece of the response is here: a client that listens need not speak meanwhile.
    pub(crate) fn response_goes_on(&self, more_by: Instant) {
        if self.body.load(Ordering::Relaxed) != NONE {
            self.body.store(millis(more_by), Ordering::Relaxed);
        }
    }

    /// The client does not take what is written to it: it must before long.
    pub(crate) fn client_blocks(&self) {
        if self.client.load(Ordering::Relaxed) == NONE {
            let by = millis(Instant::now()).saturating_add(self.idle.load(Ordering::Relaxed));
            self.client.store(by, Ordering::Relaxed);
        }
    }

    /// The client has taken some of the response: who waits for it cannot blame the endpoint.
    pub(crate) fn client_reads(&self) {
        self.client.store(NONE, Ordering::Relaxed);
        if self.started.load(Ordering::Relaxed) && self.head.load(Ordering::Relaxed) != NONE {
            let by = millis(Instant::now()).saturating_add(self.idle.load(Ordering::Relaxed));
            self.head.store(by, Ordering::Relaxed);
        }
    }

    /// The response is whole: its connection may serve others from now on.
    pub(crate) fn response_ended(&self) {
        self.head.store(NONE, Ordering::Relaxed);
        self.upstream.store(-1, Ordering::Relaxed);
    }

    /// The response's head is here.
    pub(crate) fn response_started(&self) {
        self.head.store(NONE, Ordering::Relaxed);
        self.started.store(true, Ordering::Relaxed);
    }

    /// Whether the response's head is here.
    pub(crate) fn has_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// Whether a deadline has passed, and who let it.
    pub(crate) fn late(&self) -> Option<Late> {
        let known = self.late.load(Ordering::Relaxed);
        Late::ALL.into_iter().find(|&late| late as u8 == known)
    }

    fn next(&self) -> u64 {
        let (head, end) = (self.head.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        head.min(end).min(self.body.load(Ordering::Relaxed)).min(self.client.load(Ordering::Relaxed))
    }

    /// A deadline has passed. False where nothing is left but to drop the request.
    fn expire(&self, now: u64) -> bool {
        let upstream = self.upstream.load(Ordering::Relaxed);
        let unread = self.client.swap(NONE, Ordering::Relaxed) != NONE;
        let unsent = now >= self.body.swap(NONE, Ordering::Relaxed);
        let late = match (unread, unsent) {
            // An endpoint waits for a client that does not read, too.
            (true, _) => Late::ClientReading,
            (false, true) => Late::ClientSending,
            (false, false) => Late::Upstream,
        };
        if self.late.compare_exchange(0, late as u8, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        if upstream >= 0 {
            let _ = shutdown(upstream, Shutdown::Both);
        } else if self.started.load(Ordering::Relaxed) && !self.http1 {
            return false;
        }
        self.head.store(NONE, Ordering::Relaxed);
        self.end.store(now + NOTICE, Ordering::Relaxed);
        true
    }
}

/// A timer that is moved as seldom as can be.
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// When it goes off, as [`Watch`] counts.
    at: u64,
}

impl Timer {
    /// One that is far away.
    pub(crate) fn new() -> Self {
        let far = Instant::now() + FAR;
        Self { sleep: Box::pin(tokio::time::sleep_until(far.into())), at: millis(far) }
    }

    fn set(&mut self, at: Instant) {
        self.sleep.as_mut().reset(at.into());
        self.at = millis(at);
    }

    /// Waits for `future`, until `at` at most: `None` where that came first.
    pub(crate) async fn until<F: Future>(&mut self, at: Instant, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if at < self.sleep.deadline().into_std() {
                self.set(at);
            }
            while self.sleep.as_mut().poll(cx).is_ready() {
                if Instant::now() >= at {
                    return Poll::Ready(None);
                }
                self.set(at);
            }
            Poll::Pending
        })
        .await
    }

    /// Runs a request under its deadlines: `None` where it had to be dropped.
    pub(crate) async fn guard<F: Future>(&mut self, watch: &Watch, request: F) -> Option<F::Output> {
        let mut request = std::pin::pin!(request);
        poll_fn(|cx| {
            let due = |at: u64| epoch() + Duration::from_millis(at);
            loop {
                // Again after a deadline has passed: it may notice by itself.
                if let Poll::Ready(output) = request.as_mut().poll(cx) {
                    return Poll::Ready(Some(output));
                }
                let next = watch.next();
                if next < self.at {
                    self.set(due(next));
                }
                if self.sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let now = Instant::now();
                if millis(now) >= next && !watch.expire(millis(now)) {
                    return Poll::Ready(None);
                }
                let next = watch.next();
                let far = now + FAR;
                self.set(if next == NONE { far } else { due(next).min(far) });
            }
        })
        .await
    }
}
