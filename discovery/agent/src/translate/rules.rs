//! The rules of an `Ingress`, in the words of an `HTTPLoadBalancer`.
//!
//! Both find the most specific path first, so that the order of rules decides nothing, save that of two equal paths the first counts. What the LB
//! cluster would not take is found with the very conversion that it uses, and left out by itself. Rules for the same pool are folded, since an
//! `HTTPLoadBalancer` has few rules with many matches. Cost: linear in the paths, plus that conversion.

use std::collections::{BTreeSet, HashMap, HashSet};

use portolan_api::kinds::{
    Backend, FilterType, HOSTS_IN_ALL, HTTPFilter, HTTPLoadBalancer, HTTPLoadBalancerSpec, HTTPMatch,
    HTTPRule, PathMatch, PathMatchType, TLSBinding, URLRewrite,
};
use portolan_api::{Checks, FieldError, Names, Step, from_api};

use super::backend::Resolver;
use super::{Refusal, place};
use crate::view::{self, Ingress, PathKind};

/// How many rules, matches of a rule, hosts of a rule and certificates the API takes.
const RULES: usize = 1024;
const MATCHES: usize = 64;
const HOSTS: usize = 64;
const CERTIFICATES: usize = 1024;

/// One path, not folded yet.
pub(crate) struct Entry {
    /// Where it stands.
    place: String,
    host: Option<String>,
    path: PathMatch,
    pool: String,
    /// Whether the host is sent upstream in place of the one that was asked for.
    rewrite: bool,
}

/// The paths of an `Ingress`, the default backend included; of equal ones the first.
pub(crate) fn of(resolver: &mut Resolver<'_>, ingress: &Ingress) -> Vec<Entry> {
    let gateway = resolver.behind_gateway();
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    for (number, rule) in ingress.rules.iter().enumerate() {
        let host = rule.host.as_deref();
        for (at, path) in rule.paths.iter().enumerate() {
            let place = format!("spec.rules[{number}].http.paths[{at}]");
            let mut refuse = |reason, message| {
                resolver.refusals.push(Refusal::new(reason, message).at(format!("{place}.path")));
            };
            let exact = path.kind == PathKind::Exact;
            if !seen.insert((host, exact, plain(path))) {
                refuse(
                    "DuplicatePath",
                    format!(
                        "the path {:?} stands twice for host {}; the first counts",
                        path.path,
                        host.unwrap_or("*")
                    ),
                );
                continue;
            }
            if path.kind == PathKind::ImplementationSpecific && is_expression(&path.path) {
                refuse(
                    "PathExpression",
                    format!(
                        "{:?} looks like a regular expression; here ImplementationSpecific is a prefix, taken as it stands",
                        path.path
                    ),
                );
            }
            let pool = resolver.pool(format!("{place}.backend"), &path.backend);
            let kind = if exact { PathMatchType::Exact } else { PathMatchType::Prefix };
            let path = PathMatch { kind, value: path.path.to_string() };
            entries.push(entry(place, host, path, pool, gateway));
        }
        if rule.paths.is_empty() && ingress.default_backend.is_none() {
            let message = format!(
                "the rule for host {} has no paths, and there is no default backend",
                host.unwrap_or("*")
            );
            resolver.refusals.push(Refusal::new("NoBackend", message).at(format!("spec.rules[{number}]")));
        }
    }
    if let Some(default) = &ingress.default_backend {
        let place = "spec.defaultBackend";
        let pool = resolver.pool(place, default);
        // It takes what no path takes, on every host of the Ingress; the generated name serves all that anyway.
        let hosts: BTreeSet<Option<&str>> = ingress.rules.iter().map(|rule| rule.host.as_deref()).collect();
        let hosts = if hosts.is_empty() { BTreeSet::from([None]) } else { hosts };
        for host in hosts {
            if seen.insert((host, false, "")) {
                let path = PathMatch { kind: PathMatchType::Prefix, value: "/".to_owned() };
                entries.push(entry(place.to_owned(), host, path, pool.clone(), gateway));
            }
        }
    }
    entries
}

fn entry(place: String, host: Option<&str>, path: PathMatch, pool: String, gateway: bool) -> Entry {
    // A gateway in between knows the hosts of the Ingress, not the generated name. A wildcard is no host to send.
    let rewrite = gateway && host.is_some_and(|host| !host.starts_with('*'));
    Entry { place, host: host.map(str::to_owned), path, pool, rewrite }
}

/// Whether a path has what only expressions have, as they are written for other controllers. A dot, a tilde or a plus is in many plain paths.
fn is_expression(path: &str) -> bool {
    path.contains(['(', ')', '[', ']', '{', '}', '^', '$', '|', '*', '\\', '?'])
}

/// A prefix means the same with a slash at its end.
fn plain(path: &view::Path) -> &str {
    if path.kind == PathKind::Exact { &path.path } else { path.path.trim_end_matches('/') }
}

/// The object with these rules, without what is invalid; nothing if no rule is left, or there are too many.
pub(crate) fn fit(
    mut spec: HTTPLoadBalancerSpec,
    ingress: &Ingress,
    entries: Vec<Entry>,
    refusals: &mut Vec<Refusal>,
) -> Option<HTTPLoadBalancerSpec> {
    spec.rules = entries.iter().map(unfolded).collect();
    let wrong = errors(&mut spec, ingress, &entries, refusals);
    let entries: Vec<Entry> = entries
        .into_iter()
        .enumerate()
        .filter(|(at, _)| !wrong.contains(at))
        .map(|(_, entry)| entry)
        .collect();
    spec.rules = folded(entries);
    if let Some(counted) = too_large(&spec) {
        refusals.push(Refusal::new("TooLarge", format!("{counted} are taken at most; split it")));
        return None;
    }
    if spec.rules.is_empty() {
        refusals.push(Refusal::new("NothingServed", "no rule of it can be served"));
        return None;
    }
    Some(spec)
}

/// What there is too much of, and the most that is taken.
fn too_large(spec: &HTTPLoadBalancerSpec) -> Option<String> {
    let hosts = spec.rules.iter().map(|rule| rule.hosts.len()).sum();
    let of_binding =
        |binding: &TLSBinding| if binding.hosts.is_empty() { hosts } else { binding.hosts.len() };
    let certified = spec.tls.iter().map(of_binding).sum();
    let counts = [
        (spec.rules.len(), RULES, "rules"),
        (spec.tls.len(), CERTIFICATES, "certificates"),
        (hosts, HOSTS_IN_ALL, "hosts"),
        (certified, HOSTS_IN_ALL, "hosts of certificates"),
    ];
    let (count, most, what) = counts.into_iter().find(|(count, most, _)| count > most)?;
    Some(format!("it comes to {count} {what}, and {most}"))
}

fn unfolded(entry: &Entry) -> HTTPRule {
    rule(entry.host.iter().cloned().collect(), vec![entry.path.clone()], &entry.pool, entry.rewrite)
}

fn rule(hosts: Vec<String>, paths: Vec<PathMatch>, pool: &str, rewrite: bool) -> HTTPRule {
    let filters = match hosts.first().filter(|_| rewrite) {
        Some(host) => vec![HTTPFilter {
            kind: FilterType::URLRewrite,
            request_header_modifier: None,
            response_header_modifier: None,
            request_redirect: None,
            url_rewrite: Some(URLRewrite { hostname: Some(host.clone()), path: None }),
        }],
        None => Vec::new(),
    };
    HTTPRule {
        hosts,
        matches: paths
            .into_iter()
            .map(|path| HTTPMatch { path: Some(path), ..HTTPMatch::default() })
            .collect(),
        filters,
        backends: vec![Backend { pool: pool.to_owned(), weight: 1 }],
        timeouts: None,
    }
}

/// The rules that the LB cluster would not take, after the hosts of certificates that it would not take are gone.
fn errors(
    spec: &mut HTTPLoadBalancerSpec,
    ingress: &Ingress,
    entries: &[Entry],
    refusals: &mut Vec<Refusal>,
) -> HashSet<usize> {
    let mut wrong = HashSet::new();
    let mut object = HTTPLoadBalancer::new("ingress", std::mem::take(spec));
    object.metadata.namespace = Some("tenant".to_owned());
    let found = from_api(&object, &CHECKS, &mut Names::default());
    *spec = object.spec;
    let mut hosts = HashSet::new();
    for error in found.err().into_iter().flatten() {
        let (reason, place) = match *error.path.0.as_slice() {
            [_, Step::Field(ref field), Step::Index(rule), ref rest @ ..] if field == "rules" => {
                if !wrong.insert(rule) {
                    continue;
                }
                let of_host = matches!(rest, [Step::Field(field), ..] if field == "hosts");
                let entry = entries.get(rule);
                let host = entry.and_then(|entry| entry.host.as_deref()).filter(|_| of_host);
                let place = match host {
                    Some(host) => place::of_host(ingress, host),
                    None => entry.map(|entry| entry.place.clone()).unwrap_or_default(),
                };
                ("InvalidRule", place)
            }
            [_, Step::Field(ref field), Step::Index(at), _, Step::Index(host), ..] if field == "tls" => {
                if !hosts.insert((at, host)) {
                    continue;
                }
                let host = spec.tls.get(at).and_then(|binding| binding.hosts.get(host));
                ("InvalidHost", host.map(|host| place::of_host(ingress, host)).unwrap_or_default())
            }
            // That there are no rules is told by the caller.
            _ => continue,
        };
        refusals.push(Refusal::new(reason, explain(&error)).at(place));
    }
    let mut at = 0;
    spec.tls.retain_mut(|binding: &mut TLSBinding| {
        let meant_all = binding.hosts.is_empty();
        let mut host = 0;
        binding.hosts.retain(|_| {
            let keep = !hosts.contains(&(at, host));
            host += 1;
            keep
        });
        at += 1;
        meant_all || !binding.hosts.is_empty()
    });
    wrong
}

fn explain(error: &FieldError) -> String {
    let expected = error.expected.as_ref().map(|expected| format!("; expected {expected}"));
    let meant = error.suggestion.as_ref().map(|meant| format!("; did you mean {meant:?}?"));
    format!("{}{}{}", error.message, expected.unwrap_or_default(), meant.unwrap_or_default())
}

/// An `Ingress` has no expressions, and certificates are not looked into here.
const CHECKS: Checks = Checks {
    regex: |_| Ok(()),
    certificate: |_, _| Err(String::new()),
    ca_bundle: |_| Ok(()),
    cipher_suite: |_| Ok(()),
};

/// First the paths of one host and pool in one rule, then the hosts with equal paths and pool.
fn folded(entries: Vec<Entry>) -> Vec<HTTPRule> {
    let mut places: HashMap<(Option<String>, String), usize> = HashMap::new();
    let mut by_host: Vec<(Option<String>, Vec<PathMatch>, String, bool)> = Vec::new();
    for Entry { host, path, pool, rewrite, .. } in entries {
        let place = places.entry((host.clone(), pool.clone())).or_insert(usize::MAX);
        match by_host.get_mut(*place) {
            Some((_, paths, _, _)) if paths.len() < MATCHES => paths.push(path),
            _ => {
                *place = by_host.len();
                by_host.push((host, vec![path], pool, rewrite));
            }
        }
    }
    let mut rules: Vec<(Vec<String>, Vec<PathMatch>, String, bool)> = Vec::new();
    // The last of those with a pool and paths.
    let mut alike: HashMap<String, usize> = HashMap::new();
    for (host, paths, pool, rewrite) in by_host {
        let place = match &host {
            Some(_) if !rewrite => Some(alike.entry(format!("{pool} {paths:?}")).or_insert(usize::MAX)),
            _ => None,
        };
        match (place.as_deref().and_then(|place| rules.get_mut(*place)), host) {
            (Some((hosts, ..)), Some(host)) if hosts.len() < HOSTS => hosts.push(host),
            (_, host) => {
                if let Some(place) = place {
                    *place = rules.len();
                }
                rules.push((host.into_iter().collect(), paths, pool, rewrite));
            }
        }
    }
    rules.into_iter().map(|(hosts, paths, pool, rewrite)| rule(hosts, paths, &pool, rewrite)).collect()
}
