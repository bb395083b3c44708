//! What is wanted, what is there, and what is to be written next?
//!
//! Pure: time is an argument. An object is written when both differ, and never twice at once; while it waits it takes in further changes
//! for nothing. Pace: a token bucket for all writes together. A write that was refused, or did not come to what was written, is tried again
//! rarely, or when something else is wanted; one that did not get through stops all others until one does. Those that did not get through before are
//! tried one at a time, beside all others: what fails because of itself holds up nothing else. What is held is neither written nor deleted.
//! Cost: logarithmic in what waits; what is as it should be costs a map entry.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// What is wanted of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// That it is not there.
    Nothing,
    /// That it stays as it is.
    Held,
    /// That it has this digest.
    Digest(u64),
}

/// What to do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write it.
    Apply,
    /// Delete it.
    Delete,
}

/// Whether something may be done now, as far as what it depends on goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// It may.
    Now,
    /// Something else comes first, and is about to.
    Soon,
    /// Something else comes first that takes a person, perhaps.
    Later,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object is there with that digest and that revision, or not there any more.
    Done(Option<(u64, u64)>),
    /// There is nothing to write any more.
    Void,
    /// The object is another one by now: what was known of it was old.
    Conflict,
    /// What was to be written is another by now: the API server was not asked.
    Late,
    /// What was to be written could not be read: the API server was not asked.
    Unread,
    /// The API server does not want it.
    Refused,
    /// The API server is there, but failed.
    Failed,
    /// The API server did not answer.
    Unreachable,
}

/// How fast, how many.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Writes a second.
    pub rate: f64,
    /// Writes at once after a rest.
    pub burst: f64,
    /// Writes under way at the same time.
    pub in_flight: usize,
    /// How long a change waits for others to the same object.
    pub quiet: Duration,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<K> {
    /// That. The outcome is to be told.
    Do(K, Op),
    /// Nothing before then, unless something changes.
    Wait(Option<Instant>),
}

/// The shortest and the longest wait after a write that did not get through.
const UNREACHABLE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// After one that failed.
const FAILED: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// After one that came too late: what is there now is about to be told.
const CONFLICT: Duration = Duration::from_millis(200);
/// After one of the first that were refused: an API server that has just started refuses what it will take in a moment.
const REFUSED_AT_FIRST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// How many these are.
const FIRST: u32 = 3;
/// After any other that was refused: so rarely that thousands of them leave room for what else changes.
const REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));

/// When it is looked again at what may be done later.
const LATER: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub struct Ledger<K> {
    entries: HashMap<K, Entry>,
    waiting: BTreeMap<(Instant, u64), K>,
    last: u64,
    pace: Pace,
    tokens: f64,
    filled: Option<Instant>,
    in_flight: usize,
    /// How many of these did not get through before.
    suspects: usize,
    /// Writes in a row that did not get through, and until when none is tried.
    streak: u32,
    closed_until: Option<Instant>,
    /// The same of those that did not get through before.
    suspect_streak: u32,
    suspects_until: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    want: Want,
    have: Option<u64>,
    version: u64,
    place: Option<(Instant, u64)>,
    in_flight: bool,
    /// What is, or was last, written; nothing where it is deleted.
    written: Option<u64>,
    /// The revision that was known then.
    written_at: u64,
    failures: u32,
    /// Whether its last write did not get through.
    suspect: bool,
    /// Whether it was put off, since it may be done later only.
    put_off: bool,
    /// Not before.
    not_before: Option<Instant>,
}

impl<K: Clone + Eq + Hash> Ledger<K> {
    /// Nothing wanted, nothing there.
    pub fn new(pace: Pace) -> Self {
        Self {
            entries: HashMap::new(),
            waiting: BTreeMap::new(),
            last: 0,
            pace,
            tokens: pace.burst,
            filled: None,
            in_flight: 0,
            suspects: 0,
            streak: 0,
            closed_until: None,
            suspect_streak: 0,
            suspects_until: None,
        }
    }

    /// Says what is wanted, no sooner than after `delay`.
    pub fn want(&mut self, key: &K, want: Want, now: Instant, delay: Duration) {
        let entry = self.entry(key);
        if entry.want != want {
            entry.want = want;
            entry.failures = 0;
            entry.put_off = false;
            entry.not_before = (!delay.is_zero()).then(|| now + delay);
        }
        self.settle(key, now);
    }

    /// Says what is there: digest and revision, or nothing since that revision. What is older than what is known is passed over.
    pub fn have(&mut self, key: &K, have: Option<u64>, version: u64, now: Instant) {
        let entry = self.entry(key);
        if version != 0 && version < entry.version {
            return;
        }
        entry.have = have;
        entry.version = version;
        self.settle(key, now);
    }

    /// Whatever of the object is wanted or there is none of our business any more.
    pub fn forget(&mut self, key: &K) {
        if let Some(entry) = self.entries.get_mut(key) {
            if let Some(place) = entry.place.take() {
                self.waiting.remove(&place);
            }
            entry.want = Want::Held;
            entry.have = None;
            self.tidy(key);
        }
    }

    /// What is wanted.
    pub fn wanted(&self, key: &K) -> Want {
        self.entries.get(key).map_or(Want::Nothing, |entry| entry.want)
    }

    /// Whether it is there.
    pub fn is_there(&self, key: &K) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.have.is_some())
    }

    /// Whether it is as it is wanted.
    pub fn is_right(&self, key: &K) -> bool {
        self.entries
            .get(key)
            .is_none_or(|entry| !entry.in_flight && entry.want != Want::Held && !entry.differs())
    }

    /// Whether it is to be written or deleted still; what is held is not.
    pub fn differs(&self, key: &K) -> bool {
        self.entries.get(key).is_some_and(Entry::differs)
    }

    /// Whether it is wanted, not there, and was not refused: what needs it had better wait.
    pub fn is_to_come(&self, key: &K) -> bool {
        let to_come = |entry: &Entry| {
            matches!(entry.want, Want::Digest(_)) && entry.have.is_none() && entry.failures == 0
        };
        self.entries.get(key).is_some_and(to_come)
    }

    /// Whether everything that is to be written was tried at least once, or has to wait for a person.
    pub fn tried(&self) -> bool {
        self.entries.values().all(|entry| !entry.differs() || entry.failures > 0 || entry.put_off)
    }

    /// How many wait or are under way.
    pub fn pending(&self) -> usize {
        self.waiting.len() + self.in_flight
    }

    /// Whether the last write got through, or none is to be tried again.
    pub fn reachable(&self) -> bool {
        self.streak == 0 || self.pending() == 0
    }

    /// All that is wanted or there, with whether it is wanted.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    /// The next write, of those that may be done now as far as `may` knows.
    pub fn next(&mut self, now: Instant, mut may: impl FnMut(&Self, &K, Op) -> May) -> Next<K> {
        self.fill(now);
        let limit = if self.streak > 0 { 1 } else { self.pace.in_flight };
        let fresh_may = self.in_flight - self.suspects < limit;
        let suspect_until = self.suspects_until.filter(|until| *until > now);
        let alone = self.in_flight == 0 || self.streak == 0 && self.suspects == 0;
        let suspect_may = alone && suspect_until.is_none();
        if self.in_flight >= self.pace.in_flight || !fresh_may && !suspect_may {
            return Next::Wait(suspect_until);
        }
        if let Some(until) = self.closed_until.filter(|until| *until > now) {
            return Next::Wait(self.waiting.first_key_value().map(|((due, _), _)| until.max(*due)));
        }
        if self.tokens < 1.0 {
            let missing = Duration::from_secs_f64((1.0 - self.tokens) / self.pace.rate.max(0.01));
            return Next::Wait(self.waiting.first_key_value().map(|((due, _), _)| (*due).max(now + missing)));
        }
        let due = self.waiting.range(..=(now, u64::MAX));
        let (mut put_off, mut suspect) = (Vec::new(), None);
        let fresh = due.map(|(place, key)| (*place, key)).find_map(|(place, key)| {
            let entry = self.entries.get(key)?;
            let op = entry.op()?;
            let free = if entry.suspect { suspect_may && suspect.is_none() } else { fresh_may };
            if !free {
                return None;
            }
            match may(self, key, op) {
                May::Now if entry.suspect => suspect = Some((place, key.clone(), op)),
                May::Now => return Some((place, key.clone(), op)),
                May::Soon => {}
                May::Later => put_off.push((place, key.clone())),
            }
            None
        });
        for (place, key) in put_off {
            self.waiting.remove(&place);
            let later = (now + LATER, place.1);
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.place = Some(later);
                entry.put_off = true;
            }
            self.waiting.insert(later, key);
        }
        let Some((place, key, op)) = suspect.or(fresh) else {
            let later = self.waiting.range((now, u64::MAX)..).next().map(|((due, _), _)| *due);
            return Next::Wait(later.into_iter().chain(suspect_until).min());
        };
        self.waiting.remove(&place);
        self.tokens -= 1.0;
        self.in_flight += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.place = None;
            entry.in_flight = true;
            entry.written = entry.wanted();
            entry.written_at = entry.version;
            self.suspects += usize::from(entry.suspect);
        }
        Next::Do(key, op)
    }

    /// Says how a write ended; `chance`, between 0 and 1, spreads what is tried again.
    pub fn done(&mut self, key: &K, outcome: &Outcome, now: Instant, chance: f64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let others_get_through = self.streak == 0;
        let entry = self.entry(key);
        entry.in_flight = false;
        let was_suspect = entry.suspect;
        entry.suspect = matches!(outcome, Outcome::Failed | Outcome::Unread | Outcome::Unreachable);
        match outcome {
            Outcome::Done(have) => {
                if have.map(|(digest, _)| digest) == entry.written || entry.wanted() != entry.written {
                    entry.failures = 0;
                    entry.not_before = None;
                } else {
                    // Somebody there makes something else of it: to write it at once would never end.
                    entry.not_before = Some(now + backoff(FAILED, entry.failures, chance));
                    entry.failures = entry.failures.saturating_add(1);
                }
                match have {
                    // Versions go back where a database was restored: then nothing else was heard since.
                    Some((digest, version))
                        if *version >= entry.version || entry.version == entry.written_at =>
                    {
                        entry.have = Some(*digest);
                        entry.version = *version;
                    }
                    Some(_) => {}
                    None => entry.have = None,
                }
            }
            Outcome::Void => {
                // It is not wanted any more, or will be said anew.
                entry.want = Want::Held;
            }
            Outcome::Conflict | Outcome::Late => entry.not_before = Some(now + CONFLICT),
            Outcome::Refused => {
                let wait = match entry.failures.checked_sub(FIRST) {
                    None => backoff(REFUSED_AT_FIRST, entry.failures, chance),
                    Some(failures) => backoff(REFUSED, failures, chance),
                };
                entry.not_before = Some(now + wait);
                entry.failures = entry.failures.saturating_add(1);
            }
            Outcome::Failed | Outcome::Unread => {
                entry.not_before = Some(now + backoff(FAILED, entry.failures, chance));
                entry.failures = entry.failures.saturating_add(1);
            }
            // What needs it had better not wait.
            Outcome::Unreachable if was_suspect && others_get_through => {
                entry.failures = entry.failures.saturating_add(1);
            }
            Outcome::Unreachable => {}
        }
        self.suspects -= usize::from(was_suspect);
        match outcome {
            Outcome::Failed | Outcome::Unreachable if was_suspect => {
                self.suspects_until = Some(now + backoff(UNREACHABLE, self.suspect_streak, chance));
                self.suspect_streak = self.suspect_streak.saturating_add(1);
            }
            Outcome::Failed | Outcome::Unreachable => {
                self.closed_until = Some(now + backoff(UNREACHABLE, self.streak, chance));
                self.streak = self.streak.saturating_add(1);
            }
            Outcome::Done(_) | Outcome::Conflict | Outcome::Refused => {
                (self.closed_until, self.suspects_until) = (None, None);
                (self.streak, self.suspect_streak) = (0, 0);
            }
            Outcome::Void | Outcome::Late | Outcome::Unread => {}
        }
        self.settle(key, now);
    }

    /// Another connection: what stood against writing may be over.
    pub fn reopen(&mut self) {
        (self.closed_until, self.suspects_until) = (None, None);
    }

    /// All of that kind is listed anew: versions may have gone back, where a database was restored.
    pub fn relisted(&mut self, of: impl Fn(&K) -> bool) {
        self.entries.iter_mut().filter(|(key, _)| of(key)).for_each(|(_, entry)| entry.version = 0);
    }

    /// Whether its last write did not get through, and others did since.
    pub fn is_stuck(&self, key: &K) -> bool {
        self.streak == 0 && self.entries.get(key).is_some_and(|entry| entry.suspect)
    }

    fn entry(&mut self, key: &K) -> &mut Entry {
        self.entries.entry(key.clone()).or_insert(Entry {
            want: Want::Held,
            have: None,
            version: 0,
            place: None,
            in_flight: false,
            written: None,
            written_at: 0,
            failures: 0,
            suspect: false,
            put_off: false,
            not_before: None,
        })
    }

    /// Puts the object where it belongs: among what waits, or not.
    fn settle(&mut self, key: &K, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let due = entry.differs() && !entry.in_flight;
        match (due, entry.place) {
            (true, None) => {
                self.last += 1;
                let soon = now + self.pace.quiet;
                let place = (entry.not_before.map_or(soon, |at| at.max(soon)), self.last);
                entry.place = Some(place);
                self.waiting.insert(place, key.clone());
            }
            // What was put off need not be any more, or has to be.
            (true, Some(place)) => {
                let at = entry.not_before.unwrap_or(now + self.pace.quiet);
                let at = if entry.not_before.is_some() { at } else { at.min(place.0) };
                if at != place.0 {
                    self.waiting.remove(&place);
                    let place = (at, place.1);
                    entry.place = Some(place);
                    self.waiting.insert(place, key.clone());
                }
            }
            (false, Some(place)) => {
                self.waiting.remove(&place);
                entry.place = None;
            }
            (false, None) => {}
        }
        self.tidy(key);
    }

    fn tidy(&mut self, key: &K) {
        let idle = |entry: &Entry| {
            entry.have.is_none() && !matches!(entry.want, Want::Digest(_)) && !entry.in_flight
        };
        if self.entries.get(key).is_some_and(idle) {
            self.entries.remove(key);
        }
    }

    fn fill(&mut self, now: Instant) {
        let passed = self.filled.map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        self.tokens = (self.tokens + passed.as_secs_f64() * self.pace.rate).min(self.pace.burst);
        self.filled = Some(now);
    }
}

impl Entry {
    /// The digest that it is to have.
    fn wanted(&self) -> Option<u64> {
        match self.want {
            Want::Digest(digest) => Some(digest),
            Want::Nothing | Want::Held => None,
        }
    }

    fn op(&self) -> Option<Op> {
        match (self.want, self.have) {
            (Want::Digest(want), have) if have != Some(want) => Some(Op::Apply),
            (Want::Nothing, Some(_)) => Some(Op::Delete),
            _ => None,
        }
    }

    fn differs(&self) -> bool {
        self.op().is_some()
    }
}

fn backoff((shortest, longest): (Duration, Duration), failures: u32, chance: f64) -> Duration {
    let full = shortest.saturating_mul(1 << failures.min(16)).min(longest);
    full.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests;
