//! The reference page, generated from the table.

use std::fmt::Write;

use crate::controller::CONTROLLER_METRICS;
use crate::table::{Kind, METRICS, Metric};

/// `deploy/docs/metrics.md`.
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\nGenerated from the table in `proxy/metrics`; `portolan` serves them as `/metrics` on the admin port. \
         A label states what bounds the number of its values.\n\n| metric | kind | labels | what it says |\n| --- | --- | --- | --- |\n",
    );
    rows(&mut page, METRICS);
    page.push_str(
        "\n## Of the controller\n\n`portolan controller` has these, and `portolan_build_info`.\n\n\
         | metric | kind | labels | what it says |\n| --- | --- | --- | --- |\n",
    );
    rows(&mut page, CONTROLLER_METRICS);
    page
}

fn rows(page: &mut String, metrics: &[Metric]) {
    for metric in metrics {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> =
            metric.labels.iter().map(|label| format!("`{}`: {}", label.name, label.bound)).collect();
        // Writing into a string cannot fail.
        let _ = writeln!(page, "| `{}` | {kind} | {} | {} |", metric.name, labels.join("; "), metric.help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PORTOLAN_WRITE=1 cargo test -p portolan-metrics` writes the page anew.
    #[test]
    fn the_reference_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/docs/metrics.md");
        if std::env::var_os("PORTOLAN_WRITE").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(written, reference(), "run PORTOLAN_WRITE=1 cargo test -p portolan-metrics");
    }

    #[test]
    fn names_follow_the_rules() {
        for metric in METRICS.iter().chain(CONTROLLER_METRICS) {
            assert!(metric.name.starts_with("portolan_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert_eq!(metric.name.ends_with("_duration_seconds"), metric.kind == Kind::Histogram);
            assert!(metric.help.ends_with('.') && metric.labels.iter().all(|label| !label.bound.is_empty()));
        }
    }
}
