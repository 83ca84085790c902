#!/usr/bin/env bash
# Fuzzes everything that gm parses: scripts/fuzz.sh [SECONDS [TARGET..]], 60 s for each target of gm/fuzz unless said. With a
# nightly compiler if there is one, else with the stable one and its bootstrap switch: coverage and the address sanitizer are
# behind it. What makes a target fail is kept in target/fuzz/artifacts and printed; corpora grow in target/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
all=$(sed -n 's/^name = "\(.*\)"$/\1/p' gm/fuzz/Cargo.toml | tail -n +2)
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets <<< "$all"
cargo=(cargo)
if command -v rustup > /dev/null && rustup toolchain list | grep -q '^nightly'; then
  cargo=(rustup run nightly cargo)
else
  export RUSTC_BOOTSTRAP=1
fi
export CARGO_TARGET_DIR=$PWD/target/fuzz/build
host=$(rustc -vV | sed -n 's/^host: //p')
CARGO_TARGET_DIR=${HUFU_TARGET_DIR:-$PWD/target} cargo run --quiet --locked -p hufu-gm --example fuzz_seeds -- target/fuzz/corpus
# What cargo-fuzz passes; a target of its own keeps build scripts free of it.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ccodegen-units=1"
"${cargo[@]}" build --quiet --release --manifest-path gm/fuzz/Cargo.toml --target "$host" "${targets[@]/#/--bin=}"
failed=()
for target in "${targets[@]}"; do
  mkdir -p "target/fuzz/corpus/$target" "target/fuzz/artifacts/$target"
  echo "== $target, $seconds s"
  log=target/fuzz/artifacts/$target.log
  "$CARGO_TARGET_DIR/$host/release/$target" "target/fuzz/corpus/$target" -artifact_prefix="target/fuzz/artifacts/$target/" \
    -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 > "$log" 2>&1 || failed+=("$target")
  grep -E '^(stat::number_of_executed_units|stat::peak_rss_mb|SUMMARY|.*panicked|==[0-9]+== ERROR|artifact_prefix)' "$log" || true
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
