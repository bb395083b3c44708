//! The admin port over loopback: through raw sockets, and through curl.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portolan_admin::{ExplainRequest, Scope, Spot, State, serve};
use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::host::HostPattern;
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::Place;
use portolan_model::plan::{Plan, VirtualHost};
use serde_json::{Value, json};
use tokio::sync::oneshot;

struct Fake {
    plan: Plan,
    /// Whether somebody has asked for the plan.
    asked: AtomicBool,
    /// Whoever holds it keeps the plan from being given.
    slow: Mutex<()>,
    ready: AtomicBool,
    level: Mutex<String>,
}

impl State for Fake {
    fn plan(&self) -> Plan {
        self.asked.store(true, Ordering::SeqCst);
        let _slow = self.slow.lock();
        self.plan.clone()
    }

    fn diagnostics(&self) -> Value {
        json!([{ "file": "a.yaml", "line": 3 }])
    }

    fn place(&self, object: &ObjectRef) -> Option<Place> {
        (&*object.name == "shop").then(|| Place { file: "paris.yaml".into(), line: 7 })
    }

    fn spots(&self, conditions: &[(&ObjectRef, &Condition)]) -> Vec<Option<Spot>> {
        let spot = || Some(Spot { line: 12, column: 5, found: "gone".into() });
        conditions.iter().map(|(object, _)| spot().filter(|_| &*object.name == "shop")).collect()
    }

    fn metrics(&self) -> String {
        "portolan_build_info{version=\"1\"} 1\n".into()
    }

    fn not_ready(&self) -> Option<String> {
        (!self.ready.load(Ordering::SeqCst)).then(|| "no configuration is in force yet".into())
    }

    fn explain(&self, request: &ExplainRequest) -> Result<Value, String> {
        if request.host == "unsure.example" {
            return Err("no configuration is in force yet".into());
        }
        let beta: Vec<_> = request.headers.get_all("x-beta").iter().map(|v| v.to_str().unwrap()).collect();
        Ok(
            json!({ "host": request.host, "path": request.path, "method": request.method.as_str(), "beta": beta }),
        )
    }

    fn certificates(&self) -> Value {
        assert_eq!(self.plan.revision, 1, "a fault of ours");
        json!([{ "secret": "tenant-paris/shop", "not_after": 1 }])
    }

    fn set_log_level(&self, filter: &str) -> Result<(), String> {
        if filter.contains('!') {
            return Err("invalid filter directive".into());
        }
        *self.level.lock().unwrap() = filter.into();
        Ok(())
    }

    fn log_level(&self) -> String {
        self.level.lock().unwrap().clone()
    }
}

fn fake() -> Fake {
    let mut plan = Plan { revision: 1, ..Plan::empty() };
    let host = Arc::new(VirtualHost { routes: [].into(), shared: false });
    plan.hosts.insert(HostPattern::parse("shop.example").unwrap(), host);
    for (name, field) in [("shop", "spec.rules[0]"), ("blog", "")] {
        let condition =
            Condition::new(ConditionType::ResolvedRefs, Reason::BackendNotFound, field, "no such pool");
        plan.conditions
            .insert(ObjectRef::new(Kind::HttpLoadBalancer, "tenant-paris", name), [condition].into());
    }
    Fake {
        plan,
        asked: AtomicBool::default(),
        slow: Mutex::default(),
        ready: AtomicBool::new(true),
        level: Mutex::new("info".into()),
    }
}

/// A port that is open as long as this lives.
struct Port {
    address: SocketAddr,
    state: Arc<Fake>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Port {
    fn open(scope: Scope, state: Fake) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(state);
        let (stop, stopped) = oneshot::channel::<()>();
        let served: Arc<Fake> = Arc::clone(&state);
        // One thread: whatever blocks it would be felt.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let stopped = async { drop(stopped.await) };
                serve(listener, served, scope, stopped).await.unwrap();
            });
        });
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    fn close(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends these bytes and reads to the end: status, head in lower case, body.
    fn raw(&self, request: &str) -> (u16, String, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).unwrap_or_default().parse().unwrap_or(0);
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    fn ask(&self, method: &str, target: &str, headers: &str) -> (u16, String, String) {
        self.raw(&format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
        ))
    }

    fn put(&self, target: &str, body: &str) -> (u16, String, String) {
        let length = body.len();
        self.raw(&format!(
            "PUT {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// What curl prints.
    fn curl(&self, target: &str, arguments: &[&str]) -> String {
        let url = format!("http://{}{target}", self.address);
        let output =
            Command::new("curl").args(["-sS", "--max-time", "60", &url]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

#[test]
fn endpoints_answer() {
    let port = Port::open(Scope::Full, fake());
    for (target, headers, status, kind, expected) in [
        ("/", "", 200, "text/plain", "GET /plan"),
        ("/livez", "", 200, "text/plain", "alive\n"),
        ("/readyz", "", 200, "text/plain", "ready\n"),
        ("/metrics", "", 200, "text/plain; version=0.0.4", "portolan_build_info"),
        ("/certificates", "", 200, "application/json", "\"not_after\":1"),
        ("/log-level", "", 200, "text/plain", "info\n"),
        ("/explain?url=http://a.example/x", "", 200, "application/json", "\"path\":\"/x\""),
        ("/explain?url=http://a.example/x", "Accept: text/plain\r\n", 200, "text/plain", "path: /x\n"),
        ("/explain?url=http://a.example/x", "Accept: */*\r\n", 200, "application/json", "{"),
        (
            "/explain?url=http%3A%2F%2Fa.example%2F&method=PUT&header=X-Beta:%20a&header=X-Beta:+b",
            "",
            200,
            "json",
            "{\"beta\":[\"a\",\"b\"]",
        ),
        ("/explain?url=http://unsure.example", "", 422, "text/plain", "no configuration"),
        ("/explain", "", 400, "text/plain", "the parameter \"url\" is missing"),
        ("/explain?url=a", "", 400, "text/plain", "\"a\" is not a URL"),
        ("/explain?url=http://a.example&url=http://b.example", "", 400, "text/plain", "given twice"),
        ("/explain?uri=http://a.example", "", 400, "text/plain", "unknown parameter \"uri\""),
        ("/explain?url=http://a.example&header=x", "", 400, "text/plain", "expected \"Name: value\""),
        ("/plan", "", 200, "application/json", "shop.example"),
        ("/plan?host=shop.example", "", 200, "application/json", "shop.example"),
        ("/plan?host=other.example", "", 404, "text/plain", "nothing of host other.example in revision 1"),
        ("/plan?pool=x", "", 400, "text/plain", "expected nothing, or one of"),
        ("/nothing", "", 404, "text/plain", "GET /conditions"),
        ("/plan/", "", 404, "text/plain", "GET /plan"),
    ] {
        let (found, head, body) = port.ask("GET", target, headers);
        assert_eq!(found, status, "{target}: {body}");
        assert!(head.contains(&format!("content-type: {kind}")) || kind == "json", "{target}: {head}");
        assert!(body.contains(expected), "{target}: {body}");
        assert!(
            head.contains("cache-control: no-store") && head.contains("x-content-type-options: nosniff"),
            "{head}"
        );
    }
}

#[test]
fn conditions_say_where_things_stand() {
    let port = Port::open(Scope::Full, fake());
    let json: Value = serde_json::from_str(&port.curl("/conditions", &[])).unwrap();
    let object = |name| json!({ "kind": "HTTPLoadBalancer", "namespace": "tenant-paris", "name": name });
    let condition = |field| json!({ "type": "ResolvedRefs", "reason": "BackendNotFound", "field": field, "message": "no such pool" });
    let mut at_its_field = condition("spec.rules[0]");
    for (key, value) in [("line", json!(12)), ("column", json!(5)), ("found", json!("gone"))] {
        at_its_field[key] = value;
    }
    let expected = json!({
        "revision": 1,
        "conditions": [
            { "object": object("blog"), "place": null, "conditions": [condition("")] },
            { "object": object("shop"), "place": { "file": "paris.yaml", "line": 7 }, "conditions": [at_its_field] },
        ],
        "diagnostics": [{ "file": "a.yaml", "line": 3 }],
    });
    assert_eq!(json, expected);
}

#[test]
fn a_process_that_is_not_ready_says_why() {
    let port = Port::open(Scope::Probes, fake());
    port.state.ready.store(false, Ordering::SeqCst);
    let (status, _, body) = port.ask("GET", "/readyz", "");
    assert_eq!((status, &*body), (503, "no configuration is in force yet\n"));
    assert_eq!(port.ask("GET", "/livez", "").0, 200);
}

#[test]
fn the_log_level_is_set() {
    let port = Port::open(Scope::Full, fake());
    assert_eq!(
        port.curl("/log-level", &["-X", "PUT", "-d", "info,portolan_proxy=debug"]),
        "info,portolan_proxy=debug\n"
    );
    assert_eq!(*port.state.level.lock().unwrap(), "info,portolan_proxy=debug");
    let (status, _, body) = port.put("/log-level", "x=!\n");
    assert_eq!(status, 400);
    assert!(body.contains("\"x=!\" is no log filter: invalid filter directive"), "{body}");
    assert_eq!(port.put("/log-level", " \n").0, 400);
    assert_eq!(port.put("/log-level", &"a".repeat(5000)).0, 413);
    assert_eq!(*port.state.level.lock().unwrap(), "info,portolan_proxy=debug");
}

#[test]
fn other_methods_are_told_what_is_allowed() {
    let port = Port::open(Scope::Full, fake());
    for (method, target, allow) in [
        ("POST", "/plan", "get,head"),
        ("DELETE", "/metrics", "get,head"),
        ("PUT", "/readyz", "get,head"),
        ("POST", "/log-level", "get,head,put"),
    ] {
        let (status, head, body) = port.ask(method, target, "");
        assert_eq!(status, 405, "{method} {target}");
        assert!(head.contains(&format!("allow: {allow}\r\n")), "{head}");
        assert!(body.contains(&format!("{target} does not take {method}")), "{body}");
    }
    let (status, head, body) = port.ask("HEAD", "/plan", "");
    assert_eq!((status, &*body), (200, ""), "{head}");
}

#[test]
fn a_name_of_somebody_elses_is_refused() {
    let full = Port::open(Scope::Full, fake());
    let ask = |port: &Port, host: &str| {
        port.raw(&format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    };
    for (host, status) in [
        ("localhost", 200),
        ("localhost:9901", 200),
        ("127.0.0.1:9901", 200),
        ("[::1]:9901", 200),
        ("evil.example", 403),
        ("localhost.evil.example:9901", 403),
    ] {
        let (found, _, body) = ask(&full, host);
        assert_eq!(found, status, "{host}: {body}");
        assert!(status == 200 || body.contains(&format!("the host {host:?}")), "{body}");
    }
    assert_eq!(full.raw("GET /metrics HTTP/1.0\r\n\r\n").0, 200, "no host at all");
    assert_eq!(
        full.raw("GET http://evil.example/plan HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").0,
        403
    );
    let (status, ..) = full.raw("PUT /log-level HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nContent-Length: 5\r\n\r\ntrace");
    assert_eq!((status, &**full.state.level.lock().unwrap()), (403, "info"));

    let probes = Port::open(Scope::Probes, fake());
    assert_eq!(ask(&probes, "portolan.portolan-system.svc").0, 200, "scrapers come by name");
}

#[test]
fn the_other_port_has_probes_alone() {
    let port = Port::open(Scope::Probes, fake());
    for (target, expected) in [
        ("/", 200),
        ("/metrics", 200),
        ("/livez", 200),
        ("/readyz", 200),
        ("/plan", 404),
        ("/conditions", 404),
        ("/explain?url=http://a.example/", 404),
        ("/certificates", 404),
        ("/log-level", 404),
    ] {
        let (status, _, body) = port.ask("GET", target, "");
        assert_eq!(status, expected, "{target}");
        assert!(target == "/plan" || !body.contains("GET /plan"), "{body}");
    }
    assert_eq!(port.put("/log-level", "trace").0, 404);
}

#[test]
fn a_fault_of_ours_is_a_500_and_no_more() {
    let mut state = fake();
    state.plan.revision = 2;
    let port = Port::open(Scope::Full, state);
    let (status, _, body) = port.ask("GET", "/certificates", "");
    assert_eq!(status, 500, "{body}");
    assert_eq!(port.ask("GET", "/livez", "").0, 200);
}

#[test]
fn heads_are_bounded() {
    let port = Port::open(Scope::Full, fake());
    let long = format!("X-Long: {}\r\n", "a".repeat(20_000));
    assert_eq!(port.ask("GET", "/livez", &long).0, 431);
    let many: String = (0..100).map(|i| format!("X-{i}: 1\r\n")).collect();
    assert_eq!(port.ask("GET", "/livez", &many).0, 431);
    assert_eq!(port.raw("not HTTP\r\n\r\n").0, 400);
}

#[test]
fn a_large_plan_holds_up_nobody() {
    let mut state = fake();
    // Seven megabytes: more than the kernel takes off our hands.
    let long = ["a".repeat(60).as_str(); 3].join(".");
    for i in 0..30_000 {
        let host = Arc::new(VirtualHost { routes: [].into(), shared: false });
        state.plan.hosts.insert(HostPattern::parse(&format!("host-{i}.{long}.example")).unwrap(), host);
    }
    let port = Port::open(Scope::Full, state);
    // Readers who do not read, more than there may be: the rest is told so.
    let mut lazy: Vec<TcpStream> = (0..4).map(|_| port.connect()).collect();
    for stream in &mut lazy {
        stream.write_all(b"GET /plan HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 15]).unwrap();
    }
    assert_eq!(port.ask("GET", "/plan", "").0, 503);
    assert_eq!(port.ask("GET", "/livez", "").0, 200);
    assert_eq!(port.ask("GET", "/metrics", "").0, 200);
    drop(lazy);
    // Their threads are given back, and the whole plan arrives.
    let deadline = Instant::now() + Duration::from_secs(20);
    while port.ask("GET", "/plan?host=shop.example", "").0 != 200 {
        assert!(Instant::now() < deadline, "the plan is still being read");
        std::thread::yield_now();
    }
    let plan: Value = serde_json::from_str(&port.curl("/plan", &[])).unwrap();
    assert_eq!(plan["hosts"].as_object().unwrap().len(), 30_001);
}

#[test]
fn a_plan_that_is_slow_to_get_holds_up_nobody() {
    let port = Port::open(Scope::Full, fake());
    let slow = port.state.slow.lock().unwrap();
    let mut waiting = port.connect();
    waiting.write_all(b"GET /plan HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !port.state.asked.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "nobody asks for the plan");
        std::thread::yield_now();
    }
    assert_eq!(port.ask("GET", "/livez", "").0, 200);
    drop(slow);
    waiting.read_exact(&mut [0; 15]).unwrap();
}

#[test]
fn closing_ends_connections_that_idle() {
    let mut port = Port::open(Scope::Full, fake());
    let mut idle = port.connect();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = vec![0; 1024];
    let n = idle.read(&mut answer).unwrap();
    assert!(answer[..n].starts_with(b"HTTP/1.1 200"));
    let began = Instant::now();
    port.close();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    assert!(TcpStream::connect(port.address).is_err());
}
