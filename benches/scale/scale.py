#!/usr/bin/env python3
"""What does a large fleet cost? Starts Portolan on a folder of 100,000 hosts with one route each and 10,000 pools of two
endpoints on 100 clusters, and says how long it takes to load, how much memory it holds, and how soon one changed object serves.

    benches/scale/scale.py                      the targets' numbers
    benches/scale/scale.py --hosts 10000        fewer of everything
    benches/scale/scale.py --keep /tmp/fleet    leave the folder there, for a profiler

PORTOLAN_BIN is the program, target/release/portolan without. Memory is VmRSS once it has settled, less that of a process whose folder holds the
Proxy alone. An edit is timed from before its file is written to the first answer with the new redirect, on one connection that asks all the
time; the 20 ms of quiet that a batch waits for are taken off. Exits with 1 where a target is missed.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
DOMAIN = "lb.example.net"
OWN_HOST = f"own.cluster-0.{DOMAIN}"
DOCUMENTS_A_FILE = 100
CLUSTERS = 100
QUIET_MS = 20

LOAD_S = 10.0
BYTES_A_HOST = 1536
EDIT_MS = 20.0


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--hosts", type=int, default=100_000)
    arguments.add_argument("--pools", type=int, default=10_000)
    arguments.add_argument("--edits", type=int, default=50)
    arguments.add_argument("--keep", type=Path, help="write the folder here and leave it")
    given = arguments.parse_args()
    program = os.environ.get("PORTOLAN_BIN", str(TARGET / "release/portolan"))
    work = Path(tempfile.mkdtemp(prefix="portolan-scale-"))
    fleet = given.keep or work / "fleet"
    try:
        empty = work / "empty"
        port = free_port()
        write(empty / "proxy.yaml", [proxy(port)])
        generate(fleet, port, given.hosts, given.pools)
        ok = measure(program, empty, fleet, port, given.hosts, given.edits)
    finally:
        shutil.rmtree(work)
    sys.exit(0 if ok else 1)


def measure(program, empty, fleet, port, hosts, edits):
    with Portolan(program, empty) as process:
        nothing = process.settled_memory()
    with Portolan(program, fleet) as process:
        load, processor = process.load, process.processor_time()
        held = process.settled_memory()
        for n in (0, hosts // 2, hosts - 1):
            status = Connection(port).get(host_of(n))[0]
            assert status == 502, f"{host_of(n)} answers {status}"
        own = Connection(port)
        times = sorted(edit(fleet, own, n) for n in range(1, edits + 1))
        after = process.settled_memory()
    a_host = (held - nothing) / hosts
    median, worst = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    print(f"hosts                            {hosts:>10,}")
    print(f"resident memory, nothing loaded  {nothing / 2**20:>10.1f} MiB")
    print(f"resident memory, settled         {held / 2**20:>10.1f} MiB")
    print(f"resident memory, after the edits {after / 2**20:>10.1f} MiB")
    print(f"processor time of the load       {processor:>10.2f} s")
    rows = [
        ("load, from start to ready", load, LOAD_S, "s"),
        ("memory a host with its route", a_host, BYTES_A_HOST, "bytes"),
        ("one changed object, p50", median, EDIT_MS, "ms"),
        ("one changed object, p99", worst, EDIT_MS, "ms"),
    ]
    for what, value, target, unit in rows:
        verdict = "" if value <= target else "  MISSED"
        print(f"{what:<32} {value:>10,.2f} {unit} (target {target:,g}){verdict}")
    return all(value <= target for _, value, target, _ in rows)


def edit(fleet, own, n):
    """Changes the object that stands alone; milliseconds until it serves, less its batch."""
    began = time.monotonic()
    write(fleet / "own.yaml", [own_load_balancer(n)])
    wanted = f"/{n}"
    while True:
        status, location = own.get(OWN_HOST)
        now = time.monotonic()
        if location and location.endswith(wanted):
            break
        assert now - began < 10, f"edit {n} is not in force after 10 s: {status} {location}"
    # The next edit is to be a batch of its own.
    time.sleep(0.1)
    return (now - began) * 1000 - QUIET_MS


def generate(fleet, port, hosts, pools):
    if fleet.exists():
        shutil.rmtree(fleet)
    clusters = [f"apiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: cluster-{n}\nspec:\n  allowedEndpointCIDRs: [127.0.0.0/8]\n" for n in range(CLUSTERS)]
    write(fleet / "proxy.yaml", [proxy(port)])
    write(fleet / "clusters.yaml", clusters)
    write(fleet / "own.yaml", [own_load_balancer(0)])
    for kind, count, document in (("pools", pools, pool), ("hosts", hosts, load_balancer)):
        for first in range(0, count, DOCUMENTS_A_FILE):
            numbers = range(first, min(first + DOCUMENTS_A_FILE, count))
            write(fleet / kind / f"{first // DOCUMENTS_A_FILE}.yaml", [document(n, pools) for n in numbers])


def proxy(port):
    return f"""apiVersion: portolan.dev/v1alpha1
kind: Proxy
metadata:
  name: default
spec:
  lbDomain: {DOMAIN}
  listeners:
    - name: http
      address: 127.0.0.1
      port: {port}
      protocol: HTTP
"""


def pool(n, _):
    # Where nobody listens: a request that comes as far as its endpoint is answered at once, with 502.
    address = f"127.1.{n >> 8 & 255}.{n & 255}"
    return f"""apiVersion: portolan.dev/v1alpha1
kind: UpstreamPool
metadata:
  name: pool-{n // CLUSTERS}
  namespace: tenant-cluster-{n % CLUSTERS}
spec:
  endpoints:
    - address: {address}
      port: 1
    - address: {address}
      port: 2
"""


def load_balancer(n, pools):
    return f"""apiVersion: portolan.dev/v1alpha1
kind: HTTPLoadBalancer
metadata:
  name: shop-{n // CLUSTERS}
  namespace: tenant-cluster-{n % CLUSTERS}
spec:
  rules:
    - backends:
        - pool: pool-{n % pools // CLUSTERS}
"""


def own_load_balancer(n):
    return f"""apiVersion: portolan.dev/v1alpha1
kind: HTTPLoadBalancer
metadata:
  name: own
  namespace: tenant-cluster-0
spec:
  rules:
    - filters:
        - type: RequestRedirect
          requestRedirect:
            path: {{type: ReplaceFullPath, replaceFullPath: /{n}}}
"""


def host_of(n):
    return f"shop-{n // CLUSTERS}.cluster-{n % CLUSTERS}.{DOMAIN}"


def write(path, documents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(documents))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Portolan:
    """The program on a folder, once it is ready."""

    def __init__(self, program, folder):
        admin = free_port()
        began = time.monotonic()
        command = [program, "run", "--config", str(folder), "--admin", f"127.0.0.1:{admin}", "--log", "error"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            self.wait(admin, began)
        except BaseException:
            self.process.kill()
            raise

    def wait(self, admin, began):
        while True:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}"
            assert time.monotonic() - began < 300, "it is not ready after 300 s"
            try:
                if Connection(admin).get("localhost", "/readyz")[0] == 200:
                    break
            except OSError:
                pass
            time.sleep(0.005)
        self.load = time.monotonic() - began

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)

    def processor_time(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def settled_memory(self):
        """Bytes, once three seconds changed them by less than a hundredth."""
        before = self.memory()
        while True:
            time.sleep(3)
            now = self.memory()
            if abs(now - before) * 100 <= before:
                return now
            before = now

    def memory(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


class Connection:
    """HTTP/1.1 with keep-alive, as little of it as this needs."""

    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read = self.stream.makefile("rb")

    def get(self, host, path="/"):
        """The status and the Location."""
        self.stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        line = self.read.readline()
        if not line:
            raise OSError("the connection was closed")
        status, location, length = int(line.split()[1]), None, 0
        while (line := self.read.readline().strip()):
            name, _, value = line.decode().partition(":")
            if name.lower() == "location":
                location = value.strip()
            elif name.lower() == "content-length":
                length = int(value)
        self.read.read(length)
        return status, location


if __name__ == "__main__":
    main()
