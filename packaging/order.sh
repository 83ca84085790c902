#!/usr/bin/env bash
# packaging/order.sh: writes packaging/order.txt, the functions of the agent that run while it starts, meters, signs and sends, as the
# linker is to place them: side by side. The kernel maps program text sixteen pages at a time; with what never runs in between, nearly all
# of it counts as resident memory of an agent that sleeps most of its life.
#
# The release program is linked once more with a map, because the names of functions follow from the profile and the shipped one has none
# left. It runs under qemu-user, which says what it executes, with ten orders and a real broker (benches/house.py); root, cgroups and
# qemu-x86_64-static are needed. Names that the linker does not find lose their place and do no harm, so the list may lag behind.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
HUFU_LINK_MAP=$work/map make release
programs=$PWD/${CARGO_TARGET_DIR:-target}/release
PYTHONPATH=benches HUFU_BIN_DIR=$programs python3 packaging/order.py "$programs/hufu" "$work/map" "$work/executed.log" > "$work/order.txt"
[ "$(wc -l < "$work/order.txt")" -ge 500 ] || { echo "order.sh: hardly anything ran; see above" >&2; exit 1; }
mv "$work/order.txt" packaging/order.txt
echo "$(wc -l < packaging/order.txt) functions in packaging/order.txt"
