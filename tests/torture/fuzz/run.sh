#!/usr/bin/env bash
# Runs every fuzz target under libFuzzer for some minutes and says what came of it.
#   run.sh MINUTES [target…]
# Coverage counters are flags of the pinned stable compiler (what `cargo fuzz -s none` sets too), so that neither nightly nor
# cargo-fuzz is needed. The corpus grows in the target directory; a crash leaves its bytes there and ends with 1.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../../.. && pwd)
minutes=${1:-1}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(parse edit stream sdp uri digest engine)
top=${CARGO_TARGET_DIR:-$root/target}
out=$top/fuzz
seconds=$(awk -v m="$minutes" 'BEGIN { printf "%d", m * 60 }')

cargo run --quiet --manifest-path "$root/Cargo.toml" --locked -p signalbox-torture --example seeds -- "$out/seeds"
passes="-Cpasses=sancov-module -Ccodegen-units=1 --cfg fuzzing"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  passes+=" -Cllvm-args=-sanitizer-coverage-$option"
done
# With a target named, the flags do not reach build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
# The versions are the workspace's own; only libfuzzer-sys and what builds it come on top.
cp "$root/Cargo.lock" Cargo.lock
RUSTFLAGS=$passes CARGO_TARGET_DIR=$out/build cargo build --quiet --release --target "$host"

crashes=0
for target in "${targets[@]}"; do
  mkdir -p "$out/corpus/$target" "$out/crashes/$target"
  log=$out/$target.log
  status=0
  "$out/build/$host/release/$target" "$out/corpus/$target" "$out/seeds/$target" \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$out/crashes/$target/" >"$log" 2>&1 || status=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
  found=$([ "$status" = 0 ] && echo 0 || echo 1)
  crashes=$((crashes + found))
  echo "fuzz: $target: ${executions:-?} executions in $minutes min, crashes $found"
  [ "$found" = 0 ] || { tail -40 "$log"; echo "the bytes are in $out/crashes/$target"; }
done
[ "$crashes" = 0 ]
