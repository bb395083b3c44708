//! The answer for a part of the bytes never contradicts the answer for all of them, and a header lies within them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_wire::proxy_protocol::{Likeness, looks_like, parse};

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    match looks_like(input) {
        Likeness::Yes => {}
        Likeness::No => assert!(whole.is_err()),
        Likeness::Maybe => assert_eq!(whole, Ok(None)),
    }
    if let Ok(Some(header)) = whole {
        assert!(header.len <= input.len());
        assert_eq!(parse(&input[..header.len]), whole);
    }
    for end in 0..input.len() {
        let part = parse(&input[..end]);
        assert!(part == Ok(None) || part == whole, "cut at {end}");
    }
});
