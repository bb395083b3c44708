//! A running Portolan: the built binary over a folder of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::curl::Curl;
use crate::manifest::indent;
use crate::ports::free_port;
use crate::process::Child;
use crate::raw::{RawClient, RawResponse};
use crate::wait::{eventually, within};

/// Tries to start, with other ports each time.
const STARTS: usize = 3;
/// What starting may take on a busy machine.
const START: Duration = Duration::from_secs(20);

/// How a Portolan is to be started.
///
/// Its `Proxy` has `lbDomain: lb.test`, a listener `http` and a listener `https` on 127.0.0.1, and logs requests to a file. In
/// every text, `$HTTP` and `$HTTPS` stand for their ports and `$FOLDER` for the folder beside the manifests.
#[derive(Debug, Default)]
pub struct Setup {
    manifests: Vec<(String, String)>,
    spec: String,
    http: String,
    https: String,
    listeners: String,
    args: Vec<String>,
    small_pages: bool,
}

/// A running Portolan, killed when dropped.
#[derive(Debug)]
pub struct Portolan {
    folder: TempDir,
    child: Child,
    http: u16,
    https: u16,
    admin: u16,
}

/// The binary under test: `$PORTOLAN_BIN`, else the one that cargo built beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PORTOLAN_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a path of our own");
    let path = test.parent().and_then(Path::parent).expect("target/<profile>/deps").join("portolan");
    assert!(path.is_file(), "{} is missing: cargo build -p portolan, or set PORTOLAN_BIN", path.display());
    path
}

impl Setup {
    /// Nothing but the `Proxy`.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file of manifests.
    pub fn manifest(mut self, file: &str, text: impl Into<String>) -> Self {
        self.manifests.push((file.to_owned(), text.into()));
        self
    }

    /// Further lines of the `Proxy`'s `spec`.
    pub fn spec(mut self, lines: &str) -> Self {
        self.spec.push_str(&indent(lines, 2));
        self
    }

    /// Believes what 127.0.0.0/8 says about clients.
    pub fn trusting(self) -> Self {
        self.spec("clientAddress:\n  trustedCIDRs: [127.0.0.0/8]\n")
    }

    /// Further lines of the listener `http`.
    pub fn http(mut self, lines: &str) -> Self {
        self.http.push_str(&indent(lines, 4));
        self
    }

    /// Further lines of the listener `https`.
    pub fn https(mut self, lines: &str) -> Self {
        self.https.push_str(&indent(lines, 4));
        self
    }

    /// One more listener: its fields.
    pub fn listener(mut self, lines: &str) -> Self {
        let lines = indent(lines, 4);
        self.listeners.push_str("  - ");
        self.listeners.push_str(lines.trim_start());
        self
    }

    /// A further argument of `portolan run`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Takes its memory in pages of 4 KiB, so that [`Portolan::rss_kib`] tells what is held: a transparent huge page counts as
    /// 2 MiB as soon as one byte of it is touched, and comes and goes as a whole.
    pub fn small_pages(mut self) -> Self {
        self.small_pages = true;
        self
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Portolan {
        let mut said = String::new();
        for _ in 0..STARTS {
            match self.try_start() {
                Ok(portolan) => return portolan,
                Err(output) => said = output,
            }
        }
        panic!("portolan does not get ready; it says:\n{said}")
    }

    fn try_start(&self) -> Result<Portolan, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let (http, https, admin) = (free_port(), free_port(), free_port());
        let config = folder.path().join("config");
        std::fs::create_dir(&config).expect("a folder");
        let place = folder.path().display().to_string();
        let fill = |text: &str| {
            text.replace("$HTTPS", &https.to_string())
                .replace("$HTTP", &http.to_string())
                .replace("$FOLDER", &place)
        };
        std::fs::write(config.join("proxy.yaml"), fill(&self.proxy())).expect("a file");
        for (file, text) in &self.manifests {
            std::fs::write(config.join(file), fill(text)).expect("a file");
        }
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(&config).arg("--admin").arg(format!("127.0.0.1:{admin}"));
        command.args(&self.args).env("NO_COLOR", "1");
        if self.small_pages {
            // The allocator asks the kernel for huge pages, or has them forbidden to its process.
            command.env("MIMALLOC_ALLOW_THP", "0");
        }
        let child = Child::start(&mut command, &folder.path().join("output.log"));
        let mut portolan = Portolan { folder, child, http, https, admin };
        let ready = within(START, || {
            if portolan.child.exit_within(Duration::ZERO).is_some() {
                return Some(false);
            }
            portolan.try_admin("/readyz").is_some_and(|answer| answer.status == 200).then_some(true)
        });
        if ready == Some(true) { Ok(portolan) } else { Err(portolan.output()) }
    }

    /// The manifest of the `Proxy`, its placeholders not filled.
    pub fn proxy(&self) -> String {
        format!(
            "apiVersion: portolan.dev/v1alpha1\nkind: Proxy\nmetadata:\n  name: default\nspec:\n  lbDomain: lb.test\n  \
             listeners:\n  - name: http\n    address: 127.0.0.1\n    port: $HTTP\n    protocol: HTTP\n{}  \
             - name: https\n    address: 127.0.0.1\n    port: $HTTPS\n    protocol: HTTPS\n{}{}  \
             accessLog:\n    output: File\n    path: $FOLDER/access.log\n{}",
            self.http, self.https, self.listeners, self.spec
        )
    }
}

impl Portolan {
    /// Starts over these manifests, beside the usual `Proxy`.
    pub fn start(manifests: &[(&str, String)]) -> Self {
        let setup =
            manifests.iter().fold(Setup::new(), |setup, (file, text)| setup.manifest(file, text.clone()));
        setup.start()
    }

    /// The port of the listener `http`.
    pub fn http_port(&self) -> u16 {
        self.http
    }

    /// The port of the listener `https`.
    pub fn https_port(&self) -> u16 {
        self.https
    }

    /// The admin port.
    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    /// The address of the listener `http`.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.http))
    }

    /// The address of the listener `https`.
    pub fn https(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.https))
    }

    /// The folder beside the manifests: access log, output, and whatever a test puts there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of manifests.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// A GET of `path` on a host, in plaintext.
    pub fn get(&self, host: &str, path: &str) -> Curl {
        Curl::new(format!("http://{}{path}", self.http())).host(host)
    }

    /// A request over TLS for a host, which is the server name too.
    pub fn get_tls(&self, host: &str, path: &str, ca: &Path) -> Curl {
        Curl::new(format!("https://{host}{path}")).connect_to(self.https()).ca(ca)
    }

    /// A connection to the listener `http`.
    pub fn raw(&self) -> RawClient {
        RawClient::connect(self.http())
    }

    /// Writes a file of manifests in one step, and waits for nothing.
    pub fn write(&self, file: &str, text: &str) {
        let text = self.fill(text);
        let (path, aside) = (self.config().join(file), self.folder.path().join(format!("{file}.new")));
        std::fs::write(&aside, text).expect("a file");
        std::fs::rename(aside, path).expect("a name");
    }

    /// Removes a file of manifests, and waits for nothing.
    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.config().join(file)).expect("the file was there");
    }

    /// Writes a file of manifests and waits until it is in force.
    pub fn apply(&self, file: &str, text: &str) -> u64 {
        let before = self.revision();
        self.write(file, text);
        self.wait_revision_after(before)
    }

    /// Removes a file of manifests and waits until that is in force.
    pub fn withdraw(&self, file: &str) -> u64 {
        let before = self.revision();
        self.remove(file);
        self.wait_revision_after(before)
    }

    /// The revision in force.
    pub fn revision(&self) -> u64 {
        self.metric("portolan_config_revision").unwrap_or_default() as u64
    }

    /// Waits for a revision past that one.
    pub fn wait_revision_after(&self, before: u64) -> u64 {
        within(Duration::from_secs(15), || Some(self.revision()).filter(|&now| now > before))
            .unwrap_or_else(|| panic!("no revision after {before}; portolan says:\n{}", self.output()))
    }

    /// The value of a metric: its name, with its labels as they are printed.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.try_admin("/metrics")?.body;
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// What an endpoint of the admin port answers.
    pub fn admin(&self, path: &str) -> RawResponse {
        self.try_admin(path)
            .unwrap_or_else(|| panic!("the admin port does not answer {path}:\n{}", self.output()))
    }

    /// The same as JSON.
    pub fn admin_json(&self, path: &str) -> Value {
        let body = self.admin(path).body;
        serde_json::from_slice(&body)
            .unwrap_or_else(|_| panic!("no JSON from {path}: {}", String::from_utf8_lossy(&body)))
    }

    fn try_admin(&self, path: &str) -> Option<RawResponse> {
        let stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.admin)).ok()?;
        let mut client = RawClient::of(stream);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        client.response()
    }

    /// The whole lines of the access log so far.
    pub fn access_log(&self) -> Vec<Value> {
        let text = std::fs::read(self.folder.path().join("access.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON line ({error}): {line}"))
            })
            .collect()
    }

    /// Waits for a line of the access log.
    pub fn logged(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || self.access_log().into_iter().find(&wanted))
    }

    /// Waits for the line of a request id.
    pub fn logged_request(&self, id: &str) -> Value {
        self.logged(&format!("the access log has {id}"), |line| line["request_id"] == id)
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Its exit code, once it has ended of its own accord.
    pub fn exit_within(&mut self, time: Duration) -> Option<i32> {
        self.child.exit_within(time)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        self.child.output()
    }

    /// Its resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        self.child.rss_kib()
    }

    /// A manifest with `$HTTP`, `$HTTPS` and `$FOLDER` filled in.
    pub fn fill(&self, text: &str) -> String {
        let place = self.folder.path().display().to_string();
        text.replace("$HTTPS", &self.https.to_string())
            .replace("$HTTP", &self.http.to_string())
            .replace("$FOLDER", &place)
    }
}
