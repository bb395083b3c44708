//! However a connection's bytes are cut, the gate says the same; the parser behind it reads each head that passes as
//! exactly as long, with as many headers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_wire::http1::{Gate, GateLimits, Progress, Refusal};

/// Heads with their ends, how much passed, and the refusal.
type Seen = (Vec<(usize, usize)>, usize, Option<Refusal>);

fn feed(input: &[u8], piece: usize) -> Seen {
    let mut gate = Gate::new(GateLimits::default());
    let (mut heads, mut passed, mut arrived) = (Vec::new(), 0, 0);
    while arrived < input.len() {
        arrived = (arrived + piece).min(input.len());
        loop {
            match gate.advance(&input[passed..arrived]) {
                Progress::NeedMore => break,
                Progress::Head { len, .. } => {
                    heads.push((passed, passed + len));
                    passed += len;
                }
                Progress::Body { len, .. } | Progress::Tunnel { len } => {
                    assert!(len > 0);
                    passed += len;
                }
                Progress::Refuse(refusal) => return (heads, passed, Some(refusal)),
            }
        }
    }
    (heads, passed, None)
}

fuzz_target!(|input: &[u8]| {
    let seen = feed(input, usize::MAX >> 1);
    let piece = 1 + input.first().map_or(0, |&b| usize::from(b % 32));
    assert_eq!(feed(input, piece), seen, "in pieces of {piece}");
    assert_eq!(feed(input, 1), seen, "byte by byte");
    for (start, end) in seen.0 {
        let head = &input[start..end];
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut headers);
        // A quote in the query is the one byte that httparse refuses; Pingora escapes it and parses again.
        if !head.contains(&b'"') {
            assert_eq!(request.parse(head), Ok(httparse::Status::Complete(head.len())));
            let lines = head.windows(2).filter(|w| w == b"\r\n").count();
            assert_eq!(request.headers.len(), lines - 2 - usize::from(head.starts_with(b"\r\n")));
        }
    }
});
