//! Alerts and dashboards are read as Prometheus reads them, and ask for metrics and labels that are served.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so and fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;

use promql_parser::parser::{Expr, VectorSelector, parse};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
/// Labels that Prometheus gives what it scrapes from a pod.
const OF_TARGETS: [&str; 2] = ["pod", "namespace"];

#[test]
fn alerts_and_dashboards_ask_for_metrics_that_are_there() {
    let served = served();
    assert!(served.len() > 30, "{served:?}");
    let monitoring = read("charts/portolan/templates/monitoring.yaml");
    let alerts = alerts(&monitoring);
    let boards = ["traffic", "fleet"].map(|name| (name, board(name)));
    let panels = boards.iter().flat_map(|(name, board)| {
        let targets = board["panels"].as_array().expect("panels").iter().flat_map(|panel| {
            let targets = panel["targets"].as_array().expect("targets");
            targets.iter().map(|target| target["expr"].as_str().expect("an expression").to_owned())
        });
        targets.map(|expression| ((*name).to_owned(), expression)).collect::<Vec<_>>()
    });
    let mut asked = 0;
    for (place, expression) in alerts.into_iter().chain(panels) {
        let parsed = parse(&expression).unwrap_or_else(|error| panic!("{place}: {expression}: {error}"));
        let mut found = Found::default();
        let Ok(_) = walk_expr(&mut found, &parsed);
        assert!(!found.metrics.is_empty(), "{place}: {expression} asks for nothing");
        let mut known = BTreeSet::from(OF_TARGETS.map(str::to_owned));
        for name in &found.metrics {
            let labels = served.get(name);
            known.extend(
                labels
                    .unwrap_or_else(|| panic!("{place}: nobody serves {name}: {expression}"))
                    .iter()
                    .cloned(),
            );
        }
        for label in &found.labels {
            assert!(known.contains(label), "{place}: nothing here has a label {label}: {expression}");
        }
        asked += 1;
    }
    assert!(asked > 25, "{asked}");
}

#[test]
fn every_alert_has_its_place_on_the_night_page() {
    let page = read("docs/fleet-at-night.md");
    let anchors: BTreeSet<String> =
        page.lines().filter_map(|line| line.strip_prefix("## ")).map(anchor).collect();
    let template = read("charts/portolan/templates/monitoring.yaml");
    let of = |word: &str| {
        template.lines().filter_map(|line| line.split_once(word).map(|it| it.1.trim())).collect()
    };
    let (alerts, runbooks): (Vec<&str>, Vec<&str>) = (of("- alert: "), of("runbook: "));
    assert_eq!(alerts.len(), runbooks.len());
    for (alert, runbook) in alerts.iter().zip(runbooks) {
        let place = runbook.strip_prefix("deploy/docs/fleet-at-night.md#");
        let place = place.unwrap_or_else(|| panic!("{alert}: {runbook}"));
        assert!(anchors.contains(place), "{alert}: {place} is none of {anchors:?}");
        assert!(place.ends_with(&alert.to_lowercase()), "{alert}: {place}");
    }
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn dashboards_say_who_they_are() {
    for name in ["traffic", "fleet"] {
        assert_eq!(board(name)["uid"], format!("portolan-{name}"));
    }
}

/// What an expression names.
#[derive(Default)]
struct Found {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
}

impl Found {
    fn selector(&mut self, selector: &VectorSelector) {
        self.metrics.extend(selector.name.clone());
        let matchers = &selector.matchers;
        let all = matchers.matchers.iter().chain(matchers.or_matchers.iter().flatten());
        self.labels.extend(all.map(|matcher| matcher.name.clone()));
    }
}

impl ExprVisitor for Found {
    type Error = Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
        match expression {
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::Aggregate(aggregate) => {
                let by = aggregate.modifier.iter().flat_map(|modifier| &modifier.labels().labels);
                self.labels.extend(by.cloned());
            }
            _ => {}
        }
        Ok(true)
    }
}

/// The series that are served, with their labels: those of the reference page, and the agent's.
fn served() -> BTreeMap<String, BTreeSet<String>> {
    let mut served = BTreeMap::new();
    for row in read("docs/metrics.md").lines().filter(|line| line.starts_with("| `portolan_")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`').to_owned();
        let quoted: Vec<_> = cells[3].split('`').collect();
        let named = quoted.windows(2).filter(|pair| pair[1].starts_with(':')).map(|pair| pair[0]);
        let mut labels: BTreeSet<_> = named.map(str::to_owned).collect();
        if cells[2] == "histogram" {
            served.insert(format!("{name}_sum"), labels.clone());
            served.insert(format!("{name}_count"), labels.clone());
            labels.insert("le".to_owned());
            served.insert(format!("{name}_bucket"), labels);
        } else {
            served.insert(name, labels);
        }
    }
    let agent = read("../discovery/agent/src/run/figures.rs");
    let words = agent.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let labels = ["cluster", "kind", "operation", "result"].map(str::to_owned);
    for name in words.filter(|word| word.starts_with("portolan_agent_")) {
        served.insert(name.to_owned(), labels.clone().into());
    }
    served
}

/// The expressions of the rules, by the name of the alert. What Helm fills in is a number there.
fn alerts(template: &str) -> Vec<(String, String)> {
    let (_, rule) = template.split_once("kind: PrometheusRule").expect("rules");
    let (rule, _) = rule.split_once("\n---").expect("another document");
    let mut filled = String::from("kind: PrometheusRule");
    for line in rule.lines().filter(|line| !line.trim_start().starts_with("{{-")) {
        let mut depth = 0;
        let mut rest = line;
        loop {
            let (opens, closes) = (rest.find("{{"), rest.find("}}"));
            let (at, opens) = match (opens, closes) {
                (Some(open), Some(close)) => (open.min(close), open < close),
                (Some(open), None) => (open, true),
                (None, Some(close)) => (close, false),
                (None, None) => break,
            };
            if depth == 0 {
                filled.push_str(&rest[..at]);
                filled.push('1');
            }
            depth += if opens { 1 } else { -1 };
            rest = &rest[at + 2..];
        }
        filled.push_str(rest);
        filled.push('\n');
    }
    let documents = portolan_api::from_yaml(&filled).unwrap_or_else(|error| panic!("{error}: {filled}"));
    let groups = documents[0]["spec"]["groups"].as_array().expect("groups");
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
    let text = |rule: &Value, field: &str| rule[field].as_str().expect("a text").to_owned();
    let rules: Vec<_> = rules.map(|rule| (text(rule, "alert"), text(rule, "expr"))).collect();
    assert_eq!(rules.len(), template.matches("- alert: ").count(), "{rules:?}");
    rules
}

fn board(name: &str) -> Value {
    serde_json::from_str(&read(&format!("charts/portolan/dashboards/{name}.json"))).expect("JSON")
}

fn read(path: &str) -> String {
    let path = Path::new(DEPLOY).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
