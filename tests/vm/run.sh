#!/usr/bin/env bash
# tests/vm/run.sh [--short | --ci]: makes the packages and the image of the machine, once, and lives through the scenario.
# Needs root and Debian's archive; installs what is missing of mmdebstrap and qemu. README.md says what it takes.
#
# --ci: the programs as `make test` built them, one boot's worth. Where the machine cannot be had (no root, no archive, no
# registry), it says why and ends with 0; a failed judgement fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=target/vm
scenario_s=5400
[ "${1:-}" = --short ] && scenario_s=1800
[ "${1:-}" = --ci ] && scenario_s=1500
mkdir -p "$work"

# cannot WHY [LOG]: ends, because this machine cannot have the other one.
cannot() {
  local why=$1
  [ -n "${2:-}" ] && why="$why: $(tail -n 1 "$2")"
  if [ "$mode" = --ci ]; then
    echo "vm: skipped: $why"
    exit 0
  fi
  echo "vm: $why" >&2
  exit 1
}
mode=${1:-}
log=$work/setup.log

[ "$(id -u)" -eq 0 ] || cannot "an image with a user root is made by root, and this is $(id -un)"
missing=()
command -v mmdebstrap > /dev/null || missing+=(mmdebstrap)
command -v qemu-system-x86_64 > /dev/null || missing+=(qemu-system-x86)
command -v mkfs.ext4 > /dev/null || missing+=(e2fsprogs)
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get > /dev/null || cannot "${missing[*]} cannot be installed here, because there is no apt-get"
  export DEBIAN_FRONTEND=noninteractive
  timeout 600 sh -c 'apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@"' sh "${missing[@]}" > "$log" 2>&1 \
    || cannot "${missing[*]} cannot be installed here" "$log"
fi
# A newer qemu-img than the machine's qemu may have been in its way.
command -v qemu-img > /dev/null || timeout 300 apt-get install -qq -y --no-install-recommends qemu-utils > "$log" 2>&1 \
  || cannot "qemu-utils cannot be installed here" "$log"

timeout 900 tests/vm/image.sh "$work/image" > "$log" 2>&1 || cannot "no image of Debian can be made here" "$log"
if [ "$mode" = --ci ]; then
  if ! cargo deb --version > /dev/null 2>&1 && [ ! -x target/tools/bin/cargo-deb ]; then
    timeout 900 cargo install cargo-deb --locked --version 3.8.0 --root target/tools > "$log" 2>&1 \
      || cannot "cargo-deb cannot be installed here" "$log"
  fi
  packaging/deb.sh --dev
  packages=target/debian-dev
else
  packaging/deb.sh
  packages=target/debian
fi
tests/vm/payload.sh "$work/payload.tar" "$packages"/*.deb
rm -rf "$work/run"
mkdir "$work/run"
# Whoever calls `timeout` is told by status 124 what it was.
exec timeout --kill-after=60 "$scenario_s" tests/vm/scenario.py "$work/image" "$work/payload.tar" "$work/run" "$@"
