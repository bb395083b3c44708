//! `TrafficPolicy`, and the default policy of a `Proxy`.

use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::Spec;
use portolan_model::policy::{Hsts, HttpsRedirect, PolicySpec, TrafficPolicy};
use std::sync::Arc;

use super::scalar::{byte_size, duration, object_name, positive};
use super::{Convert, Cx};
use crate::field::At;
use crate::kinds::{PolicySettings, TargetKind, TrafficPolicySpec};

impl Convert for TrafficPolicySpec {
    fn convert(&self, cx: &mut Cx<'_>) -> Option<Spec> {
        let at = At::top("spec");
        if self.target_refs.is_empty() {
            cx.error(&at.field("targetRefs"), "a policy without targets does nothing");
        }
        let mut targets = Vec::with_capacity(self.target_refs.len());
        for (index, target) in self.target_refs.iter().enumerate() {
            let at = at.field("targetRefs");
            let at = at.index(index);
            let Some(name) = cx.check(&at.field("name"), object_name(&target.name)) else { continue };
            let target = match target.kind {
                TargetKind::HTTPLoadBalancer => {
                    ObjectRef::new(Kind::HttpLoadBalancer, Arc::clone(&cx.id.namespace), name)
                }
                TargetKind::Cluster => ObjectRef::cluster_scoped(Kind::Cluster, name),
            };
            if targets.contains(&target) {
                cx.error(&at, format!("the target {target} stands twice"));
            }
            targets.push(target);
        }
        let settings = PolicySettings {
            timeouts: self.timeouts.clone(),
            max_request_body: self.max_request_body.clone(),
            https_redirect: self.https_redirect.clone(),
            hsts: self.hsts.clone(),
        };
        let spec = policy(cx, &at, &settings);
        Some(Spec::TrafficPolicy(Box::new(TrafficPolicy { targets, spec })))
    }
}

/// What a policy sets.
pub(crate) fn policy(cx: &mut Cx<'_>, at: &At<'_>, settings: &PolicySettings) -> PolicySpec {
    let mut spec = PolicySpec::default();
    if let Some(timeouts) = &settings.timeouts {
        let at = at.field("timeouts");
        for (name, text, limit) in [
            ("connect", &timeouts.connect, &mut spec.connect),
            ("perTry", &timeouts.per_try, &mut spec.per_try),
            ("idle", &timeouts.idle, &mut spec.idle),
        ] {
            *limit = text.as_ref().and_then(|text| cx.check(&at.field(name), positive(text)));
        }
        let request = timeouts.request.as_ref();
        spec.request = request.and_then(|text| cx.check(&at.field("request"), duration(text)));
    }
    let size = settings.max_request_body.as_ref();
    spec.max_request_body = size.and_then(|text| cx.check(&at.field("maxRequestBody"), byte_size(text)));
    if let Some(redirect) = &settings.https_redirect {
        let at = at.field("httpsRedirect");
        let status = redirect.status_code;
        if ![301, 302, 307, 308].contains(&status) {
            cx.error(&at.field("statusCode"), format!("{status} is not a redirect to the same URL"))
                .expected = Some("301, 302, 307 or 308".to_owned());
        }
        let port = cx.optional_port(&at.field("port"), redirect.port);
        spec.https_redirect =
            Some(if redirect.enabled { HttpsRedirect::On { status, port } } else { HttpsRedirect::Off });
    }
    if let Some(hsts) = &settings.hsts {
        let at = at.field("hsts");
        let max_age = cx.check(&at.field("maxAge"), duration(&hsts.max_age));
        spec.hsts = max_age.map(|max_age| Hsts {
            max_age,
            include_subdomains: hsts.include_subdomains,
            preload: hsts.preload,
        });
    }
    spec
}
