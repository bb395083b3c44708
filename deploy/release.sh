#!/usr/bin/env bash
# Builds the binary that is shipped: trained on the scenarios of benches/load, so that the compiler knows which paths are
# hot (profile-guided optimisation). Leaves it at target/shipped/portolan. Takes two release builds and the time of some short load tests.
set -euo pipefail
cd "$(dirname "$0")/.."

rustc=$(rustc --version --verbose)
llvm=$(sed -nE 's/^LLVM version: ([0-9]+).*/\1/p' <<<"$rustc")
host=$(sed -n 's/^host: //p' <<<"$rustc")
find_profdata() {
  local bundled
  bundled="$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata"
  if [ -x "$bundled" ]; then echo "$bundled"; else command -v "llvm-profdata-$llvm" || true; fi
}
profdata=$(find_profdata)
if [ -z "$profdata" ]; then
  if command -v rustup >/dev/null 2>&1; then
    rustup component add llvm-tools
  elif [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing llvm-$llvm"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "llvm-$llvm" >/dev/null
  fi
  profdata=$(find_profdata)
fi
if [ -z "$profdata" ]; then
  echo "llvm-profdata of LLVM $llvm is needed. Type: rustup component add llvm-tools, or: sudo apt-get install llvm-$llvm" >&2
  exit 1
fi

train="$PWD/target/train" shipped="$PWD/target/shipped"
mkdir -p "$train" "$shipped"

echo "Building the program that is trained"
RUSTFLAGS="-Cprofile-generate=$train/profiles" CARGO_TARGET_DIR="$train" cargo build --release --locked -p portolan
CARGO_TARGET_DIR="$shipped" cargo build --release --locked -p portolan-bench-load

trained=$(find "$train" -maxdepth 1 -name '*.profdata' -newer "$train/release/portolan" -print -quit)
if [ -n "$trained" ]; then
  echo "It has been trained"
else
  echo "Training it"
  rm -rf "$train/profiles"
  cp "$shipped/release/portolan-bench-load" "$train/release/"
  "$train/release/portolan-bench-load" --quick --contender portolan
  rm -f "$train"/*.profdata
  "$profdata" merge -o "$train/new" "$train/profiles"
  # Named by what is in it, so that what is built with it is built again.
  trained="$train/$(sha256sum "$train/new" | cut -c 1-16).profdata"
  mv "$train/new" "$trained"
fi

echo "Building what is shipped"
RUSTFLAGS="-Cprofile-use=$trained" CARGO_TARGET_DIR="$shipped" cargo build --release --locked -p portolan
cp "$shipped/release/portolan" "$shipped/portolan"
echo "It is at target/shipped/portolan"
