#!/usr/bin/env bash
# packaging/deb.sh: the Debian packages hufu and hufu-platform, in target/debian, checked by lintian where it is installed.
#
# Builds the release programs, makes manual pages and completions from the table of commands, and calls cargo-deb, which it
# installs below target/ if cargo does not have it. With --dev the programs are those of `make build`, stripped, and the packages
# lie in target/debian-dev, unchecked: for tests of what is around the programs.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
out=target/package
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || date +%s)}

programs=target/release options=(--no-strip)
if [ "${1:-}" = --dev ]; then
  programs=target/debug options=(--profile dev --strip --fast --output target/debian-dev/)
  # Libraries of C are compiled anew for another date: the programs are to be those that are there.
  $cargo build --locked --workspace --bins
  export SOURCE_DATE_EPOCH=$epoch
else
  . packaging/flags.sh
  $cargo build --release --locked --workspace --bins
fi
if ! $cargo deb --version > /dev/null 2>&1; then
  [ -x target/tools/bin/cargo-deb ] || $cargo install cargo-deb --locked --version 3.8.0 --root target/tools
  PATH=$PWD/target/tools/bin:$PATH
fi

rm -rf "$out"
mkdir -p "$out"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
for program in hufu hufu-platform; do
  $programs/$program __manual --man "$out/$program/man" --completions "$out/$program/completions"
  gzip -9n "$out/$program/man"/*
done
# hufu.toml(5) is the sample itself: one text to keep true.
{
  printf '.TH HUFU.TOML 5 "" "hufu" "File formats"\n.SH NAME\nhufu.toml \\- configuration of a Hufu node\n.SH DESCRIPTION\n.nf\n'
  sed -e 's/\\/\\e/g' -e "s/^[.']/\\\\\&&/" -e 's/-/\\-/g' packaging/hufu.toml.sample
  printf '.fi\n.SH SEE ALSO\n.BR hufu (1)\n'
} | gzip -9n > "$out/hufu.toml.5.gz"
gzip -9nc packaging/man/hufu-provision.8 > "$out/hufu-provision.8.gz"
printf '%s\n' "hufu ($version-1) unstable; urgency=medium" '' '  * Changes stand in CHANGELOG.md of the sources.' '' \
  " -- Hufu maintainers <maintainers@example.org>  $(LC_ALL=C date -u -R -d "@$epoch")" > "$out/changelog"
for package in hufu-agent hufu-platform; do
  $cargo deb --no-build "${options[@]}" -p $package > "$out/$package.path" 2> "$out/$package.log" || { cat "$out/$package.log" >&2; exit 1; }
  echo "packaging/deb.sh: $(tail -n 1 "$out/$package.path")" >&2
done
[ "${1:-}" = --dev ] && exit 0
if command -v lintian > /dev/null; then
  lintian --fail-on error --suppress-tags-from-file packaging/lintian-suppressed $(tail -qn 1 "$out"/*.path)
else
  echo "packaging/deb.sh: no lintian here, packages not checked" >&2
fi
