//! Upstreams that others wrote, started as programs of their own.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::manifest::indent;
use crate::ports::free_port;
use crate::process::Child;
use crate::wait::eventually;

/// nginx.
#[derive(Debug)]
pub struct Nginx {
    address: SocketAddr,
    folder: TempDir,
    _child: Child,
}

impl Nginx {
    /// With the body of a `server` block, `listen` included where `$PORT` stands for the port.
    pub fn start(server: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), server)
    }

    /// The same in a folder that files of it lie in already.
    pub fn start_in(folder: TempDir, server: &str) -> Self {
        let port = free_port();
        let place = folder.path().display();
        let config = format!(
            "daemon off;\nmaster_process off;\nworker_processes 1;\nerror_log {place}/error.log;\npid {place}/nginx.pid;\n\
             events {{ worker_connections 512; }}\nhttp {{\n  access_log off;\n  keepalive_requests 100000;\n  \
             client_body_temp_path {place}/body;\n  proxy_temp_path {place}/proxy;\n  fastcgi_temp_path {place}/fastcgi;\n  \
             uwsgi_temp_path {place}/uwsgi;\n  scgi_temp_path {place}/scgi;\n  server {{\n{}  }}\n}}\n",
            indent(&server.replace("$PORT", &port.to_string()), 4)
        );
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, config).expect("a file");
        let mut command = Command::new("nginx");
        command
            .arg("-c")
            .arg(&path)
            .arg("-p")
            .arg(folder.path())
            .arg("-e")
            .arg(folder.path().join("error.log"));
        let child = Child::start(&mut command, &folder.path().join("output.log"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        eventually("nginx listens", || TcpStream::connect(address).ok());
        Self { address, folder, _child: child }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A Python program of the standard library that listens on the port it is given as its only argument.
#[derive(Debug)]
pub struct Python {
    address: SocketAddr,
    _folder: TempDir,
    _child: Child,
}

impl Python {
    /// Runs a program.
    pub fn start(program: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let path = folder.path().join("program.py");
        std::fs::write(&path, program).expect("a file");
        let mut command = Command::new("python3");
        command.arg("-u").arg(&path).arg(port.to_string());
        let child = Child::start(&mut command, &folder.path().join("output.log"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        eventually("Python listens", || TcpStream::connect(address).ok());
        Self { address, _folder: folder, _child: child }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
