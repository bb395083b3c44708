#!/usr/bin/env bash
# Runs the tests that need clusters, of every package, one after another: two fleets at once are too much for two cores.
#
#   test.sh quick    what takes seconds each: `make test`
#   test.sh slow     what takes minutes each, cycles, outages and soaks: `make test-slow`
#
# They are the ignored tests of the test targets called `clusters`; the slow ones stand in modules called `slow`. Where this machine cannot carry
# clusters, this says why, how many are skipped and which, and succeeds.
set -euo pipefail
cd "$(dirname "$0")/../.."

case ${1:-} in
  quick) which=(--skip slow::) ;;
  slow) which=(slow::) ;;
  *) echo "usage: $0 quick|slow" >&2; exit 2 ;;
esac
# Of the whole workspace, so that nothing is built a second time with other features.
cargo build --locked --workspace --bins --test clusters
tests=(cargo test --locked --workspace --test clusters)
rig=${CARGO_TARGET_DIR:-target}/debug/rig

if ! "$rig" check; then
  names=$("${tests[@]}" --quiet -- --ignored --list --format terse "${which[@]}" | sed -n 's/: test$//p')
  echo "skipped, for they need clusters: $(wc -l <<<"$names") tests"
  sed 's/^/  /' <<<"$names"
  exit
fi
"$rig" build
"${tests[@]}" --no-fail-fast -- --ignored --test-threads=1 --show-output "${which[@]}"
