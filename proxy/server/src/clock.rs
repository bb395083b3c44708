//! The time of day for log lines, formatted once per millisecond.

use std::time::SystemTime;

use arrayvec::ArrayString;
use parking_lot::Mutex;

/// A time as RFC 3339 has it, in UTC with milliseconds: `2026-11-21T09:30:00.125Z`.
pub(crate) type Stamp = ArrayString<32>;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Clock {
    last: Mutex<(u128, Stamp)>,
}

impl Clock {
    /// Now.
    pub(crate) fn now(&self) -> Stamp {
        let millis =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let mut last = self.last.lock();
        if last.0 != millis {
            *last = (millis, format(millis));
        }
        last.1
    }
}

/// Now, as a `Date` field says it (RFC 9110 §5.6.7).
pub(crate) fn http_date() -> String {
    jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn format(millis: u128) -> Stamp {
    use std::fmt::Write;
    let mut stamp = Stamp::new();
    let time = jiff::Timestamp::from_millisecond(millis as i64).unwrap_or_default();
    let _ = write!(stamp, "{time:.3}");
    stamp
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(super::format(1_795_253_400_125).as_str(), "2026-11-21T09:30:00.125Z");
        assert_eq!(super::format(0).as_str(), "1970-01-01T00:00:00.000Z");
    }
}
