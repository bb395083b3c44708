//! Host names and host patterns, in the one spelling that everything compares by: lower case, A-label form,
//! no trailing dot, no port.
//!
//! Cost of normalising a name that is already in that form: one pass, no allocation.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Why a text is not a host name or pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing there.
    #[error("a host name must not be empty")]
    Empty,
    /// RFC 1035 §2.3.4.
    #[error("{0:?} is longer than 253 bytes")]
    TooLong(String),
    /// RFC 1035 §2.3.4.
    #[error("the label {0:?} must be 1 to 63 bytes long")]
    LabelLength(String),
    /// RFC 1123 §2.1, with `_` let through as browsers and other proxies do.
    #[error("the label {0:?} may hold letters, digits, '-' and '_' only, and not start or end with '-'")]
    LabelBytes(String),
    /// An IP address where a name is meant.
    #[error("{0:?} is an IP address, not a host name")]
    Address(String),
    /// A wildcard elsewhere than as the whole first label.
    #[error(
        "{0:?}: a wildcard must be the whole first label: *.example.com (one label) or **.example.com (any number)"
    )]
    Wildcard(String),
}

/// The host of a `Host` or `:authority` value: port, trailing dot and upper case removed; nothing validated, since what
/// does not equal a configured name cannot match. `[v6]` literals keep their brackets. `None` where nothing is left.
pub fn normalize(authority: &str) -> Option<Cow<'_, str>> {
    let host = if authority.starts_with('[') {
        &authority[..=authority.find(']')?]
    } else {
        authority.rsplit_once(':').map_or(authority, |(host, _)| host)
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        None
    // Capitals are rare: to look at all bytes takes fewer instructions than to stop at the first.
    } else if host.bytes().fold(false, |found, byte| found | byte.is_ascii_uppercase()) {
        Some(Cow::Owned(host.to_ascii_lowercase()))
    } else {
        Some(Cow::Borrowed(host))
    }
}

/// A host name that a request or a server name indication can be compared with.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

impl HostName {
    /// Reads a name as people write it: any case, a trailing dot allowed.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        if name.len() > 253 {
            return Err(HostError::TooLong(text.to_owned()));
        }
        if name.parse::<std::net::IpAddr>().is_ok() {
            return Err(HostError::Address(text.to_owned()));
        }
        if name.contains('*') {
            return Err(HostError::Wildcard(text.to_owned()));
        }
        for label in name.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(HostError::LabelLength(label.to_owned()));
            }
            let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !plain || label.starts_with('-') || label.ends_with('-') {
                return Err(HostError::LabelBytes(label.to_owned()));
            }
        }
        Ok(Self(name.into()))
    }

    /// The name, normalised.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is `suffix` or ends in `.suffix`.
    pub fn is_under(&self, suffix: &HostName) -> bool {
        is_under(self.as_str(), suffix.as_str())
    }
}

fn is_under(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

// Hash and equality are those of the text, so that maps can be asked with what a request carries.
impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for HostName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What a route or a certificate is keyed by. Most specific first is: exact, then the longer suffix, then the wildcard
/// that spans one label before the one that spans any number.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// That name alone.
    Exact(HostName),
    /// `*.suffix`: one label more than the suffix, as an Ingress means it.
    OneLabel(HostName),
    /// `**.suffix`: one label more or several, as the Gateway API means it.
    AnyLabels(HostName),
}

impl HostPattern {
    /// Reads `name`, `*.suffix` or `**.suffix`.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(suffix) = text.strip_prefix("**.") {
            HostName::parse(suffix).map(Self::AnyLabels)
        } else if let Some(suffix) = text.strip_prefix("*.") {
            HostName::parse(suffix).map(Self::OneLabel)
        } else {
            HostName::parse(text).map(Self::Exact)
        }
    }

    /// The name, or the suffix below the wildcard.
    pub fn name(&self) -> &HostName {
        match self {
            Self::Exact(name) | Self::OneLabel(name) | Self::AnyLabels(name) => name,
        }
    }

    /// Whether it has a wildcard.
    pub fn is_wildcard(&self) -> bool {
        !matches!(self, Self::Exact(_))
    }

    /// Whether a normalised host matches.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name.as_str() == host,
            Self::OneLabel(suffix) => {
                host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == suffix.as_str())
            }
            Self::AnyLabels(suffix) => host.len() > suffix.as_str().len() && is_under(host, suffix.as_str()),
        }
    }

    /// Whether every host that `other` matches lies under this pattern too.
    pub fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (_, Self::Exact(name)) => self.matches(name.as_str()),
            (Self::Exact(_), _) => false,
            (Self::OneLabel(a), Self::OneLabel(b)) => a == b,
            (Self::OneLabel(_), Self::AnyLabels(_)) => false,
            (Self::AnyLabels(a), Self::OneLabel(b) | Self::AnyLabels(b)) => b.is_under(a),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::OneLabel(suffix) => write!(f, "*.{suffix}"),
            Self::AnyLabels(suffix) => write!(f, "**.{suffix}"),
        }
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests;
