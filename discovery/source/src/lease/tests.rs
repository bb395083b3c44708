use std::sync::{Arc, Mutex};

use kube::{Client, Config};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};

use super::*;

/// An API server that knows one `Lease`, and may fall silent.
#[derive(Default)]
struct Server {
    lease: Mutex<Option<serde_json::Value>>,
    silent: Mutex<bool>,
    woken: Notify,
}

impl Server {
    async fn start() -> (Arc<Self>, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::new(Self::default());
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(connection));
            }
        });
        (server, Client::try_from(Config::new(url.parse().unwrap())).unwrap())
    }

    fn be_silent(&self, silent: bool) {
        *self.silent.lock().unwrap() = silent;
        self.woken.notify_waiters();
    }

    async fn serve(self: Arc<Self>, connection: TcpStream) {
        let mut connection = BufReader::new(connection);
        loop {
            let (mut method, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if connection.read_line(&mut line).await.unwrap_or_default() == 0 {
                    return;
                }
                let line = line.trim_end().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if method.is_empty() {
                    method = line.split(' ').next().unwrap_or_default().to_owned();
                }
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            connection.read_exact(&mut body).await.unwrap();
            loop {
                let woken = self.woken.notified();
                if !*self.silent.lock().unwrap() {
                    break;
                }
                woken.await;
            }
            let (status, answer) = self.answer(&method, &body);
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            let whole = [head.into_bytes(), answer.into_bytes()].concat();
            if connection.write_all(&whole).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, method: &str, body: &[u8]) -> (u16, String) {
        let mut lease = self.lease.lock().unwrap();
        let refusal = |code: u16, reason: &str| {
            let status = serde_json::json!({
                "kind": "Status", "status": "Failure", "message": reason, "reason": reason, "code": code,
            });
            (code, status.to_string())
        };
        if method != "get" {
            let mut new: serde_json::Value = serde_json::from_slice(body).unwrap();
            let before = lease.as_ref().map(|lease| lease["metadata"]["resourceVersion"].clone());
            if new["metadata"]["resourceVersion"] != before.clone().unwrap_or_default() {
                return refusal(409, "Conflict");
            }
            let version =
                before.and_then(|version| version.as_str()?.parse::<u64>().ok()).unwrap_or_default();
            new["metadata"]["resourceVersion"] = (version + 1).to_string().into();
            *lease = Some(new);
        }
        lease.as_ref().map_or_else(|| refusal(404, "NotFound"), |lease| (200, lease.to_string()))
    }
}

fn terms() -> Terms {
    Terms {
        lasts: Duration::from_secs(1),
        renew: Duration::from_millis(500),
        retry: Duration::from_millis(50),
    }
}

struct Replica {
    leads: watch::Receiver<bool>,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

fn replica(client: &Client, identity: &str) -> Replica {
    let leases = Api::namespaced(client.clone(), "portolan-system");
    let elector = Elector::new(leases, "portolan-controller", identity, terms());
    let (tell, leads) = watch::channel(false);
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(elector.run(tell, async {
        let _ = stopped.await;
    }));
    Replica { leads, stop: Some(stop), task }
}

impl Replica {
    async fn becomes(&mut self, leads: bool) {
        let waited = tokio::time::timeout(Duration::from_secs(20), self.leads.wait_for(|now| *now == leads));
        waited.await.unwrap().unwrap();
    }
}

/// Regression: a leader whose term had ended while the server was away tried without a pause, and never with success.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_steps_down_while_the_server_is_away_and_leads_again_afterwards() {
    let (server, client) = Server::start().await;
    let mut one = replica(&client, "one");
    one.becomes(true).await;
    server.be_silent(true);
    one.becomes(false).await;
    server.be_silent(false);
    one.becomes(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_takes_over_from_who_ends_and_from_who_dies() {
    let (_server, client) = Server::start().await;
    let mut one = replica(&client, "one");
    one.becomes(true).await;
    let mut two = replica(&client, "two");
    drop(one.stop.take());
    one.becomes(false).await;
    two.becomes(true).await;
    let mut three = replica(&client, "three");
    two.task.abort();
    three.becomes(true).await;
}
