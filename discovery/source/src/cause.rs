//! What went wrong, for people.

use std::error::Error;

/// An error with its causes in one line, each said once: many errors tell in their own words what their causes say again. Of a cause
/// the first line alone, since some go on with what they read, credentials maybe.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        let said = said.lines().next().unwrap_or_default();
        let is_said = said.is_empty() || format!(": {line}: ").contains(&format!(": {said}: "));
        if !is_said {
            line.push_str(": ");
            line.push_str(said);
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Told(&'static str, Option<Box<Told>>);

    impl fmt::Display for Told {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Told {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|it| it as _)
        }
    }

    /// Regression: "No such file or directory (os error 2)" stood twice behind a kubeconfig that is not there, and of one that cannot be read
    /// three lines of it.
    #[test]
    fn every_cause_is_said_once() {
        for (causes, expected) in [
            (&["a"][..], "a"),
            (&["a", "b: c", "c"], "a: b: c"),
            (&["a", "b", "b", "c\n1 | secret"], "a: b: c"),
            (&["a: b: c", "b: c", "b", "c"], "a: b: c"),
            (&["cannot read c.yaml", "c", ""], "cannot read c.yaml: c"),
            (&["no certificate", "cate"], "no certificate: cate"),
        ] {
            let error = causes.iter().rev().fold(None, |source, text| Some(Box::new(Told(text, source))));
            assert_eq!(one_line(&*error.unwrap()), expected);
        }
    }
}
