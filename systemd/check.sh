#!/usr/bin/env bash
# Verifies the units with systemd's own tools; installs and changes nothing.
set -euo pipefail
cd "$(dirname "$0")"
command -v systemd-analyze > /dev/null || { echo "systemd/check.sh: no systemd-analyze here, nothing checked" >&2; exit 0; }
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r -- *.service *.socket *.slice *.d "$copy"
# The programs and accounts are not installed on a machine that only builds.
sed -i -e 's,/usr/bin/hufu[a-z-]*,/bin/true,' -e 's/^User=.*/User=daemon/' -e 's/^Group=.*/Group=daemon/' -e 's/^SocketGroup=.*/SocketGroup=daemon/' "$copy"/*.service "$copy"/*.socket
systemd-analyze verify --man=no "$copy"/*.service "$copy"/*.socket "$copy"/*.slice
rm -r -- "$copy"/*.d
for unit in hufu hufu-platform hufu-provision@ hufu-signer; do
  systemd-analyze security --offline=yes --threshold=20 "$copy/$unit.service" | tail -n 1
done
