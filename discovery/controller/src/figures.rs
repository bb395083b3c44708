//! How is the controller doing? Numbers for `/metrics`, kept while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use portolan_metrics::Controlled;

/// Counted by the controller, read by whoever shows it.
#[derive(Debug, Default)]
pub struct Figures {
    leads: AtomicBool,
    written: AtomicU64,
    write_failures: AtomicU64,
    provisioned: AtomicU64,
    provision_failures: AtomicU64,
    replicas: AtomicU64,
    agents: AtomicU64,
    silent: AtomicU64,
}

impl Figures {
    /// The numbers now.
    pub fn read(&self) -> Controlled {
        let number = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        Controlled {
            leads: self.leads.load(Ordering::Relaxed),
            written: number(&self.written),
            write_failures: number(&self.write_failures),
            provisioned: number(&self.provisioned),
            provision_failures: number(&self.provision_failures),
            replicas: number(&self.replicas),
            agents: number(&self.agents),
            silent: number(&self.silent),
        }
    }

    pub(crate) fn set_leads(&self, leads: bool) {
        self.leads.store(leads, Ordering::Relaxed);
    }

    pub(crate) fn wrote(&self, succeeded: bool) {
        let figure = if succeeded { &self.written } else { &self.write_failures };
        figure.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn provisioned(&self, succeeded: bool) {
        let figure = if succeeded { &self.provisioned } else { &self.provision_failures };
        figure.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_alive(&self, replicas: usize, (agents, silent): (usize, usize)) {
        for (figure, number) in [(&self.replicas, replicas), (&self.agents, agents), (&self.silent, silent)] {
            figure.store(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}
