#!/usr/bin/env bash
# cross/test.sh [arm64|riscv64|bare]..: builds for other processors and runs the result under qemu; all three by default.
# `make cross` runs it after cross/setup. Not a part of the CI: it compiles the standard library for each processor.
#
# Built with the profile `cross` (no LTO): what is shipped is cross/build.sh's. qemu 7.2 hangs on dynamic programs that start a
# thread; these are static, and every call has a time limit all the same.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
flags=(--locked --profile cross -Zbuild-std=std,panic_unwind)
began=$(date +%s)
took() { say "$1: ok, $(($(date +%s) - began)) s since the start"; }

# program TARGET QEMU: `hufu` says its version, and reaches the four verdicts over a pack that another processor made.
program() {
  local hufu=$CARGO_TARGET_DIR/$1/cross/hufu qemu=$2
  "$CARGO" build "${flags[@]}" --target "$1" -p hufu-agent --bin hufu
  timeout 60 "$qemu" "$hufu" --version
  LC_ALL=C.UTF-8 timeout 300 "$qemu" "$hufu" verify cross/testdata/bill.zip --trust cross/testdata/trust.pem
  # One byte of the pack more or less is seen there as it is here.
  head -c -1 cross/testdata/bill.zip > "$CARGO_TARGET_DIR/cut.zip"
  if timeout 300 "$qemu" "$hufu" verify "$CARGO_TARGET_DIR/cut.zip" --trust cross/testdata/trust.pem > /dev/null 2>&1; then
    say "$1: a pack that was cut short is accepted"
    exit 1
  fi
  ls -l "$hufu"
}

arm64() {
  local target=aarch64-unknown-linux-gnu
  toolchain $target
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="timeout 900 qemu-aarch64-static"
  # The pure crates whole. Of the ledger not what starts processes, fills a disk or makes a system call fail (qemu-user runs no
  # child for another processor, and they test the host's kernel), nor what changes every bit in turn: minutes there.
  "$CARGO" test "${flags[@]}" --target $target --tests -p hufu-firmware-config -p hufu-gm -p hufu-trade
  # Nor walks of directories (qemu 7.2 knows no openat2) and the agent's own /proc/self, which qemu-user makes up.
  "$CARGO" test "${flags[@]}" --target $target -p hufu-metering --lib --test fixtures --test integrate --test tree -- \
    --skip walk:: --skip own::tests::the_real_process
  "$CARGO" test "${flags[@]}" --target $target -p hufu-ledger --lib --test ledger -- \
    golden:: journal:: blocks:: proofs:: states::
  program $target qemu-aarch64-static
}

riscv64() {
  toolchain riscv64gc-unknown-linux-gnu
  program riscv64gc-unknown-linux-gnu qemu-riscv64-static
}

bare() {
  local target=thumbv7em-none-eabihf
  toolchain $target
  "$CARGO" build --locked --release -Zbuild-std=core --target $target --manifest-path cross/bare/Cargo.toml
  timeout 300 qemu-system-arm -M mps2-an386 -nographic -semihosting-config enable=on,target=native \
    -kernel "$CARGO_TARGET_DIR/$target/release/hufu-bare"
}

[ $# -gt 0 ] || set -- bare arm64 riscv64
for what in "$@"; do
  case $what in
    arm64 | riscv64 | bare) ;;
    *) say "unknown: $what; known: arm64 riscv64 bare"; exit 2 ;;
  esac
  "$what"
  took "$what"
done
