# Sourced from the root of the tree by what makes packages: with these flags the same sources, compiler and libraries give the same
# bytes in any directory, and no path of the building machine is left in them. packaging/reproducible.sh holds it to that.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || date +%s)}
hufu_home=${CARGO_HOME:-$HOME/.cargo}
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$(pwd -P)=/hufu --remap-path-prefix=$hufu_home=/cargo"
export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$(pwd -P)=/hufu -ffile-prefix-map=$hufu_home=/cargo"
