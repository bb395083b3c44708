use std::io::Read;
use std::net::{TcpListener, TcpStream};

use super::*;

/// Tests that need root say so and pass where there is none.
fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: network namespaces need root");
    }
    root
}

/// Namespaces that are gone when a test is over, however it ends.
struct Scene(Vec<String>);

impl Scene {
    fn create(&mut self, what: &str) -> Namespace {
        let name = format!("rigtest-{}-{what}", std::process::id());
        self.0.push(name.clone());
        Namespace::create(&name).expect("a namespace")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = ip(None, &format!("netns delete {name}"));
        }
    }
}

#[test]
fn names_of_links_fit() {
    assert_eq!(pod_link(Ipv4Addr::new(10, 244, 1, 5)), "p0af40105");
    assert!(pod_link(Ipv4Addr::BROADCAST).len() <= 15);
}

#[test]
fn a_namespace_is_there_until_it_is_deleted() {
    if !root() {
        return;
    }
    let mut scene = Scene(Vec::new());
    let namespace = scene.create("life");
    let name = namespace.name().to_owned();
    assert!(namespace.has_interface("lo").expect("an answer"));
    assert_eq!(Namespace::list(&name), [name.as_str()]);
    let forwards = namespace.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward"));
    assert_eq!(forwards.expect("inside").expect("a file").trim(), "1");
    Namespace::open(&name).expect("it is there").delete().expect("deleted");
    assert!(Namespace::open(&name).is_err());
    assert!(Namespace::list(&name).is_empty());
}

#[test]
fn a_pod_reaches_its_node_and_the_pod_beside_it() {
    if !root() {
        return;
    }
    let mut scene = Scene(Vec::new());
    let (node, one, two) = (scene.create("node"), scene.create("one"), scene.create("two"));
    node.ip("link add wan type veth peer name far\naddress add 172.30.1.2/30 dev wan\nlink set wan up")
        .expect("a link");
    let (first, second) = (Ipv4Addr::new(10, 244, 1, 2), Ipv4Addr::new(10, 244, 1, 3));
    join_pod(&node, &one, first).expect("joined");
    join_pod(&node, &two, second).expect("joined");
    let greets = |at: &Namespace, address: Ipv4Addr, from: &Namespace| {
        let listener = at.run(|| TcpListener::bind((address, 80))).expect("inside").expect("a listener");
        let mut client =
            from.run(|| TcpStream::connect((address, 80))).expect("inside").expect("a connection");
        let (mut server, peer) = listener.accept().expect("it comes");
        server.write_all(b"hello").expect("written");
        drop(server);
        let mut said = String::new();
        client.read_to_string(&mut said).expect("read");
        assert_eq!(said, "hello");
        peer.ip().to_string()
    };
    assert_eq!(greets(&one, first, &node), "172.30.1.2");
    assert_eq!(greets(&two, second, &one), "10.244.1.2");
    assert_eq!(greets(&node, Ipv4Addr::new(172, 30, 1, 2), &two), "10.244.1.3");
    // A pod that comes back with the address of the one before.
    let again = scene.create("again");
    join_pod(&node, &again, second).expect("joined");
    assert_eq!(greets(&again, second, &one), "10.244.1.2");
}
