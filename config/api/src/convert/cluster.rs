//! `Cluster`.

use ipnet::IpNet;
use portolan_model::id::{CLUSTER_NAME_AT_MOST, Kind, ObjectRef, tenant_namespace};
use portolan_model::intent::{AllowedDomain, Cluster, Limits, Sharing, Spec};
use portolan_model::locality::Locality;

use super::scalar::{cidr, host_name, label, object_name};
use super::{Convert, Cx};
use crate::field::At;
use crate::kinds::{self, ClusterSpec, SecretRef};

impl Convert for ClusterSpec {
    fn convert(&self, cx: &mut Cx<'_>) -> Option<Spec> {
        let at = At::top("metadata");
        cx.check(&at.field("name"), label(&cx.id.name));
        if cx.id.name.len() > CLUSTER_NAME_AT_MOST {
            cx.error(&at.field("name"), "the name is too long for the namespace that is made of it")
                .expected = Some(format!("at most {CLUSTER_NAME_AT_MOST} characters"));
        }
        let at = At::top("spec");
        let mut allowed_domains = Vec::with_capacity(self.allowed_domains.len());
        for (index, domain) in self.allowed_domains.iter().enumerate() {
            let at = at.field("allowedDomains");
            let at = at.index(index);
            let at = at.field("suffix");
            let suffix = if domain.suffix == "*" {
                None
            } else {
                let Some(suffix) = cx.check(&at, host_name(&domain.suffix)) else { continue };
                Some(suffix)
            };
            if allowed_domains.iter().any(|known: &AllowedDomain| known.suffix == suffix) {
                cx.error(&at, format!("the domain {:?} stands twice", domain.suffix));
            }
            let sharing = match domain.sharing {
                kinds::Sharing::Exclusive => Sharing::Exclusive,
                kinds::Sharing::Shared => Sharing::Shared,
            };
            allowed_domains.push(AllowedDomain { suffix, sharing });
        }
        let limits = self.limits.clone().unwrap_or_default();
        let ranges = self.allowed_endpoint_cidrs.as_ref();
        let allowed_endpoints =
            ranges.map(|texts| cidrs(cx, &at.field("allowedEndpointCIDRs"), texts).into());
        let certificate = self.certificate_ref.as_ref();
        let certificate = certificate.and_then(|reference| {
            secret_ref(cx, &at.field("certificateRef"), reference, &tenant_namespace(&cx.id.name))
        });
        Some(Spec::Cluster(Box::new(Cluster {
            locality: locality(cx, self.locality.as_ref()),
            weight: self.weight,
            drain: self.drain,
            allowed_domains,
            allowed_endpoints,
            certificate,
            integrated: self.integrated,
            limits: Limits {
                load_balancers: limits.load_balancers,
                routes: limits.routes,
                hosts: limits.hosts,
                endpoints: limits.endpoints,
            },
        })))
    }
}

/// Where something is; nobody said where without.
pub(crate) fn locality(cx: &mut Cx<'_>, said: Option<&kinds::Locality>) -> Locality {
    let mut share = |name: &Option<String>| name.as_deref().map(|name| cx.names.share(name));
    said.map(|said| Locality { region: share(&said.region), zone: share(&said.zone) }).unwrap_or_default()
}

/// Ranges of addresses; errors are noted.
pub(crate) fn cidrs(cx: &mut Cx<'_>, at: &At<'_>, texts: &[String]) -> Vec<IpNet> {
    let texts = texts.iter().enumerate();
    texts.filter_map(|(index, text)| cx.check(&at.index(index), cidr(text))).collect()
}

/// A `Secret`, in `namespace` unless it names another.
pub(crate) fn secret_ref(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    reference: &SecretRef,
    namespace: &str,
) -> Option<ObjectRef> {
    let name = cx.check(&at.field("name"), object_name(&reference.name));
    let namespace = match &reference.namespace {
        Some(namespace) => cx.check(&at.field("namespace"), label(namespace)),
        None => Some(namespace),
    };
    let namespace = cx.names.share(namespace?);
    Some(ObjectRef::new(Kind::Secret, namespace, name?))
}
