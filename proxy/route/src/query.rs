//! What does the query say of this name? Parameters as browsers write them (`application/x-www-form-urlencoded`).
//!
//! Names and values are compared decoded: `+` is a space, `%41` is `A`; a `%` that no two hexadecimal digits follow stands
//! for itself. Comparing costs one pass and no allocation.

use std::borrow::Cow;

use portolan_model::path::unhex;

/// The value, still encoded, of the first parameter whose decoded name is `name`; empty where it has no `=`.
pub(crate) fn first<'q>(query: &'q str, name: &str) -> Option<&'q [u8]> {
    query.as_bytes().split(|&byte| byte == b'&').find_map(|pair| {
        let (key, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        equals(key, name).then_some(value)
    })
}

/// Whether `encoded` says `text`.
pub(crate) fn equals(encoded: &[u8], text: &str) -> bool {
    encoded.len() >= text.len() && Decoded(encoded).eq(text.bytes())
}

/// What `encoded` says.
pub(crate) fn decode(encoded: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', encoded).is_none() {
        Cow::Borrowed(encoded)
    } else {
        Cow::Owned(Decoded(encoded).collect())
    }
}

struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        if let (b'%', [high, low, rest @ ..]) = (first, rest)
            && let Some(byte) = unhex(*high, *low)
        {
            self.0 = rest;
            return Some(byte);
        }
        self.0 = rest;
        Some(if first == b'+' { b' ' } else { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_counts_decoded() {
        for (query, name, expected) in [
            ("a=1", "a", Some("1")),
            ("a=1&a=2", "a", Some("1")),
            ("b=1&a=2", "a", Some("2")),
            ("a", "a", Some("")),
            ("a=", "a", Some("")),
            ("a=b=c", "a", Some("b=c")),
            ("", "a", None),
            ("A=1", "a", None),
            ("ab=1", "a", None),
            ("%61=%31", "a", Some("1")),
            ("a=x+y%20z", "a", Some("x y z")),
            ("a+b=1", "a b", Some("1")),
            ("a=100%", "a", Some("100%")),
            ("a=%4", "a", Some("%4")),
            ("a=%zz", "a", Some("%zz")),
            ("a=%252F", "a", Some("%2F")),
            ("a=%C3%A9", "a", Some("é")),
            ("&&a=1", "a", Some("1")),
            ("a;b=1", "a", None),
        ] {
            let value = first(query, name).map(|raw| String::from_utf8(decode(raw).into_owned()).unwrap());
            assert_eq!(value.as_deref(), expected, "{name} of {query}");
            if let (Some(raw), Some(expected)) = (first(query, name), expected) {
                assert!(equals(raw, expected) && !equals(raw, &format!("{expected}x")));
            }
        }
    }
}
