use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, ServiceSpec, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

#[test]
fn addresses_of_a_service_are_those_of_its_load_balancers() {
    let ingress = |ip: Option<&str>, hostname: Option<&str>| LoadBalancerIngress {
        ip: ip.map(str::to_owned),
        hostname: hostname.map(str::to_owned),
        ..LoadBalancerIngress::default()
    };
    for (given, external, expected) in [
        (vec![], vec![], vec![]),
        (vec![ingress(Some("203.0.113.9"), None)], vec![], vec!["203.0.113.9"]),
        (vec![ingress(None, Some("a.elb.example.net"))], vec![], vec!["a.elb.example.net"]),
        (
            vec![ingress(Some("203.0.113.9"), Some("x")), ingress(Some("2001:db8::1"), None)],
            vec!["192.0.2.1", "203.0.113.9"],
            vec!["192.0.2.1", "2001:db8::1", "203.0.113.9"],
        ),
    ] {
        let service = Service {
            spec: Some(ServiceSpec {
                external_ips: Some(external.into_iter().map(str::to_owned).collect()),
                ..ServiceSpec::default()
            }),
            status: Some(ServiceStatus {
                load_balancer: Some(LoadBalancerStatus { ingress: Some(given) }),
                ..ServiceStatus::default()
            }),
            ..Service::default()
        };
        assert_eq!(addresses(&service), expected);
    }
}

#[test]
fn an_agents_lease_is_that_of_its_namespace() {
    for (namespace, expected) in [("tenant-paris", Some("paris")), ("default", None)] {
        let metadata = ObjectMeta { namespace: Some(namespace.into()), ..ObjectMeta::default() };
        let lease = Lease { metadata, ..Lease::default() };
        assert_eq!(cluster(&lease).as_deref(), expected);
    }
}
