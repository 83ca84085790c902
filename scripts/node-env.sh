#!/usr/bin/env bash
# Makes target/node, where the official AsyncAPI parser and a JSON Schema validator lie that check docs/asyncapi.yaml, at the
# versions of tests/asyncapi/package-lock.json. Needs node 18 or later with npm, and the network the first time. No package runs
# a script of its own at its installation.
set -euo pipefail
cd "$(dirname "$0")/.."
want=tests/asyncapi/package-lock.json
# Tests that run beside each other ask for it at once: one makes it, the others wait.
mkdir -p target
exec 9> target/node.lock
flock 9
cmp -s $want target/node/made-from && exit 0
say() { echo "scripts/node-env.sh: $*" >&2; }
command -v npm > /dev/null || { say 'please install node and npm (Debian and Ubuntu: apt-get install nodejs npm)'; exit 1; }
mkdir -p target/node
rm -f target/node/made-from
cp tests/asyncapi/package.json $want target/node/
(cd target/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error > npm.log 2>&1) || { cat target/node/npm.log >&2; exit 1; }
cp $want target/node/made-from
