//! Is the API server new enough?
//!
//! The LB cluster's has to be of 1.31: admission policies are there since 1.30, and what they know of addresses since 1.31. Of member clusters
//! 1.29 is enough.

use k8s_openapi::apimachinery::pkg::version::Info;

/// The oldest that an LB cluster may be: 1.31.
const LB_CLUSTER: u32 = 31;
/// The oldest that a member cluster may be: 1.29.
const MEMBER: u32 = 29;

/// An API server is older than what Portolan needs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {which} runs Kubernetes {found}; Kubernetes 1.{oldest} or newer is required there")]
pub struct TooOld {
    which: &'static str,
    found: String,
    oldest: u32,
}

/// Whether an LB cluster of that version will do. What cannot be read will.
pub fn check_version(info: &Info) -> Result<(), TooOld> {
    check("LB cluster", LB_CLUSTER, info)
}

/// The same for a member cluster.
pub(crate) fn check_member(info: &Info) -> Result<(), TooOld> {
    check("member cluster", MEMBER, info)
}

fn check(which: &'static str, oldest: u32, info: &Info) -> Result<(), TooOld> {
    let number = |text: &str| {
        let digits = text.find(|digit: char| !digit.is_ascii_digit()).map_or(text, |end| &text[..end]);
        digits.parse::<u32>().ok()
    };
    match (number(&info.major), number(&info.minor)) {
        (Some(1), Some(minor)) if minor >= oldest => Ok(()),
        (Some(0 | 1), Some(_)) => Err(TooOld { which, found: info.git_version.clone(), oldest }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_is_refused_with_a_sentence() {
        for (major, minor, accepted) in [
            ("1", "31", true),
            ("1", "30", false),
            ("1", "30+", false),
            ("1", "36+", true),
            ("2", "0", true),
            ("", "", true),
        ] {
            let git_version = format!("v{major}.{minor}.0");
            let info = Info { major: major.into(), minor: minor.into(), git_version, ..Info::default() };
            assert_eq!(check_version(&info).is_ok(), accepted, "{major}.{minor}");
        }
        let info =
            Info { major: "1".into(), minor: "29".into(), git_version: "v1.29.4".into(), ..Info::default() };
        let expected = "the LB cluster runs Kubernetes v1.29.4; Kubernetes 1.31 or newer is required there";
        assert_eq!(check_version(&info).unwrap_err().to_string(), expected);
    }
}
