//! The driver all tests share: it does what the owner of a connection does, and writes down what happened.

mod body;
mod heads;
mod oracle;
mod properties;

use super::*;

/// What came of a connection's bytes. Offsets count from the connection's first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Transcript {
    /// Where each head ended, and what it said.
    pub(super) heads: Vec<(usize, Framing)>,
    /// Where each body ended.
    pub(super) ends: Vec<usize>,
    /// How many bytes passed.
    pub(super) passed: usize,
    pub(super) refused: Option<RefusalReason>,
}

/// Feeds `input` in pieces of the given lengths (the last takes the rest).
pub(super) fn feed(limits: GateLimits, input: &[u8], pieces: impl IntoIterator<Item = usize>) -> Transcript {
    let mut gate = Gate::new(limits);
    let mut seen = Transcript::default();
    let mut arrived = 0;
    for piece in pieces.into_iter().chain([input.len()]) {
        arrived = (arrived + piece).min(input.len());
        loop {
            let buf = &input[seen.passed..arrived];
            let progress = gate.advance(buf);
            match progress {
                Progress::NeedMore => break,
                Progress::Head { len, framing } => {
                    seen.passed += len;
                    seen.heads.push((seen.passed, framing));
                }
                Progress::Body { len, end } => {
                    assert!(len > 0);
                    seen.passed += len;
                    if end {
                        seen.ends.push(seen.passed);
                    }
                }
                Progress::Tunnel { .. } => panic!("nobody asked for a tunnel"),
                Progress::Refuse(refusal) => {
                    assert_eq!(refusal.status, refusal.reason.status());
                    assert_eq!(gate.phase(), Phase::Refused);
                    assert_eq!(gate.advance(b"GET / HTTP/1.0\r\n\r\n"), progress, "a refusal stands");
                    seen.refused = Some(refusal.reason);
                    return seen;
                }
            }
            assert!(seen.passed <= arrived);
        }
    }
    seen
}

pub(super) fn at_once(input: &[u8]) -> Transcript {
    feed(GateLimits::default(), input, [])
}

pub(super) fn byte_by_byte(input: &[u8]) -> Transcript {
    feed(GateLimits::default(), input, std::iter::repeat_n(1, input.len()))
}

#[test]
fn reasons_are_distinct_and_well_formed() {
    let mut codes = std::collections::HashSet::new();
    let mut texts = std::collections::HashSet::new();
    for reason in RefusalReason::ALL {
        assert!(codes.insert(reason.as_str()) && texts.insert(reason.text()), "{reason:?}");
        assert!(reason.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        assert!(!reason.text().ends_with('.'));
        assert!([400, 414, 417, 431, 501, 505].contains(&reason.status()));
    }
}
