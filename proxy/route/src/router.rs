//! Which route serves this request? From the host to its [`Index`], and the answer.
//!
//! A [`Router`] is a value: a clone copies pointers, a change costs what the changed hosts' routes cost. Its look-up is one hash for
//! a host that is configured by name; only where that fails are wildcards tried, one hash per label and mode, and none
//! where no wildcard is configured.
//!
//! The most specific host pattern decides alone: where its routes do not match, no other pattern is asked (as Envoy does, and
//! as the Gateway API wants hosts to be told apart before rules). The catch-all serves hosts that no pattern matches.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use portolan_model::host::{HostName, HostPattern};
use portolan_model::plan::{Route, VirtualHost};
use portolan_model::shard::ShardedMap;

use crate::explain::{self, Explanation};
use crate::index::Index;
use crate::pattern::Patterns;

/// RFC 1035 §2.3.4. A longer host is nobody's, which bounds the wildcards that one request can try.
const LONGEST_HOST: usize = 253;

/// What of a request decides its route.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// As [`portolan_model::host::normalize`] gives it.
    pub host: &'a str,
    /// As [`crate::normalize_path`] gives it.
    pub path: &'a str,
    /// What follows the `?`, as sent.
    pub query: Option<&'a str>,
    /// As sent.
    pub method: &'a str,
    /// As sent.
    pub headers: &'a HeaderMap,
}

/// Who serves a request.
#[derive(Debug)]
pub enum Outcome<'r, V = VirtualHost> {
    /// This route.
    Matched(Matched<'r, V>),
    /// Nobody: the host is known, but none of its routes matches.
    NoRoute {
        /// The host's pattern.
        host: HostMatch,
    },
    /// Nobody: the host is nobody's.
    NoHost,
}

/// The route that serves a request.
#[derive(Debug)]
pub struct Matched<'r, V = VirtualHost> {
    /// Which pattern the host matched.
    pub host: HostMatch,
    /// The host's value, as it was applied.
    pub virtual_host: &'r Arc<V>,
    /// Which of its routes, from 0.
    pub route: usize,
    /// Which of the route's matches, from 0; 0 for a route that has none.
    pub rule_match: usize,
    /// How many bytes of the path a prefix match took, without a `/` at its end: the rest is empty or begins with `/`. The
    /// whole path where the match was not on a prefix.
    pub taken: usize,
}

impl<'r, V: Borrow<VirtualHost>> Matched<'r, V> {
    /// The route.
    pub fn route(&self) -> &'r Route {
        let host: &VirtualHost = (**self.virtual_host).borrow();
        &host.routes[self.route]
    }
}

/// How a host was found; the suffix of a wildcard begins at that byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// By its name.
    Exact,
    /// Under a wildcard that spans one label.
    OneLabel(u8),
    /// Under a wildcard that spans any number of labels.
    AnyLabels(u8),
    /// By nobody: the catch-all took it.
    CatchAll,
}

impl HostMatch {
    /// The pattern that `host`, which gave this match, was found by.
    pub fn pattern(self, host: &str) -> impl fmt::Display + '_ {
        let (prefix, at) = match self {
            Self::Exact => ("", 0),
            Self::OneLabel(at) => ("*.", usize::from(at)),
            Self::AnyLabels(at) => ("**.", usize::from(at)),
            Self::CatchAll => ("*", host.len()),
        };
        let suffix = host.get(at..).unwrap_or_default();
        fmt::from_fn(move |f| write!(f, "{prefix}{suffix}"))
    }
}

/// From hosts to their routes. `V` is what is kept by host: the plan's [`VirtualHost`], or what its consumer makes of one.
#[derive(Debug)]
pub struct Router<V = VirtualHost> {
    exact: ShardedMap<HostName, Entry<V>>,
    one_label: ShardedMap<HostName, Entry<V>>,
    any_labels: ShardedMap<HostName, Entry<V>>,
    catch_all: Option<Entry<V>>,
}

impl<V> Default for Router<V> {
    fn default() -> Self {
        Self {
            exact: ShardedMap::default(),
            one_label: ShardedMap::default(),
            any_labels: ShardedMap::default(),
            catch_all: None,
        }
    }
}

impl<V> Clone for Router<V> {
    fn clone(&self) -> Self {
        Self {
            exact: self.exact.clone(),
            one_label: self.one_label.clone(),
            any_labels: self.any_labels.clone(),
            catch_all: self.catch_all.clone(),
        }
    }
}

impl<V: Borrow<VirtualHost>> Router<V> {
    /// Lays an update's hosts over what is there. Regular expressions that stay are not compiled again.
    pub fn apply(&mut self, changes: &[(HostPattern, Option<Arc<V>>)]) {
        let mut patterns = Patterns::default();
        for (pattern, _) in changes {
            if let Some(entry) = self.hosts(pattern).get(pattern.name()) {
                entry.keep_patterns(&mut patterns);
            }
        }
        for (pattern, value) in changes {
            let entry = value.as_ref().map(|value| Entry::build(value, &mut patterns));
            self.hosts_mut(pattern).set(pattern.name().clone(), entry);
        }
    }

    /// Sets what serves hosts that no pattern matches.
    pub fn set_catch_all(&mut self, value: Option<Arc<V>>) {
        let mut patterns = Patterns::default();
        if let Some(entry) = &self.catch_all {
            entry.keep_patterns(&mut patterns);
        }
        self.catch_all = value.map(|value| Entry::build(&value, &mut patterns));
    }

    /// How many host patterns there are.
    pub fn len(&self) -> usize {
        self.exact.len() + self.one_label.len() + self.any_labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value kept for exactly that pattern.
    pub fn get(&self, pattern: &HostPattern) -> Option<&Arc<V>> {
        self.hosts(pattern).get(pattern.name()).map(|entry| &entry.value)
    }

    /// Who serves a request.
    pub fn route(&self, request: &RequestView<'_>) -> Outcome<'_, V> {
        let Some((host, entry)) = self.host(request.host) else { return Outcome::NoHost };
        let (route, rule_match, taken) = match &entry.index {
            None => (0, 0, 0),
            Some(index) => match index.find(request) {
                Some((candidate, taken)) => (candidate.route as usize, candidate.rule_match as usize, taken),
                None => return Outcome::NoRoute { host },
            },
        };
        Outcome::Matched(Matched { host, virtual_host: &entry.value, route, rule_match, taken })
    }

    /// Who serves a request, and why nobody before did. For people: it allocates.
    pub fn explain(&self, request: &RequestView<'_>) -> Explanation {
        match self.host(request.host) {
            Some((host, entry)) => {
                let mut patterns = Patterns::default();
                entry.keep_patterns(&mut patterns);
                explain::explain(host, (*entry.value).borrow(), &mut patterns, request)
            }
            None => Explanation::default(),
        }
    }

    fn host(&self, host: &str) -> Option<(HostMatch, &Entry<V>)> {
        if host.len() <= LONGEST_HOST {
            if let Some(entry) = self.exact.get(host) {
                return Some((HostMatch::Exact, entry));
            }
            if !self.one_label.is_empty() || !self.any_labels.is_empty() {
                let wildcard = self.wildcard(host);
                if wildcard.is_some() {
                    return wildcard;
                }
            }
        }
        self.catch_all.as_ref().map(|entry| (HostMatch::CatchAll, entry))
    }

    /// The longest suffix that a wildcard stands before; of two, the wildcard that spans one label.
    fn wildcard(&self, host: &str) -> Option<(HostMatch, &Entry<V>)> {
        let mut first = true;
        for dot in host.bytes().enumerate().filter_map(|(at, byte)| (byte == b'.').then_some(at)) {
            let (suffix, at) = (&host[dot + 1..], u8::try_from(dot + 1).ok()?);
            if first
                && dot > 0
                && !self.one_label.is_empty()
                && let Some(entry) = self.one_label.get(suffix)
            {
                return Some((HostMatch::OneLabel(at), entry));
            }
            first = false;
            if self.any_labels.is_empty() {
                break;
            }
            if let Some(entry) = self.any_labels.get(suffix) {
                return Some((HostMatch::AnyLabels(at), entry));
            }
        }
        None
    }

    fn hosts(&self, pattern: &HostPattern) -> &ShardedMap<HostName, Entry<V>> {
        match pattern {
            HostPattern::Exact(_) => &self.exact,
            HostPattern::OneLabel(_) => &self.one_label,
            HostPattern::AnyLabels(_) => &self.any_labels,
        }
    }

    fn hosts_mut(&mut self, pattern: &HostPattern) -> &mut ShardedMap<HostName, Entry<V>> {
        match pattern {
            HostPattern::Exact(_) => &mut self.exact,
            HostPattern::OneLabel(_) => &mut self.one_label,
            HostPattern::AnyLabels(_) => &mut self.any_labels,
        }
    }
}

/// A host's value, with an index where its one route does not take whatever comes.
#[derive(Debug)]
struct Entry<V> {
    value: Arc<V>,
    index: Option<Arc<Index>>,
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), index: self.index.clone() }
    }
}

impl<V: Borrow<VirtualHost>> Entry<V> {
    fn build(value: &Arc<V>, patterns: &mut Patterns) -> Self {
        let host: &VirtualHost = (**value).borrow();
        Self { value: Arc::clone(value), index: Index::build(&host.routes, patterns) }
    }

    fn keep_patterns(&self, patterns: &mut Patterns) {
        self.index.iter().flat_map(|index| index.patterns()).for_each(|pattern| patterns.keep(pattern));
    }
}

#[cfg(test)]
mod tests;
