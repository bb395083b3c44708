//! curl, as a function.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::process::run;

/// A call of curl under construction.
#[derive(Debug)]
pub struct Curl {
    url: String,
    args: Vec<String>,
    input: Vec<u8>,
}

/// What came of it.
#[derive(Debug)]
pub struct Reply {
    /// curl's own exit code; 0 where it got an answer.
    pub exit: i32,
    /// The status of the last head; 0 without one.
    pub status: u16,
    /// `HTTP/1.1`, say.
    pub version: String,
    /// Of the last head, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The statuses of every head, informational ones too.
    pub statuses: Vec<u16>,
    /// The body.
    pub body: Vec<u8>,
    /// What it prints with `-v`, and its errors.
    pub stderr: String,
}

impl Curl {
    /// A GET of a URL, given up after 20 s.
    pub fn new(url: impl Into<String>) -> Self {
        let args = ["-sS", "-g", "--path-as-is", "--max-time", "20", "--noproxy", "*"];
        Self { url: url.into(), args: args.map(str::to_owned).to_vec(), input: Vec::new() }
    }

    /// A further argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Further arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// A header.
    pub fn header(self, name: &str, value: &str) -> Self {
        // curl's own spelling of a header without a value.
        let field = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
        self.arg("-H").arg(field)
    }

    /// The `Host`.
    pub fn host(self, host: &str) -> Self {
        self.header("Host", host)
    }

    /// The method.
    pub fn method(self, method: &str) -> Self {
        if method == "HEAD" { self.arg("--head") } else { self.arg("-X").arg(method) }
    }

    /// A body, sent with its length.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.input = body.into();
        self.arg("--data-binary").arg("@-")
    }

    /// Where to connect, whatever the URL says; the URL's name stays SNI and `Host`.
    pub fn connect_to(self, address: SocketAddr) -> Self {
        self.arg("--connect-to").arg(format!("::{}:{}", address.ip(), address.port()))
    }

    /// The authority that is believed.
    pub fn ca(self, file: &Path) -> Self {
        self.arg("--cacert").arg(file.display().to_string())
    }

    /// Does it.
    pub fn send(self) -> Reply {
        let heads = tempfile::NamedTempFile::new().expect("a file");
        let mut command = Command::new("curl");
        command.args(&self.args).arg("-D").arg(heads.path()).arg(&self.url);
        let output = run(&mut command, &self.input);
        let text = std::fs::read(heads.path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut reply = Reply {
            exit: output.status.code().unwrap_or(-1),
            status: 0,
            version: String::new(),
            headers: Vec::new(),
            statuses: Vec::new(),
            body: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        if self.args.iter().any(|arg| arg == "--head") {
            // Told to ask for the head, curl prints it where the body would stand.
            reply.body.clear();
        }
        for line in text.lines() {
            if line.starts_with("HTTP/") {
                let mut words = line.split(' ');
                reply.version = words.next().unwrap_or_default().to_owned();
                reply.status = words.next().and_then(|status| status.trim().parse().ok()).unwrap_or_default();
                reply.statuses.push(reply.status);
                reply.headers.clear();
            } else if let Some((name, value)) = line.split_once(':') {
                reply.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        reply
    }
}

impl Reply {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// What [`crate::Echo`] got in a header; several values joined by `, `.
    pub fn echoed(&self, name: &str) -> Option<String> {
        let json = self.json();
        let values: Vec<&str> = json["headers"]
            .as_array()?
            .iter()
            .filter(|pair| pair[0] == name)
            .filter_map(|pair| pair[1].as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}
