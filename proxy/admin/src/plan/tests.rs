use portolan_model::condition::{ConditionType, Reason};
use portolan_model::host::HostName;
use portolan_model::intent::{CertificateFacts, KeyAlgorithm};
use portolan_model::locality::Locality;
use portolan_model::policy::Policy;
use portolan_model::pool::{Balancing, EndpointRanges, UpstreamProtocol};
use portolan_model::redacted::Redacted;
use portolan_model::route::Backend;
use serde_json::{Value, json};

use super::*;

fn host(cluster: &str, name: &str) -> Arc<VirtualHost> {
    let namespace = format!("tenant-{cluster}");
    let action = Action {
        object: ObjectRef::new(Kind::HttpLoadBalancer, &*namespace, name),
        rule: 0,
        filters: [].into(),
        backends: [Backend { pool: PoolId::new(namespace, name), weight: 1 }].into(),
        timeouts: None,
        policy: Arc::new(Policy::default()),
    };
    let route = portolan_model::plan::Route { matches: [].into(), actions: [Arc::new(action)].into() };
    Arc::new(VirtualHost { routes: [route].into(), shared: false })
}

fn plan() -> Plan {
    let mut plan = Plan { revision: 7, ..Plan::empty() };
    for (pattern, cluster, name) in [
        ("shop.paris.lb.example.net", "paris", "shop"),
        ("*.shop.example", "paris", "shop"),
        ("api.tokyo.lb.example.net", "tokyo", "api"),
    ] {
        let cluster_plan = ClusterPlan { weight: 100, drain: false, locality: Locality::default() };
        plan.clusters.insert(cluster.into(), Arc::new(cluster_plan));
        plan.hosts.insert(HostPattern::parse(pattern).unwrap(), host(cluster, name));
        let pool = Pool {
            endpoints: Vec::new(),
            names: Vec::new(),
            ranges: EndpointRanges::default(),
            balancing: Balancing::RoundRobin,
            protocol: UpstreamProtocol::Http1,
            tls: None,
            health_check: None,
        };
        plan.pools.insert(PoolId::new(format!("tenant-{cluster}"), name), Arc::new(pool));
    }
    let secret = ObjectRef::new(Kind::Secret, "tenant-paris", "shop-tls");
    let certificate = TlsSecret {
        chain: (*b"the chain").into(),
        key: Redacted((*b"the key").into()),
        facts: CertificateFacts {
            names: vec![HostPattern::Exact(HostName::parse("www.shop.example").unwrap())],
            not_before: 0,
            not_after: 1,
            key: KeyAlgorithm::Ecdsa,
            serial: "01".into(),
        },
    };
    plan.certificates.insert(secret.clone(), Arc::new(certificate));
    plan.server_names.insert(HostPattern::parse("*.shop.example").unwrap(), [secret].into());
    let condition =
        Condition::new(ConditionType::ResolvedRefs, Reason::NodesNotFound, "spec.nodePort", "no NodeSet");
    plan.conditions.insert(ObjectRef::new(Kind::UpstreamPool, "tenant-tokyo", "api"), [condition].into());
    plan
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn a_filter_shows_what_concerns_it() {
    let plan = plan();
    let (shop, api, wild) = ("shop.paris.lb.example.net", "api.tokyo.lb.example.net", "*.shop.example");
    let (shop_pool, api_pool) = ("tenant-paris/shop", "tenant-tokyo/api");
    let (secret, condition) = ("Secret/tenant-paris/shop-tls", "UpstreamPool/tenant-tokyo/api");
    type Keys<'a> = &'a [&'a str];
    // Filter and value, then hosts, pools, clusters, certificates, server names, conditions.
    type Row<'a> = (&'a str, &'a str, Keys<'a>, Keys<'a>, Keys<'a>, Keys<'a>, Keys<'a>, Keys<'a>);
    let table: &[Row<'_>] = &[
        ("host", shop, &[shop], &[shop_pool], &["paris"], &[], &[], &[]),
        ("host", "SHOP.paris.lb.example.net.:8080", &[shop], &[shop_pool], &["paris"], &[], &[], &[]),
        ("host", "www.shop.example", &[wild], &[shop_pool], &["paris"], &[secret], &[wild], &[]),
        ("host", "*.shop.example", &[wild], &[shop_pool], &["paris"], &[secret], &[wild], &[]),
        ("host", api, &[api], &[api_pool], &["tokyo"], &[], &[], &[condition]),
        ("pool", shop_pool, &[wild, shop], &[shop_pool], &[], &[], &[], &[]),
        ("pool", api_pool, &[api], &[api_pool], &[], &[], &[], &[condition]),
        ("object", "HTTPLoadBalancer/tenant-paris/shop", &[wild, shop], &[], &[], &[], &[], &[]),
        ("object", "httploadbalancer/tenant-paris/shop", &[wild, shop], &[], &[], &[], &[], &[]),
        ("object", "UpstreamPool/tenant-tokyo/api", &[api], &[api_pool], &[], &[], &[], &[condition]),
        ("object", "Secret/tenant-paris/shop-tls", &[], &[], &[], &[secret], &[wild], &[]),
        ("object", "Cluster/tokyo", &[], &[], &["tokyo"], &[], &[], &[]),
    ];
    for (name, value, hosts, pools, clusters, certificates, server_names, conditions) in table {
        let filter = Filter::parse(&[((*name).into(), (*value).into())]).unwrap();
        let view = serde_json::to_value(View::of(&plan, &filter)).unwrap();
        let mut found = keys(&view["hosts"]);
        let mut expected = hosts.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{filter}");
        for (part, expected) in [
            ("pools", pools),
            ("clusters", clusters),
            ("certificates", certificates),
            ("server_names", server_names),
            ("conditions", conditions),
        ] {
            assert_eq!(keys(&view[part]), **expected, "{part} of {filter}");
        }
        assert_eq!(view["revision"], 7);
        assert!(view.get("proxy").is_none());
    }
    for (name, value) in [
        ("host", "nobody.example"),
        ("pool", "tenant-paris/api"),
        ("object", "Cluster/osaka"),
        ("object", "NodeSet/tenant-paris/nodes"),
        ("object", "Proxy/other"),
    ] {
        let filter = Filter::parse(&[(name.into(), value.into())]).unwrap();
        assert!(View::of(&plan, &filter).is_none(), "{filter}");
    }
}

#[test]
fn filters_that_cannot_be_read_say_what_was_expected() {
    for query in [
        &[("host", "")][..],
        &[("pool", "shop")],
        &[("pool", "tenant-paris/")],
        &[("pool", "a/b/c")],
        &[("object", "Ingress/tenant-paris/shop")],
        &[("object", "Cluster/tenant-paris/shop")],
        &[("object", "UpstreamPool/shop")],
        &[("object", "Cluster")],
        &[("hosts", "a.example")],
        &[("host", "a.example"), ("pool", "a/b")],
    ] {
        let query: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let error = Filter::parse(&query).unwrap_err();
        assert!(error.contains("expected nothing, or one of ?host="), "{error}");
    }
    assert_eq!(Filter::parse(&[]), Ok(Filter::Everything));
}

#[test]
fn everything_is_there_but_secrets() {
    let json = serde_json::to_value(View::of(&plan(), &Filter::Everything)).unwrap();
    assert_eq!(keys(&json["clusters"]), ["paris", "tokyo"]);
    assert_eq!(json["certificates"]["Secret/tenant-paris/shop-tls"]["key"], json!("(redacted)"));
    assert_eq!(json["proxy"]["lb_domain"], json!("lb.localhost"));
    let text = json.to_string();
    for secret in [&b"the key"[..], b"the chain"] {
        assert!(!text.contains(std::str::from_utf8(secret).unwrap()));
        assert!(!text.contains(&serde_json::to_string(secret).unwrap()));
    }
}
