#!/bin/sh
# Copy the package and its tests to build/NAME and build the extension there, with whatever CC,
# CFLAGS and PYSCEP_* say: instrumented builds never come near the one that is in use.
#
# usage: tools/native-copy.sh NAME     environment: PYTHON, and that of setup.py
set -eu
cd "$(dirname "$0")/.."
copy=build/$1
rm -rf "$copy"
mkdir -p "$copy"
tar -cf - --exclude='*.so' --exclude=__pycache__ pyscep csrc/*.[ch] csrc/*.py tests benchmarks tools \
    setup.py pyproject.toml README.md LICENSE docs CHANGELOG.md | tar -xf - -C "$copy"
cd "$copy"
PYSCEP_EXTENSION=require "${PYTHON:-python3}" setup.py -q build_ext --inplace
