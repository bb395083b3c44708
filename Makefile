# The two that a newcomer needs: `make run` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# Where rustup puts cargo, and Debian nginx: not every PATH has them.
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/sbin:/sbin

.PHONY: help run test test-fast test-clusters test-slow conformance fleet manifests bench fuzz release crds lint doc clean setup setup-tests setup-bench

help: ## This list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## Install what the build lacks.
	@deploy/setup.sh build

setup-tests:
	@deploy/setup.sh build test

setup-bench:
	@deploy/setup.sh build test bench

run: setup ## Build, and start a demo fleet on this machine: it prints what to try.
	cargo run --locked -p portolan -- demo

test: setup-tests lint test-fast test-clusters fuzz ## Everything that must pass before a change lands.

test-fast: setup-tests ## Unit, property and end-to-end tests: all but those that need clusters.
	@# Together, so that what both need is built once.
	cargo build --locked --workspace --bins --tests
	@# More threads than cores: most of the time these tests wait.
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-6} cargo test --locked --workspace --no-fail-fast

test-clusters: setup-tests ## Tests among real clusters on this machine, by root and with Go; else says what it skips.
	tests/rig/test.sh quick

test-slow: setup-tests ## Those that take minutes: cycles, outages, soaks.
	tests/rig/test.sh slow

conformance: setup-tests ## The Gateway API's conformance suite, in a cluster of its own: CLASS, MANIFESTS, CHANNEL, PROFILES, FEATURES, TEST, MINUTES, KEEP.
	cargo build --locked --workspace --bins
	@$${CARGO_TARGET_DIR:-target}/debug/rig conformance $(if $(CLASS),--class=$(CLASS)) $(MANIFESTS:%=--manifest=%) $(if $(CHANNEL),--channel=$(CHANNEL)) \
	  $(if $(PROFILES),--profiles=$(PROFILES)) $(if $(FEATURES),--features=$(FEATURES)) $(if $(TEST),--test=$(TEST)) $(if $(MINUTES),--minutes=$(MINUTES)) $(if $(KEEP),--keep)

fleet: setup-tests ## Three clusters on this machine, with Portolan, agents and an application in two of them: it prints what to try. Root and Go.
	cargo build --locked --workspace --bins
	@$${CARGO_TARGET_DIR:-target}/debug/rig check && $${CARGO_TARGET_DIR:-target}/debug/rig build && tests/rig/build.sh coredns >/dev/null
	@$${CARGO_TARGET_DIR:-target}/debug/fleet

manifests: ## Write deploy/manifests/*.yaml again, from the charts. Needs Helm, which tests/rig/build.sh builds.
	deploy/manifests/render.sh

lint: setup-tests ## Format, lints, documentation, the graph of crates.
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	tests/graph/check.py
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check bans licenses sources; else echo "cargo-deny is not installed: deny.toml (licences, bans of the whole tree) is not checked"; fi

fuzz: setup-tests ## Each fuzz target for a few seconds (FUZZ_SECONDS).
	tests/fuzz/run.sh $${FUZZ_SECONDS:-10}

bench: setup-bench release ## Compare with nginx, HAProxy, Envoy and a bare Pingora proxy; count instructions; load 100,000 hosts.
	cargo build --release --locked -p portolan-bench-bare -p portolan-bench-load -p portolan-bench-micro
	PORTOLAN=target/shipped/portolan target/release/portolan-bench-load
	cargo run --release --locked -p portolan-bench-micro
	PORTOLAN_BIN=target/shipped/portolan benches/scale/scale.py

crds: ## Write deploy/crds and deploy/docs/reference.md again, from the Rust types of the custom resources.
	PORTOLAN_WRITE=1 cargo test --locked -p portolan-api crds

release: setup ## The binary that is shipped, target/shipped/portolan: trained on the benchmarks' scenarios.
	deploy/release.sh

clean: ## Remove what was built.
	cargo clean
