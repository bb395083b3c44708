//! `HTTPLoadBalancer`: the rules of the Gateway API's HTTPRoute.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use portolan_model::host::HostPattern;
use portolan_model::id::{Kind, ObjectRef, PoolId};
use portolan_model::intent::{HttpLoadBalancer, Origin, Spec, TlsBinding};
use portolan_model::route::{
    Backend, Filter, HeaderMatch, QueryMatch, Redirect, Rewrite, RouteMatch, Rule, RuleTimeouts, Scheme,
    TextMatch,
};

use super::header::{edits, header_name, header_value};
use super::path::{every_path, path_match, path_rewrite};
use super::scalar::{duration, host_name, host_pattern, object_name, positive};
use super::{Convert, Cx, Flaw};
use crate::field::{At, nearest};
use crate::kinds::{
    self, FilterType, HTTPFilter, HTTPLoadBalancerSpec, HTTPMatch, HTTPRule, PathMatchType, ValueMatch,
    ValueMatchType,
};

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

impl Convert for HTTPLoadBalancerSpec {
    fn convert(&self, cx: &mut Cx<'_>) -> Option<Spec> {
        let at = At::top("spec");
        cx.origin = self.origin.as_ref().map(|origin| {
            Box::new(Origin {
                kind: cx.names.share(&origin.kind),
                namespace: cx.names.share(&origin.namespace),
                name: (*origin.name).into(),
                uid: (*origin.uid).into(),
                created: origin.creation_timestamp.as_ref().map(|time| time.0.as_second()),
            })
        });
        let hosts = shared(patterns(cx, &at.field("hosts"), &self.hosts));
        if self.rules.is_empty() {
            cx.error(&at.field("rules"), "there are no rules").expected =
                Some("one rule at least".to_owned());
        }
        let rules = self.rules.iter().enumerate();
        let rules: Vec<Rule> =
            rules.map(|(index, spec)| rule(cx, &at.field("rules").index(index), spec, &hosts)).collect();
        let mut tls = Vec::with_capacity(self.tls.len());
        for (index, binding) in self.tls.iter().enumerate() {
            let at = at.field("tls");
            let at = at.index(index);
            let hosts = patterns(cx, &at.field("hosts"), &binding.hosts);
            let name = cx.check(&at.field("secretName"), object_name(&binding.secret_name));
            tls.extend(name.map(|name| TlsBinding {
                hosts,
                secret: ObjectRef::new(Kind::Secret, Arc::clone(&cx.id.namespace), name),
            }));
        }
        let lb = HttpLoadBalancer { rules: rules.into(), tls: tls.into() };
        count_hosts(cx, &at, hosts.len(), &lb);
        Some(Spec::HttpLoadBalancer(lb))
    }
}

/// Each host of a certificate is looked for among those of the rules.
fn count_hosts(cx: &mut Cx<'_>, at: &At<'_>, inherited: usize, lb: &HttpLoadBalancer) {
    let own = lb.rules.iter().filter(|rule| !rule.inherits_hosts).map(|rule| rule.hosts.len());
    let named = inherited + own.sum::<usize>();
    // One without hosts is for all of them.
    let of_binding =
        |binding: &TlsBinding| if binding.hosts.is_empty() { named } else { binding.hosts.len() };
    let certified = lb.tls.iter().map(of_binding).sum::<usize>();
    for (field, count) in [("rules", named), ("tls", certified)] {
        if count > kinds::HOSTS_IN_ALL {
            let error = cx.error(&at.field(field), format!("{count} hosts in all"));
            error.expected = Some(format!("at most {}", kinds::HOSTS_IN_ALL));
        }
    }
}

fn rule(cx: &mut Cx<'_>, at: &At<'_>, spec: &HTTPRule, defaults: &Arc<[HostPattern]>) -> Rule {
    let inherits_hosts = spec.hosts.is_empty();
    let hosts = if inherits_hosts {
        Arc::clone(defaults)
    } else {
        shared(patterns(cx, &at.field("hosts"), &spec.hosts))
    };
    let matches: Vec<_> = spec
        .matches
        .iter()
        .enumerate()
        .map(|(index, spec)| route_match(cx, &at.field("matches").index(index), spec))
        .collect();
    let filters = filters(cx, at, spec);
    let redirects = spec.filters.iter().any(|filter| filter.kind == FilterType::RequestRedirect);
    if spec.backends.is_empty() && !redirects {
        cx.error(at, "a rule needs backends, or a RequestRedirect filter in their place");
    }
    let mut backends: Vec<Backend> = Vec::with_capacity(spec.backends.len());
    for (index, backend) in spec.backends.iter().enumerate() {
        let at = at.field("backends");
        let at = at.index(index);
        let at = at.field("pool");
        let Some(pool) = cx.check(&at, object_name(&backend.pool)) else { continue };
        if backends.iter().any(|known| *known.pool.name == *pool) {
            cx.error(&at, format!("the pool {pool:?} stands twice in this rule"));
        }
        // Applications and their pools often share a name.
        let name = if *pool == *cx.id.name { Arc::clone(&cx.id.name) } else { pool.into() };
        backends.push(Backend {
            pool: PoolId { namespace: Arc::clone(&cx.id.namespace), name },
            weight: backend.weight,
        });
    }
    Rule {
        hosts,
        inherits_hosts,
        matches: if *matches == *everything() { everything() } else { shared(matches) },
        filters: shared(filters),
        backends: shared(backends),
        timeouts: timeouts(cx, &at.field("timeouts"), spec.timeouts.as_ref()),
    }
}

/// The match on everything, alone: what most rules of small applications say.
fn everything() -> Arc<[RouteMatch]> {
    static EVERYTHING: LazyLock<Arc<[RouteMatch]>> = LazyLock::new(|| {
        Arc::from([RouteMatch {
            path: every_path(),
            method: None,
            headers: Box::new([]),
            query: Box::new([]),
        }])
    });
    Arc::clone(&EVERYTHING)
}

fn timeouts(cx: &mut Cx<'_>, at: &At<'_>, spec: Option<&kinds::RuleTimeouts>) -> Option<Box<RuleTimeouts>> {
    let spec = spec?;
    let request = spec.request.as_ref();
    let request = request.and_then(|text| cx.check(&at.field("request"), duration(text)));
    let backend_request = spec.backend_request.as_ref();
    let backend_request =
        backend_request.and_then(|text| cx.check(&at.field("backendRequest"), positive(text)));
    if let (Some(request), Some(per_try)) = (request, backend_request)
        && request != Duration::ZERO
        && per_try > request
    {
        cx.error(&at.field("backendRequest"), "is longer than the timeout of the whole request");
    }
    (request.is_some() || backend_request.is_some())
        .then(|| Box::new(RuleTimeouts { request, backend_request }))
}

/// All of them, one spelled twice too: conditions name a host by its place.
fn patterns(cx: &mut Cx<'_>, at: &At<'_>, texts: &[String]) -> Vec<HostPattern> {
    let each = texts.iter().enumerate();
    each.filter_map(|(index, text)| cx.check(&at.index(index), host_pattern(text))).collect()
}

fn route_match(cx: &mut Cx<'_>, at: &At<'_>, spec: &HTTPMatch) -> RouteMatch {
    let path = match &spec.path {
        Some(path) => path_match(cx, &at.field("path"), path),
        None => None,
    };
    let method = spec.method.as_deref().and_then(|text| cx.check(&at.field("method"), method(text)));
    let method = method.map(|method| cx.names.share(method));
    let mut headers: Vec<HeaderMatch> = Vec::with_capacity(spec.headers.len());
    for (index, header) in spec.headers.iter().enumerate() {
        let at = at.field("headers");
        let at = at.index(index);
        let name = cx.check(&at.field("name"), header_name(&header.name));
        let value = text_match(cx, &at.field("value"), header, true);
        let (Some(name), Some(value)) = (name, value) else { continue };
        if headers.iter().any(|known| known.name == name) {
            cx.error(&at.field("name"), format!("the header {name:?} stands twice in this match"));
        }
        headers.push(HeaderMatch { name, value });
    }
    let mut query: Vec<QueryMatch> = Vec::with_capacity(spec.query_params.len());
    for (index, parameter) in spec.query_params.iter().enumerate() {
        let at = at.field("queryParams");
        let at = at.index(index);
        let Some(value) = text_match(cx, &at.field("value"), parameter, false) else { continue };
        let name: Arc<str> = (*parameter.name).into();
        if name.is_empty() {
            cx.error(&at.field("name"), "a query parameter needs a name");
        }
        if query.iter().any(|known| known.name == name) {
            cx.error(&at.field("name"), format!("the parameter {name:?} stands twice in this match"));
        }
        query.push(QueryMatch { name, value });
    }
    RouteMatch { path: path.unwrap_or_else(every_path), method, headers: headers.into(), query: query.into() }
}

fn method(text: &str) -> Result<&str, Flaw> {
    let token = |b: u8| b.is_ascii_uppercase() || b == b'-' || b == b'_';
    if text.starts_with(|c: char| c.is_ascii_uppercase()) && text.len() <= 32 && text.bytes().all(token) {
        return Ok(text);
    }
    let upper = text.trim().to_ascii_uppercase();
    let meant = nearest(&upper, METHODS.into_iter()).map(str::to_owned);
    Err(Flaw::new(format!("{text:?} is not a method"), "a method in capitals, such as GET").meant(meant))
}

fn text_match(cx: &mut Cx<'_>, at: &At<'_>, spec: &ValueMatch, header: bool) -> Option<TextMatch> {
    match spec.kind {
        ValueMatchType::Exact if header => cx.check(at, header_value(&spec.value)).map(TextMatch::Exact),
        ValueMatchType::Exact => Some(TextMatch::Exact((*spec.value).into())),
        ValueMatchType::RegularExpression => {
            cx.check(at, (cx.checks.regex)(&spec.value))?;
            Some(TextMatch::Regex((*spec.value).into()))
        }
    }
}

fn filters(cx: &mut Cx<'_>, at: &At<'_>, rule: &HTTPRule) -> Vec<Filter> {
    let prefixes = rule
        .matches
        .iter()
        .all(|spec| spec.path.as_ref().is_none_or(|path| path.kind == PathMatchType::Prefix));
    let at = at.field("filters");
    let mut filters = Vec::with_capacity(rule.filters.len());
    for (index, spec) in rule.filters.iter().enumerate() {
        let at = at.index(index);
        let before = &rule.filters[..index];
        if before.iter().any(|other| other.kind == spec.kind) {
            cx.error(&at.field("type"), format!("a second filter of type {:?} in one rule", spec.kind));
        }
        let excluded = match spec.kind {
            FilterType::RequestRedirect => Some(FilterType::URLRewrite),
            FilterType::URLRewrite => Some(FilterType::RequestRedirect),
            _ => None,
        };
        if before.iter().any(|other| Some(other.kind) == excluded) {
            cx.error(&at.field("type"), "RequestRedirect and URLRewrite exclude each other in one rule");
        }
        filters.extend(filter(cx, &at, spec, prefixes));
    }
    filters
}

fn filter(cx: &mut Cx<'_>, at: &At<'_>, spec: &HTTPFilter, prefixes: bool) -> Option<Filter> {
    let fields = [
        (FilterType::RequestHeaderModifier, "requestHeaderModifier", spec.request_header_modifier.is_some()),
        (
            FilterType::ResponseHeaderModifier,
            "responseHeaderModifier",
            spec.response_header_modifier.is_some(),
        ),
        (FilterType::RequestRedirect, "requestRedirect", spec.request_redirect.is_some()),
        (FilterType::URLRewrite, "urlRewrite", spec.url_rewrite.is_some()),
    ];
    for (kind, name, set) in fields {
        if set && kind != spec.kind {
            cx.error(&at.field(name), format!("does not go with type {:?}", spec.kind)).suggestion =
                Some(format!("type: {kind:?}"));
        } else if !set && kind == spec.kind {
            cx.error(at, format!("type {kind:?} needs the field {name:?}"));
        }
    }
    match spec.kind {
        FilterType::RequestHeaderModifier => {
            let modifier = spec.request_header_modifier.as_ref()?;
            Some(Filter::RequestHeaders(edits(cx, &at.field("requestHeaderModifier"), modifier)))
        }
        FilterType::ResponseHeaderModifier => {
            let modifier = spec.response_header_modifier.as_ref()?;
            Some(Filter::ResponseHeaders(edits(cx, &at.field("responseHeaderModifier"), modifier)))
        }
        FilterType::RequestRedirect => {
            let at = at.field("requestRedirect");
            let redirect = spec.request_redirect.as_ref()?;
            if ![301, 302, 303, 307, 308].contains(&redirect.status_code) {
                cx.error(&at.field("statusCode"), format!("{} is not a redirect", redirect.status_code))
                    .expected = Some("301, 302, 303, 307 or 308".to_owned());
            }
            let host = redirect.hostname.as_deref();
            let path = redirect.path.as_ref();
            Some(Filter::Redirect(Redirect {
                scheme: redirect.scheme.map(|scheme| match scheme {
                    kinds::Scheme::Http => Scheme::Http,
                    kinds::Scheme::Https => Scheme::Https,
                }),
                host: host.and_then(|text| cx.check(&at.field("hostname"), host_name(text))),
                port: cx.optional_port(&at.field("port"), redirect.port),
                path: path.and_then(|path| path_rewrite(cx, &at.field("path"), path, prefixes)),
                status: redirect.status_code,
            }))
        }
        FilterType::URLRewrite => {
            let at = at.field("urlRewrite");
            let rewrite = spec.url_rewrite.as_ref()?;
            let host = rewrite.hostname.as_deref();
            let path = rewrite.path.as_ref();
            Some(Filter::Rewrite(Rewrite {
                host: host.and_then(|text| cx.check(&at.field("hostname"), host_name(text))),
                path: path.and_then(|path| path_rewrite(cx, &at.field("path"), path, prefixes)),
            }))
        }
    }
}

/// Slices that are often empty, and then are all one.
trait OftenEmpty: Sized + 'static {
    fn empty() -> Arc<[Self]>;
}

macro_rules! often_empty {
    ($($part:ty),*) => {$(
        impl OftenEmpty for $part {
            fn empty() -> Arc<[Self]> {
                static EMPTY: LazyLock<Arc<[$part]>> = LazyLock::new(|| Arc::from([]));
                Arc::clone(&EMPTY)
            }
        }
    )*};
}

often_empty!(HostPattern, RouteMatch, Filter, Backend);

fn shared<T: OftenEmpty>(parts: Vec<T>) -> Arc<[T]> {
    if parts.is_empty() { T::empty() } else { parts.into() }
}
