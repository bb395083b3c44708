//! Edits of the folder while it runs: live soon, nobody disturbed, and what is bad stays out.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use portolan_e2e::{
    Curl, Echo, Portolan, RawUpstream, Setup, app, cluster, eventually, free_port, pool, route,
};

use crate::load::Load;
use crate::streams::PATIENCE;

#[path = "reload/edits.rs"]
mod edits;
#[path = "reload/listeners.rs"]
mod listeners;

const HOST: &str = "shop.paris.lb.test";

/// A route that says in a header which version of it answered.
fn versioned(name: &str, version: &str) -> String {
    route(
        "paris",
        name,
        &format!(
            "rules:\n- filters:\n  - type: ResponseHeaderModifier\n    responseHeaderModifier:\n      set: [{{name: x-version, value: \"{version}\"}}]\n  \
             backends: [{{pool: {name}}}]\n"
        ),
    )
}

fn version(portolan: &Portolan, host: &str) -> Option<String> {
    let mut client = portolan.raw();
    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    let answer = client.response()?;
    answer.head.lines().find_map(|line| line.strip_prefix("x-version: ")).map(str::to_owned)
}

/// From the last write of an edit to the first answer by it.
fn until_live(portolan: &Portolan, host: &str, wanted: &str, edit: impl FnOnce()) -> Duration {
    edit();
    let began = Instant::now();
    loop {
        if version(portolan, host).as_deref() == Some(wanted) {
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "{wanted} is not live; portolan says\n{}", portolan.output());
    }
}

#[test]
fn an_edit_is_live_within_100_ms() {
    let echo = Echo::start("a");
    let fixed = cluster("paris", "") + &pool("paris", "shop", &[echo.address()], "");
    let portolan = Portolan::start(&[("fleet.yaml", fixed), ("route.yaml", versioned("shop", "0"))]);
    let mut times: Vec<Duration> = (1..=100)
        .map(|n| {
            let text = versioned("shop", &n.to_string());
            until_live(&portolan, HOST, &n.to_string(), || match n % 3 {
                // In one step, in place, and in place in two writes.
                0 => portolan.write("route.yaml", &text),
                1 => std::fs::write(portolan.config().join("route.yaml"), &text).expect("written"),
                _ => {
                    use std::io::Write as _;
                    let mut file =
                        std::fs::File::create(portolan.config().join("route.yaml")).expect("a file");
                    file.write_all(&text.as_bytes()[..40]).expect("written");
                    file.write_all(&text.as_bytes()[40..]).expect("written");
                }
            })
        })
        .collect();
    times.sort();
    println!(
        "an edit is live after: p50 {:?}, p90 {:?}, p99 {:?}, at most {:?} (100 edits)",
        times[49], times[89], times[98], times[99]
    );
    // Other tests take the processor meanwhile; what an edit costs when nobody does shows in the middle.
    assert!(times[49] <= Duration::from_millis(100), "p50 {:?}", times[49]);
    assert!(times[97] <= Duration::from_millis(500), "p98 {:?}", times[97]);
}

/// The way Kubernetes mounts a `ConfigMap`: files are links into `..data`, which is a link that is swapped.
#[test]
fn a_swap_of_data_is_one_edit() {
    let echo = Echo::start("a");
    let portolan = Setup::new().start();
    let config = portolan.config();
    let lay = |number: usize, version: &str| {
        let folder = config.join(format!("..2026_{number}"));
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(
            folder.join("fleet.yaml"),
            cluster("paris", "") + &pool("paris", "shop", &[echo.address()], ""),
        )
        .expect("written");
        std::fs::write(folder.join("route.yaml"), versioned("shop", version)).expect("written");
        let aside = config.join("..data_tmp");
        std::os::unix::fs::symlink(format!("..2026_{number}"), &aside).expect("a link");
        std::fs::rename(aside, config.join("..data")).expect("a swap");
    };
    lay(0, "0");
    for file in ["fleet.yaml", "route.yaml"] {
        std::os::unix::fs::symlink(format!("..data/{file}"), config.join(file)).expect("a link");
    }
    eventually("the first is live", || (version(&portolan, HOST).as_deref() == Some("0")).then_some(()));
    let load = Load::start(2, portolan.http(), HOST, "/", |status, _| status == 200);
    let mut times = Vec::new();
    for number in 1..=20 {
        let version = number.to_string();
        times.push(until_live(&portolan, HOST, &version, || {
            lay(number, &version);
            std::fs::remove_dir_all(config.join(format!("..2026_{}", number - 1))).expect("removed");
        }));
    }
    let (done, failures) = load.stop();
    times.sort();
    println!(
        "..data swaps: live after p50 {:?}, p90 {:?} (20 swaps, {done} requests meanwhile)",
        times[9], times[17]
    );
    assert!(failures.is_empty(), "{} of {done}: {:?}", failures.len(), &failures[..failures.len().min(3)]);
    assert!(times[17] <= Duration::from_millis(500), "{times:?}");
}

#[test]
fn a_file_may_be_renamed_and_its_objects_move_between_files() {
    let echo = Echo::start("a");
    let fixed = cluster("paris", "") + &pool("paris", "shop", &[echo.address()], "");
    let portolan = Portolan::start(&[("fleet.yaml", fixed), ("a.yaml", versioned("shop", "a"))]);
    let load = Load::start(2, portolan.http(), HOST, "/", |status, _| status == 200);
    let path = |file: &str| portolan.config().join(file);
    for round in 0..10 {
        let (from, to) = if round % 2 == 0 { ("a.yaml", "b.yaml") } else { ("b.yaml", "a.yaml") };
        if round % 4 < 2 {
            std::fs::rename(path(from), path(to)).expect("renamed");
        } else {
            // The copy first, then the original goes.
            std::fs::copy(path(from), path(to)).expect("copied");
            std::fs::remove_file(path(from)).expect("removed");
        }
        load.wait_for(50);
    }
    portolan.write(if path("a.yaml").exists() { "a.yaml" } else { "b.yaml" }, &versioned("shop", "last"));
    eventually("the last edit is live", || {
        (version(&portolan, HOST).as_deref() == Some("last")).then_some(())
    });
    let (done, failures) = load.stop();
    assert!(failures.is_empty(), "{} of {done}: {:?}", failures.len(), &failures[..failures.len().min(3)]);
}

/// What is bad is left out, with a reason; its last good version and its neighbours keep serving.
#[test]
fn a_bad_edit_keeps_the_last_good_version_and_the_neighbours() {
    let echo = Echo::start("a");
    let fixed = cluster("paris", "")
        + &pool("paris", "shop", &[echo.address()], "")
        + &pool("paris", "cart", &[echo.address()], "");
    let both = |shop: &str, cart: &str| versioned("shop", shop) + &versioned("cart", cart);
    let portolan = Portolan::start(&[("fleet.yaml", fixed), ("routes.yaml", both("1", "1"))]);
    let cart = "cart.paris.lb.test";
    let bad: &[(&str, &str)] = &[
        ("an unknown field", "  spec2: {}\n"),
        ("a wrong type", "  rules: 17\n"),
        ("YAML that is none", "  rules: [\n"),
    ];
    for (n, (what, line)) in bad.iter().enumerate() {
        let (shop, next) = (version(&portolan, HOST).expect("it serves"), format!("cart-{n}"));
        // A document that cannot be read at all may take its file's other documents with it; a neighbour has a file of its own.
        portolan.write("cart.yaml", &versioned("cart", &next));
        portolan.write("routes.yaml", &(versioned("shop", "bad") + line));
        eventually(&format!("the neighbour of {what} goes on"), || {
            (version(&portolan, cart).as_deref() == Some(next.as_str())).then_some(())
        });
        let said = eventually("a diagnostic", || {
            let conditions = portolan.admin_json("/conditions");
            conditions["diagnostics"]
                .as_array()
                .filter(|found| found.iter().any(|one| one["file"] == "routes.yaml"))
                .cloned()
        });
        assert!(said.iter().any(|one| one["line"].as_u64().is_some_and(|line| line > 0)), "{what}: {said:?}");
        assert_eq!(version(&portolan, HOST).as_deref(), Some(shop.as_str()), "{what}");
        portolan.write("routes.yaml", &versioned("shop", &format!("good-{n}")));
        eventually("a good edit is live", || {
            (version(&portolan, HOST) == Some(format!("good-{n}"))).then_some(())
        });
        eventually("its diagnostic is gone", || {
            portolan.admin_json("/conditions")["diagnostics"]
                .as_array()
                .filter(|found| found.is_empty())
                .map(|_| ())
        });
    }
}

#[test]
fn what_is_deleted_is_gone_and_comes_back() {
    let echo = Echo::start("a");
    let fixed = cluster("paris", "") + &pool("paris", "shop", &[echo.address()], "");
    let portolan = Portolan::start(&[("fleet.yaml", fixed), ("route.yaml", versioned("shop", "1"))]);
    for _ in 0..3 {
        portolan.remove("route.yaml");
        eventually("it is gone", || (portolan.get(HOST, "/").send().status == 404).then_some(()));
        until_live(&portolan, HOST, "1", || portolan.write("route.yaml", &versioned("shop", "1")));
    }
    // Its pool goes: the route stays, and says so.
    portolan.withdraw("fleet.yaml");
    assert_ne!(portolan.get(HOST, "/").send().status, 200);
}

/// A response that began before an edit ends well after it, on the pool that it began with.
#[test]
fn what_is_in_flight_goes_on() {
    let slow = RawUpstream::start(|mut client, _| {
        while client.head().is_some() {
            client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..15 {
                std::thread::sleep(Duration::from_millis(100));
                client.send("4\r\nslow\r\n");
            }
            client.send("0\r\n\r\n");
        }
    });
    let echo = Echo::start("b");
    let text = cluster("paris", "") + &app("paris", "shop", &[slow.address()]);
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    let mut client = portolan.raw();
    client.send(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let head = client.head().expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");

    // Its pool changes, then its route and pool go altogether.
    portolan.apply("fleet.yaml", &(cluster("paris", "") + &app("paris", "shop", &[echo.address()])));
    assert_eq!(portolan.get(HOST, "/").send().json()["name"], "b");
    portolan.apply("fleet.yaml", &cluster("paris", ""));
    assert_eq!(portolan.get(HOST, "/").send().status, 404);
    let mut body = 0;
    while let Some(line) = client.line() {
        if line == "0" {
            break;
        }
        body += usize::from(line == "slow");
    }
    assert_eq!(body, 15);
    // The connection itself sees the new world.
    client.line();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(client.response().expect("an answer").status, 404);
}

#[test]
fn sighup_reads_everything_again_and_opens_the_log_again() {
    let echo = Echo::start("a");
    let portolan =
        Portolan::start(&[("fleet.yaml", cluster("paris", "") + &app("paris", "shop", &[echo.address()]))]);
    assert_eq!(portolan.get(HOST, "/before").send().status, 200);
    portolan.logged("a line", |line| line["path"] == "/before");
    let log = portolan.folder().join("access.log");
    let old = portolan.folder().join("access.log.1");
    std::fs::rename(&log, &old).expect("rotated");
    let load = Load::start(2, portolan.http(), HOST, "/load", |status, _| status == 200);
    load.wait_for(20);
    assert!(!log.exists(), "nobody told it yet");
    portolan.signal(Signal::SIGHUP);
    eventually("the log is opened again", || log.exists().then_some(()));
    let reply = portolan.get(HOST, "/after").send();
    assert_eq!(reply.status, 200);
    portolan.logged("a line in the new file", |line| line["path"] == "/after");
    let (done, failures) = load.stop();
    assert!(failures.is_empty(), "{failures:?}");
    // No line is lost between the two.
    eventually("all lines are in one of the two", || {
        let count =
            |path| std::fs::read_to_string(path).unwrap_or_default().matches("\"path\":\"/load\"").count();
        (count(&old) + count(&log) == done).then_some(())
    });

    // An edit whose stamp says that nothing changed is found by SIGHUP, and at the latest then.
    let path = portolan.config().join("fleet.yaml");
    let text = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, text.replace("name: shop", "name: shoq").replace("pool: shop", "pool: shoq"))
        .expect("written");
    portolan.signal(Signal::SIGHUP);
    eventually("the edit is live", || {
        (portolan.get("shoq.paris.lb.test", "/").send().status == 200).then_some(())
    });
}

/// The folder itself may be replaced, as some tools do.
#[test]
fn the_folder_may_be_replaced() {
    let echo = Echo::start("a");
    let fixed = cluster("paris", "") + &pool("paris", "shop", &[echo.address()], "");
    let portolan = Portolan::start(&[("fleet.yaml", fixed), ("route.yaml", versioned("shop", "1"))]);
    let (config, aside) = (portolan.config(), portolan.folder().join("next"));
    std::fs::create_dir(&aside).expect("a folder");
    for file in ["proxy.yaml", "fleet.yaml"] {
        std::fs::copy(config.join(file), aside.join(file)).expect("copied");
    }
    std::fs::write(aside.join("route.yaml"), versioned("shop", "2")).expect("written");
    let load = Load::start(2, portolan.http(), HOST, "/", |status, _| status == 200);
    std::fs::rename(&config, portolan.folder().join("old")).expect("moved");
    std::fs::rename(&aside, &config).expect("moved");
    eventually("the new folder is live", || (version(&portolan, HOST).as_deref() == Some("2")).then_some(()));
    portolan.write("route.yaml", &versioned("shop", "3"));
    eventually("and watched", || (version(&portolan, HOST).as_deref() == Some("3")).then_some(()));
    let (done, failures) = load.stop();
    assert!(failures.is_empty(), "{} of {done}: {:?}", failures.len(), &failures[..failures.len().min(3)]);
}

/// An empty folder is a configuration: it is ready, and serves nothing.
#[test]
fn an_empty_folder_is_ready() {
    let portolan = Setup::new().start();
    assert_eq!(portolan.get(HOST, "/").send().status, 404);
    assert_eq!(Curl::new(format!("http://127.0.0.1:{}/readyz", portolan.admin_port())).send().status, 200);
    let _ = free_port();
}
