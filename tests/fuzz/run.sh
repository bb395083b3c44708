#!/bin/sh
# Builds every fuzz target and runs each for a while: run.sh [seconds per target] [target...]
#
# Works on a stable toolchain with a C++ compiler and without cargo-fuzz: the coverage pass is asked for by flags.
# New inputs are kept under the target directory; what crashes a target is written to artifacts/ and ends the run
# with a failure. A target is a [[bin]] in Cargo.toml; its first inputs may stand in seeds/<target>/.
set -eu
cd "$(dirname "$0")"
seconds=${1:-10}
[ $# -gt 0 ] && shift

triple=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$PWD/target}
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"

# With --target the flags do not reach build scripts.
RUSTFLAGS="$flags" CARGO_TARGET_DIR="$target" cargo build --release --quiet --target "$triple"

[ $# -gt 0 ] || set -- $(sed -n '/^\[\[bin\]\]/{n;s/^name = "\(.*\)"/\1/p;}' Cargo.toml)
mkdir -p artifacts
for name in "$@"; do
    mkdir -p "$target/corpus/$name" "seeds/$name"
    log=$target/$name.log
    if ! "$target/$triple/release/$name" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="artifacts/$name-" "$target/corpus/$name" "seeds/$name" >"$log" 2>&1
    then
        tail -n 60 "$log"
        echo "fuzz: $name failed; its input is in tests/fuzz/artifacts" >&2
        exit 1
    fi
    echo "fuzz: $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s, no crash"
done
