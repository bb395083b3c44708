#!/usr/bin/env bash
# Installs what this machine lacks to build ("build"), to test ("test") and to measure ("bench") Portolan, on Debian and its kin. Says what it
# installs; asks nothing when root; without root it prints the line to type and stops.
set -euo pipefail

RUST=1.95
cd "$(dirname "$0")/.."
# Where rustup puts cargo, and Debian nginx: not every PATH has them.
PATH=$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }

components=()
for what in "$@"; do
  case "$what" in
    build)
      need cc gcc; need c++ g++; need cmake cmake; need curl curl; need git git
      # curl's package does without it, and then trusts nobody.
      if command -v apt-get >/dev/null 2>&1 && [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then missing+=(ca-certificates); fi
      ;;
    test)
      need nginx nginx-light; need h2load nghttp2-client; need openssl openssl; need python3 python3
      need ip iproute2; need nft nftables
      components=(clippy rustfmt)
      ;;
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
    # RUNLEVEL keeps packages from starting their services: tests start what they need.
    RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "Missing: ${missing[*]}. Type: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi

too_old() {
  local version
  version=$(rustc --version 2>/dev/null | sed -E 's/rustc ([0-9]+\.[0-9]+).*/\1/')
  [ "$(printf '%s\n%s\n' "$RUST" "$version" | sort -V | head -n 1)" != "$RUST" ]
}

if ! command -v cargo >/dev/null 2>&1 || too_old; then
  if command -v rustup >/dev/null 2>&1; then
    echo "Installing Rust (stable)"
    rustup toolchain install stable --profile minimal
    # For this folder alone: what other projects are built with is not ours to change. A rust-toolchain.toml would name one
    # toolchain for everybody, and have those download it who have a newer one, or the same under another name.
    rustup override set stable
  elif installer=$(curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs); then
    echo "Installing Rust by rustup"
    sh -s -- -y --profile minimal <<<"$installer"
    hash -r
  else
    echo "Rust $RUST or newer is needed. Type: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2
    exit 1
  fi
fi

for component in "${components[@]}"; do
  case "$component" in clippy) tool=cargo-clippy ;; *) tool=cargo-fmt ;; esac
  # That there is a program says nothing: rustup has a stand-in for every tool, installed or not.
  if ! "$tool" --version >/dev/null 2>&1; then
    if ! command -v rustup >/dev/null 2>&1; then
      echo "This cargo has no $component. Install it the way cargo was installed (Debian: rust-clippy, rustfmt), or install rustup." >&2
      exit 1
    fi
    echo "Installing $component"
    rustup component add "$component"
  fi
done
