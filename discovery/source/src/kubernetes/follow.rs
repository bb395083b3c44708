//! Who says what is in a collection, from the first list on? A task per collection.
//!
//! ```text
//!  list (streamed where the server can) ─► watch from there ─► … the connection ends ─► watch from where it was
//!            ▲                                                                              │
//!            └───────────────────────── the server has forgotten (410) ◄────────────────────┘
//! ```
//!
//! Invariant: between [`News::Begin`] and [`News::Whole`] every object comes that is there; what comes afterwards is in the order
//! of the server. It is our own loop, and not kube's, for three things: each object stays the text that it came as, so that one
//! which fits no type is that object's trouble alone and the journal need not write it anew; a connection that is dead without
//! saying so is given up early; and what is wrong is told where it can be seen. Memory: a line, or a page of a list.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::item::{Item, Metadata};
use super::known::Collection;
use super::lines::{Lines, LinesError};
use super::request::{self, RequestError, Status};
use super::resource;

/// A server says something about once a minute, if only how far it is, and nothing where nothing happened since it was started: so long
/// without a word, and the connection may be dead. To go on over another costs next to nothing. Sooner than the connection ends by itself.
const SILENCE: Duration = Duration::from_secs(90);
/// A server is to end a watch after so many seconds, and up to a quarter more.
const WATCH: u64 = 240;
/// Objects in a page of a list.
const PAGE: usize = 500;
/// Bytes of a page, and what it may take to come.
const PAGE_BYTES: usize = 256 << 20;
const PAGE_TIME: Duration = Duration::from_secs(60);
/// The longest wait between two tries: of the few collections that are of the whole cluster, and of those of a namespace, of
/// which there may be thousands.
const WAIT: Duration = Duration::from_secs(2);
const NAMESPACED_WAIT: Duration = Duration::from_secs(15);
/// A watch that lasted so long was one.
const SETTLED: Duration = Duration::from_secs(5);

/// What a task says of its collection.
#[derive(Debug)]
pub(crate) enum News {
    /// A list begins.
    Begin,
    /// An object is there.
    Object(Item),
    /// An object is gone.
    Gone(Item),
    /// The list has ended: that was all.
    Whole,
    /// It is being watched.
    Well,
    /// It is not: why.
    Trouble(String),
    /// It is not, and will not be until somebody allows it.
    Denied(String),
}

/// One word of a task.
#[derive(Debug)]
pub(crate) struct Word {
    /// Whose: a task that has been replaced may have spoken before.
    pub(crate) task: u64,
    pub(crate) collection: Collection,
    pub(crate) news: News,
}

/// See the module's documentation.
pub(crate) struct Follower {
    pub(crate) task: u64,
    pub(crate) collection: Collection,
    pub(crate) client: Client,
    pub(crate) words: mpsc::Sender<Word>,
    /// Since when the server did not answer, once it does again: connections that have been silent since then are dead.
    pub(crate) outage: watch::Receiver<Option<Instant>>,
    /// Whether the server can stream lists, as far as anybody knows.
    pub(crate) streams: Arc<AtomicBool>,
}

/// A turn is over, for this reason.
#[derive(Debug, thiserror::Error)]
enum Turn {
    /// Nothing wrong: it is time for another.
    #[error("the watch ended")]
    Ended,
    /// Nothing wrong: it is time to watch.
    #[error("the list ended")]
    Listed,
    /// A list is needed.
    #[error("the server has forgotten what came after version {0}")]
    Forgotten(String),
    #[error("the connection was silent while the server did not answer")]
    Outage,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Lines(#[from] LinesError),
    #[error("the answer cannot be read: {0}")]
    Text(#[from] serde_json::Error),
    #[error("a page of the list is too large or took too long")]
    Page,
    #[error("{}: {}", .0.code, request::shown(&.0.message))]
    Said(Status),
    /// Nobody listens any more.
    #[error("nobody listens")]
    Deaf,
}

/// A line of a watch.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What a bookmark says.
#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMetadata {
    resource_version: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// A page of a list.
#[derive(Deserialize)]
struct Page<'a> {
    metadata: Metadata,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
}

const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

impl Follower {
    /// Until nobody listens any more.
    pub(crate) async fn follow(mut self) {
        let chances = RandomState::new();
        let mut chance = 0_u64;
        let at_most = if self.collection.namespace.is_some() { NAMESPACED_WAIT } else { WAIT };
        let mut backoff = Backoff::up_to(at_most);
        // Up to which version everything is known.
        let mut position: Option<String> = None;
        loop {
            chance += 1;
            let chance = chances.hash_one((self.task, chance));
            let began = Instant::now();
            let seconds = WATCH + chance % (WATCH / 4);
            let turn = match position {
                None => self.list(seconds, &mut position).await,
                Some(_) => self.watch(seconds, &mut position).await,
            };
            tracing::debug!(collection = %self.collection, reason = %turn, "a watch ended");
            if began.elapsed() > SETTLED {
                backoff.reset();
            }
            let mut wait = backoff.wait(chance);
            match &turn {
                Turn::Deaf => return,
                Turn::Listed => continue,
                Turn::Ended | Turn::Outage | Turn::Lines(LinesError::Silence(_)) => {
                    if began.elapsed() > SETTLED {
                        continue;
                    }
                }
                Turn::Forgotten(_) => position = None,
                Turn::Request(RequestError::Refused { status: 403 | 404, .. }) => {
                    if !self.say(News::Denied(turn.to_string())).await {
                        return;
                    }
                }
                Turn::Request(RequestError::Refused { after: Some(after), .. }) => {
                    wait = wait.max((*after).min(NAMESPACED_WAIT));
                    if !self.say(News::Trouble(turn.to_string())).await {
                        return;
                    }
                }
                _ => {
                    if !self.say(News::Trouble(turn.to_string())).await {
                        return;
                    }
                }
            }
            tokio::select! {
                () = sleep(wait) => {}
                // It answers again.
                _ = self.outage.changed() => sleep(wait.min(Duration::from_secs(1))).await,
            }
        }
    }

    async fn say(&self, news: News) -> bool {
        let word = Word { task: self.task, collection: self.collection.clone(), news };
        self.words.send(word).await.is_ok()
    }

    async fn tell(&self, news: News) -> Result<(), Turn> {
        if self.say(news).await { Ok(()) } else { Err(Turn::Deaf) }
    }

    fn path(&self, query: &[&str]) -> String {
        let path = resource::path(self.collection.kind, self.collection.namespace.as_deref());
        let selector = resource::selector(self.collection.kind);
        let query: Vec<_> =
            query.iter().copied().chain([&*selector]).filter(|part| !part.is_empty()).collect();
        format!("{path}?{}", query.join("&"))
    }

    /// Lists; where the list is streamed, goes on watching.
    async fn list(&mut self, seconds: u64, position: &mut Option<String>) -> Turn {
        match self.try_to_list(seconds, position).await {
            Ok(turn) | Err(turn) => turn,
        }
    }

    async fn try_to_list(&mut self, seconds: u64, position: &mut Option<String>) -> Result<Turn, Turn> {
        if self.streams.load(Ordering::Relaxed) {
            let query = format!(
                "watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds={seconds}"
            );
            match request::get(&self.client, &self.path(&[&query])).await {
                Ok(body) => {
                    self.tell(News::Begin).await?;
                    return self.read(Lines::new(body), true, position).await;
                }
                // Servers before 1.32, and some after.
                Err(error) if matches!(error.status(), Some(400 | 422)) => {
                    self.streams.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.tell(News::Begin).await?;
        let mut more = String::new();
        loop {
            let limit = format!("limit={PAGE}");
            let continued =
                if more.is_empty() { String::new() } else { format!("continue={}", escaped(&more)) };
            let body = request::get(&self.client, &self.path(&[&limit, &continued])).await;
            let body = match body {
                Err(error) if error.status() == Some(410) => {
                    return Err(Turn::Forgotten("of the list".into()));
                }
                body => body?,
            };
            let collected = timeout(PAGE_TIME, Limited::new(body, PAGE_BYTES).collect()).await;
            let bytes = collected.map_err(|_| Turn::Page)?.map_err(|_| Turn::Page)?.to_bytes();
            let page: Page<'_> = serde_json::from_slice(&bytes)?;
            for item in page.items {
                self.object(item, News::Object).await?;
            }
            match page.metadata.more.filter(|more| !more.is_empty()) {
                Some(rest) => more = rest,
                None => {
                    *position = page.metadata.resource_version;
                    self.tell(News::Whole).await?;
                    return Ok(Turn::Listed);
                }
            }
        }
    }

    /// Watches from the position on.
    async fn watch(&mut self, seconds: u64, position: &mut Option<String>) -> Turn {
        match self.try_to_watch(seconds, position).await {
            Ok(turn) | Err(turn) => turn,
        }
    }

    async fn try_to_watch(&mut self, seconds: u64, position: &mut Option<String>) -> Result<Turn, Turn> {
        let from = position.clone().unwrap_or_default();
        let query = format!(
            "watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            escaped(&from)
        );
        match request::get(&self.client, &self.path(&[&query])).await {
            Ok(body) => {
                self.tell(News::Well).await?;
                self.read(Lines::new(body), false, position).await
            }
            Err(error) if error.status() == Some(410) => Err(Turn::Forgotten(from)),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads events, of a streamed list up to its end first.
    async fn read(
        &mut self,
        mut lines: Lines,
        mut listing: bool,
        position: &mut Option<String>,
    ) -> Result<Turn, Turn> {
        let mut heard = Instant::now();
        loop {
            let line = tokio::select! {
                line = lines.next(SILENCE) => line,
                outage = self.outage.changed() => {
                    outage.map_err(|_| Turn::Deaf)?;
                    let since = *self.outage.borrow_and_update();
                    if since.is_some_and(|since| heard < since) {
                        return Err(Turn::Outage);
                    }
                    continue;
                }
            };
            let Some(line) = line? else { return Ok(Turn::Ended) };
            heard = Instant::now();
            if line.is_empty() {
                continue;
            }
            let Event { kind, object } = serde_json::from_str(&line)?;
            match kind {
                "ADDED" | "MODIFIED" | "DELETED" => {
                    let news = if kind == "DELETED" { News::Gone } else { News::Object };
                    let version = self.object(object, news).await?;
                    if !listing && version.is_some() {
                        *position = version;
                    }
                }
                "BOOKMARK" => {
                    let Bookmark { metadata } = serde_json::from_str(object.get())?;
                    if listing && metadata.annotations.contains_key(INITIAL_EVENTS_END) {
                        listing = false;
                        self.tell(News::Whole).await?;
                    }
                    if !listing {
                        *position = Some(metadata.resource_version);
                    }
                }
                "ERROR" => {
                    let status: Status = serde_json::from_str(object.get())?;
                    return Err(match status.code {
                        410 => Turn::Forgotten(position.clone().unwrap_or_default()),
                        _ => Turn::Said(status),
                    });
                }
                // Of a time to come.
                _ => {}
            }
        }
    }

    /// Passes an object on, and hands out its version.
    async fn object(&self, text: &RawValue, news: fn(Item) -> News) -> Result<Option<String>, Turn> {
        match Item::of(text) {
            Ok((item, version)) => self.tell(news(item)).await.map(|()| version),
            // Nobody knows which one it is.
            Err(error) => {
                tracing::warn!(collection = %self.collection, %error, "an object without a name is passed over");
                Ok(None)
            }
        }
    }
}

/// A value of a query. Those of servers are short and plain.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
