//! The hot functions, each on what it typically meets.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use portolan_balance::Balancer;
use portolan_certs::CertStore;
use portolan_compile::Compiler;
use portolan_filter::{Arrival, CompiledEdits, client, forward, request_id};
use portolan_model::host::{HostPattern, normalize};
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::pool::Balancing;
use portolan_model::proxy::ClientAddress;
use portolan_model::route::{HeaderEdits, PathMatch, RouteMatch, Scheme};
use portolan_route::{Outcome, RequestView, Router, normalize_path};
use portolan_wire::http1::{Gate, GateLimits, Progress};

use crate::fleet::{self, HOSTS, POOLS, host_name, virtual_host};
use crate::meter::Meter;

/// One row of the table.
pub(crate) struct Case {
    /// `area/what`.
    pub(crate) name: &'static str,
    /// Prepares, and counts calls.
    pub(crate) run: fn(&mut Meter) -> Result<()>,
}

/// All rows; those that take longest to prepare first, so that they are not waited for at the end.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "compile/change-a-rule-of-100k",
        run: |meter| compile(meter, |n| fleet::load_balancer(n, "/changed")),
    },
    Case { name: "compile/change-a-pool-of-10k", run: |meter| compile(meter, |n| fleet::pool(n % POOLS, 2)) },
    Case { name: "host/normalize", run: |meter| host(meter, "shop.cluster-7.lb.example.net") },
    Case {
        name: "host/normalize-case-and-port",
        run: |meter| host(meter, "Shop.Cluster-7.LB.example.net:8443"),
    },
    Case { name: "path/normalize", run: |meter| path(meter, "/api/v1/customers/1234/orders/index.html") },
    Case {
        name: "path/normalize-dots-and-escapes",
        run: |meter| path(meter, "/api/./v1/../v2/%7ecustomers/a%2Fb"),
    },
    Case { name: "route/exact-host-of-100k", run: exact_host },
    Case { name: "route/five-rules", run: |meter| rules(meter, five_rules(), "/api/v1/orders/7", 1) },
    Case { name: "route/regex", run: |meter| rules(meter, regex_rules(), "/api/v12/orders", 0) },
    Case { name: "route/wildcard-host-of-100k", run: wildcard_host },
    Case { name: "route/apply-one-of-100k", run: route_apply },
    Case { name: "headers/edits", run: header_edits },
    Case { name: "headers/forwarding", run: forwarding },
    Case { name: "headers/request-id", run: new_request_id },
    Case { name: "sni/exact-of-10k", run: |meter| sni(meter, "shop-5001.example.com", true) },
    Case { name: "sni/wildcard-of-10k", run: |meter| sni(meter, "www.wild-77.example.com", true) },
    Case { name: "sni/unknown", run: |meter| sni(meter, "www.example.org", false) },
    Case { name: "gate/ten-headers", run: gate },
    Case { name: "balance/round-robin-of-10", run: |meter| balance(meter, Balancing::RoundRobin) },
    Case { name: "balance/least-request-of-10", run: |meter| balance(meter, Balancing::LeastRequest) },
];

const CALLS: usize = 64;
/// Of what allocates much: some calls meet the allocator's rare work, which depends on where it lies in memory.
const CHANGES: usize = 4096;

fn host(meter: &mut Meter, authority: &str) -> Result<()> {
    for _ in 0..CALLS {
        meter.count(|| normalize(black_box(authority))).context("no host")?;
    }
    Ok(())
}

fn path(meter: &mut Meter, path: &str) -> Result<()> {
    for _ in 0..CALLS {
        meter.count(|| normalize_path(black_box(path)))?;
    }
    Ok(())
}

fn exact_host(meter: &mut Meter) -> Result<()> {
    let router = fleet::router()?;
    let headers = request_headers();
    for n in 0..CALLS {
        let name = host_name(n * 1009 % HOSTS);
        let request = RequestView {
            host: &name,
            path: "/api/v1/orders",
            query: None,
            method: "GET",
            headers: &headers,
        };
        ensure!(matches!(meter.count(|| router.route(black_box(&request))), Outcome::Matched(_)));
    }
    Ok(())
}

fn wildcard_host(meter: &mut Meter) -> Result<()> {
    let mut router = fleet::router()?;
    let wildcard = virtual_host([RouteMatch::default()]);
    let wildcards = (0..1000)
        .map(|n| Ok((HostPattern::parse(&format!("**.wild-{n}.example.org"))?, Some(Arc::clone(&wildcard)))));
    router.apply(&wildcards.collect::<Result<Vec<_>>>()?);
    let headers = request_headers();
    for n in 0..CALLS {
        let name = format!("a.b.wild-{n}.example.org");
        let request = RequestView { host: &name, path: "/", query: None, method: "GET", headers: &headers };
        ensure!(matches!(meter.count(|| router.route(black_box(&request))), Outcome::Matched(_)));
    }
    Ok(())
}

fn rules(meter: &mut Meter, matches: Vec<RouteMatch>, path: &str, expected: usize) -> Result<()> {
    let mut router: Router = Router::default();
    router.apply(&[(HostPattern::parse("shop.example.com")?, Some(virtual_host(matches)))]);
    let headers = request_headers();
    let request =
        RequestView { host: "shop.example.com", path, query: None, method: "GET", headers: &headers };
    // An expression builds its states as it is used.
    for _ in 0..CALLS {
        router.route(&request);
    }
    for _ in 0..CALLS {
        match meter.count(|| router.route(black_box(&request))) {
            Outcome::Matched(matched) => ensure!(matched.route == expected, "route {}", matched.route),
            other => anyhow::bail!("{other:?}"),
        }
    }
    Ok(())
}

fn five_rules() -> Vec<RouteMatch> {
    let prefix = |path: &str, method: Option<&str>| RouteMatch {
        path: PathMatch::Prefix(path.into()),
        method: method.map(Arc::from),
        ..RouteMatch::default()
    };
    let login = RouteMatch { path: PathMatch::Exact("/login".into()), ..RouteMatch::default() };
    vec![
        prefix("/api", Some("POST")),
        prefix("/api", None),
        prefix("/static/images", None),
        login,
        prefix("/", None),
    ]
}

fn regex_rules() -> Vec<RouteMatch> {
    let regex = |text: &str| RouteMatch { path: PathMatch::Regex(text.into()), ..RouteMatch::default() };
    vec![regex("/api/v[0-9]+/.*"), RouteMatch::default()]
}

fn route_apply(meter: &mut Meter) -> Result<()> {
    let mut router = fleet::router()?;
    for n in 0..CHANGES {
        let changed = virtual_host([RouteMatch {
            path: PathMatch::Prefix("/changed".into()),
            ..RouteMatch::default()
        }]);
        let change = [(HostPattern::parse(&host_name(n * 1009 % HOSTS))?, Some(changed))];
        // The snapshot that is being served.
        let _served = router.clone();
        meter.count(|| router.apply(black_box(&change)));
    }
    Ok(())
}

fn header_edits(meter: &mut Meter) -> Result<()> {
    let field = |name: &str, value: &str| (Arc::from(name), Arc::from(value));
    let edits = CompiledEdits::build(&HeaderEdits {
        set: vec![field("x-team", "checkout")],
        add: vec![field("x-via", "portolan")],
        remove: vec!["x-debug".into()],
    })?;
    for _ in 0..CALLS {
        let mut headers = request_headers();
        meter.count(|| edits.apply(black_box(&mut headers)));
    }
    Ok(())
}

fn forwarding(meter: &mut Meter) -> Result<()> {
    let trust = ClientAddress::default();
    let arrival = Arrival::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77)), Scheme::Https, 443);
    for _ in 0..CALLS {
        let mut headers = request_headers();
        let host = HeaderValue::from_static("shop.example.com");
        meter.count(|| {
            let from = client(&trust, black_box(&arrival), &headers);
            forward(&mut headers, &from, &arrival, host);
        });
    }
    Ok(())
}

fn new_request_id(meter: &mut Meter) -> Result<()> {
    let headers = request_headers();
    for n in 0..CALLS {
        meter.count(|| request_id(black_box(&headers), false, 0x0123_4567_89ab_cdef_u128 << n));
    }
    Ok(())
}

fn sni(meter: &mut Meter, name: &str, known: bool) -> Result<()> {
    let mut store = CertStore::default();
    let names = (0..10_000).map(|n| {
        let text = if n % 100 == 0 {
            format!("*.wild-{}.example.com", n / 100)
        } else {
            format!("shop-{n}.example.com")
        };
        let secret = ObjectRef::new(Kind::Secret, "tenant-paris", format!("certificate-{n}"));
        Ok((HostPattern::parse(&text)?, Some(Arc::from([secret]))))
    });
    store.apply(&[], &names.collect::<Result<Vec<_>>>()?);
    for _ in 0..CALLS {
        ensure!(meter.count(|| store.resolve(black_box(name))).is_some() == known);
    }
    Ok(())
}

fn gate(meter: &mut Meter) -> Result<()> {
    let mut request =
        String::from("GET /api/v1/customers/1234/orders?page=2 HTTP/1.1\r\nHost: shop.example.com\r\n");
    for (name, value) in FIELDS {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut gate = Gate::new(GateLimits::default());
    for _ in 0..CALLS {
        let progress = meter.count(|| gate.advance(black_box(request.as_bytes())));
        ensure!(matches!(progress, Progress::Head { len, .. } if len == request.len()), "{progress:?}");
    }
    Ok(())
}

fn balance(meter: &mut Meter, balancing: Balancing) -> Result<()> {
    let weights = [3, 1, 2, 1, 1, 2, 1, 1, 3, 1];
    let balancer = Balancer::new(balancing, &weights, 7);
    let under_way = [4, 0, 7, 2, 1, 9, 3, 0, 5, 2];
    for n in 0..CALLS as u64 {
        let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        meter
            .count(|| balancer.pick(black_box(random), |index| under_way[index], |_| true))
            .context("nothing picked")?;
    }
    Ok(())
}

fn compile(meter: &mut Meter, change: impl Fn(usize) -> portolan_model::intent::Delta) -> Result<()> {
    let mut compiler = Compiler::new();
    compiler.apply(fleet::objects());
    for n in 0..CHANGES {
        let delta = change(n * 1009 % HOSTS);
        // The plan that is in force.
        let _in_force = compiler.plan().clone();
        ensure!(!meter.count(|| compiler.apply([black_box(delta)])).is_empty());
    }
    Ok(())
}

/// With `Host`, ten header fields as a browser sends them.
const FIELDS: [(&str, &str); 9] = [
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.7,de;q=0.3"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "https://shop.example.com/api/v1/customers/1234"),
    ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
    ("Cache-Control", "no-cache"),
    ("X-Debug", "1"),
    ("Connection", "keep-alive"),
];

fn request_headers() -> HeaderMap {
    let host = (http::header::HOST, HeaderValue::from_static("shop.example.com"));
    let field = |(name, value): &(&str, &'static str)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_static(value)))
    };
    std::iter::once(host).chain(FIELDS.iter().filter_map(field)).collect()
}
