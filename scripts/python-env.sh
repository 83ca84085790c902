#!/usr/bin/env bash
# Makes target/py, a Python environment with the one outside ASN.1 compiler that checks docs/evidence.asn1 and an MQTT client
# for the operator's end of tests/interop. Needs python3 with venv, and the network the first time. `make asn1` runs it and the check.
set -euo pipefail
cd "$(dirname "$0")/.."
want=tests/asn1/requirements.txt
# Tests that run beside each other ask for it at once: one makes it, the others wait.
mkdir -p target
exec 9> target/py.lock
flock 9
# A half-made environment, or one of other versions, is made anew.
cmp -s $want target/py/requirements.txt && target/py/bin/python -c 'import asn1tools, paho.mqtt' 2> /dev/null && exit 0
say() { echo "scripts/python-env.sh: $*" >&2; }
command -v python3 > /dev/null || { say 'please install python3'; exit 1; }
python3 -m venv --clear target/py || { say 'please install venv for python3 (Debian and Ubuntu: apt-get install python3-venv)'; exit 1; }
target/py/bin/python -m pip install --quiet --disable-pip-version-check --requirement $want
cp $want target/py/requirements.txt
