//! Is the API server new enough?
//!
//! The LB cluster's has to be of 1.31: admission policies are there since 1.30, and what they know of addresses since 1.31. Of member clusters
//! 1.29 is enough.

use k8s_openapi::apimachinery::pkg::version::Info;
pub use portolan_source::TooOld;

/// Whether an LB cluster of that version will do.
pub fn check_version(info: &Info) -> Result<(), TooOld> {
    portolan_source::check_version("the LB cluster", &info.major, &info.minor, 31)
}

/// The same for a member cluster.
pub(crate) fn check_member(info: &Info) -> Result<(), TooOld> {
    portolan_source::check_version("the member cluster", &info.major, &info.minor, 29)
}
