//! The access log: each documented field, right; JSON whatever comes; and nobody waits for it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use portolan_e2e::{
    Authority, Echo, Key, Portolan, Setup, app, cluster, eventually, free_port, pool, route, secret, within,
};
use serde_json::{Map, Value};

use crate::streams::{Http2, run_async, tls_config};

const HOST: &str = "shop.paris.lb.test";
const DROPPED: &str = "portolan_access_log_dropped_lines_total";

/// The fields that the page lists.
fn documented() -> BTreeSet<String> {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/docs/access-log.md"))
            .expect("the page");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        row.split('|')
            .nth(1)
            .unwrap_or_default()
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    })
    .collect()
}

fn fields(line: &Value) -> &Map<String, Value> {
    let fields = line.as_object().expect("an object");
    let unknown: Vec<&String> = fields.keys().filter(|field| !documented().contains(*field)).collect();
    assert!(unknown.is_empty(), "not documented: {unknown:?} in {line}");
    for always in [
        "time",
        "request_id",
        "client",
        "peer",
        "listener",
        "protocol",
        "method",
        "host",
        "path",
        "status",
        "bytes_received",
        "bytes_sent",
        "duration_ms",
        "revision",
    ] {
        assert!(fields.contains_key(always), "{always} is missing in {line}");
    }
    fields
}

#[test]
fn a_request_over_http1() {
    let echo = Echo::start("a");
    let portolan = Setup::new()
        .trusting()
        .manifest("fleet.yaml", cluster("paris", "") + &app("paris", "shop", &[echo.address()]))
        .start();
    let before =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let reply = portolan
        .get("SHOP.paris.lb.test.:80", "/a%20b?c='d'&delay_ms=50")
        .header("X-Forwarded-For", "192.0.2.7")
        .header("User-Agent", "test/1 \"quoted\"")
        .header("X-Request-Id", "an-id-of-the-clients")
        .body("0123456789")
        .send();
    assert_eq!(reply.status, 200, "{reply:?}");
    let line = portolan
        .logged("the line", |line| line["path"].as_str().is_some_and(|path| path.starts_with("/a%20b")));
    let fields = fields(&line);
    let upstream = echo.address().to_string();
    for (field, value) in [
        ("request_id", Value::from("an-id-of-the-clients")),
        ("client", "192.0.2.7".into()),
        ("listener", "http".into()),
        ("protocol", "HTTP/1.1".into()),
        ("method", "POST".into()),
        ("host", HOST.into()),
        ("path", "/a%20b?c='d'&delay_ms=50".into()),
        ("status", 200.into()),
        ("bytes_received", 10.into()),
        ("bytes_sent", reply.body.len().into()),
        ("cluster", "paris".into()),
        ("route", "tenant-paris/shop".into()),
        ("rule", 0.into()),
        ("pool", "tenant-paris/shop".into()),
        ("upstream", upstream.as_str().into()),
        ("user_agent", "test/1 \"quoted\"".into()),
        ("revision", portolan.revision().into()),
    ] {
        assert_eq!(fields.get(field), Some(&value), "{field} in {line}");
    }
    for absent in ["tls", "server_name", "flag", "reason", "detail", "retries"] {
        assert!(!fields.contains_key(absent), "{absent} in {line}");
    }
    assert!(fields["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
    let (duration, upstream) = (
        fields["duration_ms"].as_f64().expect("a number"),
        fields["upstream_ms"].as_f64().expect("a number"),
    );
    assert!(upstream >= 50.0 && duration >= upstream && duration < 15_000.0, "{line}");
    // RFC 3339, in UTC, and about now.
    let time = fields["time"].as_str().expect("a text");
    assert!(time.len() >= 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    let seconds = std::process::Command::new("date").args(["-u", "-d", time, "+%s"]).output().expect("date");
    let seconds: u64 = String::from_utf8_lossy(&seconds.stdout).trim().parse().expect("seconds");
    assert!(seconds + 2 >= before && seconds <= before + 60, "{time}");
}

#[test]
fn requests_over_tls_and_http2() {
    let echo = Echo::start("a");
    let authority = Authority::new("log");
    let pair = authority.issue(&["*.paris.lb.test"], Key::Ecdsa);
    let fleet = cluster("paris", "certificateRef: {name: generated}")
        + &secret("tenant-paris", "generated", &pair.chain, &pair.key)
        + &app("paris", "shop", &[echo.address()]);
    let portolan = Portolan::start(&[("fleet.yaml", fleet)]);
    let ca = authority.file(portolan.folder());
    assert_eq!(
        portolan.get_tls(HOST, "/h1", &ca).args(&["--http1.1", "--tls-max", "1.2"]).send().status,
        200
    );
    run_async(async {
        let client = Http2::tls(portolan.https(), &tls_config(&authority, &[b"h2"]), HOST).await;
        assert_eq!(client.fetch(&format!("https://{HOST}/h2?x=y")).await.expect("an answer").0, 200);
    });
    for (path, protocol, tls) in [("/h1", "HTTP/1.1", "TLSv1.2"), ("/h2?x=y", "HTTP/2", "TLSv1.3")] {
        let line = portolan.logged(path, |line| line["path"] == path);
        let fields = fields(&line);
        assert_eq!(fields["protocol"], protocol, "{line}");
        assert_eq!(fields["tls"], tls, "{line}");
        assert_eq!(fields["server_name"], HOST, "{line}");
        assert_eq!(fields["listener"], "https", "{line}");
        assert_eq!(fields["host"], HOST, "{line}");
        assert!(fields["bytes_sent"].as_u64().is_some_and(|bytes| bytes > 0), "{line}");
    }
}

/// How requests fail, and the flag of each; the answer carries the id of the line.
#[test]
fn failures_say_what_and_where() {
    let echo = Echo::start("a");
    let dead = ([127, 0, 0, 1], free_port()).into();
    let fleet = cluster("paris", "")
        + &route(
            "paris",
            "shop",
            "rules:\n- matches: [{path: {value: /dead}}]\n  backends: [{pool: dead}]\n\
             - matches: [{path: {value: /empty}}]\n  backends: [{pool: empty}]\n\
             - matches: [{path: {value: /slow}}]\n  timeouts: {request: 300ms}\n  backends: [{pool: shop}]\n\
             - matches: [{path: {value: /moved}}]\n  filters: [{type: RequestRedirect, requestRedirect: {hostname: other.test}}]\n\
             - matches: [{path: {value: /half}}]\n  backends: [{pool: half}]\n\
             - matches: [{path: {type: Exact, value: /}}]\n  backends: [{pool: shop}]\n",
        )
        + &pool("paris", "shop", &[echo.address()], "")
        + &pool("paris", "dead", &[dead], "")
        + &pool("paris", "half", &[dead, echo.address()], "")
        + &pool("paris", "empty", &[], "endpoints: []\n");
    let portolan = Portolan::start(&[("fleet.yaml", fleet)]);
    for (host, path, status, flag, rule, pool) in [
        ("nobody.test", "/", 404, Some("NR"), None, None),
        (HOST, "/no-rule", 404, Some("NR"), None, None),
        (HOST, "/dead", 502, Some("UF"), Some(0), Some("tenant-paris/dead")),
        (HOST, "/empty", 503, Some("NH"), Some(1), Some("tenant-paris/empty")),
        (HOST, "/slow?delay_ms=2000", 504, Some("UT"), Some(2), Some("tenant-paris/shop")),
        (HOST, "/moved", 302, None, Some(3), None),
        (HOST, "/", 200, None, Some(5), Some("tenant-paris/shop")),
    ] {
        let reply = portolan.get(host, path).send();
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        let line = portolan.logged(path, |line| line["path"] == path && line["host"] == host);
        let fields = fields(&line);
        assert_eq!(fields["status"], status, "{line}");
        assert_eq!(fields.get("flag").and_then(Value::as_str), flag, "{line}");
        assert_eq!(fields.contains_key("reason"), flag.is_some(), "{line}");
        assert_eq!(fields.get("rule").and_then(Value::as_u64), rule, "{line}");
        assert_eq!(fields.get("pool").and_then(Value::as_str), pool, "{line}");
        if let Some(flag) = flag {
            assert_eq!(fields["request_id"].as_str(), reply.header("x-request-id"), "{line}");
            assert!(reply.text().contains(flag), "{reply:?}");
        }
    }
    // One of two endpoints is dead: each request is answered, some by a second try.
    for _ in 0..6 {
        assert_eq!(portolan.get(HOST, "/half").send().status, 200);
    }
    let line = portolan.logged("a retry", |line| line["path"] == "/half" && line["retries"] == 1);
    assert_eq!(line["upstream"], echo.address().to_string(), "{line}");
}

/// Whatever bytes come: every line is a JSON object of its own (the helper that reads it says so).
#[test]
fn hostile_bytes_stay_inside_their_strings() {
    let echo = Echo::start("a");
    let portolan =
        Portolan::start(&[("fleet.yaml", cluster("paris", "") + &app("paris", "shop", &[echo.address()]))]);
    let agents: &[&[u8]] = &[
        b"\"},{\"status\":200",
        b"back\\slash \\\" \\u0000 \\n",
        b"tab\tand \xff\xfe\x80 high",
        "caf\u{e9} \u{2028}\u{2029} \u{202e}right to left".as_bytes(),
        b"\xed\xa0\x80 a surrogate",
        b"</script><script>alert(1)</script>",
        b"%0a%0d%00",
        &[b'x'; 20_000],
    ];
    for (n, agent) in agents.iter().enumerate() {
        let mut client = portolan.raw();
        let head = format!(
            "GET /hostile-{n}?q='\\{{}}[]|^`\\ HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nUser-Agent: "
        );
        client.send([head.as_bytes(), agent, b"\r\n\r\n"].concat());
        let answer = client.response().expect("an answer");
        assert_eq!(answer.status, 200, "{n}: {answer:?}");
        let line = portolan.logged(&format!("row {n}"), |line| {
            line["path"].as_str().is_some_and(|path| path.starts_with(&format!("/hostile-{n}?")))
        });
        fields(&line);
        if let (Ok(sent), Some(said)) = (std::str::from_utf8(agent), line["user_agent"].as_str()) {
            assert!(sent.starts_with(said) || said == sent, "{n}: {line}");
        }
    }
    // What is refused is logged too, without a byte of it.
    let mut client = portolan.raw();
    client.send(b"GET /\"},{\x01 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.response().expect("an answer").status, 400);
    let line = portolan.logged("the refusal", |line| line["status"] == 400);
    assert_eq!((&line["path"], &line["method"]), (&"".into(), &"".into()), "{line}");
}

/// A log that cannot be opened is said, clients are served, and it is opened once that is possible.
#[test]
fn a_file_that_cannot_be_opened_is_said_and_tried_again() {
    let echo = Echo::start("a");
    let portolan =
        Portolan::start(&[("fleet.yaml", cluster("paris", "") + &app("paris", "shop", &[echo.address()]))]);
    let proxy = Setup::new().proxy();
    let at = proxy.find("  accessLog:").expect("an access log");
    let folder = portolan.folder().join("later");
    let file = folder.join("access.log");
    let log = format!("  accessLog: {{output: File, path: {}}}\n", file.display());
    portolan.apply("proxy.yaml", &(proxy[..at].to_owned() + &log));
    let said = portolan.admin_json("/conditions").to_string();
    assert!(said.contains("access.log cannot be opened"), "{said}");
    assert_eq!(portolan.admin("/readyz").status, 200);
    assert_eq!(portolan.get(HOST, "/one").send().status, 200);
    portolan.logged("one, where lines went before", |line| line["path"] == "/one");
    std::fs::create_dir(&folder).expect("a folder");
    eventually("that is said no more", || {
        (!portolan.admin_json("/conditions").to_string().contains("access.log")).then_some(())
    });
    assert_eq!(portolan.get(HOST, "/two").send().status, 200);
    eventually("the file has it", || std::fs::read_to_string(&file).ok()?.contains("/two").then_some(()));
}

#[test]
fn it_can_be_switched_off_and_on() {
    let echo = Echo::start("a");
    let portolan =
        Portolan::start(&[("fleet.yaml", cluster("paris", "") + &app("paris", "shop", &[echo.address()]))]);
    assert_eq!(portolan.get(HOST, "/one").send().status, 200);
    portolan.logged("one", |line| line["path"] == "/one");
    let proxy = Setup::new().proxy();
    let at = proxy.find("  accessLog:").expect("an access log");
    portolan.apply("proxy.yaml", &(proxy[..at].to_owned() + "  accessLog: {output: None}\n"));
    assert_eq!(portolan.get(HOST, "/two").send().status, 200);
    portolan.apply("proxy.yaml", &(proxy[..at].to_owned() + "  accessLog: {output: Stdout}\n"));
    assert_eq!(portolan.get(HOST, "/three").send().status, 200);
    eventually("standard output has it", || portolan.output().contains("\"path\":\"/three\"").then_some(()));
    portolan.apply("proxy.yaml", &proxy);
    assert_eq!(portolan.get(HOST, "/four").send().status, 200);
    portolan.logged("four", |line| line["path"] == "/four");
    let paths: Vec<String> = portolan
        .access_log()
        .iter()
        .map(|line| line["path"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(paths, ["/one", "/four"]);
    assert_eq!(portolan.metric(DROPPED), Some(0.0));
}

fn logging_to(portolan: &Portolan, path: &str) {
    let proxy = Setup::new().proxy().replace("$FOLDER/access.log", path);
    portolan.apply("proxy.yaml", &proxy);
}

/// Requests go on at their usual pace, and what cannot be written is counted.
fn goes_on(portolan: &Portolan, requests: usize) {
    let long = "x".repeat(12_000);
    let began = Instant::now();
    let mut client = portolan.raw();
    let mut slowest = Duration::ZERO;
    for n in 0..requests {
        let one = Instant::now();
        client.send(format!("GET /{n}?{long} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!(client.response().expect("an answer").status, 200);
        slowest = slowest.max(one.elapsed());
    }
    println!("{requests} requests in {:?}, the slowest {slowest:?}", began.elapsed());
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
}

#[test]
fn a_full_disk_drops_lines_and_nothing_else() {
    let echo = Echo::start("a");
    let mut portolan =
        Portolan::start(&[("fleet.yaml", cluster("paris", "") + &app("paris", "shop", &[echo.address()]))]);
    logging_to(&portolan, "/dev/full");
    eventually("a line is dropped", || {
        assert_eq!(portolan.get(HOST, "/").send().status, 200);
        portolan.metric(DROPPED).filter(|&dropped| dropped >= 1.0)
    });
    let before = portolan.metric(DROPPED).expect("a counter");
    goes_on(&portolan, 200);
    eventually("all are counted", || portolan.metric(DROPPED).filter(|&dropped| dropped >= before + 200.0));
    portolan.signal(Signal::SIGTERM);
    assert_eq!(portolan.exit_within(Duration::from_secs(8)), Some(0), "{}", portolan.output());
}

/// A pipe that somebody has open and does not read.
#[test]
fn a_pipe_that_nobody_reads_stops_nothing() {
    let echo = Echo::start("a");
    let mut portolan =
        Portolan::start(&[("fleet.yaml", cluster("paris", "") + &app("paris", "shop", &[echo.address()]))]);
    let pipe = portolan.folder().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let _reader = std::fs::File::options().read(true).write(true).open(&pipe).expect("both ends");
    logging_to(&portolan, &pipe.display().to_string());
    eventually("the pipe is logged to", || {
        assert_eq!(portolan.get(HOST, "/").send().status, 200);
        (!portolan.access_log().iter().any(|line| line["revision"].as_u64() == Some(portolan.revision())))
            .then_some(())
    });
    // 4 MiB may lie in each worker's buffer.
    let dropped = within(Duration::from_secs(40), || {
        goes_on(&portolan, 250);
        portolan.metric(DROPPED).filter(|&dropped| dropped >= 1.0)
    });
    println!("a pipe that nobody reads: {dropped:?} lines dropped");
    assert!(dropped.is_some(), "no line is counted as dropped");
    assert_eq!(portolan.admin("/readyz").status, 200);
    // Neither an edit, nor SIGHUP, nor the end waits for it.
    portolan.apply("more.yaml", &app("paris", "more", &[echo.address()]));
    assert_eq!(portolan.get("more.paris.lb.test", "/").send().status, 200);
    portolan.signal(Signal::SIGHUP);
    portolan.apply("even-more.yaml", &app("paris", "even-more", &[echo.address()]));
    portolan.signal(Signal::SIGTERM);
    assert!(portolan.exit_within(Duration::from_secs(8)).is_some(), "it waits for its log");
}

/// A pipe that nobody has open at all: opening it for writing would wait for a reader.
#[test]
fn a_pipe_without_a_reader_stops_nothing() {
    let echo = Echo::start("a");
    let mut portolan =
        Portolan::start(&[("fleet.yaml", cluster("paris", "") + &app("paris", "shop", &[echo.address()]))]);
    let pipe = portolan.folder().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    logging_to(&portolan, &pipe.display().to_string());
    portolan.apply("more.yaml", &app("paris", "more", &[echo.address()]));
    assert_eq!(portolan.get("more.paris.lb.test", "/").send().status, 200);
    portolan.signal(Signal::SIGTERM);
    assert!(portolan.exit_within(Duration::from_secs(8)).is_some(), "it waits for its log");
}
