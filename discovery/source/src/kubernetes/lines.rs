//! A response's body, line by line.
//!
//! Cost: each byte is copied twice and searched once. A line is bounded, since an object is.

use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::client::Body;
use tokio::time::timeout;

/// The longest line: an API server takes objects of 3 MiB at most.
const LONGEST: usize = 16 << 20;

/// See the module's documentation.
pub(crate) struct Lines {
    body: Body,
    splitter: Splitter,
}

/// There is no next line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinesError {
    #[error("the connection broke: {}", super::request::whole(.0))]
    Broken(kube::Error),
    #[error("nothing came for {0:?}")]
    Silence(Duration),
    #[error("a line is longer than {LONGEST} bytes")]
    TooLong,
    #[error("a line is not UTF-8 text")]
    NoText,
}

impl Lines {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, splitter: Splitter::default() }
    }

    /// The next line, without its end; `None` at the end of the body, whatever half a line stands there.
    pub(crate) async fn next(&mut self, silence: Duration) -> Result<Option<String>, LinesError> {
        loop {
            if let Some(line) = self.splitter.next() {
                return String::from_utf8(line).map(Some).map_err(|_| LinesError::NoText);
            }
            if self.splitter.buffer.len() > LONGEST {
                return Err(LinesError::TooLong);
            }
            match timeout(silence, self.body.frame()).await {
                Err(_) => return Err(LinesError::Silence(silence)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(LinesError::Broken(error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.splitter.push(&data);
                    }
                }
            }
        }
    }
}

/// Lines out of parts.
#[derive(Debug, Default)]
struct Splitter {
    buffer: Vec<u8>,
    /// So much of the buffer has been handed out.
    used: usize,
    /// So much of it was searched.
    searched: usize,
}

impl Splitter {
    fn push(&mut self, part: &[u8]) {
        self.buffer.drain(..self.used);
        (self.searched, self.used) = (self.searched - self.used, 0);
        self.buffer.extend_from_slice(part);
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(at) = found else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + at;
        let line = self.buffer[self.used..end].to_vec();
        (self.used, self.searched) = (end + 1, end + 1);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_whatever_parts_they_come_in() {
        for (parts, expected, rest) in [
            (&["one\ntwo\n"][..], &["one", "two"][..], ""),
            (&["o", "ne", "\n", "two\nthr", "ee\n"], &["one", "two", "three"], ""),
            (&["\n\n", "x\n"], &["", "", "x"], ""),
            (&["whole\nto", "rn"], &["whole"], "torn"),
            (&[], &[], ""),
        ] {
            let mut splitter = Splitter::default();
            let mut found = Vec::new();
            for part in parts {
                splitter.push(part.as_bytes());
                while let Some(line) = splitter.next() {
                    found.push(String::from_utf8(line).unwrap());
                }
            }
            assert_eq!(found, expected, "{parts:?}");
            assert_eq!(&splitter.buffer[splitter.used..], rest.as_bytes(), "{parts:?}");
        }
    }
}
