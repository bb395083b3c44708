use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::ArcSwap;
use portolan_model::host::HostPattern;
use portolan_model::id::Kind;
use portolan_model::intent::{KeyAlgorithm, TlsSecret};
use portolan_model::redacted::Redacted;
use rustls::client::Resumption;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::Acceptor;
use rustls::{
    AlertDescription, CipherSuite, ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore,
    ServerConnection, SignatureScheme, SupportedProtocolVersion,
};

use super::*;
use crate::issue::DemoCa;
use crate::{install_provider, pem, read_facts};

/// A demo fleet: an authority, its certificates by the name of their `Secret`, and what serves which name.
struct Rig {
    ca: DemoCa,
    store: CertStore,
    tls: ServerTls,
}

fn id(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Secret, "portolan-system", name)
}

impl Rig {
    fn new() -> Self {
        install_provider().unwrap();
        let mut rig =
            Self { ca: DemoCa::new().unwrap(), store: CertStore::default(), tls: ServerTls::new().unwrap() };
        rig.certificate("exact", &["shop.example.com"], KeyAlgorithm::Ecdsa);
        rig.certificate("wild", &["*.example.com"], KeyAlgorithm::Ecdsa);
        rig.certificate("default", &["default.example.com"], KeyAlgorithm::Ecdsa);
        rig.certificate("both-rsa", &["both.example.com"], KeyAlgorithm::Rsa);
        rig.certificate("both-ec", &["both.example.com"], KeyAlgorithm::Ecdsa);
        rig.name("shop.example.com", &["exact"]);
        rig.name("*.example.com", &["wild"]);
        rig.name("both.example.com", &["both-rsa", "both-ec"]);
        rig.name("lost.example.com", &["no-such-secret"]);
        rig
    }

    fn certificate(&mut self, secret: &str, names: &[&str], algorithm: KeyAlgorithm) {
        let issued = self.ca.issue(names, algorithm).unwrap();
        let (chain, key) = (issued.chain_pem.as_bytes(), issued.key_pem.as_bytes());
        let facts = read_facts(chain, key).unwrap();
        let tls = TlsSecret { chain: chain.into(), key: Redacted(key.into()), facts };
        self.store.apply(&[(id(secret), Some(Arc::new(tls)))], &[]);
    }

    fn name(&mut self, pattern: &str, secrets: &[&str]) {
        let entry = secrets.iter().map(|secret| id(secret)).collect();
        self.store.apply(&[], &[(HostPattern::parse(pattern).unwrap(), Some(entry))]);
    }

    fn leaf(&self, secret: &str) -> CertificateDer<'static> {
        let listed = self.store.choose(&[id(secret)], &[]).unwrap();
        listed.cert[0].clone()
    }

    fn listener(&self, settings: &ListenerTls) -> ListenerContext {
        self.tls.listener(settings, true, &["localhost"], Arc::new(self.store.clone())).unwrap()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let blocks = pem::blocks(self.ca.certificate_pem().as_bytes()).unwrap();
        roots.add(pem::certificates(&blocks).remove(0)).unwrap();
        roots
    }

    /// A client that takes `versions` and signatures of these schemes alone.
    fn client(&self, versions: &[&'static SupportedProtocolVersion], schemes: Schemes) -> ClientConfig {
        let mut provider = aws_lc_rs::default_provider();
        provider.signature_verification_algorithms = schemes.of(provider.signature_verification_algorithms);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        config
    }

    fn modern_client(&self) -> ClientConfig {
        self.client(&[&TLS13, &TLS12], Schemes::All)
    }
}

#[derive(Clone, Copy, Debug)]
enum Schemes {
    All,
    RsaAndOwnEcdsaRoot,
}

impl Schemes {
    /// Schemes are offered by `mapping`; the chain is verified by `all`, so an ECDSA authority stays good.
    fn of(self, algorithms: WebPkiSupportedAlgorithms) -> WebPkiSupportedAlgorithms {
        let rsa = |scheme: &SignatureScheme| format!("{scheme:?}").starts_with("RSA");
        match self {
            Self::All => algorithms,
            Self::RsaAndOwnEcdsaRoot => {
                let mapping: Vec<_> =
                    algorithms.mapping.iter().copied().filter(|(scheme, _)| rsa(scheme)).collect();
                WebPkiSupportedAlgorithms { all: algorithms.all, mapping: Box::leak(mapping.into()) }
            }
        }
    }
}

/// Moves bytes between both ends until neither has any, as a network would.
fn exchange(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
    loop {
        let mut moved = false;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut bytes = &wire[..];
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets()?;
            moved = true;
        }
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut bytes = &wire[..];
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            let done = server.process_new_packets();
            if let Err(error) = done {
                let mut alert = Vec::new();
                server.write_tls(&mut alert).unwrap();
                client.read_tls(&mut &alert[..]).unwrap();
                client.process_new_packets()?;
                return Err(error);
            }
            moved = true;
        }
        if !moved {
            return Ok(());
        }
    }
}

/// The handshake as the proxy does it: ClientHello first, then the refusal or the listener's configuration. The error
/// is what the client sees.
fn handshake(
    listener: &ListenerContext,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let (mut acceptor, mut hello) = (Acceptor::default(), Vec::new());
    client.write_tls(&mut hello).unwrap();
    let mut bytes = &hello[..];
    let accepted = loop {
        acceptor.read_tls(&mut bytes).unwrap();
        if let Some(accepted) = acceptor.accept().unwrap() {
            break accepted;
        }
    };
    if listener.find(accepted.client_hello().server_name()) == Found::Refused {
        client.read_tls(&mut &UNRECOGNIZED_NAME[..]).unwrap();
        client.process_new_packets()?;
        unreachable!("an alert is an error");
    }
    match accepted.into_connection(listener.config()) {
        Ok(mut server) => {
            exchange(&mut client, &mut server)?;
            Ok((client, server))
        }
        Err((_, mut alert)) => {
            let mut wire = Vec::new();
            alert.write_all(&mut wire).unwrap();
            client.read_tls(&mut &wire[..]).unwrap();
            client.process_new_packets()?;
            unreachable!("an alert is an error");
        }
    }
}

fn leaf_seen(client: &ClientConnection) -> CertificateDer<'static> {
    client.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn certificates_are_chosen_by_server_name() {
    let rig = Rig::new();
    let client = Arc::new(rig.modern_client());
    let strict = rig.listener(&ListenerTls::default());
    let with_default = ListenerTls { default_certificate: Some(id("default")), ..ListenerTls::default() };
    let with_default = rig.listener(&with_default);
    for (name, expected) in [
        ("shop.example.com", Some("exact")),
        ("SHOP.example.com", Some("exact")),
        ("www.example.com", Some("wild")),
        ("a.b.example.com", None),
        ("example.org", None),
        ("lost.example.com", None),
    ] {
        match (handshake(&strict, &client, name), expected) {
            (Ok((client, _)), Some(secret)) => assert_eq!(leaf_seen(&client), rig.leaf(secret), "{name}"),
            (Err(error), None) => {
                let refused = rustls::Error::AlertReceived(AlertDescription::UnrecognisedName);
                assert_eq!(error, refused, "{name}");
            }
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
    // The default's own name is the only one that a verifying client accepts it for.
    let (seen, _) = handshake(&with_default, &client, "default.example.com").unwrap();
    assert_eq!(leaf_seen(&seen), rig.leaf("wild"), "a name of its own comes before the default");
    let error = handshake(&with_default, &client, "example.org").unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "served, but for another name: {error:?}");
    // Without a server name: an address.
    let error = handshake(&strict, &client, "10.0.0.1").unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::UnrecognisedName));
    assert_eq!(with_default.find(None), Found::Default);
}

#[test]
fn a_listener_without_certificates_serves_its_own() {
    let rig = Rig::new();
    let settings = ListenerTls { self_signed: true, ..ListenerTls::default() };
    let (first, second) = (rig.listener(&settings), rig.listener(&settings));
    let own = |listener: &ListenerContext| listener.resolver.own.clone().unwrap();
    assert!(Arc::ptr_eq(&own(&first), &own(&second)), "one for the process, over reloads");
    assert_eq!(first.find(Some("example.org")), Found::Default);
    assert_eq!(first.find(None), Found::Default);
    let mut roots = RootCertStore::empty();
    roots.add(own(&first).cert[0].clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    handshake(&first, &Arc::new(client), "localhost").unwrap();
}

#[test]
fn ecdsa_is_chosen_for_clients_that_can_and_rsa_for_others() {
    let rig = Rig::new();
    let listener = rig.listener(&ListenerTls::default());
    for (versions, schemes, name, expected) in [
        (&[&TLS13][..], Schemes::All, "both.example.com", "both-ec"),
        (&[&TLS12], Schemes::All, "both.example.com", "both-ec"),
        (&[&TLS13], Schemes::RsaAndOwnEcdsaRoot, "both.example.com", "both-rsa"),
        (&[&TLS12], Schemes::RsaAndOwnEcdsaRoot, "both.example.com", "both-rsa"),
    ] {
        let client = Arc::new(rig.client(versions, schemes));
        let (client, _) = handshake(&listener, &client, name).unwrap();
        assert_eq!(leaf_seen(&client), rig.leaf(expected), "{versions:?} {schemes:?}");
    }
    let client = Arc::new(rig.client(&[&TLS13], Schemes::RsaAndOwnEcdsaRoot));
    let error = handshake(&listener, &client, "shop.example.com").unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::HandshakeFailure));
}

#[test]
fn the_hybrid_key_exchange_is_negotiated() {
    let rig = Rig::new();
    let client = Arc::new(rig.modern_client());
    let (client, server) =
        handshake(&rig.listener(&ListenerTls::default()), &client, "shop.example.com").unwrap();
    for group in [client.negotiated_key_exchange_group(), server.negotiated_key_exchange_group()] {
        assert_eq!(group.unwrap().name(), NamedGroup::X25519MLKEM768);
    }
}

#[test]
fn versions_suites_and_alpn_are_the_listeners() {
    let rig = Rig::new();
    let name = "shop.example.com";
    let only_13 = rig.listener(&ListenerTls { min_version: TlsVersion::V1_3, ..ListenerTls::default() });
    let old = Arc::new(rig.client(&[&TLS12], Schemes::All));
    let error = handshake(&only_13, &old, name).unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::ProtocolVersion));
    handshake(&rig.listener(&ListenerTls::default()), &old, name).unwrap();

    let suites = |names: &[&str]| ListenerTls {
        min_version: TlsVersion::V1_3,
        cipher_suites: names.iter().map(|&name| name.into()).collect(),
        ..ListenerTls::default()
    };
    let error = rig
        .tls
        .listener(&suites(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]), true, &[], Arc::default())
        .unwrap_err();
    assert!(matches!(error, ContextError::Versions(_)), "no suite for TLS 1.3: {error:?}");
    let chosen = suites(&["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"]);
    let (_, server) = handshake(&rig.listener(&chosen), &Arc::new(rig.modern_client()), name).unwrap();
    let suite = server.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "in the listener's order");
    let error = rig.tls.listener(&suites(&["NONE"]), true, &[], Arc::default()).unwrap_err();
    assert!(matches!(error, ContextError::UnknownSuite(_)));

    for (http2, expected) in [(true, "h2"), (false, "http/1.1")] {
        let store = Arc::new(rig.store.clone());
        let listener = rig.tls.listener(&ListenerTls::default(), http2, &[], store).unwrap();
        let (_, server) = handshake(&listener, &Arc::new(rig.modern_client()), name).unwrap();
        assert_eq!(server.alpn_protocol(), Some(expected.as_bytes()));
    }
}

#[test]
fn tickets_resume_over_reloads_and_only_for_their_name() {
    let rig = Rig::new();
    for version in [&TLS13, &TLS12] {
        let mut client = rig.client(&[version], Schemes::All);
        client.resumption = Resumption::in_memory_sessions(8);
        let client = Arc::new(client);
        let kind = |name: &str| {
            let listener = rig.listener(&ListenerTls::default());
            handshake(&listener, &client, name).unwrap().1.handshake_kind().unwrap()
        };
        assert_eq!(kind("shop.example.com"), HandshakeKind::Full);
        assert_eq!(kind("shop.example.com"), HandshakeKind::Resumed, "{version:?}");
        assert_eq!(kind("www.example.com"), HandshakeKind::Full);
    }
}

#[test]
fn a_name_that_is_gone_is_refused_whatever_ticket_the_client_has() {
    let mut rig = Rig::new();
    let client = Arc::new(rig.modern_client());
    handshake(&rig.listener(&ListenerTls::default()), &client, "shop.example.com").unwrap();
    let patterns =
        ["shop.example.com", "*.example.com"].map(|name| (HostPattern::parse(name).unwrap(), None));
    rig.store.apply(&[], &patterns);
    let error = handshake(&rig.listener(&ListenerTls::default()), &client, "shop.example.com").unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::UnrecognisedName));
}

#[test]
fn a_connection_outlives_its_certificate() {
    let mut rig = Rig::new();
    let listener = rig.listener(&ListenerTls::default());
    let client = Arc::new(rig.modern_client());
    let (mut client, mut server) = handshake(&listener, &client, "shop.example.com").unwrap();
    rig.certificate("exact", &["shop.example.com"], KeyAlgorithm::Ecdsa);
    drop(listener);
    client.writer().write_all(b"still here").unwrap();
    exchange(&mut client, &mut server).unwrap();
    let mut received = [0; 10];
    std::io::Read::read_exact(&mut server.reader(), &mut received).unwrap();
    assert_eq!(&received, b"still here");
}

#[test]
fn certificates_rotate_under_handshakes() {
    let mut rig = Rig::new();
    let settings = ListenerTls::default();
    let current = ArcSwap::from_pointee(rig.listener(&settings));
    let (mut client, done) = (rig.modern_client(), AtomicBool::new(false));
    // A resumed session would show the certificate that it began with.
    client.resumption = Resumption::disabled();
    let client = Arc::new(client);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut handshakes = 0;
                    while !done.load(Relaxed) || handshakes == 0 {
                        let listener = current.load_full();
                        let seen = leaf_seen(&handshake(&listener, &client, "shop.example.com").unwrap().0);
                        let expected = listener.resolver.store.choose(&[id("exact")], &[]).unwrap();
                        assert_eq!(seen, expected.cert[0], "the certificate of the context taken");
                        handshakes += 1;
                    }
                    handshakes
                })
            })
            .collect();
        let mut leaves = Vec::new();
        for _ in 0..50 {
            rig.certificate("exact", &["shop.example.com"], KeyAlgorithm::Ecdsa);
            leaves.push(rig.leaf("exact"));
            current.store(Arc::new(rig.listener(&settings)));
        }
        done.store(true, Relaxed);
        assert!(workers.into_iter().all(|worker| worker.join().unwrap() > 0));
        leaves.dedup();
        assert_eq!(leaves.len(), 50);
    });
    let (seen, _) = handshake(&current.load_full(), &client, "shop.example.com").unwrap();
    assert_eq!(leaf_seen(&seen), rig.leaf("exact"), "the last one is in force");
}
