#!/usr/bin/env bash
# tests/vm/payload.sh OUT PACKAGE..: what the machine reads on its second disk: the scripts of guest/, the packages as built, and
# the agent's again as an older version and as a newer revision, to be upgraded from and to.
set -euo pipefail
guest=$(dirname "$0")/guest
out=${1:?file}
shift
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp -r "$guest/." "$stage"
mkdir -p "$stage"/packages/{older,built,newer}
cp -- "$@" "$stage/packages/built"
agent=("$stage"/packages/built/hufu_*.deb)
dpkg-deb --raw-extract "${agent[0]}" "$stage/tree"
version=$(sed -n 's/^Version: //p' "$stage/tree/DEBIAN/control")
# again DIRECTORY VERSION: the same package under another version.
again() {
  sed -i "s/^Version: .*/Version: $2/" "$stage/tree/DEBIAN/control"
  dpkg-deb --root-owner-group -Zgzip -z1 --build "$stage/tree" "$stage/packages/$1/hufu_$2_$(dpkg --print-architecture).deb" > /dev/null
}
again older 0.0.1-1
again newer "$version.1"
rm -rf "$stage/tree"
tar -C "$stage" -cf "$out" .
# A disk has whole sectors.
truncate -s %1M "$out"
