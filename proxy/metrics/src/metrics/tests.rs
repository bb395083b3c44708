use super::*;
use crate::handles::{Connect, Handshake};
use crate::table::METRICS;

const NAMES: &[&str] = &["NR", "UF", "UT"];

fn metrics() -> Metrics {
    Metrics::new(4, NAMES, "0.0.0").unwrap()
}

fn lines(metrics: &Metrics) -> Vec<String> {
    metrics.render().lines().map(str::to_owned).collect()
}

fn assert_has(metrics: &Metrics, expected: &[&str]) {
    let lines = lines(metrics);
    for expected in expected {
        assert!(lines.iter().any(|line| line == expected), "{expected} is not in\n{}", lines.join("\n"));
    }
}

#[test]
fn what_is_counted_is_rendered() {
    let metrics = metrics();
    let (listener, cluster) = (metrics.listener("https"), metrics.cluster("paris"));
    listener.request(200, None, Duration::from_millis(3));
    listener.request(404, Some(0), Duration::from_millis(1));
    listener.request(0, Some(2), Duration::from_secs(100));
    listener.bytes(10, 2000);
    listener.handshake(Handshake::Tls13);
    listener.handshake(Handshake::UnknownName);
    listener.shed();
    let open = [listener.connection(), listener.connection()];
    drop(listener.connection());
    cluster.request(503, Some(1));
    cluster.response(Duration::from_millis(2));
    cluster.connect(Connect::Reused);
    cluster.retry();
    metrics.dropped_log_lines().inc_by(7);
    metrics.reload(Reload::Applied, 12, Duration::from_millis(4));
    metrics.set_objects([("UpstreamPool", 3)]);
    metrics.set_conditions([("HostTaken", 2)]);
    metrics.set_earliest_expiry(Some(1_900_000_000));
    metrics.set_pools([("tenant-paris/shop", PoolEndpoints { healthy: 2, unhealthy: 1, unknown: 0 })]);
    assert_has(
        &metrics,
        &[
            "portolan_listener_requests_total{listener=\"https\",code=\"2xx\"} 1",
            "portolan_listener_requests_total{listener=\"https\",code=\"4xx\"} 1",
            "portolan_listener_requests_total{listener=\"https\",code=\"none\"} 1",
            "portolan_listener_flagged_requests_total{listener=\"https\",flag=\"NR\"} 1",
            "portolan_listener_flagged_requests_total{listener=\"https\",flag=\"UT\"} 1",
            "portolan_listener_request_duration_seconds_bucket{listener=\"https\",le=\"0.001\"} 1",
            "portolan_listener_request_duration_seconds_bucket{listener=\"https\",le=\"+Inf\"} 3",
            "portolan_listener_request_duration_seconds_sum{listener=\"https\"} 100.004",
            "portolan_listener_received_bytes_total{listener=\"https\"} 10",
            "portolan_listener_sent_bytes_total{listener=\"https\"} 2000",
            "portolan_listener_connections{listener=\"https\"} 2",
            "portolan_listener_connections_total{listener=\"https\"} 3",
            "portolan_listener_shed_connections_total{listener=\"https\"} 1",
            "portolan_listener_handshakes_total{listener=\"https\",result=\"tls1.3\"} 1",
            "portolan_listener_handshakes_total{listener=\"https\",result=\"unknown_name\"} 1",
            "portolan_cluster_requests_total{cluster=\"paris\",code=\"5xx\"} 1",
            "portolan_cluster_flagged_requests_total{cluster=\"paris\",flag=\"UF\"} 1",
            "portolan_cluster_response_duration_seconds_count{cluster=\"paris\"} 1",
            "portolan_cluster_connects_total{cluster=\"paris\",result=\"reused\"} 1",
            "portolan_cluster_retries_total{cluster=\"paris\"} 1",
            "portolan_access_log_dropped_lines_total 7",
            "portolan_config_revision 12",
            "portolan_config_reloads_total{result=\"applied\"} 1",
            "portolan_config_reload_duration_seconds_count 1",
            "portolan_config_objects{kind=\"UpstreamPool\"} 3",
            "portolan_config_conditions{reason=\"HostTaken\"} 2",
            "portolan_certificate_earliest_expiry_seconds 1900000000",
            "portolan_pool_endpoints{health=\"unhealthy\",pool=\"tenant-paris/shop\"} 1",
            "portolan_build_info{version=\"0.0.0\"} 1",
        ],
    );
    drop(open);
    assert_has(&metrics, &["portolan_listener_connections{listener=\"https\"} 0"]);
    for metric in METRICS {
        assert!(metrics.render().contains(&format!("# TYPE {} ", metric.name)), "{}", metric.name);
    }
}

#[test]
fn a_handle_is_the_same_over_snapshots_and_gone_with_its_last_holder() {
    let metrics = metrics();
    let first = metrics.cluster("paris");
    assert!(Arc::ptr_eq(&first, &metrics.cluster("paris")));
    drop(first);
    assert!(!metrics.render().contains("paris"));
}

#[test]
fn labels_keep_their_bounds() {
    let metrics = metrics();
    let clusters: Vec<_> = (0..1100).map(|number| metrics.cluster(&format!("c{number}"))).collect();
    clusters.iter().for_each(|cluster| cluster.retry());
    assert_has(&metrics, &["portolan_cluster_retries_total{cluster=\"other\"} 100"]);
    let count = |name: &str| lines(&metrics).iter().filter(|line| line.starts_with(name)).count();
    assert_eq!(count("portolan_cluster_retries_total{"), 1001);
    let names: Vec<_> = (0..1100).map(|number| format!("p{number}")).collect();
    let endpoints = PoolEndpoints { healthy: 1, ..PoolEndpoints::default() };
    metrics.set_pools(names.iter().map(|name| (name.as_str(), endpoints)));
    assert_has(&metrics, &["portolan_pool_endpoints{health=\"healthy\",pool=\"other\"} 100"]);
    assert_eq!(count("portolan_pool_endpoints{health=\"healthy\""), 1001);
}

#[test]
fn what_is_gone_is_not_rendered_any_more() {
    let metrics = metrics();
    metrics.set_conditions([("HostTaken", 2), ("Invalid", 1)]);
    metrics.set_conditions([("Invalid", 1)]);
    assert!(!metrics.render().contains("HostTaken"));
}

#[test]
fn scrapes_at_once_see_each_level_once() {
    let metrics = metrics();
    let endpoints = PoolEndpoints { healthy: 1, ..PoolEndpoints::default() };
    let scrape = || {
        metrics.set_conditions([("HostTaken", 2), ("Invalid", 1)]);
        metrics.set_pools([("a/web", endpoints), ("b/web", endpoints)]);
        assert_has(
            &metrics,
            &[
                "portolan_config_conditions{reason=\"HostTaken\"} 2",
                "portolan_config_conditions{reason=\"Invalid\"} 1",
                "portolan_pool_endpoints{health=\"healthy\",pool=\"a/web\"} 1",
                "portolan_pool_endpoints{health=\"healthy\",pool=\"b/web\"} 1",
            ],
        );
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|_| scrape()));
        }
    });
}
