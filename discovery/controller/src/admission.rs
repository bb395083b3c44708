//! What is refused of what tenants write, before it is stored: one `ValidatingAdmissionPolicy` for all, with the writer's `Cluster` as
//! its parameter.
//!
//! Endpoints lie within `spec.allowedEndpointCIDRs`, whoever writes them; without it, anywhere but at loopback, link-local, multicast and
//! unspecified addresses; and not in `reservedCIDRs` of the `Proxy`, unless the `Cluster` is `integrated`. Of the agent itself also: `Secret`s
//! are certificates (one of another type would be made a token that never ends), `EndpointSlice`s belong to a pool, and
//! nothing has a finalizer, which would hold the namespace up when the cluster leaves.
//!
//! The compiler holds the addresses again: this tells whoever writes, that keeps what was written before a range changed.
//! Cost: some 50 µs of the API server for each address that is written, and a bound on each write: seen to pass are 2,048 endpoints or
//! 1,000 nodes against 64 ranges, and 5,000 nodes against 16; what is beyond is refused with the words "cost limit exceeded".

use ipnet::IpNet;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ParamKind, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicySpec, Validation, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portolan_api::contract::{CONTROLLER, MANAGED_BY_LABEL, POOL_LABEL};

/// The name of the policy.
pub const POLICY: &str = "portolan-tenants";

/// The policy, in an LB cluster that has `reserved` for itself.
pub fn policy(reserved: &[IpNet]) -> ValidatingAdmissionPolicy {
    ValidatingAdmissionPolicy {
        metadata: ObjectMeta {
            name: Some(POLICY.into()),
            labels: Some([(MANAGED_BY_LABEL.to_owned(), CONTROLLER.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(ValidatingAdmissionPolicySpec {
            failure_policy: Some("Fail".into()),
            param_kind: Some(ParamKind {
                api_version: Some("portolan.dev/v1alpha1".into()),
                kind: Some("Cluster".into()),
            }),
            match_constraints: Some(MatchResources {
                resource_rules: Some(vec![
                    written("portolan.dev", "v1alpha1", &["httploadbalancers", "upstreampools", "nodesets"]),
                    written("discovery.k8s.io", "v1", &["endpointslices"]),
                    written("", "v1", &["secrets"]),
                ]),
                ..MatchResources::default()
            }),
            match_conditions: Some(vec![MatchCondition {
                name: "not-on-its-way-out".into(),
                // The garbage collector must be able to take its finalizer off what would be refused by now.
                expression: format!("!has(object.metadata.deletionTimestamp) || ({BY_TENANT})"),
            }]),
            variables: Some(variables(reserved)),
            validations: Some(validations()),
            ..ValidatingAdmissionPolicySpec::default()
        }),
        ..ValidatingAdmissionPolicy::default()
    }
}

/// Whether an account of the tenant writes. Accounts of a namespace are in its group, which nobody can claim.
const BY_TENANT: &str = "('system:serviceaccounts:' + request.namespace) in request.userInfo.groups";

/// Whether the address `a` may be an endpoint's.
const ALLOWED: &str = "isIP(a) \
    && (variables.restricted ? variables.ranges.exists(r, r.containsIP(a)) : ip(a).isGlobalUnicast()) \
    && (variables.integrated || !variables.reserved.exists(r, r.containsIP(a)))";

fn written(group: &str, version: &str, resources: &[&str]) -> NamedRuleWithOperations {
    NamedRuleWithOperations {
        api_groups: Some(vec![group.to_owned()]),
        api_versions: Some(vec![version.to_owned()]),
        resources: Some(resources.iter().map(|&resource| resource.to_owned()).collect()),
        operations: Some(vec!["CREATE".into(), "UPDATE".into()]),
        scope: Some("Namespaced".into()),
        ..NamedRuleWithOperations::default()
    }
}

fn variables(reserved: &[IpNet]) -> Vec<Variable> {
    let reserved: Vec<_> = reserved.iter().map(|range| format!("cidr('{}')", range.trunc())).collect();
    let cidrs = "params.spec.allowedEndpointCIDRs";
    [
        // Of no one type: the fields of one kind are not those of another.
        ("self", "dyn(object)".to_owned()),
        ("kind", "request.kind.kind".to_owned()),
        ("byTenant", BY_TENANT.to_owned()),
        ("restricted", format!("has({cidrs})")),
        ("ranges", format!("has({cidrs}) ? {cidrs}.filter(c, isCIDR(c)).map(c, cidr(c)) : []")),
        ("integrated", "has(params.spec.integrated) && params.spec.integrated".to_owned()),
        ("reserved", format!("[{}]", reserved.join(", "))),
        (
            "refusedEndpoints",
            format!(
                "variables.kind == 'UpstreamPool' && has(variables.self.spec.endpoints) \
                 ? variables.self.spec.endpoints.map(e, e.address).filter(a, {}) : []",
                // What is no address is a name, which the proxy resolves and judges; but nothing that only looks like one.
                format_args!("isIP(a) || a.matches('^[0-9.]*$') || a.contains(':') ? !({ALLOWED}) : false"),
            ),
        ),
        (
            "refusedNodes",
            format!(
                "variables.kind == 'NodeSet' && has(variables.self.spec.nodes) \
                 ? variables.self.spec.nodes.filter(n, !n.addresses.all(a, {ALLOWED})).map(n, n.name) : []"
            ),
        ),
        (
            "refusedSlices",
            format!(
                "variables.kind == 'EndpointSlice' && has(variables.self.endpoints) \
                 && variables.self.endpoints != null \
                 ? variables.self.endpoints.filter(e, !e.addresses.all(a, {ALLOWED})).map(e, e.addresses[0]) : []"
            ),
        ),
    ]
    .map(|(name, expression)| Variable { name: name.to_owned(), expression })
    .into()
}

fn validations() -> Vec<Validation> {
    let outside =
        "' lies outside of the addresses that endpoints of Cluster ' + params.metadata.name + ' may have'";
    let refused = |variable: &str, what: &str| Validation {
        expression: format!("size(variables.{variable}) == 0"),
        message_expression: Some(format!("'{what} ' + string(variables.{variable}[0]) + {outside}")),
        reason: Some("Forbidden".into()),
        message: Some(format!("an address ({what}) lies outside of those that the cluster may have")),
    };
    let of_tenant = |allowed: &str, message: String| Validation {
        expression: format!("!variables.byTenant || {allowed}"),
        message: Some(message),
        reason: Some("Forbidden".into()),
        message_expression: None,
    };
    vec![
        refused("refusedEndpoints", "endpoint"),
        refused("refusedNodes", "node"),
        refused("refusedSlices", "endpoint"),
        of_tenant(
            "variables.kind != 'Secret' || variables.self.type == 'kubernetes.io/tls'",
            "an agent may write Secrets of type kubernetes.io/tls only".to_owned(),
        ),
        of_tenant(
            &format!(
                "variables.kind != 'EndpointSlice' || (has(variables.self.metadata.labels) \
                 && '{POOL_LABEL}' in variables.self.metadata.labels)"
            ),
            format!("an agent may write EndpointSlices with the label {POOL_LABEL} only"),
        ),
        of_tenant(
            "!has(variables.self.metadata.finalizers) || size(variables.self.metadata.finalizers) == 0",
            "an agent may set no finalizers".to_owned(),
        ),
    ]
}

#[cfg(test)]
mod tests;
