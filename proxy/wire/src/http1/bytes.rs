//! Where does a run of plain bytes end, and to which classes does a byte belong?
//!
//! The two searches classify sixteen bytes at a time, in loops without branches that the compiler turns into vector
//! instructions: thirteen instructions a block, and some twenty more where a search ends.

const BLOCK: usize = 16;

/// The index, from `pos` on, of the first control character (below 0x20, or DEL); the length if there is none.
/// Bytes from 0x80 on count as text.
#[inline(always)]
pub(super) fn skip_text(buf: &[u8], pos: usize) -> usize {
    find(buf, pos, |b| b < 0x20 || b == 0x7f)
}

/// The index, from `pos` on, of the first byte that no token holds (RFC 9110, section 5.6.2); the length if there is
/// none.
#[inline(always)]
pub(super) fn skip_token(buf: &[u8], mut pos: usize) -> usize {
    loop {
        // Nearly all names are of letters and dashes; the table knows the other bytes.
        pos = find(buf, pos, |b| !((b | 0x20).wrapping_sub(b'a') < 26 || b == b'-'));
        if buf.get(pos).is_none_or(|&b| !is(b, TOKEN)) {
            return pos;
        }
        pos += 1;
    }
}

/// The index of the first byte from `pos` on that is `wanted`; the length if none is.
#[inline(always)]
fn find(buf: &[u8], mut pos: usize, wanted: impl Fn(u8) -> bool) -> usize {
    let (blocks, rest) = buf.get(pos..).unwrap_or_default().as_chunks::<BLOCK>();
    for block in blocks {
        let mut marks = [0; BLOCK];
        for (mark, &byte) in marks.iter_mut().zip(block) {
            *mark = if wanted(byte) { 0xff } else { 0 };
        }
        if marks.iter().fold(0, |any, mark| any | mark) != 0 {
            return pos + (u128::from_le_bytes(marks).trailing_zeros() / 8) as usize;
        }
        pos += BLOCK;
    }
    pos + rest.iter().take_while(|&&b| !wanted(b)).count()
}

/// A byte of a token.
pub(super) const TOKEN: u8 = 1;
/// A byte of a registered name as DNS has it: letters, digits, `-`, `.`, `_`.
pub(super) const NAME: u8 = 1 << 1;
/// A byte no request target may hold.
pub(super) const TARGET_BAD: u8 = 1 << 2;
/// A byte no path may hold, though a query may.
pub(super) const PATH_BAD: u8 = 1 << 3;
/// The percent sign.
pub(super) const PERCENT: u8 = 1 << 4;

static CLASSES: [u8; 256] = classes();

/// The classes of a byte.
pub(super) fn class(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// Whether `byte` belongs to `class`.
pub(super) fn is(byte: u8, class: u8) -> bool {
    self::class(byte) & class != 0
}

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() || among(b, b"!#$%&'*+-.^_`|~") {
            table[byte] |= TOKEN;
        }
        if b.is_ascii_alphanumeric() || among(b, b"-._") {
            table[byte] |= NAME;
        }
        if b <= 0x20 || b >= 0x7f || among(b, b"\"<>#") {
            table[byte] |= TARGET_BAD;
        }
        if among(b, b"\\`") {
            table[byte] |= PATH_BAD;
        }
        if b == b'%' {
            table[byte] |= PERCENT;
        }
        byte += 1;
    }
    table
}

const fn among(byte: u8, set: &[u8]) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == byte {
            return true;
        }
        i += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte value at every place of a block and of a tail.
    #[test]
    fn searches_agree_with_a_plain_loop() {
        for length in 0..36 {
            for at in 0..length {
                for byte in 0..=255u8 {
                    for filler in [b'a', b'-', b'_', 0xff, b' '] {
                        let mut buf = vec![filler; length];
                        buf[at] = byte;
                        let text = buf.iter().position(|&b| b < 0x20 || b == 0x7f).unwrap_or(length);
                        assert_eq!(skip_text(&buf, 0), text, "{buf:?}");
                        assert_eq!(skip_text(&buf, at), text.max(at), "{buf:?} from {at}");
                        let token = buf.iter().position(|&b| !is(b, TOKEN)).unwrap_or(length);
                        assert_eq!(skip_token(&buf, 0), token, "{buf:?}");
                    }
                }
            }
        }
    }
}
