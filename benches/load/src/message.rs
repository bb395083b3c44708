//! As much of HTTP/1.1 reading as the backend and the load need: where a head ends and what its headers say.

/// The length of the head that `bytes` begins with, its empty line included, once it is whole.
pub(crate) fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a header, its name compared without case.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The value of `Content-Length`, if there is a good one.
pub(crate) fn content_length(head: &str) -> Option<usize> {
    header(head, "content-length")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read() {
        let bytes = b"HTTP/1.1 200 OK\r\nX: y\r\ncontent-LENGTH:  12 \r\n\r\nbody";
        let head = head_len(bytes).unwrap();
        assert_eq!(&bytes[head..], b"body");
        let head = std::str::from_utf8(&bytes[..head]).unwrap();
        assert_eq!(content_length(head), Some(12));
        assert_eq!(header(head, "x"), Some("y"));
        assert_eq!(header(head, "http/1.1 200 ok"), None);
        assert_eq!(head_len(b"HTTP/1.1 200 OK\r\nX: y\r\n"), None);
    }
}
