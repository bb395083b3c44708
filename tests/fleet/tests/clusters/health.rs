//! An application that falls ill while its ports stay open, and its endpoint with it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portolan_fleet::{Load, World, get, pause};
use serde_json::{Value, json};

use crate::slow::RATE;
use crate::stage::LONG;
use crate::witness::{self, Figures, SYSTEM, in_time};

/// It answers well at all times, but for the path that says how it is; and counts what else it is asked.
const APPLICATION: &str = r#"
import http.server, json, os, time
served, health = 0, "well"

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        global served, health
        status, said = 200, ""
        if self.path == "/health":
            if health == "hangs":
                time.sleep(30)
            status = 500 if health == "fails" else 200
        elif self.path.startswith("/health/"):
            health = self.path.rsplit("/", 1)[1]
        elif self.path == "/served":
            said = str(served)
        else:
            served += 1
            said = json.dumps({"pod": os.environ["POD_NAME"], "namespace": "default", "service": "ailing"})
        self.send_response(status)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

Server(("", 3000), Handler).serve_forever()
"#;

/// Its node port is open and leads to it alone. When its health path fails, or hangs, no request comes to it any more; when it is well again, they do.
pub(crate) async fn an_application_falls_ill(world: &World) -> Result<()> {
    let (paris, lb) = (world.kubectl("paris")?, world.kubectl("lb")?);
    world.fleet().add_image("python3", Path::new("/usr/bin/python3"))?;
    let nodes = world.cluster("paris")?.nodes();
    let pods = ["paris-1", "paris-2"].map(pod);
    paris.apply(&list(&[&pods[..], &exposed()].concat())).await?;
    let host = "ailing.paris.lb.example.net";
    world.served(host, "ailing").await?;
    let port = paris.get(&["service", "ailing"]).await?["spec"]["ports"][0]["nodePort"].as_u64();
    let port = u16::try_from(port.context("no node port")?)?;
    let ill: SocketAddr = (nodes[1].address(), port).into();
    let count = async || anyhow::Ok(get(ill, "ailing", "/served").await?.text().parse::<u64>()?);
    let unhealthy = async |wanted: f64| {
        in_time(&format!("{wanted} unhealthy endpoints, as proxies see it"), LONG, || async {
            for proxy in witness::pods(&lb, SYSTEM, "portolan-proxy").await.ok()? {
                let figures = Figures::of(&lb, SYSTEM, &proxy).await.ok()?;
                let of = |health: &str| figures.sum("portolan_pool_endpoints", &["ailing", health]);
                (of("\"unhealthy\"") == wanted && of("\"healthy\"") == 2.0 - wanted).then_some(())?;
            }
            Some(())
        })
        .await
    };
    unhealthy(0.0).await?;

    let load = Load::start(world.address().await?, host, "/", RATE);
    for how in ["fails", "hangs"] {
        pause(Duration::from_secs(3)).await;
        let well = count().await?;
        ensure!(well > 100, "it had {well} requests while it was well");
        let (began, before) = (Instant::now(), load.so_far().sent);
        get(ill, "ailing", &format!("/health/{how}")).await?;
        unhealthy(1.0).await?;
        // What was under way ends.
        pause(Duration::from_millis(200)).await;
        let found = count().await?;
        println!("its health path {how}: both proxies know {:?} after", began.elapsed());
        pause(Duration::from_secs(5)).await;
        ensure!(count().await? == found, "it got {} requests while unhealthy", count().await? - found);
        ensure!(load.so_far().sent > before + 500, "nothing was asked");
        get(ill, "ailing", "/health/well").await?;
        unhealthy(0.0).await?;
        pause(Duration::from_secs(3)).await;
        ensure!(count().await? > found + 100, "it got nothing after it was well again");
    }
    let report = load.stop().await?;
    println!("an application was ill, twice: {report}");
    ensure!(report.failed.is_empty() && report.by.len() == 2, "{report}");
    let args = ["delete", "--grace-period=1", "--timeout=60s", "-f", "-"];
    paris.with_input(&args, &list(&[&pods[..], &exposed()].concat())).await.map(drop)
}

/// One of each node, ready as long as it runs.
fn pod(node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("ailing-{node}"), "namespace": "default", "labels": {"app": "ailing"}},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "ailing", "image": "python3", "command": ["/usr/bin/python3", "-c", APPLICATION],
                "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            }],
        },
    })
}

fn exposed() -> [Value; 2] {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "ailing", "namespace": "default",
            "annotations": {"portolan.dev/health-check-path": "/health"},
        },
        "spec": {
            "type": "NodePort", "externalTrafficPolicy": "Local", "selector": {"app": "ailing"},
            "ports": [{"name": "web", "port": 80, "targetPort": 3000}],
        },
    });
    [service, portolan_fleet::App::new("ailing").ingress()]
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}
