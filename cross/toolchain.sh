# Read by build.sh and test.sh: which compiler, which linker for which target. Nothing is built here.
#
# The standard library is built from source (-Zbuild-std), so no prebuilt one and no foreign architecture in dpkg is needed; source
# and compiler must be of the same version. RUSTC and CARGO name a toolchain with sources; else it is the one in PATH if it has
# them, else Debian's (rustup's shims win in PATH, and a toolchain without rust-src is no use here).
say() { echo "$0: $*" >&2; }
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/cross}

sources() { echo "$("$1" --print sysroot 2> /dev/null)/lib/rustlib/src/rust/library"; }
if [ -z "${RUSTC:-}" ]; then
  RUSTC=rustc
  CARGO=${CARGO:-cargo}
  if ! [ -e "$(sources rustc)/Cargo.lock" ] && [ -x /usr/bin/rustc ]; then
    RUSTC=/usr/bin/rustc
    CARGO=/usr/bin/cargo
  fi
fi
[ -e "$(sources "$RUSTC")/Cargo.lock" ] || {
  say "no sources of the standard library for $RUSTC; install rust-src (rustup) or rust-web-src (Debian: cross/setup)"
  exit 69
}
export RUSTC RUSTC_BOOTSTRAP=1
CARGO=${CARGO:-cargo}

# toolchain TARGET: the linker and the flags of a target, in the environment.
toolchain() {
  local target=$1 gcc upper
  upper=$(tr 'a-z-' 'A-Z_' <<< "$target")
  case $target in
    aarch64-unknown-linux-gnu) gcc=aarch64-linux-gnu-gcc ;;
    armv7-unknown-linux-gnueabihf) gcc=arm-linux-gnueabihf-gcc ;;
    riscv64gc-unknown-linux-gnu) gcc=riscv64-linux-gnu-gcc ;;
    x86_64-unknown-linux-gnu) gcc=gcc ;;
    thumbv7em-none-eabihf)
      export "CARGO_TARGET_${upper}_LINKER=ld.lld"
      export "CARGO_TARGET_${upper}_RUSTFLAGS=-Clinker-flavor=ld.lld -Clink-arg=-Tlink.x -Clink-arg=-L$PWD/cross/bare"
      return
      ;;
    *)
      say "unknown target $target; known: aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf riscv64gc-unknown-linux-gnu x86_64-unknown-linux-gnu"
      exit 2
      ;;
  esac
  command -v "$gcc" > /dev/null || { say "$gcc is missing; cross/setup installs it (armv7: gcc-arm-linux-gnueabihf libc6-dev-armhf-cross)"; exit 69; }
  export "CARGO_TARGET_${upper}_LINKER=$gcc" "CC_$(tr - _ <<< "$target")=$gcc"
  export "CARGO_TARGET_${upper}_RUSTFLAGS=-Ctarget-feature=+crt-static"
}
