//! Listeners and workers that come, go and change while connections are open.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use portolan_e2e::{
    Authority, Echo, Key, Portolan, RawClient, Setup, app, cluster, eventually, free_port, secret,
};

use super::HOST;
use crate::load::Load;
use crate::streams::{Http2, Wire, run_async, tls_config};

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn start(echo: &Echo) -> Portolan {
    Portolan::start(&[("fleet.yaml", cluster("paris", "") + &app("paris", "shop", &[echo.address()]))])
}

fn serves(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(address) else { return false };
    let mut client = RawClient::of(stream);
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"));
    client.response().is_some_and(|answer| answer.status == 200)
}

#[test]
fn a_listener_comes_and_goes() {
    let echo = Echo::start("a");
    let portolan = start(&echo);
    let load = Load::start(2, portolan.http(), HOST, "/", |status, _| status == 200);
    let port = free_port();
    let with = Setup::new()
        .listener(&format!("name: extra\naddress: 127.0.0.1\nport: {port}\nprotocol: HTTP\n"))
        .proxy();
    for _ in 0..3 {
        portolan.write("proxy.yaml", &with);
        eventually("the new listener serves", || serves(local(port)).then_some(()));
        let mut idle = RawClient::connect(local(port));
        idle.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!(idle.response().expect("an answer").status, 200);
        let mut busy = RawClient::connect(local(port));
        busy.send(format!("GET /?delay_ms=1000 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        eventually("it is accepted", || {
            portolan.metric("portolan_listener_connections{listener=\"extra\"}").filter(|&open| open >= 2.0)
        });

        portolan.write("proxy.yaml", &Setup::new().proxy());
        eventually("nobody listens any more", || TcpStream::connect(local(port)).is_err().then_some(()));
        // What was under way ends well, what was idle ends.
        let answer = busy.response().expect("an answer");
        assert_eq!(answer.status, 200);
        assert!(idle.closed_within(Duration::from_secs(5)), "an idle connection of a listener that is gone");
    }
    let (done, failures) = load.stop();
    assert!(failures.is_empty(), "{} of {done}: {:?}", failures.len(), &failures[..failures.len().min(3)]);
}

#[test]
fn a_listener_moves_to_another_port_under_load() {
    let echo = Echo::start("a");
    let portolan = start(&echo);
    let (a, b) = (free_port(), free_port());
    let on = |port: u16| {
        Setup::new()
            .listener(&format!("name: moving\naddress: 127.0.0.1\nport: {port}\nprotocol: HTTP\n"))
            .proxy()
    };
    portolan.write("proxy.yaml", &on(a));
    eventually("it serves", || serves(local(a)).then_some(()));
    let fixed = Load::start(2, portolan.http(), HOST, "/", |status, _| status == 200);
    for (from, to) in [(a, b), (b, a), (a, b)] {
        portolan.write("proxy.yaml", &on(to));
        eventually("it serves at the new port", || serves(local(to)).then_some(()));
        eventually("and not at the old one", || TcpStream::connect(local(from)).is_err().then_some(()));
    }
    let (done, failures) = fixed.stop();
    assert!(failures.is_empty(), "{} of {done}: {:?}", failures.len(), &failures[..failures.len().min(3)]);
}

/// A port that somebody else holds is said, and taken once it is free; the others serve.
#[test]
fn a_port_that_is_taken_is_said_and_tried_again() {
    let echo = Echo::start("a");
    let portolan = start(&echo);
    let port = free_port();
    let holder = std::net::TcpListener::bind(local(port)).expect("a port");
    portolan.write(
        "proxy.yaml",
        &Setup::new()
            .listener(&format!("name: taken\naddress: 127.0.0.1\nport: {port}\nprotocol: HTTP\n"))
            .proxy(),
    );
    let said = eventually("it is said", || {
        let found = portolan.admin_json("/conditions").to_string();
        found.contains("taken").then_some(found)
    });
    assert!(said.contains(&port.to_string()), "{said}");
    assert!(serves(portolan.http()));
    assert_eq!(portolan.admin("/readyz").status, 200, "the other listeners are not taken from their clients");
    drop(holder);
    eventually("it is taken", || serves(local(port)).then_some(()));
    eventually("that is said no more", || {
        (!portolan.admin_json("/conditions").to_string().contains("cannot listen")).then_some(())
    });
}

/// Another Portolan's port is somebody else's port, unless it is told to share it.
#[test]
fn another_process_is_not_joined_unawares() {
    let echo = Echo::start("a");
    let first = start(&echo);
    let second = |setup: Setup| {
        setup
            .listener(&format!(
                "name: same\naddress: 127.0.0.1\nport: {}\nprotocol: HTTP\n",
                first.http_port()
            ))
            .manifest("fleet.yaml", cluster("paris", "") + &app("paris", "shop", &[echo.address()]))
    };
    let refused = Portolan::start(&[]);
    refused.write("proxy.yaml", &second(Setup::new()).proxy());
    let said = eventually("it is said", || {
        let found = refused.admin_json("/conditions").to_string();
        found.contains("listener same").then_some(found)
    });
    assert!(said.contains("in use"), "{said}");
    for _ in 0..20 {
        assert!(serves(first.http()));
    }
    drop(refused);

    let sharing = second(Setup::new().arg("--share-ports")).start();
    let address = first.http();
    drop(first);
    for _ in 0..20 {
        assert!(serves(address), "{}", sharing.output());
    }
}

/// Nor is one that took a port which was ours before.
#[test]
fn a_port_that_was_left_may_be_somebody_elses() {
    let echo = Echo::start("a");
    let portolan = start(&echo);
    let port = free_port();
    let with = |setup: Setup| {
        setup.listener(&format!("name: left\naddress: 127.0.0.1\nport: {port}\nprotocol: HTTP\n"))
    };
    portolan.write("proxy.yaml", &with(Setup::new()).proxy());
    eventually("it serves", || serves(local(port)).then_some(()));
    portolan.write("proxy.yaml", &Setup::new().proxy());
    eventually("nobody listens any more", || TcpStream::connect(local(port)).is_err().then_some(()));
    let other = with(Setup::new().arg("--share-ports")).start();
    portolan.write("proxy.yaml", &with(Setup::new()).proxy());
    let said = eventually("it is said", || {
        let found = portolan.admin_json("/conditions").to_string();
        found.contains("listener left").then_some(found)
    });
    assert!(said.contains("in use"), "{said}");
    drop(other);
    eventually("it is taken", || serves(local(port)).then_some(()));
}

/// Settings of TLS change for new connections; open ones go on as they are.
#[test]
fn tls_settings_change_for_new_connections() {
    let echo = Echo::start("a");
    let authority = Authority::new("reload");
    let pair = authority.issue(&["*.paris.lb.test"], Key::Ecdsa);
    let fleet = cluster("paris", "certificateRef: {name: generated}")
        + &secret("tenant-paris", "generated", &pair.chain, &pair.key)
        + &app("paris", "shop", &[echo.address()]);
    let portolan = Portolan::start(&[("fleet.yaml", fleet)]);
    let config = tls_config(&authority, &[b"http/1.1"]);
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut old = Wire::tls(portolan.https(), &config, HOST);
    old.send(&request);
    assert!(old.some().starts_with(b"HTTP/1.1 200"));

    run_async(async {
        let old2 = Http2::tls(portolan.https(), &tls_config(&authority, &[b"h2"]), HOST).await;
        assert_eq!(old2.fetch(&format!("https://{HOST}/")).await.expect("an answer").0, 200);

        // TLS 1.3 alone, no HTTP/2.
        portolan
            .apply("proxy.yaml", &Setup::new().https("http2: false\ntls: {minVersion: \"1.3\"}\n").proxy());
        let curl = |arg: &str| {
            let ca = authority.file(portolan.folder());
            portolan.get_tls(HOST, "/", &ca).arg(arg).send()
        };
        let two = curl("--tls-max=1.2");
        assert_ne!(two.exit, 0, "{two:?}");
        let three = curl("--http2");
        assert_eq!((three.exit, three.version.as_str()), (0, "HTTP/1.1"), "{three:?}");
        assert_eq!(old2.fetch(&format!("https://{HOST}/")).await.expect("the old connection goes on").0, 200);
    });
    old.send(&request);
    assert!(old.some().starts_with(b"HTTP/1.1 200"), "the old connection goes on");
}

#[test]
fn the_number_of_workers_changes_under_load() {
    let echo = Echo::start("a");
    let portolan = start(&echo);
    let load = Load::start(6, portolan.http(), HOST, "/", |status, _| status == 200);
    // New connections all the time, too: they meet sockets that come and go.
    let fresh = Load::start(2, portolan.http(), HOST, "/fresh", |status, _| status == 200);
    for workers in [4, 1, 3, 2, 8, 1, 2] {
        portolan.apply("proxy.yaml", &Setup::new().spec(&format!("workers: {workers}")).proxy());
        load.wait_for(100);
        for _ in 0..20 {
            assert!(serves(portolan.http()), "with {workers} workers");
        }
        let threads = || {
            let tasks =
                std::fs::read_dir(format!("/proc/{}/task", portolan.pid())).expect("the process runs");
            let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
            names.filter(|name| name.starts_with("worker-")).count()
        };
        // Those that retire stay for the connections they have.
        assert!(threads() >= workers, "{} of {workers} workers", threads());
    }
    for load in [load, fresh] {
        let (done, failures) = load.stop();
        assert!(
            failures.is_empty(),
            "{} of {done}: {:?}",
            failures.len(),
            &failures[..failures.len().min(3)]
        );
    }
}
