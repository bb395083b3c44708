//! The header fields of a head, for those who change them.
//!
//! A trait, because the proxy's library keeps the spelling of names beside its map and wants to be told of each change.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Header fields.
pub trait Headers {
    /// To read them.
    fn map(&self) -> &HeaderMap;
    /// Replaces all fields of the name.
    fn set(&mut self, name: &HeaderName, value: HeaderValue);
    /// Adds a field beside what is there.
    fn add(&mut self, name: &HeaderName, value: HeaderValue);
    /// Removes all fields of the name.
    fn remove(&mut self, name: &HeaderName);
}

/// A map that is full (32,768 names) stays as it is.
impl Headers for HeaderMap {
    fn map(&self) -> &HeaderMap {
        self
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        drop(self.try_insert(name, value));
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        drop(self.try_append(name, value));
    }

    fn remove(&mut self, name: &HeaderName) {
        drop(HeaderMap::remove(self, name));
    }
}

/// Removes all fields of these names. Looks at the names there are, because usually none of these is among them.
pub fn remove_any(headers: &mut HeaderMap, names: &[HeaderName]) {
    if headers.keys().any(|name| names.contains(name)) {
        for name in names {
            headers.remove(name);
        }
    }
}
