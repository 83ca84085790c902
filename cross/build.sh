#!/usr/bin/env bash
# cross/build.sh [TARGET] [-p PACKAGE..]: static programs for another processor, aarch64-unknown-linux-gnu by default.
#
# The standard library is built from source (-Zbuild-std), so no prebuilt one and no foreign architecture in dpkg is needed: a
# compiler with its own sources (Debian: rustc-web rust-web-src, or any toolchain with the rust-src component) and a cross gcc.
# Source and compiler must be of the same version. Static with glibc: for nodes without a GPU, because NVML is opened at run
# time by the glibc it was built for.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-aarch64-unknown-linux-gnu}
shift || true
say() { echo "cross/build.sh: $*" >&2; }

case $target in
  aarch64-unknown-linux-gnu) gcc=aarch64-linux-gnu-gcc; package=gcc-aarch64-linux-gnu; libc=libc6-dev-arm64-cross ;;
  armv7-unknown-linux-gnueabihf) gcc=arm-linux-gnueabihf-gcc; package=gcc-arm-linux-gnueabihf; libc=libc6-dev-armhf-cross ;;
  riscv64gc-unknown-linux-gnu) gcc=riscv64-linux-gnu-gcc; package=gcc-riscv64-linux-gnu; libc=libc6-dev-riscv64-cross ;;
  x86_64-unknown-linux-gnu) gcc=x86_64-linux-gnu-gcc; package=gcc; libc=libc6-dev ;;
  *) say "unknown target $target; known: aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf riscv64gc-unknown-linux-gnu x86_64-unknown-linux-gnu"; exit 2 ;;
esac
command -v "$gcc" > /dev/null || { say "$gcc is missing; run: apt-get install --no-install-recommends $package $libc"; exit 69; }

# rustup's shims win in PATH; CARGO and RUSTC name the toolchain whose sources are there.
cargo=${CARGO:-cargo}
rustc=${RUSTC:-rustc}
if [ -z "${RUSTC:-}" ] && ! [ -e "$($rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ] && [ -x /usr/bin/rustc ]; then
  cargo=/usr/bin/cargo
  rustc=/usr/bin/rustc
fi
sysroot=$($rustc --print sysroot)
sources=$sysroot/lib/rustlib/src/rust/library
[ -e "$sources" ] || { say "no sources of the standard library in $sources; install rust-src (rustup) or rust-web-src (Debian)"; exit 69; }

upper=$(tr 'a-z-' 'A-Z_' <<< "$target")
lower=$(tr - _ <<< "$target")
export RUSTC=$rustc RUSTC_BOOTSTRAP=1
export "CARGO_TARGET_${upper}_LINKER=$gcc" "CC_$lower=$gcc"
export "CARGO_TARGET_${upper}_RUSTFLAGS=-Ctarget-feature=+crt-static"
[ $# -gt 0 ] || set -- -p hufu-agent -p hufu-platform
$cargo build --release --locked -Zbuild-std=std,panic_abort --target "$target" --bins "$@"
find "${CARGO_TARGET_DIR:-target}/$target/release" -maxdepth 1 -type f -executable -name 'hufu*' -exec ls -l {} +
