//! Tables that read like the standards, and properties against naive readings of them.

mod answer;
mod forwarded;
mod headers;
mod location;

use http::{HeaderMap, HeaderName, HeaderValue};

/// A map of these fields.
fn fields<N: AsRef<str>, V: AsRef<str>>(fields: &[(N, V)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_ref().as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_ref().as_bytes()).unwrap());
    }
    map
}

/// Its fields, sorted by name; those of one name in their order.
fn sorted(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut all: Vec<_> = map.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
