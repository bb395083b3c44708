#!/usr/bin/env python3
"""Do the crates depend on each other, and on heavy libraries, only as the architecture says?

Reads `cargo metadata` and compares it with the two tables below. An edge that stands in neither is an error: either the
edge is wrong, or the architecture changes and the table with it, in the same commit. `deny.toml` holds part of the same rules against
the whole tree; this holds them against what each Cargo.toml names, and runs in a second.

    tests/graph/check.py            check
    tests/graph/check.py --print    the edges as they are
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Which of our crates a crate may name. Dependencies point one way: what stands further up knows nothing of what stands below it.
EDGES = {
    # Pure: no I/O, no clock, no async runtime.
    "portolan-model": [],
    "portolan-wire": [],
    "portolan-metrics": [],
    "portolan-api": ["portolan-model"],
    "portolan-compile": ["portolan-model"],
    "portolan-certs": ["portolan-model"],
    "portolan-health": ["portolan-model"],
    "portolan-route": ["portolan-model"],
    "portolan-balance": ["portolan-model"],
    "portolan-filter": ["portolan-model"],
    # With the world outside.
    "portolan-source": ["portolan-model", "portolan-api"],
    "portolan-admin": ["portolan-model"],
    "portolan-agent": ["portolan-model", "portolan-api", "portolan-source"],
    "portolan-controller": ["portolan-model", "portolan-metrics", "portolan-api", "portolan-compile", "portolan-source"],
    "portolan-proxy": [
        "portolan-model",
        "portolan-wire",
        "portolan-metrics",
        "portolan-certs",
        "portolan-health",
        "portolan-route",
        "portolan-balance",
        "portolan-filter",
    ],
    # The binary joins them.
    "portolan": [
        "portolan-model",
        "portolan-metrics",
        "portolan-api",
        "portolan-compile",
        "portolan-certs",
        "portolan-route",
        "portolan-balance",
        "portolan-source",
        "portolan-controller",
        "portolan-admin",
        "portolan-proxy",
    ],
}

# What talks to Kubernetes.
KUBERNETES = ["portolan-api", "portolan-source", "portolan-agent", "portolan-controller"]

# What only some may name: heavy or risky libraries, and those that would make a pure crate impure.
OWNERS = {
    "pingora*": ["portolan-proxy"],
    "axum": ["portolan-admin"],
    "hyper": ["portolan-admin", "portolan"],
    "hyper-timeout": ["portolan-source"],
    "hyper-util": ["portolan-admin", "portolan-source", "portolan"],
    "tower": ["portolan-source"],
    "h2": ["portolan-proxy"],
    "kube": KUBERNETES,
    "k8s-openapi": KUBERNETES,
    "schemars": ["portolan-api"],
    "granit-parser": ["portolan-api"],
    "serde-saphyr": ["portolan-api"],
    "rustls": ["portolan-certs", "portolan-proxy"],
    "tokio-rustls": ["portolan-proxy"],
    "rcgen": ["portolan-certs"],
    "x509-parser": ["portolan-certs"],
    "regex-automata": ["portolan-route"],
    "regex-syntax": ["portolan-route"],
    "regex": [],
    "hickory-*": ["portolan-proxy"],
    "notify": ["portolan-source"],
    "prometheus": ["portolan-metrics"],
    "clap": ["portolan", "portolan-agent"],
    "anyhow": ["portolan", "portolan-agent"],
    "mimalloc": ["portolan", "portolan-agent"],
    "tokio": [*KUBERNETES[1:], "portolan-admin", "portolan-proxy", "portolan"],
    "tracing": [*KUBERNETES[1:], "portolan-admin", "portolan-proxy", "portolan"],
    "nix": ["portolan-proxy"],
    "libc": ["portolan-proxy"],
}

# Benches and tests are not shipped; they may name what they measure or talk to, but the bare proxy alone may name Pingora.
UNSHIPPED = ("benches/", "tests/")
BARE = "benches/bare"


def owner_rule(name):
    for pattern, owners in OWNERS.items():
        if name == pattern or pattern.endswith("*") and name.startswith(pattern[:-1]):
            return owners
    return None


def main():
    command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
    packages = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    ours = {package["name"] for package in packages}
    errors = []
    for package in sorted(packages, key=lambda package: package["name"]):
        name = package["name"]
        folder = str(Path(package["manifest_path"]).parent.relative_to(ROOT))
        # By the package's own name, whatever it is called here.
        named = {d["name"] for d in package["dependencies"] if d["kind"] != "dev"}
        for_tests = {d["name"] for d in package["dependencies"] if d["kind"] == "dev"}
        if "--print" in sys.argv:
            print(f"{name}: {' '.join(sorted(named & ours)) or '-'} | {' '.join(sorted(named - ours)) or '-'}")
        if folder.startswith(UNSHIPPED):
            if folder != BARE and any(d.startswith("pingora") for d in named | for_tests):
                errors.append(f"{folder} names Pingora; only portolan-proxy and {BARE} may")
            continue
        if name not in EDGES:
            errors.append(f"{name} ({folder}) is not in the table of crates")
            continue
        for edge in sorted((named | for_tests) & ours - set(EDGES[name])):
            errors.append(f"{name} ({folder}) names {edge}, which is not in the table")
        for library in sorted(named - ours):
            owners = owner_rule(library)
            if owners is not None and name not in owners:
                errors.append(f"{name} ({folder}) names {library}, which belongs to {', '.join(owners) or 'nobody'}")
    for gone in sorted(set(EDGES) - ours):
        errors.append(f"{gone} is in the table, but not in the workspace")
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if not errors:
        print(f"{len(packages)} crates: every edge is in the table")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
