//! Is there a whole line, ended by CRLF and free of control characters, and where does the token end that begins it?
//!
//! Request lines begin with a token (the method), field lines too (the name). The walk can stop anywhere and go on
//! later from where it stopped; no byte is looked at twice.

use super::bytes::{skip_text, skip_token};
use super::refusal::RefusalReason;

/// A whole line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) start: usize,
    /// The first byte that is not of the token; the line's end if all are.
    pub(super) token_end: usize,
    /// Where the line's CR stands.
    pub(super) end: usize,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// Walks over one line after the other, from the front of the owner's buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walk {
    /// Where the line begins that is not whole yet.
    pub(super) start: usize,
    token_end: usize,
    pos: usize,
}

impl Walk {
    /// The next line, if it is whole. HTAB passes: where it may not stand, the reader of the line says so.
    #[inline(always)]
    pub(super) fn next(&mut self, buf: &[u8]) -> Result<Option<Line>, RefusalReason> {
        self.token_end = skip_token(buf, self.token_end);
        self.pos = self.pos.max(self.token_end);
        loop {
            self.pos = skip_text(buf, self.pos);
            match buf.get(self.pos..) {
                Some([b'\r', b'\n', ..]) => {
                    let line = Line { start: self.start, token_end: self.token_end, end: self.pos };
                    let start = self.pos + 2;
                    *self = Self { start, token_end: start, pos: start };
                    return Ok(Some(line));
                }
                None | Some([] | [b'\r']) => return Ok(None),
                Some([b'\t', ..]) => self.pos += 1,
                Some([b'\r', ..]) => return Err(RefusalReason::BareCr),
                Some([b'\n', ..]) => return Err(RefusalReason::BareLf),
                Some([_, ..]) => return Err(RefusalReason::ControlByte),
            }
        }
    }
}
