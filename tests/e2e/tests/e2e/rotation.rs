//! Certificates that are replaced while clients shake hands: no handshake fails, new ones see the new certificate, open
//! connections notice nothing.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portolan_e2e::{Authority, Echo, Key, Pair, Portolan, app, cluster, eventually, secret};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection};

use crate::streams::{Http2, Wire, runtime, tls_config};

const HOST: &str = "shop.paris.lb.test";

fn manifest(pair: &Pair) -> String {
    secret("tenant-paris", "generated", &pair.chain, &pair.key)
}

fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.chain.as_bytes()).expect("a certificate")
}

/// One handshake: the certificate that was shown.
fn handshake(portolan: &Portolan, config: &Arc<ClientConfig>) -> Result<CertificateDer<'static>, String> {
    let mut tcp = std::net::TcpStream::connect(portolan.https()).map_err(|error| error.to_string())?;
    tcp.set_read_timeout(Some(Duration::from_secs(15))).map_err(|error| error.to_string())?;
    let mut connection =
        ClientConnection::new(Arc::clone(config), ServerName::try_from(HOST).expect("a name"))
            .expect("a client");
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp).map_err(|error| error.to_string())?;
    }
    let chain = connection.peer_certificates().ok_or("no certificate")?;
    Ok(chain[0].clone().into_owned())
}

#[test]
fn certificates_are_replaced_under_handshakes() {
    const ROTATIONS: usize = 20;
    let echo = Echo::start("a");
    let authority = Authority::new("rotation");
    let pairs: Vec<Pair> =
        (0..=ROTATIONS).map(|_| authority.issue(&["*.paris.lb.test"], Key::Ecdsa)).collect();
    let fleet =
        cluster("paris", "certificateRef: {name: generated}") + &app("paris", "shop", &[echo.address()]);
    let portolan = Portolan::start(&[("fleet.yaml", fleet), ("certificate.yaml", manifest(&pairs[0]))]);
    let mut config = Arc::unwrap_or_clone(tls_config(&authority, &[b"http/1.1"]));
    // Whole handshakes, so that each shows its certificate.
    config.resumption = rustls::client::Resumption::disabled();
    let config = Arc::new(config);

    // Connections from before.
    let mut old = Wire::tls(portolan.https(), &config, HOST);
    let runtime = runtime();
    let old2 = runtime.block_on(Http2::tls(portolan.https(), &tls_config(&authority, &[b"h2"]), HOST));

    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    match handshake(&portolan, &config) {
                        Ok(shown) if pairs.iter().any(|pair| der(pair) == shown) => {}
                        Ok(_) => failures.lock().expect("no panic").push("another certificate".to_owned()),
                        Err(error) => failures.lock().expect("no panic").push(error),
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for pair in &pairs[1..] {
            portolan.write("certificate.yaml", &manifest(pair));
            let began = Instant::now();
            eventually("the new certificate is shown", || {
                (handshake(&portolan, &config).ok()? == der(pair)).then_some(())
            });
            slowest = slowest.max(began.elapsed());
            old.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
            assert!(old.some().starts_with(b"HTTP/1.1 200"), "an open connection was touched");
            let answer = runtime.block_on(old2.fetch(&format!("https://{HOST}/")));
            assert_eq!(answer.expect("an open connection was touched").0, 200);
        }
        stop.store(true, Ordering::SeqCst);
    });
    let failures = failures.into_inner().expect("no panic");
    println!(
        "{} handshakes across {ROTATIONS} rotations, {} failed; a new certificate was shown after {slowest:?} at most",
        done.into_inner(),
        failures.len()
    );
    assert!(failures.is_empty(), "{failures:?}");
    let shown = portolan.admin_json("/certificates").to_string();
    assert!(shown.contains("generated"), "{shown}");
}

/// A certificate that cannot be used changes nothing.
#[test]
fn a_bad_certificate_keeps_the_last_good_one() {
    let echo = Echo::start("a");
    let authority = Authority::new("rotation");
    let (good, other) = (
        authority.issue(&["*.paris.lb.test"], Key::Ecdsa),
        authority.issue(&["*.paris.lb.test"], Key::Ecdsa),
    );
    let fleet =
        cluster("paris", "certificateRef: {name: generated}") + &app("paris", "shop", &[echo.address()]);
    let portolan = Portolan::start(&[("fleet.yaml", fleet), ("certificate.yaml", manifest(&good))]);
    let config = tls_config(&authority, &[b"http/1.1"]);
    assert_eq!(handshake(&portolan, &config).expect("a handshake"), der(&good));
    let bad = [
        ("a key of another certificate", Pair { chain: good.chain.clone(), key: other.key.clone() }),
        ("no PEM", Pair { chain: "nothing".into(), key: "nothing".into() }),
        (
            "half a certificate",
            Pair { chain: good.chain[..good.chain.len() / 2].to_owned(), key: good.key.clone() },
        ),
    ];
    for (n, (what, pair)) in bad.iter().enumerate() {
        portolan.write("certificate.yaml", &manifest(pair));
        eventually(&format!("{what} is said"), || {
            let found = portolan.admin_json("/conditions");
            (found["conditions"].to_string() + &found["diagnostics"].to_string())
                .contains("generated")
                .then_some(())
        });
        assert_eq!(
            handshake(&portolan, &config).unwrap_or_else(|error| panic!("{what}: {error}")),
            der(&good),
            "{what}"
        );
        assert!(!portolan.output().contains("PRIVATE KEY"), "a key in the log");
        // A good one is taken again.
        let next = authority.issue(&["*.paris.lb.test"], if n % 2 == 0 { Key::Rsa } else { Key::Ecdsa });
        portolan.write("certificate.yaml", &manifest(&next));
        eventually("a good one is taken", || {
            (handshake(&portolan, &config).ok()? == der(&next)).then_some(())
        });
        portolan.write("certificate.yaml", &manifest(&good));
        eventually("and the first again", || {
            (handshake(&portolan, &config).ok()? == der(&good)).then_some(())
        });
    }
}
