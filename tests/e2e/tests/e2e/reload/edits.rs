//! 10,000 requests across 200 edits of every kind: none fails.

use std::time::Duration;

use portolan_e2e::{Echo, Portolan, app, cluster, pool, route};

use super::HOST;
use crate::load::Load;

/// The edit of a number: file and text, `None` to remove it.
fn edit(n: usize, echoes: &[Echo; 3]) -> (String, Option<String>) {
    let all: Vec<_> = echoes.iter().map(Echo::address).collect();
    let (one, two) = (&all[n % 3..=n % 3], &all[..1 + n % 3]);
    let text = match n % 10 {
        // The route itself: another header, other matches, weights between pools.
        0 => {
            return (
                "shop.yaml".into(),
                Some(shop(&format!(
                    "rules:\n- filters:\n  - type: ResponseHeaderModifier\n    responseHeaderModifier: {{set: [{{name: x-version, value: \"{n}\"}}]}}\n  backends: [{{pool: shop}}]\n"
                ))),
            );
        }
        1 => {
            return (
                "shop.yaml".into(),
                Some(shop(&format!(
                    "rules:\n- matches: [{{path: {{value: /other-{n}}}}}]\n  backends: [{{pool: cart}}]\n- backends: [{{pool: shop}}]\n"
                ))),
            );
        }
        2 => {
            return (
                "shop.yaml".into(),
                Some(shop(&format!(
                    "rules:\n- backends: [{{pool: shop, weight: {}}}, {{pool: cart, weight: {}}}]\n",
                    n % 7,
                    1 + n % 5
                ))),
            );
        }
        // Its pool's endpoints, balancing and checks.
        3 => {
            return (
                "pools.yaml".into(),
                Some(pool("paris", "shop", one, "") + &pool("paris", "cart", two, "")),
            );
        }
        4 => {
            return (
                "pools.yaml".into(),
                Some(
                    pool("paris", "shop", two, "balancing: LeastRequest\n") + &pool("paris", "cart", one, ""),
                ),
            );
        }
        5 => {
            return (
                "pools.yaml".into(),
                Some(
                    pool("paris", "shop", two, "healthCheck: {http: {path: /healthz}, interval: 100ms}\n")
                        + &pool("paris", "cart", two, ""),
                ),
            );
        }
        // A policy that comes, changes and goes.
        6 => Some(format!(
            "apiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: times, namespace: tenant-paris}}\nspec:\n  \
             targetRefs: [{{kind: HTTPLoadBalancer, name: shop}}]\n  timeouts: {{request: {}s}}\n  maxRequestBody: {n}Ki\n",
            10 + n % 20
        )),
        7 => None,
        // Other hosts that come and go.
        8 => return (format!("other-{}.yaml", n % 4), Some(app("paris", &format!("other-{n}"), one))),
        _ => {
            return (
                "other-0.yaml".into(),
                Some(app("paris", &format!("last-{n}"), two) + &app("paris", &format!("more-{n}"), one)),
            );
        }
    };
    ("policy.yaml".into(), text)
}

fn shop(spec: &str) -> String {
    route("paris", "shop", spec)
}

#[test]
fn ten_thousand_requests_across_two_hundred_edits() {
    const REQUESTS: usize = 10_000;
    const EDITS: usize = 200;
    let echoes = ["a", "b", "c"].map(Echo::start);
    let addresses: Vec<_> = echoes.iter().map(Echo::address).collect();
    let portolan = Portolan::start(&[
        ("cluster.yaml", cluster("paris", "")),
        ("pools.yaml", pool("paris", "shop", &addresses, "") + &pool("paris", "cart", &addresses, "")),
        ("shop.yaml", shop("rules:\n- backends: [{pool: shop}]\n")),
    ]);
    let first = portolan.revision();
    let load = Load::start(4, portolan.http(), HOST, "/load", |status, text| {
        status == 200 && text.contains("\"target\":\"/load\"")
    });
    for n in 0..EDITS {
        match edit(n, &echoes) {
            (file, Some(text)) => portolan.write(&file, &text),
            (file, None) => portolan.remove(&file),
        }
        load.wait_for(REQUESTS / EDITS / 2);
        // Half of the edits come in bursts, half alone.
        if n % 20 < 10 {
            std::thread::sleep(Duration::from_millis(30));
        }
    }
    if load.done() < REQUESTS {
        load.wait_for(REQUESTS - load.done());
    }
    let (done, failures) = load.stop();
    let revisions = portolan.revision() - first;
    println!("{done} requests across {EDITS} edits ({revisions} revisions), {} failed", failures.len());
    assert!(
        failures.is_empty(),
        "{} failures of {done}: {:?}",
        failures.len(),
        &failures[..failures.len().min(3)]
    );
    assert!(done >= REQUESTS);
    assert!(revisions >= 50, "only {revisions} revisions: the edits were not taken in");
    assert_eq!(portolan.metric("portolan_config_reloads_total{result=\"failed\"}").unwrap_or(0.0), 0.0);
}
