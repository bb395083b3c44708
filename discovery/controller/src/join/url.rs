//! By which URL does a member cluster reach the API server of the LB cluster?

use std::fmt;
use std::net::IpAddr;

use kube::Config;

/// `https://`, a host, and a port or a path if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    local: bool,
}

/// A text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no URL of an API server: {why}; expected one such as https://lb.example.net:6443")]
pub struct UrlError {
    text: String,
    why: &'static str,
}

impl Url {
    /// Without a slash at its end.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let wrong = |why| UrlError { text: text.to_owned(), why };
        let url = Config::new(text.parse().map_err(|_| wrong("it cannot be read"))?).cluster_url;
        if url.scheme_str() != Some("https") {
            return Err(wrong("it does not begin with https://"));
        }
        let Some(host) = url.host().filter(|host| !host.is_empty()) else {
            return Err(wrong("it has no host"));
        };
        let authority = url.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if authority.contains('@') {
            return Err(wrong("it has a user"));
        }
        if authority != host && url.port_u16().is_none() {
            return Err(wrong("its port is no number"));
        }
        if url.query().is_some() || text.contains('#') {
            return Err(wrong("it has a query or a fragment"));
        }
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let local = address.map_or(host == "localhost", |ip| ip.is_loopback() || ip.is_unspecified());
        Ok(Self { text: text.trim_end_matches('/').to_owned(), local })
    }

    /// Whether it leads nowhere but to the machine that it is used on.
    pub fn is_local(&self) -> bool {
        self.local
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_that_a_member_cluster_can_use() {
        for (text, expected) in [
            ("https://lb.example.net:6443", Ok(("https://lb.example.net:6443", false))),
            ("https://192.0.2.7/", Ok(("https://192.0.2.7", false))),
            (
                "https://lb.example.net/k8s/clusters/c-1/",
                Ok(("https://lb.example.net/k8s/clusters/c-1", false)),
            ),
            ("https://[2001:db8::1]:6443", Ok(("https://[2001:db8::1]:6443", false))),
            ("https://127.0.0.1:6443", Ok(("https://127.0.0.1:6443", true))),
            ("https://localhost:6443", Ok(("https://localhost:6443", true))),
            ("https://[::1]:6443", Ok(("https://[::1]:6443", true))),
            ("https://0.0.0.0:6443", Ok(("https://0.0.0.0:6443", true))),
            ("http://lb.example.net", Err("it does not begin with https://")),
            ("lb.example.net:6443", Err("it does not begin with https://")),
            ("https://", Err("it cannot be read")),
            ("https://lb.example.net:port", Err("its port is no number")),
            ("https://lb example.net", Err("it cannot be read")),
            ("https://me@lb.example.net", Err("it has a user")),
            ("https://lb.example.net?x=1", Err("it has a query or a fragment")),
            ("https://lb.example.net#x", Err("it has a query or a fragment")),
            ("", Err("it cannot be read")),
        ] {
            let found =
                Url::parse(text).map(|url| (url.to_string(), url.is_local())).map_err(|error| error.why);
            assert_eq!(found, expected.map(|(url, local)| (url.to_owned(), local)), "{text}");
        }
    }
}
