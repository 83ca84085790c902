#!/usr/bin/env bash
# tests/vm/run.sh [--short]: makes the packages and the image of the machine, once, and lives through the scenario.
# Needs root and Debian's archive; installs what is missing of mmdebstrap and qemu. Under software emulation it takes from ten
# minutes (--short) to half an hour.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=target/vm
mkdir -p "$work"
missing=()
command -v mmdebstrap > /dev/null || missing+=(mmdebstrap)
command -v qemu-system-x86_64 > /dev/null || missing+=(qemu-system-x86)
if [ ${#missing[@]} -gt 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -qq -y --no-install-recommends "${missing[@]}" > /dev/null
fi
# A newer qemu-img than the machine's qemu may have been in its way.
command -v qemu-img > /dev/null || apt-get install -qq -y --no-install-recommends qemu-utils > /dev/null
packaging/deb.sh
tests/vm/image.sh "$work/image"
tests/vm/payload.sh "$work/payload.tar" target/debian/*.deb
rm -rf "$work/run"
mkdir "$work/run"
exec tests/vm/scenario.py "$work/image" "$work/payload.tar" "$work/run" "$@"
