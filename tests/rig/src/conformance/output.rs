//! What has the suite done so far?
//!
//! Read line by line from what it prints. `modules/conformance` adds a line for each test that begins and each that has ended; the rest is
//! Go's and the suite's own, of which we read two things for people: the steps of its preparation, and the error that ended it. Whatever else it
//! prints is passed over.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// How Go begins an error that it did not expect.
const UNSAID: &str = "Received unexpected error:";

/// What came of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it went well.
    Passed,
    /// Some of it did not.
    Failed,
    /// Nobody asked for it, or the class does not claim what it is about.
    Skipped,
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        })
    }
}

/// Something new that a person may want to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The preparation has come to a step.
    Step(String),
    /// A test has begun.
    Began(String),
    /// A test has ended.
    Ended(String, Verdict),
}

/// All that was heard.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// What came of each test that ended.
    pub results: BTreeMap<String, Verdict>,
    /// The test that runs.
    pub running: Option<String>,
    /// The last step of the preparation.
    pub step: Option<String>,
    /// Why the suite as a whole failed; a test that failed says so in its own name.
    pub error: Option<String>,
    /// The error that is being printed.
    printed: Option<Vec<String>>,
}

impl Tally {
    /// Takes one line in.
    pub(crate) fn hear(&mut self, line: &str) -> Option<News> {
        if let Some(ours) = line.strip_prefix("conformance: ") {
            return self.result(ours);
        }
        if let Some((_, step)) = line.split_once(" Test Setup: ") {
            self.step = Some(step.to_owned());
            return Some(News::Step(step.to_owned()));
        }
        self.assertion(line.trim());
        None
    }

    /// The names of the tests that ended so, in order.
    pub fn all(&self, verdict: Verdict) -> Vec<&str> {
        let these = self.results.iter().filter(|(_, its)| **its == verdict);
        these.map(|(name, _)| name.as_str()).collect()
    }

    fn result(&mut self, line: &str) -> Option<News> {
        let (what, name) = line.split_once(' ')?;
        let name = name.to_owned();
        let verdict = match what {
            "running" => {
                self.running = Some(name.clone());
                return Some(News::Began(name));
            }
            "passed" => Verdict::Passed,
            "failed" => Verdict::Failed,
            "skipped" => Verdict::Skipped,
            _ => return None,
        };
        self.running = None;
        self.results.insert(name.clone(), verdict);
        Some(News::Ended(name, verdict))
    }

    /// A failed assertion is a block of `Error Trace:`, `Error:` with the lines that follow it, `Test:` and perhaps `Messages:`.
    fn assertion(&mut self, line: &str) {
        if let Some(text) = line.strip_prefix("Error:") {
            // Says no more than that there is one.
            let text = text.trim();
            self.printed = Some(if text == UNSAID { Vec::new() } else { vec![text.to_owned()] });
        } else if let Some(test) = line.strip_prefix("Test:") {
            let printed = self.printed.take();
            if test.trim() == "TestConformance" {
                self.error = printed.map(|lines| lines.join(" "));
            }
        } else if let Some(printed) = &mut self.printed {
            printed.push(line.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
