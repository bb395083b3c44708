//! How is the controller doing? Numbers for `/metrics`, kept while it runs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use portolan_metrics::Controlled;

/// Counted by the controller, read by whoever shows it.
#[derive(Debug, Default)]
pub struct Figures(Mutex<Controlled>);

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

    pub(crate) fn set_alive(&self, replicas: usize, (agents, silent): (usize, usize)) {
        let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let mut now = self.lock();
        (now.replicas, now.agents, now.silent) = (number(replicas), number(agents), number(silent));
    }

    fn lock(&self) -> MutexGuard<'_, Controlled> {
        // Numbers are never half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
