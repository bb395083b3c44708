//! How is the controller doing? Numbers for `/metrics`, kept while it runs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use portolan_metrics::Controlled;

/// Counted by the controller, read by whoever shows it.
#[derive(Debug, Default)]
pub struct Figures(Mutex<Controlled>);

/// How many agents are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Agents {
    /// They show signs of life.
    pub(crate) alive: usize,
    /// They do not.
    pub(crate) silent: usize,
    /// Of those alive, who say that writes of theirs are refused.
    pub(crate) refused: usize,
}

impl Figures {
    /// The numbers now.
    pub fn read(&self) -> Controlled {
        *self.lock()
    }

    pub(crate) fn set_leads(&self, leads: bool) {
        self.lock().leads = leads;
    }

    pub(crate) fn wrote(&self, succeeded: bool) {
        let mut now = self.lock();
        *(if succeeded { &mut now.written } else { &mut now.write_failures }) += 1;
    }

    pub(crate) fn provisioned(&self, succeeded: bool) {
        let mut now = self.lock();
        *(if succeeded { &mut now.provisioned } else { &mut now.provision_failures }) += 1;
    }

    pub(crate) fn set_alive(&self, replicas: usize, agents: Agents) {
        let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let mut now = self.lock();
        now.replicas = number(replicas);
        let Agents { alive, silent, refused } = agents;
        (now.agents, now.silent, now.refused) = (number(alive), number(silent), number(refused));
    }

    fn lock(&self) -> MutexGuard<'_, Controlled> {
        // Numbers are never half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
