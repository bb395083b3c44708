//! Is the chunk framing of a body well formed? (RFC 9112, section 7.1)
//!
//! Follows the body as it streams by and keeps nothing of it. Stricter than the grammar: no white space around
//! sizes, printable ASCII alone in extensions, sixteen digits at most. What httparse takes in an extension (bare LF)
//! has been used to hide a second request. Cost: constant per chunk; data is counted, not read.

use super::refusal::RefusalReason;

/// Where in the framing the body stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunks {
    stage: Stage,
    /// The chunk's size; in `Data`, how much of it is still to come.
    size: u64,
    digits: u8,
    /// Bytes of extensions seen in the whole message.
    extensions: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Done,
}

impl Chunks {
    /// Whether the last chunk's line has ended: what follows is the trailer section.
    pub(super) fn done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// How many bytes of `buf` are well formed, up to the end of the last chunk's line. An error only if the very
    /// first is not: then nothing has been taken.
    pub(super) fn advance(&mut self, buf: &[u8], max_extensions: u32) -> Result<usize, RefusalReason> {
        let mut taken = 0;
        while taken < buf.len() && !self.done() {
            if self.stage == Stage::Data {
                let here =
                    usize::try_from(self.size).map_or(buf.len() - taken, |size| size.min(buf.len() - taken));
                taken += here;
                self.size -= here as u64;
                if self.size == 0 {
                    self.stage = Stage::DataCr;
                }
                continue;
            }
            match self.byte(buf[taken], max_extensions) {
                Ok(()) => taken += 1,
                Err(reason) if taken == 0 => return Err(reason),
                Err(_) => break,
            }
        }
        Ok(taken)
    }

    /// Takes one byte of framing, or leaves everything as it was.
    fn byte(&mut self, byte: u8, max_extensions: u32) -> Result<(), RefusalReason> {
        self.stage = match (self.stage, byte) {
            (Stage::Size, b'\r') if self.digits > 0 => Stage::SizeLf,
            (Stage::Size, b';') if self.digits > 0 => Stage::Extension,
            (Stage::Size, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(RefusalReason::ChunkSize)?;
                if self.digits == 16 || self.size > (i64::MAX as u64) >> 4 {
                    return Err(RefusalReason::ChunkSize);
                }
                self.digits += 1;
                self.size = self.size << 4 | u64::from(digit);
                Stage::Size
            }
            (Stage::Extension, b'\r') => Stage::SizeLf,
            (Stage::Extension, b'\t' | b' '..=b'~') => {
                if self.extensions == max_extensions {
                    return Err(RefusalReason::ChunkExtensionsTooLong);
                }
                self.extensions += 1;
                Stage::Extension
            }
            (Stage::Extension, _) => return Err(RefusalReason::ChunkExtension),
            (Stage::SizeLf, b'\n') if self.size == 0 => Stage::Done,
            (Stage::SizeLf, b'\n') => Stage::Data,
            (Stage::DataCr, b'\r') => Stage::DataLf,
            (Stage::DataLf, b'\n') => {
                self.digits = 0;
                Stage::Size
            }
            (Stage::SizeLf | Stage::DataCr | Stage::DataLf | Stage::Data | Stage::Done, _) => {
                return Err(RefusalReason::ChunkEnd);
            }
        };
        Ok(())
    }
}
