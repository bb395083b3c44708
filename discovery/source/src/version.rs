//! Is an API server new enough?

/// It is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{whose} runs Kubernetes {found}; 1.{oldest} or newer is required")]
pub struct TooOld {
    whose: String,
    found: String,
    oldest: u32,
}

/// Whether an API server that says this of itself is of 1.`oldest` or newer. What cannot be read is.
pub fn check_version(whose: &str, major: &str, minor: &str, oldest: u32) -> Result<(), TooOld> {
    // Some vendors' versions end in a plus sign.
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok();
    match (number(major), number(minor)) {
        (Some(found), Some(_)) if found > 1 => Ok(()),
        (Some(1), Some(found)) if found >= oldest => Ok(()),
        (Some(_), Some(_)) => {
            Err(TooOld { whose: whose.to_owned(), found: format!("{major}.{minor}"), oldest })
        }
        (None, _) | (_, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_is_refused_with_a_sentence() {
        for (major, minor, fine) in [
            ("1", "28", false),
            ("1", "28+", false),
            ("1", "9+", false),
            ("0", "99", false),
            ("1", "29", true),
            ("1", "29+", true),
            ("1", "36", true),
            ("2", "0", true),
            ("", "", true),
            ("1", "", true),
        ] {
            assert_eq!(check_version("it", major, minor, 29).is_ok(), fine, "{major}.{minor}");
        }
        let error = check_version("the LB cluster", "1", "30+", 31).unwrap_err();
        assert_eq!(error.to_string(), "the LB cluster runs Kubernetes 1.30+; 1.31 or newer is required");
    }
}
