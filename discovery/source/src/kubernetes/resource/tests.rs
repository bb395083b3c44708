use super::*;

#[test]
fn requests_are_spelled_as_the_api_has_them() {
    for (kind, namespace, expected_path, expected_selector) in [
        (Kind::Proxy, None, "/apis/portolan.dev/v1alpha1/proxies", ""),
        (Kind::Cluster, None, "/apis/portolan.dev/v1alpha1/clusters", ""),
        (Kind::HttpLoadBalancer, None, "/apis/portolan.dev/v1alpha1/httploadbalancers", ""),
        (Kind::UpstreamPool, None, "/apis/portolan.dev/v1alpha1/upstreampools", ""),
        (Kind::NodeSet, None, "/apis/portolan.dev/v1alpha1/nodesets", ""),
        (Kind::TrafficPolicy, None, "/apis/portolan.dev/v1alpha1/trafficpolicies", ""),
        (
            Kind::EndpointSlice,
            None,
            "/apis/discovery.k8s.io/v1/endpointslices",
            "labelSelector=portolan.dev%2Fpool",
        ),
        (
            Kind::Secret,
            Some("tenant-paris"),
            "/api/v1/namespaces/tenant-paris/secrets",
            "fieldSelector=type%3Dkubernetes.io%2Ftls",
        ),
        (Kind::ConfigMap, Some("tenant-paris"), "/api/v1/namespaces/tenant-paris/configmaps", ""),
    ] {
        assert_eq!((&*path(kind, namespace), &*selector(kind)), (expected_path, expected_selector));
    }
}
