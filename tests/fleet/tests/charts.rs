//! What the charts say of metrics is true: every name that alerts and dashboards ask for is one that is served.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so and fails")]

use std::collections::BTreeSet;
use std::path::Path;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");

#[test]
fn alerts_and_dashboards_ask_for_metrics_that_are_there() {
    let deploy = Path::new(DEPLOY);
    let served = names(&read(&deploy.join("docs/metrics.md")));
    assert!(served.len() > 20, "{served:?}");
    for file in ["templates/monitoring.yaml", "dashboards/traffic.json", "dashboards/fleet.json"] {
        let asked = names(&read(&deploy.join("charts/portolan").join(file)));
        assert!(!asked.is_empty(), "{file}");
        for name in asked {
            let base = name.strip_suffix("_bucket").unwrap_or(&name);
            assert!(
                served.contains(base),
                "{file} asks for {name}, which deploy/docs/metrics.md does not have"
            );
        }
    }
}

#[test]
fn dashboards_are_json() {
    for name in ["traffic", "fleet"] {
        let text = read(&Path::new(DEPLOY).join(format!("charts/portolan/dashboards/{name}.json")));
        let board: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(board["uid"], format!("portolan-{name}"));
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.starts_with("portolan_")).map(str::to_owned).collect()
}
