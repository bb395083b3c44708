//! How does traffic for an address get to its Service? As with a load balancer that is a proxy: a listener for each port, and behind it the Service's
//! node port on some node that is ready. The next node is asked where one does not answer, as one without a pod of a Service that wants local
//! traffic only. Pods see the address of a node, not that of the client.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// How long a node may take to answer.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a client of UDP is remembered that says nothing.
const IDLE: Duration = Duration::from_secs(30);
/// The largest datagram.
const DATAGRAM: usize = 65_535;

/// A protocol that is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// Where clients come.
pub(super) type Front = (Protocol, Ipv4Addr, u16);

/// The addresses of nodes that are ready.
pub(super) type Nodes = watch::Receiver<Vec<Ipv4Addr>>;

/// All listeners.
#[derive(Debug)]
pub(super) struct Forwards {
    nodes: Nodes,
    running: HashMap<Front, (u16, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Forwards {
    pub(super) fn new(nodes: Nodes) -> Self {
        Self { nodes, running: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Lets there be these listeners and no others, each before its node port. What cannot listen now is said, and is to be tried again.
    pub(super) async fn settle(&mut self, wanted: &BTreeMap<Front, u16>) -> Result<(), String> {
        self.running.retain(|front, (port, task)| {
            let stays = wanted.get(front) == Some(port) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        // A listener that was aborted has let go of its port once it is joined.
        while self.tasks.len() > self.running.len() {
            self.tasks.join_next().await;
        }
        let mut failed = Ok(());
        for (&front, &port) in wanted {
            if self.running.contains_key(&front) {
                continue;
            }
            match self.listen(front, port).await {
                Ok(task) => {
                    self.running.insert(front, (port, task));
                }
                Err(error) => failed = Err(format!("cannot listen at {}:{}: {error}", front.1, front.2)),
            }
        }
        failed
    }

    async fn listen(&mut self, front: Front, port: u16) -> io::Result<AbortHandle> {
        let (protocol, address, own) = front;
        let nodes = self.nodes.clone();
        Ok(match protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind((address, own)).await?;
                self.tasks.spawn(tcp(listener, nodes, port))
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind((address, own)).await?;
                self.tasks.spawn(udp(socket, nodes, port))
            }
        })
    }
}

async fn tcp(listener: TcpListener, nodes: Nodes, port: u16) {
    let turn = Arc::new(AtomicUsize::new(0));
    // Connections go with their listener.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((mut client, _)) = accepted {
                let (nodes, turn) = (nodes.clone(), Arc::clone(&turn));
                connections.spawn(async move {
                    for node in in_turn(&nodes, &turn) {
                        if let Ok(Ok(mut server)) = timeout(CONNECT, TcpStream::connect((node, port))).await {
                            // Either side may break it off.
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                            return;
                        }
                    }
                });
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn udp(socket: UdpSocket, nodes: Nodes, port: u16) {
    let (socket, turn) = (Arc::new(socket), AtomicUsize::new(0));
    let mut clients: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut sessions = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                let Ok((length, client)) = received else { continue };
                let datagram = buffer[..length].to_vec();
                // One that is too much is lost, as datagrams are.
                let known = clients.get(&client).is_some_and(|session| session.try_send(datagram.clone()).is_ok());
                if !known && let Some(node) = in_turn(&nodes, &turn).first().copied() {
                    let (sender, datagrams) = mpsc::channel(64);
                    let _ = sender.try_send(datagram);
                    clients.insert(client, sender);
                    sessions.spawn(session(Arc::clone(&socket), client, (node, port).into(), datagrams));
                }
            }
            Some(_) = sessions.join_next() => clients.retain(|_, session| !session.is_closed()),
        }
    }
}

/// What one client says, and what it is answered, until nobody says anything for a while.
async fn session(
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    node: SocketAddr,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) {
    let Ok(server) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await else { return };
    if server.connect(node).await.is_err() {
        return;
    }
    let mut buffer = vec![0; DATAGRAM];
    let talk = async |datagrams: &mut mpsc::Receiver<Vec<u8>>, buffer: &mut Vec<u8>| {
        tokio::select! {
            datagram = datagrams.recv() => match datagram {
                Some(datagram) => server.send(&datagram).await.map(drop),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            },
            length = server.recv(buffer) => match length {
                Ok(length) => socket.send_to(&buffer[..length], client).await.map(drop),
                Err(error) => Err(error),
            },
        }
    };
    while let Ok(Ok(())) = timeout(IDLE, talk(&mut datagrams, &mut buffer)).await {}
}

/// All nodes, beginning with another each time.
fn in_turn(nodes: &Nodes, turn: &AtomicUsize) -> Vec<Ipv4Addr> {
    let mut nodes = nodes.borrow().clone();
    if !nodes.is_empty() {
        let first = turn.fetch_add(1, Ordering::Relaxed) % nodes.len();
        nodes.rotate_left(first);
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

    fn forwards(nodes: &[Ipv4Addr]) -> (watch::Sender<Vec<Ipv4Addr>>, Forwards) {
        let (sender, nodes) = watch::channel(nodes.to_vec());
        (sender, Forwards::new(nodes))
    }

    #[tokio::test]
    async fn connections_go_to_a_node_that_answers() {
        let node = TcpListener::bind((LOCAL, 0)).await.expect("a listener");
        let port = node.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = node.accept().await {
                stream.write_all(b"hello").await.expect("written");
            }
        });
        // Nobody listens at the first.
        let (_nodes, mut forwards) = forwards(&[Ipv4Addr::new(127, 0, 0, 2), LOCAL]);
        let front = (Protocol::Tcp, Ipv4Addr::new(127, 0, 0, 3), port);
        forwards.settle(&[(front, port)].into()).await.expect("listens");
        for _ in 0..2 {
            let mut client = TcpStream::connect((front.1, port)).await.expect("a connection");
            let mut said = String::new();
            client.read_to_string(&mut said).await.expect("read");
            assert_eq!(said, "hello");
        }
        forwards.settle(&BTreeMap::new()).await.expect("nothing");
        // A child that another test is just starting has the socket too until it runs its own program.
        let refused = || async { TcpStream::connect((front.1, port)).await.err() };
        crate::wait::until("the port to be free", CONNECT, refused).await.expect("nobody listens");
        forwards.settle(&[(front, port)].into()).await.expect("listens");
    }

    #[tokio::test]
    async fn datagrams_come_back_to_who_asked() {
        let node = UdpSocket::bind((LOCAL, 0)).await.expect("a socket");
        let port = node.local_addr().expect("an address").port();
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = node.recv_from(&mut buffer).await {
                buffer[..length].reverse();
                node.send_to(&buffer[..length], from).await.expect("sent");
            }
        });
        let (_nodes, mut forwards) = forwards(&[LOCAL]);
        let front = (Protocol::Udp, Ipv4Addr::new(127, 0, 0, 3), port);
        forwards.settle(&[(front, port)].into()).await.expect("listens");
        for text in ["abc", "def"] {
            let client = UdpSocket::bind((LOCAL, 0)).await.expect("a socket");
            for _ in 0..2 {
                client.send_to(text.as_bytes(), (front.1, port)).await.expect("sent");
                let mut buffer = [0; 64];
                let length =
                    timeout(CONNECT, client.recv(&mut buffer)).await.expect("in time").expect("read");
                let reversed: String = text.chars().rev().collect();
                assert_eq!(&buffer[..length], reversed.as_bytes());
            }
        }
    }
}
