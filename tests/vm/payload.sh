#!/usr/bin/env bash
# tests/vm/payload.sh OUT PACKAGE..: what the machine reads on its second disk: packages and the scripts of guest/.
set -euo pipefail
guest=$(dirname "$0")/guest
out=${1:?file}
shift
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp -r "$guest/." "$stage"
mkdir "$stage/packages"
cp -- "$@" "$stage/packages"
tar -C "$stage" -cf "$out" .
# A disk has whole sectors.
truncate -s %1M "$out"
