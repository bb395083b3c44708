//! The rules of an election: what a replica does about the `Lease` as it finds it, and until when it leads.
//!
//! Pure: the time is an argument. A holder leads from the moment before it asked for the write that succeeded, for
//! [`Terms::renew`]; another takes over when it has not seen the record change for as long as the record lasts, which is longer.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// After so long without renewal another may take over.
    pub lasts: Duration,
    /// After so long without renewal the holder steps down; shorter than `lasts`.
    pub renew: Duration,
    /// Between two tries, and up to a fifth more.
    pub retry: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { lasts: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

impl Terms {
    /// The pause before the next try: `retry` and up to a fifth of it, as `chance` has it.
    pub fn pause(&self, chance: u64) -> Duration {
        let thousandths = u32::try_from(chance % 200).unwrap_or_default();
        self.retry + self.retry * thousandths / 1000
    }
}

/// What a `Lease` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it, if anybody does.
    pub holder: Option<String>,
    /// How long it lasts without renewal.
    pub lasts: Duration,
    /// Since when it has this holder, by the holder's clock.
    pub acquired: Option<Timestamp>,
    /// When it was renewed last, by the holder's clock.
    pub renewed: Option<Timestamp>,
    /// How often it changed hands.
    pub transitions: i32,
}

/// What to do about a `Lease`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create it, as said.
    Create(Record),
    /// Write it, as said, if nobody wrote it in between.
    Update(Record),
    /// Nothing: another holds it.
    Wait,
}

/// One replica's part in an election.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    terms: Terms,
    /// What was seen last, and since when it has not changed.
    seen: Option<(Record, Instant)>,
    leads_until: Option<Instant>,
}

impl Election {
    /// A replica that has seen nothing yet.
    pub fn new(identity: impl Into<String>, terms: Terms) -> Self {
        Self { identity: identity.into(), terms, seen: None, leads_until: None }
    }

    /// Who it is.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// How long things take.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What to do about the `Lease` as it was found just now.
    pub fn step(&mut self, now: Instant, clock: Timestamp, found: Option<&Record>) -> Step {
        let Some(found) = found else {
            self.seen = None;
            return Step::Create(self.taken(clock, 0));
        };
        let since = match &self.seen {
            Some((seen, since)) if seen == found => *since,
            _ => {
                self.seen = Some((found.clone(), now));
                now
            }
        };
        match &found.holder {
            Some(holder) if *holder == self.identity => {
                Step::Update(Record { lasts: self.terms.lasts, renewed: Some(clock), ..found.clone() })
            }
            Some(_) if now < since + found.lasts => {
                self.leads_until = None;
                Step::Wait
            }
            Some(_) | None => {
                self.leads_until = None;
                Step::Update(self.taken(clock, found.transitions.saturating_add(1)))
            }
        }
    }

    /// The write that was asked for at `asked` succeeded.
    pub fn wrote(&mut self, asked: Instant, record: Record) {
        self.seen = Some((record, asked));
        self.leads_until = Some(asked + self.terms.renew);
    }

    /// Whether it leads now.
    pub fn leads(&self, now: Instant) -> bool {
        self.leads_until(now).is_some()
    }

    /// Until when it leads without another renewal, if it does now.
    pub fn leads_until(&self, now: Instant) -> Option<Instant> {
        self.leads_until.filter(|until| now < *until)
    }

    /// Stops leading; what to write where it was.
    pub fn release(&mut self) -> Option<Record> {
        self.leads_until.take()?;
        let (seen, _) = self.seen.take()?;
        Some(Record { holder: None, lasts: Duration::from_secs(1), ..seen })
    }

    fn taken(&self, clock: Timestamp, transitions: i32) -> Record {
        Record {
            holder: Some(self.identity.clone()),
            lasts: self.terms.lasts,
            acquired: Some(clock),
            renewed: Some(clock),
            transitions,
        }
    }
}

#[cfg(test)]
mod tests;
