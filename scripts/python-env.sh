#!/usr/bin/env bash
# Makes target/py, a Python environment with the one outside ASN.1 compiler that checks docs/evidence.asn1.
# The check is `scripts/python-env.sh && target/py/bin/python tests/asn1/check_evidence.py`.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x target/py/bin/python ] || python3 -m venv target/py
target/py/bin/python -c 'import asn1tools' 2> /dev/null ||
  target/py/bin/pip install --quiet --disable-pip-version-check asn1tools==0.169.0
