#!/usr/bin/env bash
# Installs what this machine lacks to build ("build"), to test ("test") and to measure ("bench") Portolan, on Debian and its kin. Says what it
# installs; asks nothing when root; without root it prints the line to type and stops.
set -euo pipefail

RUST=1.95
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }

for what in "$@"; do
  case "$what" in
    build) need cc gcc; need c++ g++; need cmake cmake; need curl curl; need git git ;;
    test) need nginx nginx-light; need haproxy haproxy; need h2load nghttp2-client; need openssl openssl; need python3 python3 ;;
    bench) need valgrind valgrind ;;
    *) echo "setup.sh: unknown part: $what (build, test or bench)" >&2; exit 2 ;;
  esac
done

if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing: ${missing[*]}. Install them with this system's package manager, then run this again." >&2
    exit 1
  elif [ "$(id -u)" -eq 0 ]; then
    echo "Installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # The packages' own services are not wanted: tests start what they need.
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d.portolan
    chmod +x /usr/sbin/policy-rc.d.portolan
    if [ ! -e /usr/sbin/policy-rc.d ]; then mv /usr/sbin/policy-rc.d.portolan /usr/sbin/policy-rc.d; remove=1; else rm /usr/sbin/policy-rc.d.portolan; remove=0; fi
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    if [ "$remove" -eq 1 ]; then rm -f /usr/sbin/policy-rc.d; fi
  else
    echo "Missing: ${missing[*]}. Type: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi

version() { rustc --version 2>/dev/null | sed -E 's/rustc ([0-9]+\.[0-9]+).*/\1/'; }
if ! command -v cargo >/dev/null 2>&1 || [ "$(printf '%s\n%s\n' "$RUST" "$(version)" | sort -V | head -n 1)" != "$RUST" ]; then
  if command -v rustup >/dev/null 2>&1; then
    echo "Installing Rust $RUST"
    rustup toolchain install stable --profile minimal --component clippy --component rustfmt
  elif command -v curl >/dev/null 2>&1 && curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o /tmp/rustup-init.sh; then
    echo "Installing Rust by rustup"
    sh /tmp/rustup-init.sh -y --profile minimal --component clippy --component rustfmt
  else
    echo "Rust $RUST or newer is needed. Type: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2
    exit 1
  fi
fi
