//! Which tests have passed before, and must from now on?
//!
//! A file that is committed: a name a line, sorted, after one line that is a comment. It only grows, by the command that is printed when tests
//! pass that are not in it.

use std::collections::{BTreeMap, BTreeSet};

use super::output::Verdict;

/// The names in the text of a file.
pub(crate) fn parse(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// How a run stands to the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Those that must pass and did not, and what they did instead.
    pub lost: Vec<(String, String)>,
    /// Those that passed for the first time.
    pub gained: Vec<String>,
    /// How many that must pass a run of a part did not ask for.
    pub unasked: usize,
}

impl Comparison {
    /// Compares what must pass with what a run brought. A run of everything has to bring all of them; one of a part is held to what it ran.
    pub(crate) fn of(
        must_pass: &BTreeSet<String>,
        results: &BTreeMap<String, Verdict>,
        everything: bool,
    ) -> Self {
        let mut comparison = Self::default();
        for name in must_pass {
            let instead = match results.get(name) {
                Some(Verdict::Passed) => continue,
                Some(Verdict::Failed) => "failed",
                Some(Verdict::Skipped) if everything => "was skipped",
                None if everything => "did not run",
                Some(Verdict::Skipped) | None => {
                    comparison.unasked += 1;
                    continue;
                }
            };
            comparison.lost.push((name.clone(), instead.to_owned()));
        }
        let passed = results.iter().filter(|(_, verdict)| **verdict == Verdict::Passed);
        comparison.gained =
            passed.map(|(name, _)| name.clone()).filter(|name| !must_pass.contains(name)).collect();
        comparison
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_names() {
        assert!(parse("# What passed.\n\n").is_empty());
        assert_eq!(parse("# c\nB\n A \r\nB\n"), ["A", "B"].map(str::to_owned).into());
    }

    #[test]
    fn what_passed_before_must_pass() {
        use Verdict::{Failed, Passed, Skipped};
        type Row = (
            &'static str,
            &'static [(&'static str, Verdict)],
            bool,
            &'static [&'static str],
            &'static [&'static str],
            usize,
        );
        // What must pass; what a run brought; whether of everything; what is lost, gained, not asked for.
        let rows: &[Row] = &[
            ("", &[], true, &[], &[], 0),
            ("", &[("A", Failed), ("B", Skipped)], true, &[], &[], 0),
            ("", &[("B", Passed), ("A", Passed)], true, &[], &["A", "B"], 0),
            ("A B", &[("A", Passed), ("B", Passed)], true, &[], &[], 0),
            ("A B", &[("A", Passed), ("B", Passed), ("C", Passed)], true, &[], &["C"], 0),
            ("A B", &[("A", Failed), ("B", Passed)], true, &["A failed"], &[], 0),
            ("A B", &[("A", Failed), ("B", Passed)], false, &["A failed"], &[], 0),
            ("A B", &[("B", Skipped)], true, &["A did not run", "B was skipped"], &[], 0),
            ("A B", &[("B", Skipped), ("C", Passed)], false, &[], &["C"], 2),
            ("A", &[], false, &[], &[], 1),
        ];
        for (must_pass, results, everything, lost, gained, unasked) in rows {
            let results = results.iter().map(|(name, verdict)| ((*name).to_owned(), *verdict)).collect();
            let its = Comparison::of(&parse(&must_pass.replace(' ', "\n")), &results, *everything);
            let said: Vec<_> = its.lost.iter().map(|(name, instead)| format!("{name} {instead}")).collect();
            assert_eq!(said, *lost, "{must_pass}: {results:?}");
            assert_eq!(its.gained, *gained, "{must_pass}: {results:?}");
            assert_eq!(its.unasked, *unasked, "{must_pass}: {results:?}");
        }
    }

    #[test]
    fn the_files_are_sorted_and_hold_names_of_tests() {
        for text in [
            include_str!("../../conformance/passed-standard.txt"),
            include_str!("../../conformance/passed-experimental.txt"),
        ] {
            let lines: Vec<_> = text.lines().collect();
            assert!(lines.is_sorted(), "{text}");
            assert_eq!(lines.len(), parse(text).len() + 1, "one comment, and every name once: {text}");
            for name in parse(text) {
                assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
            }
        }
    }
}
