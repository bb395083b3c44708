//! What of an API server is not as it is now, since when, and why?
//!
//! Invariant: what lasts is said once in the log, and once again when it is over; how many things go wrong at once, a few
//! lines say it. What is served goes on in any case. Time is an argument.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::known::Collection;

/// What passes sooner is not worth a line.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines at a time.
const LINES: usize = 5;

/// What may be wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// The API server as a whole.
    Server,
    /// What is in force is from the disk.
    Disk,
    /// A collection of objects.
    Collection(Collection),
    /// The journal: it makes nothing stale.
    Journal,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("the API server"),
            Self::Disk => f.write_str("the last good state"),
            Self::Collection(collection) => collection.fmt(f),
            Self::Journal => f.write_str("the journal"),
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// With what, for a person.
    pub subject: String,
    /// Since when.
    pub since: Instant,
    /// Why.
    pub reason: String,
    /// Whether what is served may be old for it.
    pub stale: bool,
}

impl Trouble {
    /// For a person.
    pub fn message(&self, now: Instant) -> String {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        let Self { subject, reason, .. } = self;
        match self.stale {
            true => format!("{subject}: stale for {seconds} s: {reason}"),
            false => format!("{subject}: {reason} (for {seconds} s)"),
        }
    }
}

/// See the module's documentation; clones say the same.
#[derive(Clone, Debug, Default)]
pub struct SourceStatus(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    troubles: BTreeMap<Subject, Told>,
    /// Since when the server answers again: what it was the reason of passes soon.
    back: Option<Instant>,
}

#[derive(Debug)]
struct Told {
    since: Instant,
    reason: String,
    /// Whether it is a kind that is refused everywhere.
    denied: bool,
    said: bool,
    /// Whether a line of its own said it.
    named: bool,
}

/// A line for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Trouble(String),
    Well(String),
}

impl SourceStatus {
    /// What is wrong now. While the server does not answer at all, that alone.
    pub fn troubles(&self) -> Vec<Trouble> {
        let inner = self.locked();
        let shown = inner.troubles.iter().filter(|(subject, _)| inner.counts(subject));
        shown.map(|(subject, told)| told.shown(subject)).collect()
    }

    /// A kind that the server does not serve, or not to us: it is not known before a person sees to it.
    pub fn denied(&self) -> Option<Trouble> {
        let inner = self.locked();
        let mut denied = inner.troubles.iter().filter(|(_, told)| told.denied);
        denied.next().map(|(subject, told)| told.shown(subject))
    }

    /// How old what is served may be.
    pub fn stale(&self, now: Instant) -> Duration {
        let inner = self.locked();
        let stale = inner.troubles.iter().filter(|(subject, _)| **subject != Subject::Journal);
        let ages = stale.map(|(_, told)| now.saturating_duration_since(told.since));
        ages.max().unwrap_or_default()
    }

    pub(crate) fn trouble(&self, subject: Subject, now: Instant, reason: String) {
        let mut inner = self.locked();
        let new = Told { since: now, reason: String::new(), denied: false, said: false, named: false };
        let told = inner.troubles.entry(subject).or_insert(new);
        (told.reason, told.denied) = (reason, false);
    }

    /// The server refuses a collection.
    pub(crate) fn deny(&self, collection: Collection, now: Instant, reason: String) {
        let whole = collection.namespace.is_none();
        let subject = Subject::Collection(collection);
        self.trouble(subject.clone(), now, reason);
        if let Some(told) = self.locked().troubles.get_mut(&subject) {
            told.denied = whole;
        }
    }

    /// All is well with that. A line where a line of its own said something else.
    pub(crate) fn well(&self, subject: &Subject, now: Instant) -> Option<Said> {
        let mut inner = self.locked();
        let told = inner.troubles.remove(subject)?;
        if *subject == Subject::Server {
            inner.back = Some(now);
        }
        let told = Some(told).filter(|told| told.named)?;
        let seconds = now.saturating_duration_since(told.since).as_secs();
        Some(Said::Well(format!("{subject}: all is well again after {seconds} s")))
    }

    /// What is to be said now.
    pub(crate) fn news(&self, now: Instant) -> Vec<Said> {
        let mut inner = self.locked();
        let counts: Vec<_> = inner.troubles.keys().map(|subject| inner.counts(subject)).collect();
        let back = inner.back;
        let due = inner.troubles.iter_mut().zip(counts).filter(|((_, told), counts)| {
            let since = back.map_or(told.since, |back| told.since.max(back));
            *counts && !told.said && now.saturating_duration_since(since) >= PATIENCE
        });
        let (mut lines, mut more) = (Vec::new(), 0);
        for ((subject, told), _) in due {
            told.said = true;
            if lines.len() < LINES {
                told.named = true;
                let stays = match subject {
                    Subject::Server | Subject::Collection(_) => "; what is known stays in force",
                    Subject::Disk | Subject::Journal => "",
                };
                lines.push(Said::Trouble(format!("{subject}: {}{stays}", told.reason)));
            } else {
                more += 1;
            }
        }
        if more > 0 {
            lines.push(Said::Trouble(format!("and the same or something else with {more} more")));
        }
        lines
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn shown(&self, subject: &Subject) -> Trouble {
        Trouble {
            subject: subject.to_string(),
            since: self.since,
            reason: self.reason.clone(),
            stale: *subject != Subject::Journal,
        }
    }
}

impl Inner {
    /// Collections say nothing new where the server as a whole is away.
    fn counts(&self, subject: &Subject) -> bool {
        !matches!(subject, Subject::Collection(_)) || !self.troubles.contains_key(&Subject::Server)
    }
}

impl Said {
    pub(crate) fn log(&self) {
        match self {
            Self::Trouble(line) => tracing::warn!("{line}"),
            Self::Well(line) => tracing::info!("{line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use portolan_model::id::Kind;

    use super::*;

    #[test]
    fn trouble_is_said_once_and_when_it_is_over() {
        let status = SourceStatus::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let clusters = Subject::Collection(Collection { kind: Kind::Cluster, namespace: None });
        let line = |text: &str| vec![Said::Trouble(text.to_owned())];

        status.trouble(clusters.clone(), at(0), "403: no".to_owned());
        assert_eq!(status.news(at(1)), [], "it may pass");
        assert_eq!(status.well(&clusters, at(2)), None, "it passed");

        status.trouble(clusters.clone(), at(10), "403: no".to_owned());
        status.trouble(clusters.clone(), at(12), "403: still no".to_owned());
        assert_eq!(status.news(at(15)), line("clusters: 403: still no; what is known stays in force"));
        assert_eq!(status.news(at(20)), []);
        assert_eq!(status.stale(at(20)), Duration::from_secs(10));

        status.trouble(Subject::Server, at(20), "it is away".to_owned());
        let subjects: Vec<_> = status.troubles().into_iter().map(|trouble| trouble.subject).collect();
        assert_eq!(subjects, ["the API server"], "which explains the rest");
        assert_eq!(status.news(at(30)), line("the API server: it is away; what is known stays in force"));

        let well = |text: &str| Some(Said::Well(text.to_owned()));
        let again = "the API server: all is well again after 12 s";
        assert_eq!(status.well(&Subject::Server, at(32)), well(again));
        assert_eq!(status.well(&clusters, at(33)), well("clusters: all is well again after 23 s"));
        assert_eq!((status.stale(at(40)), status.troubles()), (Duration::ZERO, vec![]));
    }

    #[test]
    fn a_kind_that_is_refused_is_told_from_what_may_pass() {
        let status = SourceStatus::default();
        let now = Instant::now();
        let pools = |namespace| Collection { kind: Kind::UpstreamPool, namespace };
        status.trouble(Subject::Collection(pools(None)), now, "it has not been listed yet".to_owned());
        status.deny(pools(Some("tenant-paris".into())), now, "403: no".to_owned());
        assert_eq!(status.denied(), None);
        status.deny(pools(None), now, "404: no".to_owned());
        assert_eq!(status.denied().map(|trouble| trouble.reason), Some("404: no".to_owned()));
        status.trouble(Subject::Collection(pools(None)), now, "it is away".to_owned());
        assert_eq!(status.denied(), None);
    }

    /// Regression: each collection said in a line that the server had been away, when it was back.
    #[test]
    fn what_the_server_was_the_reason_of_has_time_to_pass() {
        let status = SourceStatus::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let pools = Subject::Collection(Collection { kind: Kind::UpstreamPool, namespace: None });
        status.trouble(Subject::Server, at(0), "it is away".to_owned());
        status.trouble(pools, at(0), "it is away".to_owned());
        assert_eq!(status.news(at(5)).len(), 1);
        assert!(status.well(&Subject::Server, at(10)).is_some());
        assert_eq!(status.news(at(11)), []);
        assert_eq!(status.news(at(15)).len(), 1, "it did not pass");
    }

    #[test]
    fn many_troubles_are_few_lines() {
        let status = SourceStatus::default();
        let now = Instant::now();
        for number in 0..100 {
            let namespace = Some(format!("tenant-{number:03}").into());
            let collection = Collection { kind: Kind::Secret, namespace };
            status.trouble(Subject::Collection(collection), now, "403: no".to_owned());
        }
        let lines = status.news(now + PATIENCE);
        assert_eq!(lines.len(), LINES + 1, "{lines:?}");
        assert_eq!(
            lines[0],
            Said::Trouble("secrets in tenant-000: 403: no; what is known stays in force".to_owned())
        );
        assert_eq!(lines[LINES], Said::Trouble("and the same or something else with 95 more".to_owned()));
    }
}
