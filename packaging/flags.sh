# Sourced from the root of the tree by what makes packages: with these flags the same sources, compiler and libraries give the same
# bytes in any directory, and no path of the building machine is left in them. packaging/reproducible.sh holds it to that.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || date +%s)}
hufu_home=${CARGO_HOME:-$HOME/.cargo}
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$(pwd -P)=/hufu --remap-path-prefix=$hufu_home=/cargo"
export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$(pwd -P)=/hufu -ffile-prefix-map=$hufu_home=/cargo"
# Functions that run often lie side by side (packaging/order.sh, agent/build.rs): a third of the agent's resident memory. Only lld can;
# without it the program is the same, and larger in memory.
hufu_order=$(pwd -P)/packaging/order.txt
if echo 'fn main() {}' | "${RUSTC:-rustc}" "-Clink-arg=-Wl,--symbol-ordering-file=$hufu_order" -Clink-arg=-Wl,--no-warn-symbol-ordering \
  --emit=link -o /dev/null - 2> /dev/null; then
  export HUFU_SYMBOL_ORDER=$hufu_order
fi
