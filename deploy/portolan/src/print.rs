//! Writing to whoever reads the output, who may have stopped reading (`portolan crds | head`): that is no error, and nothing is
//! left to say. The standard macros panic there.

use std::io::{self, ErrorKind, Write};

use anyhow::Context;

/// Writes to standard output.
pub(crate) fn out(text: &str) -> anyhow::Result<()> {
    write(io::stdout().lock(), text).context("cannot write to standard output")
}

/// Writes to standard error. Where that fails, nobody could be told.
pub(crate) fn err(text: &str) {
    let _ = write(io::stderr().lock(), text);
}

fn write(mut to: impl Write, text: &str) -> io::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: `portolan crds | head` panicked.
    #[test]
    fn a_reader_that_has_left_is_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        write(writer, "nobody reads this").unwrap();
    }

    #[test]
    fn other_errors_are_told() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(write(full, "no room").unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
