//! Which lines of a log does somebody want?
//!
//! ```text
//!  2026-01-02T03:04:05.678901234Z stdout F a whole line
//!  2026-01-02T03:04:05.678901234Z stdout P a part of one, up to the next that is F
//! ```

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

/// What the API server passes on from `kubectl logs`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Wanted {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    timestamps: bool,
    tail_lines: Option<usize>,
    since_seconds: Option<u64>,
    since_time: Option<Timestamp>,
    limit_bytes: Option<usize>,
    stream: Option<String>,
}

/// Turns a log, piece by piece, into what is wanted of it.
#[derive(Debug)]
pub(crate) struct Reader {
    wanted: Wanted,
    since: Option<Timestamp>,
    rest: Vec<u8>,
    left: Option<usize>,
    begun: bool,
}

impl Reader {
    /// For a log of which nothing was read yet.
    pub(crate) fn new(wanted: Wanted, now: Timestamp) -> Self {
        let ago = wanted.since_seconds.map(|seconds| now - Duration::from_secs(seconds));
        Self {
            since: wanted.since_time.or(ago),
            left: wanted.limit_bytes,
            wanted,
            rest: Vec::new(),
            begun: false,
        }
    }

    /// What is wanted of the next piece. The first piece is all that is there at first: of it the last lines are taken.
    pub(crate) fn read(&mut self, piece: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(piece);
        let whole = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        let mut found = lines
            .split_inclusive(|&byte| byte == b'\n')
            .filter_map(|line| self.line(line))
            .collect::<Vec<_>>();
        if !std::mem::replace(&mut self.begun, true)
            && let Some(tail) = self.wanted.tail_lines
        {
            found = last(found, tail);
        }
        let mut out: Vec<u8> = found.into_iter().flat_map(|(text, _)| text).collect();
        if let Some(left) = &mut self.left {
            out.truncate(*left);
            *left -= out.len();
        }
        out
    }

    /// Whether no more can be wanted.
    pub(crate) fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    /// A line as it is wanted, and whether it is whole.
    fn line(&self, line: &[u8]) -> Option<(Vec<u8>, bool)> {
        let mut fields = line.splitn(4, |&byte| byte == b' ');
        let (time, stream, kind, text) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        if let Some(since) = self.since {
            let time: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
            if time < since {
                return None;
            }
        }
        if let Some(wanted) = &self.wanted.stream
            && wanted != "All"
            && !wanted.as_bytes().eq_ignore_ascii_case(stream)
        {
            return None;
        }
        let whole = kind == b"F";
        let text = if whole { text } else { text.strip_suffix(b"\n").unwrap_or(text) };
        let mut out = Vec::new();
        if self.wanted.timestamps {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        out.extend_from_slice(text);
        Some((out, whole))
    }
}

/// The last lines, each with all its parts.
fn last(lines: Vec<(Vec<u8>, bool)>, count: usize) -> Vec<(Vec<u8>, bool)> {
    let mut seen = 0;
    let mut begin = lines.len();
    for (at, (_, whole)) in lines.iter().enumerate().rev() {
        // A part at the very end is a line that has not come to its end.
        seen += usize::from(*whole || at + 1 == lines.len());
        if seen > count {
            break;
        }
        begin = at;
    }
    lines.into_iter().skip(begin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.5Z stdout F one\n\
                       2026-01-01T00:00:02Z stderr F two\n\
                       2026-01-01T00:00:03Z stdout P thr\n\
                       2026-01-01T00:00:03Z stdout F ee \n\
                       2026-01-01T00:00:04Z stdout F \n";

    fn read(query: serde_json::Value) -> String {
        let wanted = serde_json::from_value(query).expect("a query");
        let now = "2026-01-01T00:00:05Z".parse().expect("a time");
        String::from_utf8(Reader::new(wanted, now).read(LOG.as_bytes())).expect("text")
    }

    #[test]
    fn what_is_wanted() {
        use serde_json::json;
        let rows = [
            (json!({}), "one\ntwo\nthree \n\n"),
            (json!({"tailLines": 2}), "three \n\n"),
            (json!({"tailLines": 0}), ""),
            (json!({"tailLines": 9}), "one\ntwo\nthree \n\n"),
            (json!({"sinceSeconds": 3}), "two\nthree \n\n"),
            (json!({"sinceTime": "2026-01-01T00:00:04Z"}), "\n"),
            (json!({"limitBytes": 5}), "one\nt"),
            (json!({"stream": "Stderr"}), "two\n"),
            (json!({"tailLines": 1, "timestamps": true}), "2026-01-01T00:00:04Z \n"),
        ];
        for (query, wanted) in rows {
            assert_eq!(read(query.clone()), wanted, "{query}");
        }
    }

    #[test]
    fn pieces_may_end_anywhere() {
        for at in 0..LOG.len() {
            let mut reader = Reader::new(Wanted::default(), Timestamp::UNIX_EPOCH);
            let (one, two) = LOG.as_bytes().split_at(at);
            let read = [reader.read(one), reader.read(two)].concat();
            assert_eq!(String::from_utf8(read).expect("text"), "one\ntwo\nthree \n\n", "{at}");
        }
        let mut reader = Reader::new(
            Wanted { tail_lines: Some(1), limit_bytes: Some(4), ..Default::default() },
            Timestamp::UNIX_EPOCH,
        );
        let next = reader.read(LOG.as_bytes());
        assert_eq!((next, reader.is_full()), (b"\n".to_vec(), false));
        assert_eq!((reader.read(LOG.as_bytes()), reader.is_full()), (b"one".to_vec(), true));
    }
}
