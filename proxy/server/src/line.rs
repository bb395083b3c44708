//! One request as a line of JSON, for the access log.
//!
//! Written by hand, because it is written for every request: a tenth of what a generic serialiser takes. What is plain text
//! is copied; only what needs escapes goes through the library.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use portolan_model::id::{ObjectRef, PoolId};

/// A key and what stands around it, for all but the first.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// What is logged of a request. Absent values are left out.
pub(crate) struct Line<'a> {
    pub(crate) time: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) client: IpAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) listener: &'a str,
    pub(crate) protocol: &'a str,
    pub(crate) tls: Option<&'a str>,
    pub(crate) server_name: Option<&'a str>,
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) flag: Option<&'a str>,
    pub(crate) reason: Option<&'a str>,
    pub(crate) detail: Option<&'a str>,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) duration: Duration,
    pub(crate) upstream_time: Option<Duration>,
    pub(crate) cluster: Option<&'a str>,
    /// The `HTTPLoadBalancer` and which of its rules.
    pub(crate) route: Option<(&'a ObjectRef, u32)>,
    pub(crate) pool: Option<&'a PoolId>,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) retries: usize,
    pub(crate) user_agent: Option<&'a str>,
    pub(crate) revision: u64,
}

impl<'a> Line<'a> {
    /// Of a request of which nothing is known but where and when it came.
    pub(crate) fn unknown(time: &'a str, peer: SocketAddr, listener: &'a str, revision: u64) -> Self {
        Self {
            time,
            request_id: "",
            client: peer.ip(),
            peer,
            listener,
            protocol: "",
            tls: None,
            server_name: None,
            method: "",
            host: "",
            path: "",
            status: 0,
            flag: None,
            reason: None,
            detail: None,
            bytes_received: 0,
            bytes_sent: 0,
            duration: Duration::ZERO,
            upstream_time: None,
            cluster: None,
            route: None,
            pool: None,
            upstream: None,
            retries: 0,
            user_agent: None,
            revision,
        }
    }

    /// Appends the line, its end included.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object { out };
        object.text("{\"time\":", self.time);
        object.text(key!("request_id"), self.request_id);
        object.key(key!("client"));
        object.quoted(|out| ip(out, self.client));
        object.key(key!("peer"));
        object.quoted(|out| address(out, self.peer));
        object.text(key!("listener"), self.listener);
        object.text(key!("protocol"), self.protocol);
        object.maybe(key!("tls"), self.tls);
        object.maybe(key!("server_name"), self.server_name);
        object.text(key!("method"), self.method);
        object.text(key!("host"), self.host);
        object.text(key!("path"), self.path);
        object.number(key!("status"), u64::from(self.status));
        object.maybe(key!("flag"), self.flag);
        object.maybe(key!("reason"), self.reason);
        object.maybe(key!("detail"), self.detail);
        object.number(key!("bytes_received"), self.bytes_received);
        object.number(key!("bytes_sent"), self.bytes_sent);
        object.millis(key!("duration_ms"), self.duration);
        if let Some(time) = self.upstream_time {
            object.millis(key!("upstream_ms"), time);
        }
        object.maybe(key!("cluster"), self.cluster);
        if let Some((route, rule)) = self.route {
            object.pair(key!("route"), &route.namespace, &route.name);
            object.number(key!("rule"), u64::from(rule));
        }
        if let Some(pool) = self.pool {
            object.pair(key!("pool"), &pool.namespace, &pool.name);
        }
        if let Some(upstream) = self.upstream {
            object.key(key!("upstream"));
            object.quoted(|out| address(out, upstream));
        }
        if self.retries > 0 {
            object.number(key!("retries"), self.retries as u64);
        }
        object.maybe(key!("user_agent"), self.user_agent);
        object.number(key!("revision"), self.revision);
        object.out.extend_from_slice(b"}\n");
    }
}

struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl Object<'_> {
    fn key(&mut self, key: &'static str) {
        self.out.extend_from_slice(key.as_bytes());
    }

    fn quoted(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.push(b'"');
        write(self.out);
        self.out.push(b'"');
    }

    fn text(&mut self, key: &'static str, text: &str) {
        self.key(key);
        let special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
        if text.bytes().fold(false, |any, byte| any | special(byte)) {
            // Writing to a vector cannot fail.
            let _ = serde_json::to_writer(&mut *self.out, text);
        } else {
            self.quoted(|out| out.extend_from_slice(text.as_bytes()));
        }
    }

    fn maybe(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// `a/b`, of names that need no escapes: Kubernetes' own.
    fn pair(&mut self, key: &'static str, a: &str, b: &str) {
        self.key(key);
        self.quoted(|out| {
            out.extend_from_slice(a.as_bytes());
            out.push(b'/');
            out.extend_from_slice(b.as_bytes());
        });
    }

    fn number(&mut self, key: &'static str, number: u64) {
        self.key(key);
        digits(self.out, number);
    }

    fn millis(&mut self, key: &'static str, time: Duration) {
        self.key(key);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        digits(self.out, micros / 1000);
        let rest = micros % 1000;
        self.out.push(b'.');
        self.out.extend([rest / 100, rest / 10 % 10, rest % 10].map(|digit| b'0' + digit as u8));
    }
}

fn digits(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                digits(out, u64::from(octet));
            }
        }
        // Writing to a vector cannot fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

fn address(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(v4) => ip(out, (*v4.ip()).into()),
        SocketAddr::V6(v6) => {
            out.push(b'[');
            ip(out, (*v6.ip()).into());
            out.push(b']');
        }
    }
    out.push(b':');
    digits(out, u64::from(address.port()));
}

#[cfg(test)]
mod tests {
    use portolan_model::id::Kind;
    use serde_json::json;

    use super::*;

    fn least() -> Line<'static> {
        Line {
            request_id: "id",
            client: "2001:db8::1".parse().unwrap(),
            protocol: "HTTP/1.1",
            method: "GET",
            host: "a.example",
            path: "/",
            status: 200,
            bytes_sent: u64::MAX,
            duration: Duration::from_micros(12_034),
            ..Line::unknown("2026-11-21T09:30:00.125Z", "[2001:db8::2]:443".parse().unwrap(), "http", 7)
        }
    }

    fn read(line: &Line<'_>) -> serde_json::Value {
        let mut out = Vec::new();
        line.write(&mut out);
        assert_eq!(out.iter().position(|&byte| byte == b'\n'), Some(out.len() - 1));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn absent_values_are_left_out() {
        assert_eq!(
            read(&least()),
            json!({
                "time": "2026-11-21T09:30:00.125Z", "request_id": "id", "client": "2001:db8::1", "peer": "[2001:db8::2]:443",
                "listener": "http", "protocol": "HTTP/1.1", "method": "GET", "host": "a.example", "path": "/", "status": 200,
                "bytes_received": 0, "bytes_sent": u64::MAX, "duration_ms": 12.034, "revision": 7,
            })
        );
    }

    #[test]
    fn every_value_is_there_and_escaped() {
        let hostile = "\"\\\u{0}\n\t\u{7f}é\u{2028}";
        let (route, pool) =
            (ObjectRef::new(Kind::HttpLoadBalancer, "tenant-a", "b"), PoolId::new("tenant-a", "c"));
        let line = Line {
            client: "192.0.2.1".parse().unwrap(),
            peer: "192.0.2.10:65535".parse().unwrap(),
            tls: Some("TLSv1.3"),
            server_name: Some(hostile),
            path: hostile,
            flag: Some("UF"),
            reason: Some("no"),
            detail: Some("why"),
            upstream_time: Some(Duration::from_nanos(999)),
            cluster: Some("a"),
            route: Some((&route, 3)),
            pool: Some(&pool),
            upstream: Some("10.0.0.1:80".parse().unwrap()),
            retries: 2,
            user_agent: Some(hostile),
            ..least()
        };
        let value = read(&line);
        for (key, expected) in [
            ("client", json!("192.0.2.1")),
            ("peer", json!("192.0.2.10:65535")),
            ("tls", json!("TLSv1.3")),
            ("server_name", json!(hostile)),
            ("path", json!(hostile)),
            ("flag", json!("UF")),
            ("reason", json!("no")),
            ("detail", json!("why")),
            ("upstream_ms", json!(0.0)),
            ("cluster", json!("a")),
            ("route", json!("tenant-a/b")),
            ("rule", json!(3)),
            ("pool", json!("tenant-a/c")),
            ("upstream", json!("10.0.0.1:80")),
            ("retries", json!(2)),
            ("user_agent", json!(hostile)),
        ] {
            assert_eq!(value[key], expected, "{key}");
        }
    }
}
