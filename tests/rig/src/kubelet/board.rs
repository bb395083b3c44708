//! What is known of a running pod at this moment: written by its containers, read by whoever reports its status.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;

use super::shim::Exit;

/// A pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Board {
    /// Since when this node has it.
    pub(crate) since: Option<Timestamp>,
    /// Its address, once its network is made.
    pub(crate) address: Option<Ipv4Addr>,
    /// Its containers by name, init containers too.
    pub(crate) containers: BTreeMap<String, View>,
    /// Why the node gave it up, in a word and in a sentence.
    pub(crate) given_up: Option<(String, String)>,
    /// Nothing of it runs any more, and nothing will.
    pub(crate) over: bool,
}

/// A container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) state: State,
    /// How the run before this ended.
    pub(crate) last: Option<Exit>,
    pub(crate) restarts: i32,
    pub(crate) started: bool,
    pub(crate) ready: bool,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    Waiting { reason: String, message: String },
    Running { since: Timestamp },
    Ended(Exit),
}

impl View {
    /// One that was never started.
    pub(crate) fn waiting(reason: &str) -> Self {
        let state = State::Waiting { reason: reason.to_owned(), message: String::new() };
        Self { state, last: None, restarts: 0, started: false, ready: false }
    }

    /// How it ended, if it has and is not to be run again for now.
    pub(crate) fn ended(&self) -> Option<&Exit> {
        match &self.state {
            State::Ended(exit) => Some(exit),
            _ => None,
        }
    }
}
