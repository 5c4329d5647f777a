#!/bin/sh
# Compile csrc with every warning as an error, by each compiler that is there, and let cppcheck read
# it. A tool that is missing is named; with CI set it fails the check.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

missing() {
    echo "csrc: no $1 on this machine"
    [ -z "${CI:-}" ] || exit 1
}

for compiler in gcc "${CLANG:-clang-19}"; do
    command -v "$compiler" >/dev/null || { missing "$compiler"; continue; }
    for level in -O0 -O2 -O3; do
        for source in csrc/*.c csrc/fuzz/*.c csrc/replay/*.c; do
            "$compiler" -std=c11 -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wvla \
                -Wpointer-arith -Werror "$level" -c "$source" -o "$scratch/object.o"
        done
    done
    # What other compilers and machines build: no vector instructions, no built-in functions.
    for source in csrc/*.c; do
        "$compiler" -std=c11 -pedantic -Wall -Wextra -Wconversion -Werror -O2 \
            -DPYSCEP_PORTABLE -c "$source" -o "$scratch/object.o"
    done
    echo "csrc: clean with $compiler"
done
if command -v cppcheck >/dev/null; then
    cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
        --error-exitcode=1 csrc/*.c csrc/fuzz/*.c csrc/replay/*.c
    echo "csrc: clean with cppcheck"
else
    missing cppcheck
fi
