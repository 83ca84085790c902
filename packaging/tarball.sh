#!/usr/bin/env bash
# packaging/tarball.sh: the static tarball for x86_64 in target/tarball: programs that run on any Linux of that processor without a
# shared library, with units, samples, manual pages, completions and sums. For nodes without a GPU: a static program opens no
# library, so NVML is out of its reach, and `hufu capacity` says so.
#
# The same commit gives the same tarball: sorted names, no owners, the time of the commit. PROFILE=cross builds in a fraction of
# the time, for trying the script out; what is shipped is release.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { echo "packaging/tarball.sh: $*" >&2; }
. packaging/flags.sh
# They reach what sorts and archives.
export LC_ALL=C TZ=UTC
cargo=${CARGO:-cargo}
profile=${PROFILE:-release}
triple=x86_64-unknown-linux-gnu
[ "$(uname -m)" = x86_64 ] || { say "this makes programs for x86_64 and runs them; for other processors: cross/build.sh"; exit 69; }

# Named with --target, so that build scripts and procedural macros, which must be dynamic, are not touched by the flag.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/static} RUSTFLAGS="$RUSTFLAGS -Ctarget-feature=+crt-static"
"$cargo" build --profile "$profile" --locked --target $triple -p hufu-agent -p hufu-platform -p hufu-provision --bins
built=$CARGO_TARGET_DIR/$triple/$profile
packaging/hardening.sh "$built" packaging/hardening-static.txt

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=hufu-$version-$triple-static
out=target/tarball
stage=$out/$name
rm -rf "$stage"
mkdir -p "$stage"/{bin,man,completions,samples,systemd}
install -m 755 "$built"/hufu "$built"/hufu-platform "$built"/hufu-provision "$stage/bin"
for program in hufu hufu-platform; do
  "$stage/bin/$program" __manual --man "$stage/man" --completions "$stage/completions"
done
install -m 644 packaging/man/*.8 "$stage/man"
install -m 644 packaging/*.sample "$stage/samples"
cp -r packaging/sysusers.d packaging/tmpfiles.d "$stage/samples"
cp -r systemd/. "$stage/systemd"
# Of the drop-ins the GPU's is of no use to programs that see none.
rm -f "$stage/systemd/check.sh" "$stage/systemd/README.md" "$stage/systemd/hufu.service.d/10-gpu.conf"
rmdir --ignore-fail-on-non-empty "$stage/systemd/hufu.service.d"
install -m 644 README.md README.zh-CN.md LICENSE packaging/copyright "$stage"
install -m 644 packaging/INSTALL.static.md "$stage/INSTALL.md"

# A program that asks for a loader is not static, and one that finds no word about GPUs promises what it cannot do.
if readelf -lW "$stage/bin/hufu" | grep -q INTERP; then say "hufu asks for a loader: not static"; exit 1; fi
"$stage/bin/hufu" --version
"$stage/bin/hufu" --json capacity | grep -q 'linked statically' || { say "hufu capacity does not say that GPUs are left out"; exit 1; }

(
  cd "$stage"
  find . -type f ! -name '*SUMS' -printf '%P\n' | sort > ../names
  xargs -d '\n' sha256sum < ../names > SHA256SUMS
  # openssl names the hash of the house, too; lines as sha256sum writes them.
  xargs -d '\n' openssl dgst -sm3 -r < ../names | sed 's/ \*/  /' > SM3SUMS
  rm ../names
  sha256sum --quiet -c SHA256SUMS
)
# Modes from the umask of whoever builds would be a difference.
chmod -R u=rwX,go=rX "$stage"
tar --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$out" -cf - "$name" |
  gzip -9n > "$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" > "$name.tar.gz.sha256" && openssl dgst -sm3 -r "$name.tar.gz" | sed 's/ \*/  /' > "$name.tar.gz.sm3")
ls -l "$stage/bin" "$out/$name.tar.gz"
cat "$out/$name.tar.gz.sha256"
