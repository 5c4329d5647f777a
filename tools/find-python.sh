#!/bin/sh
# Print a Python 3.11 or newer that can make virtual environments; otherwise say what to install.
#
# Usage: tools/find-python.sh [candidate...]
# The environment variable PYTHON, where set, is the only candidate.

if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
elif [ $# -eq 0 ]; then
    set -- python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3
fi

without_venv=
for candidate in "$@"; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    if "$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        command -v "$candidate"
        exit 0
    fi
    without_venv=$candidate
done

if [ -n "$without_venv" ]; then
    echo "error: $without_venv cannot make virtual environments: its venv or ensurepip module is missing." >&2
    echo "       On Debian and Ubuntu: apt-get install python3-venv" >&2
else
    echo "error: no Python 3.11 or newer was found (looked for: $*)." >&2
    echo "       On Debian 12, Ubuntu 24.04 and later: apt-get install python3 python3-venv" >&2
    echo "       Another interpreter: make PYTHON=/path/to/python3 ..." >&2
fi
exit 1
