//! What do the objects of an API server say, and what changes?
//!
//! ```text
//!  Follower (a task per collection) ─┐
//!  Follower …                        ├─► words ─► Supervisor: Known ─► deltas ─► (10 ms after the last one) ─► Batch ─► channel
//!  probe (does the server answer?) ──┘                │
//!  Journal::read, once at the start ──────────────────┴─► Journal: the last good state, on disk
//! ```
//!
//! The six kinds of ours and the `EndpointSlice`s of pools are watched in the whole cluster; `Secret`s and `ConfigMap`s in the
//! system namespace and in the namespace of each `Cluster`, as these come and go. The first batch comes when all was listed; or,
//! where there is a journal, after [`PATIENCE`] with what is on disk in the place of what was not. Lists that come later take its
//! place by difference. Nothing that goes wrong here takes away what is there: [`SourceStatus`] has it, and the log says it.
//!
//! Cost: a change is read once, and hashed. Of an object its id and 16 bytes are kept. Memory beside that: 64 objects on their
//! way, and up to [`PENDING`] deltas while nobody takes them; then the watches wait.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use portolan_api::Checks;
use portolan_model::id::{Kind, ObjectRef, SYSTEM_NAMESPACE, tenant_namespace};
use portolan_model::intent::Delta;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::connect::ApiServer;
use crate::folder::Batch;

mod backoff;
mod follow;
mod item;
mod journal;
mod known;
mod lines;
mod probe;
mod request;
mod resource;
mod status;

use self::follow::{Follower, News, Word};
use self::journal::Journal;
use self::known::{Collection, Known};
use self::probe::Health;
use self::status::Subject;
pub use self::status::{SourceStatus, Trouble};

/// Between two batches: a change after some quiet goes at once, and what comes on its heels is gathered.
const SPACING: Duration = Duration::from_millis(10);
/// So long the API server has to say everything before the disk is asked, or before what may not be read is done without.
const PATIENCE: Duration = Duration::from_secs(3);
/// Objects between the watches and the supervisor. They may be large; a channel full of them is read in milliseconds.
const WORDS: usize = 64;
/// Versions that brought nothing to apply are told at the latest after so long.
const VERSIONS: Duration = Duration::from_secs(1);
/// Deltas that may wait for room in the channel of batches, once the first was sent.
const PENDING: usize = 10_000;
/// How often what lasts is looked at.
const TICK: Duration = Duration::from_secs(1);
/// After so long a broken journal is begun anew, and after twice that the next time.
const MEND: Duration = Duration::from_secs(60);
const MEND_AT_MOST: Duration = Duration::from_secs(3600);

/// What a source needs to know.
#[derive(Clone, Debug)]
pub struct KubernetesOptions {
    /// What reading needs of other libraries.
    pub checks: Checks,
    /// The namespace that manifests call `portolan-system`.
    pub namespace: String,
    /// Where the last good state is kept. Nowhere without.
    pub state_dir: Option<PathBuf>,
}

impl KubernetesOptions {
    /// With the usual namespace, and nothing kept on disk.
    pub fn new(checks: Checks) -> Self {
        Self { checks, namespace: SYSTEM_NAMESPACE.to_owned(), state_dir: None }
    }
}

/// The objects of an API server being watched; it ends when this is dropped or nobody receives any more.
#[derive(Debug)]
pub struct KubernetesSource {
    status: SourceStatus,
    tasks: [JoinHandle<()>; 2],
}

impl KubernetesSource {
    /// Starts to watch. The first batch holds everything; others come as it changes. Runs on the tokio runtime that this is
    /// called on.
    pub fn start(server: &ApiServer, options: KubernetesOptions, batches: mpsc::Sender<Batch>) -> Self {
        let (health, healths) = watch::channel(Health::Unknown);
        let (outage, outages) = watch::channel(None);
        let (words, inbox) = mpsc::channel(WORDS);
        let supervisor = Supervisor::new(server.clone(), options, words, outages);
        let status = supervisor.status.clone();
        let probe = tokio::spawn(probe::probe(server.client.clone(), health, outage));
        let supervisor = tokio::spawn(supervisor.run(inbox, healths, batches));
        Self { status, tasks: [probe, supervisor] }
    }

    /// What of the API server is not as it is now.
    pub fn status(&self) -> SourceStatus {
        self.status.clone()
    }
}

impl Drop for KubernetesSource {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Hears all that is said, and says what it comes to.
struct Supervisor {
    server: ApiServer,
    options: KubernetesOptions,
    status: SourceStatus,
    known: Known,
    tasks: HashMap<Collection, Task>,
    last_task: u64,
    words: mpsc::Sender<Word>,
    outages: watch::Receiver<Option<Instant>>,
    streams: Arc<AtomicBool>,
    journal: Option<Journal>,
    /// Whether the journal is being written from the start.
    renewing: bool,
    mend: Option<Mend>,
    began: Instant,
    pending: Vec<Delta>,
    /// When the last batch was sent.
    sent: Instant,
    /// Since when something was seen that no batch contains, though there is nothing to apply: a status, say.
    untold: Option<Instant>,
    /// Whether no batch has been sent yet.
    first: bool,
    /// Whether anything is from the disk.
    restored: bool,
}

/// The task of a collection.
struct Task {
    id: u64,
    handle: JoinHandle<()>,
    /// Whether its list was whole once.
    listed: bool,
    /// Whether somebody has to allow it first.
    denied: bool,
    /// Whether all of its list is to be written into the journal, changed or not.
    keep_all: bool,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// When a broken journal is begun anew.
#[derive(Clone, Copy)]
struct Mend {
    at: Instant,
    pause: Duration,
}

impl Supervisor {
    fn new(
        server: ApiServer,
        options: KubernetesOptions,
        words: mpsc::Sender<Word>,
        outages: watch::Receiver<Option<Instant>>,
    ) -> Self {
        Self {
            server,
            known: Known::new(options.checks, options.namespace.clone()),
            options,
            status: SourceStatus::default(),
            tasks: HashMap::new(),
            last_task: 0,
            words,
            outages,
            streams: Arc::new(AtomicBool::new(true)),
            journal: None,
            renewing: false,
            mend: None,
            began: Instant::now(),
            pending: Vec::new(),
            sent: Instant::now(),
            untold: None,
            first: true,
            restored: false,
        }
    }

    /// Until nobody receives any more.
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Word>,
        mut health: watch::Receiver<Health>,
        batches: mpsc::Sender<Batch>,
    ) {
        self.restore().await;
        // The server has not been asked before.
        self.began = Instant::now();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = self.first || self.pending.len() < PENDING;
            tokio::select! {
                word = inbox.recv(), if room => match word {
                    Some(word) => self.hear(word),
                    None => return,
                },
                permit = reserved(&batches, self.due()) => match permit {
                    Some(permit) => permit.send(self.batch()),
                    None => return,
                },
                changed = health.changed() => match changed {
                    Ok(()) => {
                        let health = health.borrow_and_update().clone();
                        self.server_is(health);
                    }
                    Err(_) => return,
                },
                _ = tick.tick() => self.look(),
            }
        }
    }

    /// When a batch is to be sent, as things stand.
    fn due(&self) -> Option<Instant> {
        if !self.first {
            let untold = self.untold.map(|since| since + VERSIONS);
            return if self.pending.is_empty() { untold } else { Some(self.sent + SPACING) };
        }
        let of_cluster = |(of, task): (&Collection, &Task)| of.namespace.is_some() || task.listed;
        let listed = !self.tasks.is_empty() && self.tasks.iter().all(of_cluster);
        match listed {
            true if self.tasks.values().all(|task| task.listed || task.denied) => Some(self.began),
            false if !self.restored => None,
            _ => Some(self.began + PATIENCE),
        }
    }

    fn batch(&mut self) -> Batch {
        let first = std::mem::take(&mut self.first);
        if first && self.restored && !self.all_listed() {
            let reason = "what is in force is from the disk, until the API server has said everything";
            self.status.trouble(Subject::Disk, self.began.into(), reason.to_owned());
        }
        (self.sent, self.untold) = (Instant::now(), None);
        let deltas = std::mem::take(&mut self.pending);
        Batch { deltas, first, versions: *self.known.versions(), ..Batch::default() }
    }

    fn all_listed(&self) -> bool {
        !self.tasks.is_empty() && self.tasks.values().all(|task| task.listed)
    }

    /// Takes in what is on disk, and goes on writing there.
    async fn restore(&mut self) {
        let Some(folder) = self.options.state_dir.clone() else { return };
        // Read by another thread, so that the text of a few objects at a time is in memory.
        let (found, mut kept) = mpsc::channel(WORDS);
        let reading = {
            let (folder, url) = (folder.clone(), self.server.url.clone());
            tokio::task::spawn_blocking(move || {
                journal::read(&folder, &url, |object| drop(found.blocking_send(object)))
            })
        };
        while let Some(journal::Kept { kind, item }) = kept.recv().await {
            let namespace = resource::is_by_namespace(kind).then(|| item.namespace.as_str().into());
            let change = self.known.object(&Collection { kind, namespace }, &item);
            self.pending.extend(change.delta);
        }
        let read = reading.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let shown = folder.display();
        let worth = match read {
            Ok(summary) => {
                self.restored = summary.objects > 0;
                tracing::info!(folder = %shown, objects = summary.objects, "the last good state was read");
                if summary.skipped > 0 {
                    let (lines, first) = (summary.skipped, summary.first_skipped);
                    tracing::warn!(folder = %shown, lines, ?first, "torn or changed lines of the last good state are passed over");
                }
                Some(summary.worth)
            }
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!(folder = %shown, %error, "the last good state cannot be used; it is begun anew");
                }
                None
            }
        };
        self.renewing = worth.is_none();
        match Journal::start(&folder, &self.server.url, worth) {
            Ok(journal) => self.journal = Some(journal),
            Err(error) => tracing::error!(%error, "the last good state cannot be kept"),
        }
        // Secrets of a cluster that went when nobody could say so.
        let wanted: HashSet<_> = self.wanted().collect();
        let strangers = self.known.collections().filter(|known| !wanted.contains(known));
        let strangers: Vec<_> = strangers.cloned().collect();
        strangers.iter().for_each(|collection| self.forget(collection));
    }

    /// What is to be followed, as far as the `Cluster`s are known.
    fn wanted(&self) -> impl Iterator<Item = Collection> + use<> {
        let clusters = Collection { kind: Kind::Cluster, namespace: None };
        let tenants = self.known.names(&clusters).map(|name| tenant_namespace(name));
        let namespaces: Vec<_> = tenants.chain([self.options.namespace.clone()]).collect();
        let whole = Kind::ALL.into_iter().filter(|kind| !resource::is_by_namespace(*kind));
        let whole = whole.map(|kind| Collection { kind, namespace: None });
        whole.chain(namespaces.into_iter().flat_map(|namespace| in_namespace(&namespace)))
    }

    fn server_is(&mut self, health: Health) {
        match health {
            Health::Unknown => {}
            Health::Away { since, reason } => self.status.trouble(Subject::Server, since.into(), reason),
            Health::Answers => {
                self.is_well(&Subject::Server);
                if self.tasks.is_empty() {
                    self.wanted().for_each(|collection| self.follow(collection));
                }
            }
        }
    }

    /// Starts to follow a collection, from the first list on.
    fn follow(&mut self, collection: Collection) {
        self.last_task += 1;
        let follower = Follower {
            task: self.last_task,
            collection: collection.clone(),
            client: self.server.client.clone(),
            words: self.words.clone(),
            outage: self.outages.clone(),
            streams: Arc::clone(&self.streams),
        };
        let reason = "it has not been listed yet".to_owned();
        self.status.trouble(Subject::Collection(collection.clone()), now(), reason);
        let task = Task {
            id: self.last_task,
            handle: tokio::spawn(follower.follow()),
            listed: false,
            denied: false,
            keep_all: self.renewing,
        };
        self.tasks.insert(collection, task);
    }

    fn hear(&mut self, Word { task, collection, news }: Word) {
        let Some(task) = self.tasks.get_mut(&collection).filter(|known| known.id == task) else { return };
        match news {
            News::Begin => self.known.begin(&collection),
            News::Object(item) => {
                let before = *self.known.versions();
                let change = self.known.object(&collection, &item);
                if change.delta.is_none() && *self.known.versions() != before {
                    self.untold.get_or_insert_with(Instant::now);
                }
                if let Some(journal) = &self.journal {
                    match &change.delta {
                        Some(Delta::Delete(id)) => journal.gone(id),
                        delta if change.keep && (delta.is_some() || task.keep_all) => {
                            journal.keep(&change.id, &item);
                        }
                        _ => {}
                    }
                }
                if collection.kind == Kind::Cluster && change.delta.is_some() {
                    for collection in in_namespace(&tenant_namespace(&change.id.name)) {
                        if !self.tasks.contains_key(&collection) {
                            self.follow(collection);
                        }
                    }
                }
                self.pending.extend(change.delta);
            }
            News::Gone(item) => {
                let gone = self.known.gone(&collection, &item);
                self.are_gone(gone);
            }
            News::Whole => {
                (task.listed, task.denied, task.keep_all) = (true, false, false);
                let before = *self.known.versions();
                let gone = self.known.end(&collection);
                if *self.known.versions() != before {
                    self.untold.get_or_insert_with(Instant::now);
                }
                self.are_gone(gone);
                self.is_well(&Subject::Collection(collection));
                self.listed();
            }
            News::Well => self.is_well(&Subject::Collection(collection)),
            News::Trouble(reason) => self.status.trouble(Subject::Collection(collection), now(), reason),
            News::Denied(reason) => {
                task.denied = true;
                self.status.deny(collection, now(), reason);
                self.renewed();
            }
        }
    }

    fn are_gone(&mut self, ids: impl IntoIterator<Item = ObjectRef>) {
        for id in ids {
            if id.kind == Kind::Cluster {
                for collection in in_namespace(&tenant_namespace(&id.name)) {
                    self.forget(&collection);
                }
            }
            if let Some(journal) = &self.journal {
                journal.gone(&id);
            }
            self.pending.push(Delta::Delete(id));
        }
    }

    /// Follows a collection no more, which holds no `Cluster`s; its objects are gone.
    fn forget(&mut self, collection: &Collection) {
        self.tasks.remove(collection);
        for id in self.known.forget(collection) {
            if let Some(journal) = &self.journal {
                journal.gone(&id);
            }
            self.pending.push(Delta::Delete(id));
        }
        // Nobody wants to know any more how it is.
        let _ = self.status.well(&Subject::Collection(collection.clone()), now());
        // It may have been the last that was waited for.
        self.listed();
    }

    fn is_well(&self, subject: &Subject) {
        if let Some(said) = self.status.well(subject, now()) {
            said.log();
        }
    }

    /// Looks after what lasts.
    fn look(&mut self) {
        if let Some(reason) = self.journal.as_ref().and_then(Journal::broken) {
            let reason = format!("nothing is kept on disk any more: {reason}");
            self.status.trouble(Subject::Journal, now(), reason);
            let first = Mend { at: Instant::now() + MEND, pause: MEND };
            let mend = *self.mend.get_or_insert(first);
            if mend.at <= Instant::now() && !self.tasks.is_empty() {
                let pause = (mend.pause * 2).min(MEND_AT_MOST);
                self.mend = Some(Mend { at: Instant::now() + pause, pause });
                self.renew();
            }
        }
        self.status.news(now()).iter().for_each(|said| said.log());
    }

    /// Begins to write the journal from the start: everything is listed again.
    fn renew(&mut self) {
        if let Some(journal) = &self.journal {
            journal.anew();
            self.renewing = true;
            let collections: Vec<_> = self.tasks.drain().map(|(collection, _)| collection).collect();
            collections.into_iter().for_each(|collection| self.follow(collection));
        }
    }

    /// One list less is waited for.
    fn listed(&mut self) {
        if self.all_listed() {
            self.is_well(&Subject::Disk);
        }
        self.renewed();
    }

    /// The journal counts once everything is in it that may be read.
    fn renewed(&mut self) {
        let followed = !self.tasks.is_empty();
        if followed && self.renewing && self.tasks.values().all(|task| task.listed || task.denied) {
            self.renewing = false;
            let journal = self.journal.as_ref().filter(|journal| journal.broken().is_none());
            if let Some(journal) = journal {
                journal.whole();
                self.mend = None;
                self.is_well(&Subject::Journal);
            }
        }
    }
}

/// What is followed in a namespace.
fn in_namespace(namespace: &str) -> impl Iterator<Item = Collection> + use<> {
    let namespace: Arc<str> = namespace.into();
    let kinds = Kind::ALL.into_iter().filter(|kind| resource::is_by_namespace(*kind));
    kinds.map(move |kind| Collection { kind, namespace: Some(Arc::clone(&namespace)) })
}

/// Room for a batch, once one is due; `None` where nobody receives any more.
async fn reserved(batches: &mpsc::Sender<Batch>, due: Option<Instant>) -> Option<mpsc::Permit<'_, Batch>> {
    match due {
        Some(due) => {
            sleep_until(due).await;
            batches.reserve().await.ok()
        }
        None => std::future::pending().await,
    }
}

fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
mod tests;
