//! How is an application reached while its cluster changes its `reach`? As before, and followed as before, until it can be as the cluster says.
//!
//! | the cluster says | a pool stays | an `HTTPLoadBalancer` stays |
//! | --- | --- | --- |
//! | `NodePort` | in its slices, until the nodes are there and its node port is known | at the gateway, until a pool serves |
//! | `PodIP` | on the nodes, until one of its slices is there | at the gateway, until a pool serves |
//! | `Gateway` | as it is, while it is named | at its `Service`s, until the gateway's pool is there |

use portolan_api::kinds::Reach;

use super::Keeper;
use crate::names;
use crate::objects::{Endpoints, Id, Kind};
use crate::translate::{self, Outcome, PoolSource, Translation, Ways, pool};
use crate::view::{Ingress, Key, Settings};

impl Keeper {
    /// What an `Ingress` comes to now, and whether it is on its way to or from the gateway: then with what is needed before and after.
    pub(super) fn translated(
        &self,
        settings: &Settings,
        key: &Key,
        ingress: &Ingress,
    ) -> (Translation, bool) {
        let stands = |source: &PoolSource| self.stands(source);
        let by = |gateway| {
            let ways = Ways { gateway, stands: &stands };
            translate::ingress(&self.view, settings, ways, &self.cluster, key, ingress)
        };
        let to_gateway = settings.reach == Reach::Gateway;
        let mut wanted = by(to_gateway);
        let leads = self.found.leads_to_gateway(&names::load_balancer(&key.namespace, &key.name));
        if wanted.object == Outcome::Foreign || leads.is_none_or(|leads| leads == to_gateway) {
            return (wanted, false);
        }
        let before = by(!to_gateway);
        let without_pods = |source: &PoolSource| {
            self.stands(source).is_some() && pool::slices(&self.view, source).is_empty()
        };
        let ready =
            wanted.pools.iter().any(|source| self.serves(source)) || wanted.pools.iter().all(without_pods);
        if wanted.object == Outcome::Held || !ready {
            wanted.object = before.object;
            wanted.refusals.extend(before.refusals);
        }
        // One of them has the gateway's pool alone, the other whatever else there is.
        wanted.pools.extend(before.pools);
        wanted.companions.extend(before.companions);
        (wanted, true)
    }

    /// How a pool is reached now, or is to be.
    pub(super) fn reach_of(&self, settings: &Settings, source: &PoolSource) -> Reach {
        let by_nodes = || pool::spec(&self.view, settings, Reach::NodePort, &self.cluster, source).is_some();
        let has_pods = || !pool::slices(&self.view, source).is_empty();
        match (settings.reach, self.stands(source)) {
            (Reach::PodIP, Some(Endpoints::Nodes))
                if by_nodes() && has_pods() && !self.has_slices(source) =>
            {
                Reach::NodePort
            }
            (Reach::NodePort, Some(Endpoints::Slices)) if !by_nodes() || !self.has_nodes() => Reach::PodIP,
            (Reach::Gateway, Some(Endpoints::Slices)) | (Reach::PodIP, _) => Reach::PodIP,
            (Reach::NodePort | Reach::Gateway, _) => Reach::NodePort,
        }
    }

    /// Where the endpoints of a pool stand that is there.
    pub(super) fn stands(&self, source: &PoolSource) -> Option<Endpoints> {
        self.found.get(&Id::new(Kind::Pool, source.name()))?.endpoints
    }

    /// Whether a pool is there with something that holds its endpoints.
    fn serves(&self, source: &PoolSource) -> bool {
        match self.stands(source) {
            Some(Endpoints::Slices) => self.has_slices(source),
            Some(Endpoints::Nodes) => self.has_nodes(),
            Some(Endpoints::Pool) => true,
            None => false,
        }
    }

    fn has_nodes(&self) -> bool {
        self.found.get(&Id::new(Kind::NodeSet, names::NODE_SET)).is_some()
    }

    /// Whether any copy of its slices is there.
    fn has_slices(&self, source: &PoolSource) -> bool {
        let mut copies = pool::slices(&self.view, source).into_iter();
        copies.any(|(_, name, _)| self.found.get(&Id::new(Kind::Slice, name)).is_some())
    }
}
