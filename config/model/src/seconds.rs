//! How times are shown: as people write them in manifests, in seconds.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// `2.5s`.
pub(crate) fn one<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}s", time.as_secs_f64()))
}

/// The same, or nothing.
pub(crate) fn maybe<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| format!("{}s", time.as_secs_f64())).serialize(serializer)
}
