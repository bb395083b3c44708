//! The admin port: every endpoint, as the page about it says.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use portolan_e2e::{
    Authority, Child, Curl, Echo, Key, Portolan, RawClient, RawResponse, Reply, Setup, app, binary, cluster,
    eventually, free_port, pool, route, secret,
};
use serde_json::Value;

const HOST: &str = "shop.paris.lb.test";

fn text(answer: &RawResponse) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn ask(portolan: &Portolan, path: &str) -> Curl {
    Curl::new(format!("http://127.0.0.1:{}{path}", portolan.admin_port()))
}

fn fleet(echo: &Echo) -> String {
    cluster("paris", "") + &app("paris", "shop", &[echo.address()])
}

/// The endpoints that the page lists, by method.
fn documented(page: &str) -> Vec<String> {
    let rows = page.lines().filter(|line| line.starts_with("| `GET") || line.starts_with("| `PUT"));
    rows.flat_map(|row| {
        row.split('|')
            .nth(1)
            .unwrap_or_default()
            .split(',')
            .map(|call| call.trim().trim_matches('`').to_owned())
            .collect::<Vec<_>>()
    })
    .collect()
}

fn page(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/docs/").to_owned() + name;
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_documented_endpoint_answers() {
    let echo = Echo::start("a");
    let portolan = Portolan::start(&[("fleet.yaml", fleet(&echo))]);
    let calls = documented(&page("admin.md"));
    assert!(calls.len() >= 9, "{calls:?}");
    let index = text(&portolan.admin("/"));
    for call in &calls {
        let (method, path) = call.split_once(' ').expect("a method and a path");
        let path = path.replace("<URL>", "http://shop.paris.lb.test/");
        let reply = match method {
            "PUT" => ask(&portolan, &path).method("PUT").body("info").send(),
            _ => ask(&portolan, &path).send(),
        };
        assert_eq!(reply.status, 200, "{call}: {reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{call}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{call}");
        let short = path.split('?').next().expect("a path");
        assert!(index.contains(&format!("{method} {short}")), "{call} is not in the index:\n{index}");
    }
}

#[test]
fn what_is_not_there_is_said() {
    let echo = Echo::start("a");
    let portolan = Portolan::start(&[("fleet.yaml", fleet(&echo))]);
    for (path, status) in [
        ("/nothing", 404),
        ("/plan?host=nobody.test", 404),
        ("/plan?pool=tenant-paris/none", 404),
        ("/plan?object=HTTPLoadBalancer/tenant-paris/none", 404),
        ("/plan?nonsense=1", 400),
        ("/plan?host=a&pool=b/c", 400),
        ("/explain", 400),
        ("/explain?url=", 400),
        ("/explain?url=http://a/&url=http://b/", 400),
        ("/explain?url=http://a/&header=nocolon", 400),
        ("/explain?url=http://a/&what=1", 400),
    ] {
        let reply = ask(&portolan, path).send();
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        assert!(!reply.body.is_empty(), "{path} says nothing");
    }
    for (path, method) in
        [("/plan", "POST"), ("/livez", "DELETE"), ("/log-level", "POST"), ("/metrics", "PUT")]
    {
        let reply = ask(&portolan, path).method(method).send();
        assert_eq!(reply.status, 405, "{method} {path}: {reply:?}");
        assert!(
            reply.header("allow").is_some_and(|allow| allow.contains("GET")),
            "{method} {path}: {reply:?}"
        );
    }
}

/// A page of the web must not read it under a name of its own.
#[test]
fn a_foreign_host_is_refused() {
    let portolan = Setup::new().start();
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:1", 200),
        ("[::1]", 200),
        ("evil.test", 403),
        ("127.0.0.1.evil.test", 403),
    ] {
        assert_eq!(ask(&portolan, "/plan").host(host).send().status, status, "{host}");
    }
}

#[test]
fn the_other_port_has_probes_and_metrics_alone() {
    let port = free_port();
    let _portolan = Setup::new().arg("--metrics").arg(format!("127.0.0.1:{port}")).start();
    let get = |path: &str| {
        Curl::new(format!("http://127.0.0.1:{port}{path}")).host("scraped.by.name").send().status
    };
    for path in ["/", "/metrics", "/livez", "/readyz"] {
        assert_eq!(get(path), 200, "{path}");
    }
    for path in ["/plan", "/conditions", "/explain?url=http://a/", "/certificates", "/log-level"] {
        assert_eq!(get(path), 404, "{path}");
    }
}

/// Ready means: a configuration is in force. Alive it is before.
#[test]
fn it_is_ready_once_a_configuration_is_in_force() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config");
    std::fs::create_dir(&config).expect("a folder");
    let (http, admin) = (free_port(), free_port());
    let proxy = Setup::new()
        .proxy()
        .replace("$HTTPS", &free_port().to_string())
        .replace("$HTTP", &http.to_string())
        .replace("$FOLDER", &folder.path().display().to_string());
    std::fs::write(config.join("proxy.yaml"), proxy).expect("written");
    // Enough to read that there is a time before.
    for file in 0..20 {
        let many: String = (0..200)
            .map(|n| app("paris", &format!("app-{file}-{n}"), &[([127, 0, 0, 1], 9).into()]))
            .collect();
        std::fs::write(config.join(format!("apps-{file}.yaml")), many).expect("written");
    }
    std::fs::write(config.join("cluster.yaml"), cluster("paris", "")).expect("written");
    let mut command = Command::new(binary());
    command.arg("run").arg("--config").arg(&config).arg("--admin").arg(format!("127.0.0.1:{admin}"));
    let child = Child::start(&mut command, &folder.path().join("output.log"));
    let get = |path: &str| {
        let mut client = RawClient::of(std::net::TcpStream::connect(("127.0.0.1", admin)).ok()?);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        client.response()
    };
    let before = eventually("the admin port answers", || get("/readyz"));
    assert_eq!(before.status, 503, "it took no time at all: {}", text(&before));
    assert!(text(&before).contains("no configuration is in force"), "{}", text(&before));
    assert_eq!(get("/livez").expect("an answer").status, 200);
    let ready = portolan_e2e::within(Duration::from_secs(60), || {
        get("/readyz").filter(|answer| answer.status == 200)
    });
    assert!(ready.is_some(), "{}", child.output());
    // And from then on it serves, at once.
    let mut client = RawClient::connect(([127, 0, 0, 1], http));
    client.send("GET / HTTP/1.1\r\nHost: app-19-199.paris.lb.test\r\nConnection: close\r\n\r\n");
    assert_ne!(client.response().expect("an answer").status, 404);
}

/// And once every worker is up, be they ever so many: what a worker does at first is done.
#[test]
fn it_is_ready_once_all_workers_are_up() {
    const WORKERS: usize = 32;
    let portolan = Setup::new().spec(&format!("workers: {WORKERS}")).start();
    // What each has had of a core so far, in nanoseconds.
    let spent = || -> BTreeMap<String, u64> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", portolan.pid())).expect("the process runs");
        let each = tasks.filter_map(|task| {
            let task = task.ok()?.path();
            let name = std::fs::read_to_string(task.join("comm")).ok()?;
            let spent = std::fs::read_to_string(task.join("schedstat")).ok()?;
            Some((name, spent.split(' ').next()?.parse().ok()?))
        });
        each.filter(|(name, _)| name.starts_with("worker-")).collect()
    };
    let ready = spent();
    assert_eq!(ready.len(), WORKERS);
    let idle = eventually("they idle", || {
        let before: u64 = spent().values().sum();
        std::thread::sleep(Duration::from_millis(200));
        let now = spent();
        (now.values().sum::<u64>() < before + 1_000_000).then_some(now)
    });
    for (name, spent) in idle {
        assert!(ready[&name] * 2 > spent, "{name} had spent {} ns of {spent}", ready[&name]);
    }
}

#[test]
fn a_proxy_that_listens_nowhere_is_not_ready() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let portolan = Setup::new().start();
    portolan.write(
        "proxy.yaml",
        &format!(
            "apiVersion: portolan.dev/v1alpha1\nkind: Proxy\nmetadata: {{name: default}}\nspec:\n  lbDomain: lb.test\n  \
             listeners: [{{name: taken, address: 127.0.0.1, port: {port}, protocol: HTTP}}]\n"
        ),
    );
    let said =
        eventually("not ready", || Some(portolan.admin("/readyz")).filter(|answer| answer.status == 503));
    assert!(text(&said).contains("taken") && text(&said).contains(&port.to_string()), "{}", text(&said));
    drop(taken);
    eventually("ready again", || (portolan.admin("/readyz").status == 200).then_some(()));
}

#[test]
fn the_log_level_changes_while_it_runs() {
    let echo = Echo::start("a");
    let portolan = Portolan::start(&[("fleet.yaml", fleet(&echo))]);
    let set = |filter: &str| ask(&portolan, "/log-level").method("PUT").body(filter).send();
    let warned = |file: &str| {
        portolan.write(file, "apiVersion: portolan.dev/v1alpha1\nkind: Nonsense\nmetadata: {name: x}\n");
        eventually("the diagnostic is there", || {
            portolan.admin_json("/conditions")["diagnostics"].to_string().contains(file).then_some(())
        });
        portolan.output().contains(file)
    };
    assert!(warned("first.yaml"), "{}", portolan.output());
    assert_eq!(set("off").status, 200);
    assert!(!warned("second.yaml"), "{}", portolan.output());
    assert_eq!(set("warn,portolan_proxy=debug").status, 200);
    assert!(text(&portolan.admin("/log-level")).contains("portolan_proxy=debug"));
    assert!(warned("third.yaml"), "{}", portolan.output());
    for bad in ["", "loud", "a=b=c"] {
        let reply: Reply = set(bad);
        assert_eq!(reply.status, 400, "{bad:?}: {reply:?}");
    }
    assert_eq!(set(&"x".repeat(5000)).status, 413);
    assert!(
        text(&portolan.admin("/log-level")).contains("portolan_proxy=debug"),
        "a bad one changes nothing"
    );
}

#[test]
fn keys_are_never_shown() {
    let echo = Echo::start("a");
    let authority = Authority::new("admin");
    let pair = authority.issue(&["*.paris.lb.test"], Key::Ecdsa);
    let fleet = cluster("paris", "certificateRef: {name: generated}")
        + &secret("tenant-paris", "generated", &pair.chain, &pair.key)
        + &app("paris", "shop", &[echo.address()]);
    let portolan = Portolan::start(&[("fleet.yaml", fleet)]);
    // A Secret that is wrong must not be quoted either.
    portolan.write(
        "bad.yaml",
        &secret("tenant-paris", "bad", "no chain", &pair.key)
            .replace("type: kubernetes.io/tls", "type: kubernetes.io/tls\nunknown: x"),
    );
    eventually("it is noticed", || {
        portolan.admin_json("/conditions").to_string().contains("bad").then_some(())
    });
    let key: Vec<&str> = pair.key.lines().filter(|line| !line.starts_with("--")).collect();
    for path in [
        "/",
        "/plan",
        "/plan?object=Secret/tenant-paris/generated",
        "/conditions",
        "/certificates",
        "/metrics",
        "/explain?url=https://shop.paris.lb.test/",
    ] {
        let shown = text(&portolan.admin(path));
        assert!(
            !shown.contains("PRIVATE KEY") && key.iter().all(|line| !shown.contains(line)),
            "{path} shows a key"
        );
    }
    let log = portolan.output();
    assert!(
        !log.contains("PRIVATE KEY") && key.iter().all(|line| !log.contains(line)),
        "the log shows a key"
    );
    let listed = portolan.admin_json("/certificates");
    let listed = listed
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one.to_string().contains("generated"))
        .expect("the certificate");
    assert!(listed.to_string().contains("*.paris.lb.test"), "{listed}");
    let now = std::process::Command::new("date").args(["-u", "+%FT%TZ"]).output().expect("the time").stdout;
    let expiry = listed["facts"]["not_after"].as_str().expect("a time");
    assert!(expiry.ends_with('Z') && expiry.as_bytes() > now.trim_ascii(), "{listed}");
}

#[test]
fn the_plan_shows_what_is_in_force() {
    let echo = Echo::start("a");
    let portolan = Portolan::start(&[("fleet.yaml", fleet(&echo))]);
    let whole = portolan.admin_json("/plan");
    assert_eq!(whole["revision"].as_u64(), Some(portolan.revision()));
    for path in [
        "/plan?host=shop.paris.lb.test",
        "/plan?pool=tenant-paris/shop",
        "/plan?object=HTTPLoadBalancer/tenant-paris/shop",
        "/plan?object=Cluster/paris",
    ] {
        let part = portolan.admin_json(path).to_string();
        assert!(part.contains(if path.contains("Cluster") { "paris" } else { "shop" }), "{path}: {part}");
        assert!(part.len() <= whole.to_string().len(), "{path}");
    }
    assert!(
        portolan.admin_json("/plan?pool=tenant-paris/shop").to_string().contains(&echo.address().to_string())
    );
}

#[test]
fn explain_says_what_becomes_of_a_request() {
    let echo = Echo::start("a");
    let rules = "rules:\n- matches: [{path: {value: /cart}, headers: [{name: x-beta, value: \"yes\"}]}]\n  backends: [{pool: cart}]\n- backends: [{pool: shop}]\n";
    let text_of = cluster("paris", "")
        + &route("paris", "shop", rules)
        + &pool("paris", "shop", &[echo.address()], "")
        + &pool("paris", "cart", &[echo.address()], "");
    let portolan = Portolan::start(&[("fleet.yaml", text_of)]);
    let explain = |rest: &str| -> Value { portolan.admin_json(&format!("/explain?url=http://{HOST}{rest}")) };
    let cart = explain("/cart/1&header=X-Beta:%20yes").to_string();
    assert!(cart.contains("tenant-paris/cart") || cart.contains("\"cart\""), "{cart}");
    let shop = explain("/cart/1");
    assert!(
        shop["considered"]["considered"].as_array().is_some_and(|considered| !considered.is_empty()),
        "{shop}"
    );
    assert_eq!(portolan.get(HOST, "/cart/1").header("X-Beta", "yes").send().status, 200);
    let nobody = portolan.admin_json("/explain?url=http://nobody.test/");
    assert_eq!((&nobody["status"], &nobody["flag"]), (&404.into(), &"NR".into()), "{nobody}");
    let words = ask(&portolan, &format!("/explain?url=http://{HOST}/")).header("Accept", "text/plain").send();
    assert!(words.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{words:?}");
    assert!(words.text().contains("shop"), "{}", words.text());
}

/// The metrics that the generated page has without labels: those are there from the beginning.
fn plain_families() -> BTreeSet<String> {
    let page = of_the_proxy();
    let rows =
        page.lines().filter(|line| line.split('|').nth(3).is_some_and(|labels| labels.trim().is_empty()));
    rows.filter_map(name).collect()
}

/// The names of the metrics that the generated page has.
fn families() -> BTreeSet<String> {
    of_the_proxy().lines().filter_map(name).collect()
}

/// The part of the page that is about the proxy.
fn of_the_proxy() -> String {
    let page = page("metrics.md");
    page.split("## Of the controller").next().expect("a first part").to_owned()
}

fn name(row: &str) -> Option<String> {
    Some(row.strip_prefix("| `")?.split('`').next()?.to_owned())
}

#[test]
fn metrics_are_those_of_the_page_and_bounded() {
    const HOSTS: usize = 500;
    let echo = Echo::start("a");
    let rules: String = (0..HOSTS)
        .map(|n| route("paris", &format!("host-{n}"), "rules:\n- backends: [{pool: shop}]\n"))
        .collect();
    let portolan = Portolan::start(&[("fleet.yaml", fleet(&echo))]);
    let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
    assert_eq!(portolan.get(HOST, "/").send().status, 200);
    assert_eq!(portolan.get("nobody.test", "/").send().status, 404);
    let few = samples(&text(&portolan.admin("/metrics")));
    portolan.apply("hosts.yaml", &rules);
    let mut client = portolan.raw();
    for n in 0..HOSTS {
        for method in ["GET", "BREW"] {
            client.send(format!("{method} /path-{n} HTTP/1.1\r\nHost: host-{n}.paris.lb.test\r\n\r\n"));
            assert_eq!(client.response().expect("an answer").status, 200);
        }
    }
    for n in 0..50 {
        client.send(format!("GET / HTTP/1.1\r\nHost: random-{n}.test\r\n\r\n"));
        assert_eq!(client.response().expect("an answer").status, 404);
    }
    let shown = text(&portolan.admin("/metrics"));
    let many = samples(&shown);
    println!("{few} samples with one host, {many} with {HOSTS} more and requests for each");
    assert!(many <= few + 30, "{few} samples became {many}");
    assert!(
        !shown.contains("host-1.")
            && !shown.contains("random-")
            && !shown.contains("/path-")
            && !shown.contains("BREW"),
        "{shown}"
    );

    let (known, plain) = (families(), plain_families());
    let (mut typed, mut unknown) = (BTreeSet::new(), BTreeSet::new());
    for line in shown.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            typed.insert(rest.split(' ').next().expect("a name").to_owned());
        }
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a series and a value");
        value.parse::<f64>().unwrap_or_else(|_| panic!("no number: {line}"));
        let name = series.split('{').next().expect("a name");
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| name.strip_suffix(part).filter(|family| known.contains(*family)))
            .unwrap_or(name);
        if !known.contains(family) {
            unknown.insert(name.to_owned());
        }
        assert!(typed.contains(family), "no TYPE before {line}");
    }
    assert!(unknown.is_empty(), "not documented: {unknown:?}");
    let silent: Vec<&String> = plain.difference(&typed).collect();
    assert!(silent.is_empty(), "documented, but not there: {silent:?}");
}

#[test]
fn metrics_count_what_happens() {
    let echo = Echo::start("a");
    let portolan = Portolan::start(&[("fleet.yaml", fleet(&echo))]);
    for _ in 0..3 {
        assert_eq!(portolan.get(HOST, "/").body("12345").send().status, 200);
    }
    assert_eq!(portolan.get("nobody.test", "/").send().status, 404);
    let mut bad = portolan.raw();
    bad.send("nonsense\r\n\r\n");
    assert_eq!(bad.response().expect("an answer").status, 400);
    for (series, wanted) in [
        ("portolan_listener_requests_total{listener=\"http\",code=\"2xx\"}", 3.0),
        ("portolan_listener_requests_total{listener=\"http\",code=\"4xx\"}", 2.0),
        ("portolan_listener_flagged_requests_total{listener=\"http\",flag=\"NR\"}", 1.0),
        ("portolan_listener_flagged_requests_total{listener=\"http\",flag=\"BR\"}", 1.0),
        ("portolan_listener_received_bytes_total{listener=\"http\"}", 15.0),
        ("portolan_listener_connections_total{listener=\"http\"}", 5.0),
        ("portolan_cluster_requests_total{cluster=\"paris\",code=\"2xx\"}", 3.0),
        ("portolan_pool_endpoints{health=\"unknown\",pool=\"tenant-paris/shop\"}", 1.0),
        ("portolan_config_objects{kind=\"HTTPLoadBalancer\"}", 1.0),
    ] {
        let got = eventually(series, || portolan.metric(series).filter(|&got| got >= wanted));
        assert_eq!(got, wanted, "{series}");
    }
}
