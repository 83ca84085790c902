#!/usr/bin/env bash
# cross/build.sh [TARGET] [-p PACKAGE..]: static programs for another processor, as they are shipped; aarch64-unknown-linux-gnu by
# default, in target/cross. PROFILE=cross builds in a fraction of the time, larger and slower.
#
# Static with glibc: for nodes without a GPU, because NVML is opened at run time by the glibc it was built for.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh

target=${1:-aarch64-unknown-linux-gnu}
shift || true
profile=${PROFILE:-release}
toolchain "$target"
[ $# -gt 0 ] || set -- -p hufu-agent -p hufu-platform
"$CARGO" build --profile "$profile" --locked -Zbuild-std=std,panic_abort,panic_unwind --target "$target" --bins "$@"
find "$CARGO_TARGET_DIR/$target/$profile" -maxdepth 1 -type f -executable -name 'hufu*' -exec ls -l {} +
