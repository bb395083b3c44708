//! Was this request meant for us? A page in somebody's browser may point a name of its own at 127.0.0.1 and read what this
//! port says (DNS rebinding). Such requests carry that name as their host; ours carry an address or `localhost`.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, Uri, header};
use portolan_model::host::normalize;

/// The host that a request names, if it is none of ours.
pub(crate) fn foreign_host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let fields = headers
        .get_all(header::HOST)
        .into_iter()
        .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    uri.authority().map(ToString::to_string).into_iter().chain(fields).find(|host| !is_ours(host))
}

fn is_ours(authority: &str) -> bool {
    if authority.is_empty() {
        return true;
    }
    let Some(host) = normalize(authority) else { return false };
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => host == "localhost" || host.parse::<IpAddr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_addresses_and_localhost() {
        for (host, expected) in [
            ("", true),
            ("localhost", true),
            ("LocalHost:9901", true),
            ("localhost.", true),
            ("127.0.0.1", true),
            ("127.0.0.1:9901", true),
            ("192.0.2.7:80", true),
            ("[::1]", true),
            ("[::1]:9901", true),
            ("evil.example", false),
            ("evil.example:9901", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evil.localhost", false),
            ("user@localhost", false),
            ("[evil]", false),
            ("[::1", false),
            (":9901", false),
        ] {
            assert_eq!(is_ours(host), expected, "{host}");
        }
    }

    #[test]
    fn every_host_that_a_request_names_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "127.0.0.1".parse().unwrap());
        assert_eq!(foreign_host(&"/plan".parse().unwrap(), &headers), None);
        assert_eq!(
            foreign_host(&"http://evil.example/plan".parse().unwrap(), &headers),
            Some("evil.example".into())
        );
        headers.append(header::HOST, "evil.example".parse().unwrap());
        assert_eq!(foreign_host(&"/plan".parse().unwrap(), &headers), Some("evil.example".into()));
        assert_eq!(foreign_host(&"/plan".parse().unwrap(), &HeaderMap::new()), None);
    }
}
